"""What a decision writes, as ops of the store.

Not here: when (`service`). Rules: pure; a result that comes twice makes the same rows twice, which the store ignores.
"""

from __future__ import annotations

__all__ = ("decision_ops", "job_ops", "stored_facts")

import msgspec

from agentd.central.audit import end_entry, job_entry, quarantine_entry
from agentd.central.directory import Directory
from agentd.central.trust import pack_signed
from agentd.central.views import command_text, expression_of
from agentd.store.ops import (
    FinishJob,
    InsertAmendment,
    InsertAudit,
    InsertCancel,
    InsertJob,
    InsertOutput,
    InsertPause,
    InsertReduction,
    InsertScheduleJob,
    InsertTarget,
    Op,
    UpdateHost,
)
from agentd.store.results import target_op
from libstaragent.protocol import trunk as t
from libstaragent.roles.central_state import Decision, Ended, Job
from libstaragent.roles.guards import write_guard
from libstaragent.roles.pacing import PauseEntry
from libstaragent.security.acts import PauseSchedule, Schedule, Unschedule, act_name
from libstaragent.security.envelope import open_signed

_pack = msgspec.msgpack.Encoder().encode
_json = msgspec.json.Encoder().encode

# Facts and addresses share a column: this key cannot be a fact's, which has no space.
ADDRESSES = "host addresses"
# At most once means that a host has one result of a job; so at most one can come after central's own verdict.
ONLY_AMENDMENT = 1


def job_ops(job: Job) -> list[Op]:
    """A job that is new."""
    command = command_text(job.envelope)
    about = _schedule_of(job)
    return [
        *([] if about is None else [about]),
        InsertJob(
            id=job.id,
            operator=job.operator,
            act=act_name(job.envelope.act),
            # On two lines what a list shows, without opening the envelope.
            title=f"{command}\n{' '.join(expression_of(job.envelope).split())}",
            submitted_ms=job.submitted_ms,
            expires_ms=job.envelope.expires,
            deadline_ms=job.deadline_ms,
            source=job.source,
            envelope=pack_signed(job.signed),
            members=_pack([(member.agent, member.name, member.room) for member in job.members.values()]),
        ),
        InsertAudit(job_entry(job, command), job.submitted_ms),
    ]


def _schedule_of(job: Job) -> InsertScheduleJob | None:
    """What a job is to a schedule."""
    act = job.envelope.act
    if job.schedule:
        return InsertScheduleJob(job.id, job.schedule, job.schedule_name, "fire", job.envelope.not_before)
    if isinstance(act, Schedule):
        return InsertScheduleJob(job.id, job.id, act.name, "keep", job.submitted_ms)
    if isinstance(act, Unschedule):
        return InsertScheduleJob(job.id, act.schedule, "", "remove", job.submitted_ms)
    if isinstance(act, PauseSchedule):
        return InsertScheduleJob(job.id, act.schedule, "", "pause" if act.paused else "resume", job.submitted_ms)
    return None


def stored_facts(facts: dict[str, str], addresses: tuple[str, ...]) -> dict[str, str]:
    """A host's facts and addresses in one column."""
    return {**facts, ADDRESSES: " ".join(addresses)} if addresses else dict(facts)


def decision_ops(decision: Decision, hosts: Directory | None = None) -> list[Op]:
    """All that a decision about existing jobs writes, and what changed of hosts."""
    bodies = {
        entry.digest: (entry.body, entry.received_ms)
        for entries in (decision.ended, decision.amended)
        for entry in entries
        if entry.body
    }
    ops: list[Op] = [InsertOutput(digest, *brought) for digest, brought in bodies.items()]
    ops.extend(_target_op(entry) for entry in decision.ended)
    ops.extend(
        InsertAmendment(**msgspec.structs.asdict(_target_op(entry)), seq=ONLY_AMENDMENT) for entry in decision.amended
    )
    ops.extend(InsertReduction(part.job, part.agent, part.part) for part in decision.reduced)
    for job in decision.finished:
        assert job.ended_at is not None
        counts = _json(job.counts).decode()
        state = "stopped" if job.pacing is not None and job.pacing.stopped else "ended"
        ops.append(FinishJob(job=job.id, state=state, counts=counts, finished_ms=job.ended_at))
        ops.append(InsertAudit(end_entry(job), job.ended_at))
    ops.extend(map(_pause_op, decision.pauses))
    for job_id, signed, at_ms in decision.cancels:
        envelope = open_signed(signed)
        ops.append(
            InsertCancel(
                id=envelope.id, job=job_id, operator=envelope.operator, signed=pack_signed(signed), at_ms=at_ms
            )
        )
    for changed in decision.guards:
        guard = changed.guard
        ops.append(UpdateHost(id=changed.agent, guard=write_guard(guard)))
        if guard.state == "quarantined" and changed.before.state != guard.state:
            ops.append(InsertAudit(quarantine_entry(changed), guard.since_ms))
    if hosts is not None and decision.hosts:
        ops.extend(_host_ops(decision, hosts))
    return ops


def _target_op(entry: Ended) -> InsertTarget:
    return target_op(
        entry.agent, entry.result, omitted=entry.omitted, digest=entry.digest, received_ms=entry.received_ms
    )


def _pause_op(entry: PauseEntry) -> InsertPause:
    return InsertPause(
        id=entry.id,
        job=entry.job,
        seq=entry.seq,
        paused=entry.paused,
        begun=entry.begun,
        confirmed=entry.confirmed,
        operator=open_signed(entry.signed).operator,
        signed=pack_signed(entry.signed),
        at_ms=entry.at_ms,
    )


def _host_ops(decision: Decision, hosts: Directory) -> list[Op]:
    """Facts that are others than before; who is up is memory, and last seen is written by the minute."""
    ops: list[Op] = []
    for report in decision.hosts:
        record = hosts.get(report.agent)
        if isinstance(report, t.HostUp) and record is not None:
            addresses = tuple(report.addresses)
            if record.facts != report.facts or record.addresses != addresses:
                record.facts, record.addresses = dict(report.facts), addresses
                ops.append(UpdateHost(id=record.id, facts=stored_facts(record.facts, addresses)))
        if record is not None:
            record.last_seen_ms = report.at_ms
        hosts.changed(report.agent)
    return ops
