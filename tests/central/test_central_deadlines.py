"""Deadlines of jobs in central's core: each open job has one, however its end goes, and an ended one none."""

from __future__ import annotations

import os

from libstaragent import codes
from libstaragent.model.ids import new_ulid
from libstaragent.model.result import TargetResult
from libstaragent.protocol import trunk as t
from libstaragent.roles.central import AGAIN_MS, CentralCore
from libstaragent.roles.central_state import Decision, Job
from libstaragent.security.acts import Envelope, Exec, Member, Plan, TargetList
from libstaragent.testing.trust import FLEET, OPERATOR, PlainTrust

NOW_MS = 1_700_000_000_000


def a_name() -> str:
    return new_ulid(NOW_MS, os.urandom(10))


MEMBER = Member(a_name(), "web01", "main")


def submitted(core: CentralCore, *members: Member, plan: Plan | None = None) -> Job:
    members = members or (MEMBER,)
    envelope = Envelope(
        id=a_name(),
        fleet=FLEET,
        operator=OPERATOR,
        act=Exec(argv=("true",)),
        targets=TargetList("web01", members),
        issued=NOW_MS,
        not_before=NOW_MS,
        expires=NOW_MS + 60_000,
        roster=1,
        plan=plan,
    )
    decision = Decision()
    signed = PlainTrust().sign(envelope)
    known = {member.agent: member for member in members}
    job = core.submit(signed, None, known=known, source="", now_ms=NOW_MS, decision=decision)
    core.committed(decision)
    return job


def ticked(core: CentralCore, now_ms: int) -> Decision:
    decision = Decision()
    core.tick(now_ms=now_ms, decision=decision)
    return decision


def test_a_job_that_has_ended_leaves_no_deadline_behind() -> None:
    core = CentralCore(verify=PlainTrust().verify)
    for _ in range(50):
        result = TargetResult(job=submitted(core).id, state="ok", exit_status=0, ran="yes")
        assert len(core.deadlines) == 1
        decision = Decision()
        core.reports([t.TargetEnded(MEMBER.agent, result)], now_ms=NOW_MS, decision=decision)
        core.committed(decision)
        assert len(core.deadlines) == 0


def test_a_job_whose_end_could_not_be_written_is_ended_a_moment_later() -> None:
    core = CentralCore(verify=PlainTrust().verify)
    job = submitted(core)
    late_ms = job.deadline_ms + 1000
    assert not ticked(core, job.deadline_ms - 1).ended
    refused = ticked(core, late_ms)
    assert [entry.job for entry in refused.ended] == [job.id]
    core.rolled_back(refused)
    assert job.open == 1
    taken = ticked(core, late_ms + AGAIN_MS + 1000)
    assert [entry.result.state for entry in taken.ended] == ["unreachable"]
    core.committed(taken)
    assert not ticked(core, late_ms + 10_000).ended
    assert len(core.deadlines) == 0


def test_a_place_that_is_free_after_the_job_expired_is_given_to_nobody() -> None:
    core = CentralCore(verify=PlainTrust().verify)
    job = submitted(core, MEMBER, Member(a_name(), "web02", "main"), plan=Plan(window=1))
    late_ms = job.envelope.expires + 1
    decision = Decision()
    result = TargetResult(job=job.id, state="interrupted", ran="maybe")
    core.reports([t.TargetEnded(MEMBER.agent, result)], now_ms=late_ms, decision=decision)
    core.committed(decision)
    assert not decision.orders and job.begun_agents() == []
    held = ticked(core, late_ms)
    assert [(entry.result.state, entry.result.code, entry.result.ran) for entry in held.ended] == [
        ("expired", codes.TURN_NEVER_CAME.code, "no")
    ]
    core.committed(held)
    assert job.open == 0
