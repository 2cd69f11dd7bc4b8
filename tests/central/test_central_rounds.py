"""A round of central in which something of ours fails: one request or report is undone, everybody else is served; and
if undoing fails too, the process ends.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentd.central import rounds, service
from libstaragent import codes
from libstaragent.model.result import TargetResult
from libstaragent.protocol import trunk as t
from libstaragent.roles.central_state import Decision

PLANTED = "a planted fault"


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.to_thread(threading.Event().wait, 0.01)


def _fail_for(job: str, real: Callable[..., Any], seen: list[str]) -> Callable[..., Any]:
    """`real`, but for one job or what is decided about it."""

    def failing(subject: Any, *more: Any) -> Any:
        ids = [entry.job for entry in subject.ended] if isinstance(subject, Decision) else [subject.id]
        if job in ids:
            seen.append(job)
            raise KeyError(PLANTED)
        return real(subject, *more)

    return failing


async def test_a_fault_in_one_request_fails_that_request_and_no_other(
    stack: Any, refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = await stack.add_hosts("web01")
    bad, *good = (stack.people.exec(members) for _ in range(4))
    seen: list[str] = []
    monkeypatch.setattr(service, "job_ops", _fail_for(stack.people.open(bad).id, service.job_ops, seen))
    answers = await asyncio.gather(*(stack.post("/v1/jobs?wait=10", signed) for signed in (good[0], bad, *good[1:])))
    refused(answers.pop(1), codes.CENTRAL_BUG, 500)
    assert [answer.json()["job"]["counts"] for answer in answers] == [{"ok": 1}] * 3
    assert seen and stack.people.open(bad).id not in stack.central.core.jobs
    monkeypatch.undo()
    again = await stack.post("/v1/jobs?wait=10", bad)
    assert again.json()["job"]["counts"] == {"ok": 1}, "nothing of it was left behind"


async def test_a_fault_in_one_report_passes_over_that_report_and_no_other(
    stack: Any, result_ok: Callable[..., TargetResult], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    [member] = await stack.add_hosts("web01")
    stack.room.answers = lambda agent, job: None
    bad, good = [(await stack.post("/v1/jobs", stack.people.exec([member]))).json()["job"]["id"] for _ in range(2)]
    seen: list[str] = []
    monkeypatch.setattr(rounds, "decision_ops", _fail_for(bad, rounds.decision_ops, seen))
    with caplog.at_level(logging.ERROR):
        stack.room.report(*(t.TargetEnded(member.agent, result_ok(job)) for job in (bad, good)))
        await stack.room.until(lambda: (member.agent, good) in stack.room.settled)
    assert seen and codes.CENTRAL_BUG.code in caplog.text
    assert stack.central.core.jobs[bad].open == 1, "its deadline ends it, or the host's next word"
    assert stack.central.core.jobs[good].counts == {"ok": 1}
    monkeypatch.undo()
    stack.room.report(t.TargetEnded(member.agent, result_ok(bad)))
    await stack.room.until(lambda: (member.agent, bad) in stack.room.settled)


async def test_a_fault_in_queueing_a_write_refuses_it_with_a_code(
    stack: Any, refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = await stack.add_hosts("web01")

    def fail(*_: Any) -> None:
        raise KeyError(PLANTED)

    monkeypatch.setattr(stack.central._lane, "submit", fail)
    refused(await stack.post("/v1/jobs", stack.people.exec(members)), codes.CENTRAL_BUG, 500)
    monkeypatch.undo()
    assert (await stack.post("/v1/jobs?wait=10", stack.people.exec(members))).json()["job"]["counts"] == {"ok": 1}


async def test_one_who_cannot_be_told_keeps_nobody_else_from_being_told(
    stack: Any, result_ok: Callable[..., TargetResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = await stack.add_hosts("web01")
    failed: list[str] = []

    def fail(*_: Any) -> None:
        failed.append(PLANTED)
        raise KeyError(PLANTED)

    monkeypatch.setattr(stack.central, "strange", fail)
    stack.room.report(t.TargetEnded(members[0].agent, result_ok(stack.people.envelope(None).id)))
    answers = await asyncio.gather(*(stack.post("/v1/jobs?wait=10", stack.people.exec(members)) for _ in range(3)))
    assert failed
    assert [answer.json()["job"]["counts"] for answer in answers] == [{"ok": 1}] * 3


@pytest.mark.parametrize("where", ["committed", "rolled_back"])
async def test_a_fault_that_leaves_memory_and_disk_apart_ends_the_process(
    make_stack: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async with make_stack() as stack:
        members = await stack.add_hosts("web01")
        ended = asyncio.Event()
        monkeypatch.setattr(stack.central._rounds, "_give_up", ended.set)

        def fail(_: Any) -> None:
            raise KeyError(PLANTED)

        monkeypatch.setattr(stack.central.core, where, fail)
        # Not of a host here: refused, so that there is something to undo.
        stranger = stack.people.exec(members if where == "committed" else [type(members[0])("0" * 26, "x", "main")])
        asking = asyncio.ensure_future(stack.post("/v1/jobs", stranger))
        async with asyncio.timeout(20):
            await ended.wait()
        asking.cancel()
        monkeypatch.undo()
        stack.central._rounds.idle.set()


def _up(agent: str, **fields: Any) -> t.HostUp:
    return t.HostUp(
        agent=agent, room="main", version="1", boot_nonce=b"", hostname="", addresses=(), facts={}, roster=1,
        clock_ahead_ms=0, at_ms=1000, **fields,
    )  # fmt: skip


async def test_a_host_that_went_stays_down_when_what_was_said_before_is_looked_up(
    stack: Any, result_ok: Callable[..., TargetResult]
) -> None:
    [member] = await stack.add_hosts("web01")
    gate = threading.Event()
    real = stack.central.history.job
    stack.central.history.job = lambda job: (gate.wait(20), real(job))[1]
    unknown = stack.people.envelope(None).id
    stack.room.report(_up(member.agent), t.TargetEnded(member.agent, result_ok(unknown)))
    await _until(lambda: member.agent in stack.central.core.hosts)
    stack.room.report(t.HostDown(member.agent, "main", codes.PEER_SILENT.code, 2000))
    await _until(lambda: not stack.central.core.hosts[member.agent].up)
    gate.set()
    await stack.room.until(lambda: (member.agent, unknown) in stack.room.settled)
    await _until(lambda: stack.room.bus.unacknowledged("reports") == 0)
    assert not stack.central.core.hosts[member.agent].up


async def test_of_one_room_process_the_last_word_about_a_host_counts(stack: Any) -> None:
    first, second, mark = await stack.add_hosts("web01", "web02", "web03")
    hosts = stack.central.core.hosts

    def down(agent: str, boot: str, order: int) -> t.HostDown:
        return t.HostDown(agent, "main", codes.PEER_SILENT.code, 2000, boot, order)

    async def hear(*reports: Any) -> None:
        stack.room.report(*reports)
        await _until(lambda: stack.room.bus.unacknowledged("reports") == 0)

    await hear(t.RoomStarted("main", "one"), _up(first.agent, boot="one", order=1))
    await hear(
        down(first.agent, "one", 3), _up(first.agent, boot="one", order=1), _up(first.agent, boot="one", order=2)
    )
    assert not hosts[first.agent].up, "delivered again, or late"
    await hear(_up(first.agent, boot="one", order=4), down(first.agent, "one", 3))
    assert hosts[first.agent].up
    await hear(_up(second.agent, boot="two", order=1), t.RoomStarted("main", "two"))
    assert hosts[second.agent].up and not hosts[first.agent].up, "the new process has told of one only"
    await hear(
        _up(first.agent, boot="one", order=5), down(second.agent, "one", 6), _up(mark.agent, boot="two", order=2)
    )
    assert hosts[second.agent].up and not hosts[first.agent].up, "the process before has no say any more"
    await hear(_up(first.agent, boot="two", order=3))
    assert hosts[first.agent].up
