"""Planned jobs over HTTPS, through core, store and bus: who is begun on when, what pauses, stops and expires."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from libstaragent import codes
from libstaragent.model import api
from libstaragent.model.result import TargetResult
from libstaragent.protocol import trunk as t
from libstaragent.security.acts import Pause, Plan, Resume

Refused = Callable[..., None]


def answer_of(response: Any) -> api.JobAnswer:
    assert response.status_code in (200, 202), response.text
    return msgspec.json.decode(response.content, type=api.JobAnswer)


def failed(job: str) -> TargetResult:
    return TargetResult(job=job, state="exit_nonzero", exit_status=1, ran="yes")


def begun(stack: Any) -> list[str]:
    """The names of the hosts that were begun on, in their order."""
    names = {member.agent: member.name for member in stack.members}
    return [names[agent] for order in stack.room.of(t.Dispatch) for agent, _ in order.targets]


async def planned(stack: Any, count: int, *, wait: int = 0, **plan: Any) -> api.JobAnswer:
    members = await stack.add_hosts(*(f"web{number:02}" for number in range(1, count + 1)))
    signed = stack.people.exec(members, plan=Plan(**plan))
    return answer_of(await stack.post(f"/v1/jobs?wait={wait}", signed, members if count > 16 else None))


async def steer(stack: Any, word: str, job: str) -> Any:
    act = {"pause": Pause, "resume": Resume}[word](job)
    return await stack.post(f"/v1/jobs/{job}/{word}", stack.people.sign(stack.people.envelope(act)))


async def test_waves_begin_one_after_the_other_in_the_order_of_the_signed_hosts(stack: Any) -> None:
    answer = await planned(stack, 5, wait=10, waves=(1, 3, 5))
    assert answer.job.counts == {"ok": 5}
    assert [len(order.targets) for order in stack.room.of(t.Dispatch)] == [1, 2, 2]
    assert begun(stack) == ["web01", "web02", "web03", "web04", "web05"]
    assert (answer.job.wave, answer.job.held, answer.job.plan) == (3, 0, Plan(waves=(1, 3, 5)))


async def test_a_window_is_filled_as_hosts_end_and_each_has_its_own_path_in_the_tree(stack: Any) -> None:
    answer = await planned(stack, 40, wait=20, window=3)
    assert answer.job.counts == {"ok": 40}
    orders = stack.room.of(t.Dispatch)
    assert max(len(order.targets) for order in orders) == 3
    assert len(begun(stack)) == 40
    assert all(proof is not None for order in orders for _, proof in order.targets)


async def test_after_too_many_failures_nobody_else_is_begun_on_and_the_job_says_stopped(stack: Any) -> None:
    stack.room.answers = lambda agent, job: failed(job)
    answer = await planned(stack, 5, wait=10, waves=(1, 5), max_failures=0)
    assert (answer.job.counts, answer.job.stopped) == ({"exit_nonzero": 1, "cancelled": 4}, True)
    assert begun(stack) == ["web01"]
    assert answer.targets is not None
    ends = {target.host: (target.state, target.code, target.ran) for target in answer.targets}
    assert ends["web05"] == ("cancelled", codes.STOPPED_BY_FAILURES.code, "no")
    await stack.log_in()
    del stack.central.core.jobs[answer.job.id]
    stored = msgspec.json.decode((await stack.get(f"/v1/jobs/{answer.job.id}")).content, type=api.JobView)
    assert (stored.stopped, stored.plan) == (True, Plan(waves=(1, 5), max_failures=0))


async def test_as_many_failures_as_are_allowed_do_not_stop_it(stack: Any) -> None:
    stack.room.answers = lambda agent, job: failed(job)
    answer = await planned(stack, 3, wait=10, waves=(1, 2, 3), max_failures=3)
    assert (answer.job.counts, answer.job.stopped) == ({"exit_nonzero": 3}, False)


async def test_a_paused_job_begins_on_nobody_until_it_is_resumed(stack: Any) -> None:
    stack.room.answers = lambda agent, job: None
    job = (await planned(stack, 3, waves=(1, 3))).job
    await stack.room.until(lambda: begun(stack) == ["web01"])
    paused = answer_of(await steer(stack, "pause", job.id)).job
    assert (paused.paused, paused.held, paused.wave) == (True, 2, 1)
    again = answer_of(await steer(stack, "pause", job.id)).job
    assert again.paused
    first = stack.members[0].agent
    stack.room.report(t.TargetEnded(first, TargetResult(job=job.id, state="ok", exit_status=0, ran="yes")))
    await stack.room.until(lambda: (first, job.id) in stack.room.settled)
    assert begun(stack) == ["web01"]
    resumed = answer_of(await steer(stack, "resume", job.id)).job
    assert (resumed.paused, resumed.held) == (False, 0)
    await stack.room.until(lambda: begun(stack) == ["web01", "web02", "web03"])


async def test_a_wave_that_is_to_be_confirmed_waits_and_the_same_resume_confirms_one_only(stack: Any) -> None:
    job = (await planned(stack, 3, waves=(1, 2, 3), confirm=True)).job
    agents = [member.agent for member in stack.members]
    await stack.room.until(lambda: (agents[0], job.id) in stack.room.settled)
    await stack.log_in()
    waiting = (await stack.get(f"/v1/jobs/{job.id}")).json()
    assert (waiting["waits"], waiting["wave"], waiting["held"]) == ("resume", 1, 2)
    resume = stack.people.sign(stack.people.envelope(Resume(job.id)))
    answer_of(await stack.post(f"/v1/jobs/{job.id}/resume", resume))
    await stack.room.until(lambda: (agents[1], job.id) in stack.room.settled)
    answer_of(await stack.post(f"/v1/jobs/{job.id}/resume", resume))
    assert begun(stack) == ["web01", "web02"]
    answer_of(await steer(stack, "resume", job.id))
    await stack.room.until(lambda: (agents[2], job.id) in stack.room.settled)


async def test_a_resume_in_the_midst_of_a_wave_does_not_confirm_its_end(stack: Any) -> None:
    stack.room.answers = lambda agent, job: None
    job = (await planned(stack, 2, waves=(1, 2), confirm=True)).job
    first = stack.members[0].agent
    answer_of(await steer(stack, "resume", job.id))
    stack.room.report(t.TargetEnded(first, TargetResult(job=job.id, state="ok", exit_status=0, ran="yes")))
    await stack.room.until(lambda: (first, job.id) in stack.room.settled)
    await stack.log_in()
    assert (await stack.get(f"/v1/jobs/{job.id}")).json()["waits"] == "resume"
    assert begun(stack) == ["web01"]


async def test_who_cancels_a_planned_job_ends_those_whose_turn_has_not_come_at_once(stack: Any) -> None:
    stack.room.answers = lambda agent, job: None
    job = (await planned(stack, 3, waves=(1, 3))).job
    view = answer_of(await stack.post(f"/v1/jobs/{job.id}/cancel", stack.people.cancel(job.id))).job
    assert view.counts == {"queued": 1, "cancelled": 2}
    await stack.log_in()
    targets = (await stack.get(f"/v1/jobs/{job.id}/targets")).json()["targets"]
    ends = {target["host"]: (target["state"], target["code"], target["ran"]) for target in targets}
    assert ends["web03"] == ("cancelled", codes.CANCELLED_BEFORE_TURN.code, "no")
    [order] = stack.room.of(t.CancelTargets)
    assert order.agents == (stack.members[0].agent,)


async def test_a_job_and_its_cancel_in_one_round_lose_no_word_of_those_that_were_held(stack: Any) -> None:
    stack.room.answers = lambda agent, job: None
    members = await stack.add_hosts("web01", "web02")
    signed = stack.people.exec(members, plan=Plan(waves=(1, 2)))
    job = stack.people.open(signed).id
    # Asked in one turn of the loop, so that both are in one round.
    submitted = stack.central._submit(signed, None, "here", False, False, None)
    await stack.central._cancel(stack.people.cancel(job), "here", stack.central.core.cancel)
    await submitted
    stored = stack.store.read.targets(job)
    assert [(row.agent, row.code) for row in stored] == [(members[1].agent, codes.CANCELLED_BEFORE_TURN.code)]


async def test_whose_turn_has_not_come_when_the_job_expires_has_not_run(make_stack: Any) -> None:
    ahead = 0

    def clock() -> int:
        return time.time_ns() // 1_000_000 + ahead

    async with make_stack(clock=clock) as stack:
        job = (await planned(stack, 2, waves=(1, 2), confirm=True)).job
        await stack.room.until(lambda: (stack.members[0].agent, job.id) in stack.room.settled)
        ahead = 61_000
        waiter = stack.central.waiters.join(stack.central.core.jobs[job.id])
        assert await waiter.ended(20)
        await stack.log_in()
        targets = (await stack.get(f"/v1/jobs/{job.id}/targets")).json()["targets"]
        ends = {target["host"]: (target["state"], target["code"], target["ran"]) for target in targets}
        assert ends == {"web01": ("ok", None, "yes"), "web02": ("expired", codes.TURN_NEVER_CAME.code, "no")}


async def test_an_earlier_rooms_word_that_it_sent_nothing_does_not_end_what_a_later_one_was_given(stack: Any) -> None:
    stack.room.answers = lambda agent, job: None
    stack.room.report(t.RoomStarted("main", "first"))
    job = (await planned(stack, 2, waves=(1, 2))).job
    await stack.room.until(lambda: begun(stack) == ["web01"])
    agent = stack.members[0].agent
    stack.room.report(t.RoomStarted("main", "second"))
    await stack.room.until(lambda: [order.again for order in stack.room.of(t.Dispatch)] == [False, True])
    stack.room.report(t.Undelivered(job.id, (agent,), "first"))
    stack.room.report(t.TargetEnded(agent, TargetResult(job=job.id, state="ok", exit_status=0, ran="yes")))
    await stack.room.until(lambda: (agent, job.id) in stack.room.settled)
    assert stack.central.core.jobs[job.id].states[agent] == "ok"


async def test_a_host_that_does_not_come_within_its_turn_holds_up_its_wave_no_longer(make_stack: Any) -> None:
    ahead = 0

    def clock() -> int:
        return time.time_ns() // 1_000_000 + ahead

    silent = True
    async with make_stack(
        clock=clock, answers=lambda agent, job: None if silent else TargetResult(job=job, state="ok", ran="yes")
    ) as stack:
        expires = clock() + 3_600_000
        members = await stack.add_hosts("web01", "web02")
        signed = stack.people.exec(members, plan=Plan(waves=(1, 2), turn_ms=5_000), expires=expires)
        job = answer_of(await stack.post("/v1/jobs", signed)).job
        await stack.room.until(lambda: begun(stack) == ["web01"])
        [order] = stack.room.of(t.Dispatch)
        assert clock() < order.expires_ms < clock() + 5_001
        # Its turn, the command's timeout and the kill's grace, and the minute that any job has.
        ahead, silent = 5_000 + 60_000 + 5_000 + 60_000 + 1_000, False
        await stack.room.until(lambda: begun(stack) == ["web01", "web02"])
        await stack.room.until(lambda: (members[1].agent, job.id) in stack.room.settled)
        assert stack.central.core.jobs[job.id].counts == {"unreachable": 1, "ok": 1}


async def test_nothing_held_is_nothing_to_pause(stack: Any, refused: Refused) -> None:
    ended = (await planned(stack, 2, wait=10, waves=(1, 2))).job
    refused(await steer(stack, "pause", ended.id), codes.NOTHING_HELD, 409)
    refused(await steer(stack, "resume", ended.id), codes.NOTHING_HELD, 409)
    plain = answer_of(await stack.post("/v1/jobs?wait=10", stack.people.exec(stack.members))).job
    refused(await steer(stack, "pause", plain.id), codes.NOTHING_HELD, 409)
    refused(await steer(stack, "pause", plain.id[:-1] + "0"), codes.JOB_UNKNOWN, 404)
    pause = stack.people.sign(stack.people.envelope(Pause(plain.id)))
    refused(await stack.post(f"/v1/jobs/{plain.id}/resume", pause), codes.ACT_UNSUPPORTED, 422)


@pytest.mark.parametrize("paused", [False, True])
async def test_a_central_that_starts_again_goes_on_where_it_was(make_stack: Any, paused: bool) -> None:
    ok = TargetResult(job="", state="ok", exit_status=0, ran="yes")
    async with make_stack(answers=lambda agent, job: None) as stack:
        job = (await planned(stack, 6, waves=(4, 6), window=2)).job
        members = stack.members
        await stack.room.until(lambda: len(begun(stack)) == 2)
        if paused:
            answer_of(await steer(stack, "pause", job.id))
        stack.room.report(t.TargetEnded(members[0].agent, msgspec.structs.replace(ok, job=job.id)))
        await stack.room.until(lambda: (members[0].agent, job.id) in stack.room.settled)
        assert len(begun(stack)) == (2 if paused else 3)
    async with make_stack(answers=lambda agent, job: None) as stack:
        stack.members = members
        pacing = stack.central.core.jobs[job.id].pacing
        assert (pacing.begun, pacing.open, pacing.held, pacing.paused) == (
            (2, 1, 4, True) if paused else (3, 2, 3, False)
        )
        await stack.room.until(lambda: bool(begun(stack)))
        assert begun(stack) == (["web02"] if paused else ["web02", "web03"])
        stack.room.answers = lambda agent, job: msgspec.structs.replace(ok, job=job)
        if paused:
            answer_of(await steer(stack, "resume", job.id))
        stack.room.report(
            *(t.TargetEnded(member.agent, msgspec.structs.replace(ok, job=job.id)) for member in members[1:3])
        )
        await stack.room.until(lambda: all((member.agent, job.id) in stack.room.settled for member in members[1:]))
        assert begun(stack)[-1] == "web06"
