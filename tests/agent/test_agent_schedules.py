"""Schedules on a real agent: taken, fired, passed over, missed, let rest and forgotten, with kills between."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentd.bus import orders_subject
from libstaragent import codes
from libstaragent.jobs.schedule import firing_id
from libstaragent.model.result import TargetResult
from libstaragent.protocol import trunk as t
from libstaragent.roles.agent_schedules import SCHEDULES_MAX
from libstaragent.security.acts import Act, At, AtBoot, Every, Exec, PauseSchedule, Schedule, Unschedule, When
from libstaragent.security.envelope import sign
from libstaragent.security.roster import Operator, digest
from libstaragent.security.signing import public_key

HOUR_MS = 3_600_000
ROOM = "main"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Keeping:
    """An agent to whose firings a central answers that it knows them."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent
        self._answered = 0

    def order(self, act: Act, **changes: Any) -> str:
        envelope = self.agent.envelope(act, **changes)
        self.agent.dispatch(sign(envelope, self.agent.fleet.operator), envelope.id)
        return envelope.id

    def schedule(self, when: When, *argv: str, **changes: Any) -> str:
        until_ms = changes.pop("until_ms", now_ms() + HOUR_MS)
        return self.order(Schedule(f"s{os.urandom(4).hex()}", when, Exec(argv=argv or ("true",)), until_ms), **changes)

    async def taken(self, job: str, state: str = "ok") -> TargetResult:
        result = await self.agent.result(job)
        assert result.state == state, result
        return result

    def known(self) -> None:
        """Say that all firings that were told of are known."""
        told = self.firings
        if told[self._answered :]:
            pairs = tuple((self.agent.member.agent, firing.job) for firing in told[self._answered :])
            self._answered = len(told)
            self.agent.bus.publish(orders_subject(ROOM), [t.FiringsKnown(pairs)])

    @property
    def firings(self) -> list[t.FiringBegan]:
        return [report for report in self.agent.reports if isinstance(report, t.FiringBegan)]

    def ended(self, schedule: str) -> list[TargetResult]:
        """Results of a schedule's firings, the first that was told of each."""
        jobs = {firing.job for firing in self.firings if firing.schedule == schedule}
        found: dict[str, TargetResult] = {}
        for report in self.agent.reports:
            if isinstance(report, t.TargetEnded) and report.result.job in jobs:
                found.setdefault(report.result.job, report.result)
        return list(found.values())

    async def until(self, holds: Callable[[], Any]) -> Any:
        def look() -> bool:
            self.known()
            return bool(holds())

        await self.agent.until(look)
        return holds()


@pytest.fixture
def keeping(agent: Any) -> Keeping:
    return Keeping(agent)


async def test_a_firing_is_a_job_whose_id_follows_from_its_schedule_and_time(agent: Any, keeping: Keeping) -> None:
    agent.start()
    schedule = keeping.schedule(Every(1000, 0), "echo", "hi")
    await keeping.taken(schedule)
    first = (await keeping.until(lambda: keeping.ended(schedule)))[0]
    assert first.state == "ok" and first.output is not None and b"hi\n" in first.output.head
    for firing in keeping.firings:
        assert firing.job == firing_id(schedule, firing.at_ms) and firing.at_ms % 1000 == 0


async def test_nothing_is_said_of_a_firing_before_it_is_known(agent: Any, keeping: Keeping) -> None:
    agent.start()
    schedule = keeping.schedule(Every(1000, 0))
    await keeping.taken(schedule)
    await agent.until(lambda: len(keeping.firings) >= 2)
    assert not keeping.ended(schedule)
    assert await keeping.until(lambda: len(keeping.ended(schedule)) >= 2)


async def test_no_firing_runs_twice_while_agent_and_keeper_are_killed(
    agent: Any, keeping: Keeping, tmp_path: Path
) -> None:
    agent.start()
    marks = tmp_path / "marks"
    # The command itself says that it ran.
    schedule = keeping.schedule(Every(1000, 0), "sh", "-c", f"echo ran >> {marks}")
    await keeping.taken(schedule)
    killed = 0
    for victim in ("agent", "agent", "keeper"):
        before = len(keeping.ended(schedule))
        await keeping.until(lambda before=before: len(keeping.ended(schedule)) >= before + 2)
        if victim == "agent":
            agent.agent_process.kill()
        else:
            successor = agent.agent_process
            os.kill(agent.process.pid, signal.SIGKILL)
            agent.process.wait()
            agent.process = _Adopted(successor)
        killed += 1
    before = len(keeping.ended(schedule))
    await keeping.until(lambda: len(keeping.ended(schedule)) >= before + 2)
    await keeping.taken(keeping.order(Unschedule(schedule)))
    await keeping.until(lambda: {f.job for f in keeping.firings} == {r.job for r in keeping.ended(schedule)})
    ended = keeping.ended(schedule)
    runs = len(marks.read_text().split())
    assert killed == 3 and len(ended) >= 8
    assert 0 < sum(one.ran == "yes" for one in ended) <= runs <= sum(one.ran != "no" for one in ended)


async def test_a_firing_that_is_due_while_the_one_before_runs_is_passed_over(
    agent: Any, keeping: Keeping, tmp_path: Path
) -> None:
    os.mkfifo(gate := tmp_path / "gate")
    agent.start()
    schedule = keeping.schedule(Every(1000, 0), "sh", "-c", f"read _ < {gate}")
    await keeping.taken(schedule)
    passed = (await keeping.until(lambda: keeping.ended(schedule)))[0]
    assert (passed.state, passed.ran, passed.code) == ("spawn_failed", "no", codes.SCHEDULE_OVERLAP.code)
    await asyncio.to_thread(gate.write_text, "go\n")
    assert await keeping.until(lambda: [one for one in keeping.ended(schedule) if one.state == "ok"])


async def test_what_was_due_once_runs_late_within_the_hour_and_is_missed_after_it(agent: Any, keeping: Keeping) -> None:
    agent.start()
    late = keeping.schedule(At(now_ms() - HOUR_MS // 2))
    missed = keeping.schedule(At(now_ms() - 2 * HOUR_MS))
    assert (await keeping.until(lambda: keeping.ended(late)))[0].state == "ok"
    result = (await keeping.until(lambda: keeping.ended(missed)))[0]
    assert (result.state, result.ran, result.code) == ("expired", "no", codes.SCHEDULE_MISSED.code)
    # It was once: it is gone.
    gone = await keeping.taken(keeping.order(Unschedule(late)), "denied")
    assert gone.code == codes.SCHEDULE_NOT_KEPT.code


async def test_a_paused_schedule_rests_and_a_removed_one_is_gone(agent: Any, keeping: Keeping) -> None:
    agent.start()
    schedule = keeping.schedule(Every(1000, 0))
    await keeping.until(lambda: keeping.ended(schedule))
    await keeping.taken(keeping.order(PauseSchedule(schedule, True)))
    rested = {firing.at_ms for firing in keeping.firings}
    other = keeping.schedule(Every(1000, 0))
    await keeping.until(lambda: len(keeping.ended(other)) >= 2)
    assert {firing.at_ms for firing in keeping.firings if firing.schedule == schedule} == rested
    agent.agent_process.kill()
    await agent.up(2)
    await keeping.taken(keeping.order(PauseSchedule(schedule, False)))
    await keeping.until(lambda: [f for f in keeping.firings if f.schedule == schedule and f.at_ms not in rested])
    await keeping.taken(keeping.order(Unschedule(schedule)))
    again = await keeping.taken(keeping.order(Unschedule(schedule)), "denied")
    assert again.code == codes.SCHEDULE_NOT_KEPT.code


async def test_at_boot_runs_once_in_each_boot_and_not_at_each_start_of_the_agent(agent: Any, keeping: Keeping) -> None:
    (agent.state.directory / "boot_id").write_text("boot-1")
    agent.start()
    schedule = keeping.schedule(AtBoot(), "echo", "up")
    await keeping.taken(schedule)
    for number in (2, 3):
        agent.stop()
        (agent.state.directory / "boot_id").write_text(f"boot-{number}")
        agent.start()
        await keeping.until(lambda number=number: len(keeping.ended(schedule)) == number - 1)
        agent.agent_process.kill()
        await agent.up(2 * (number - 1) + 1)
    assert {firing.boot for firing in keeping.firings} == {"boot-2", "boot-3"}
    assert len({firing.job for firing in keeping.firings}) == 2


async def test_a_revision_that_revokes_the_operator_stops_its_schedules(agent: Any, keeping: Keeping) -> None:
    agent.start()
    schedule = keeping.schedule(Every(1000, 0))
    await keeping.until(lambda: [one for one in keeping.ended(schedule) if one.state == "ok"])
    successor = Operator("kim", public_key(os.urandom(32)), ("operator",))
    second = agent.fleet.signed_roster(2, digest(agent.fleet.roster), successor)
    agent.bus.publish(orders_subject(ROOM), [t.RosterRevisions(1, (agent.fleet.roster, second))])
    refused = await keeping.until(lambda: [one for one in keeping.ended(schedule) if one.state != "ok"])
    assert (refused[0].ran, refused[0].code) == ("no", codes.SIGNER_UNKNOWN.code)
    await keeping.until(lambda: len([one for one in keeping.ended(schedule) if one.state != "ok"]) >= 3)
    states = [one.state for one in sorted(keeping.ended(schedule), key=lambda one: one.job)]
    assert "ok" not in states[states.index("bad_signature") :]


async def test_a_host_keeps_so_many_schedules_and_refuses_the_next(agent: Any, keeping: Keeping) -> None:
    agent.start()
    await agent.up()
    jobs = [keeping.schedule(AtBoot()) for _ in range(SCHEDULES_MAX)]
    for job in jobs:
        await keeping.taken(job)
    full = await agent.result(keeping.schedule(AtBoot()))
    assert (full.state, full.code) == ("denied", codes.SCHEDULES_FULL.code)


class _Adopted:
    """The keeper that an agent became when its own was killed: our child's child."""

    def __init__(self, process: psutil.Process) -> None:
        self.pid = process.pid
        self._process = process

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self, timeout: float | None = None) -> Any:
        return self._process.wait(timeout)
