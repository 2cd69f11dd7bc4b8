"""Schedules on a real agent: taken, fired, told and ended, with kills between.

When what is due, rests, is missed or over is tested on the cores (`test_agent_schedule_times`, the simulator).
"""

from __future__ import annotations

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
from libstaragent.security.acts import Act, AtBoot, Every, Exec, Schedule, Unschedule, When
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


async def test_a_firing_is_told_of_when_central_knows_it_and_judged_by_the_roster_of_its_time(
    agent: Any, keeping: Keeping
) -> None:
    agent.start()
    schedule = keeping.schedule(Every(1000, 0), "echo", "hi")
    await keeping.taken(schedule)
    await agent.until(lambda: len(keeping.firings) >= 2)
    assert not keeping.ended(schedule), "nothing is said of it before"
    first = (await keeping.until(lambda: keeping.ended(schedule)))[0]
    assert first.state == "ok" and first.output is not None and b"hi\n" in first.output.head
    for firing in keeping.firings:
        assert firing.job == firing_id(schedule, firing.at_ms) and firing.at_ms % 1000 == 0
    successor = Operator("kim", public_key(os.urandom(32)), ("operator",))
    second = agent.fleet.signed_roster(2, digest(agent.fleet.roster), successor)
    agent.bus.publish(orders_subject(ROOM), [t.RosterRevisions(1, (agent.fleet.roster, second))])
    refused = await keeping.until(lambda: [one for one in keeping.ended(schedule) if one.state != "ok"])
    assert (refused[0].ran, refused[0].code) == ("no", codes.SIGNER_UNKNOWN.code)
    states = [one.state for one in sorted(keeping.ended(schedule), key=lambda one: one.job)]
    assert "ok" not in states[states.index("bad_signature") :]


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
        await keeping.until(lambda before=before: len(keeping.ended(schedule)) > before)
        if victim == "agent":
            agent.agent_process.kill()
        else:
            successor = agent.agent_process
            os.kill(agent.process.pid, signal.SIGKILL)
            agent.process.wait()
            agent.process = _Adopted(successor)
        killed += 1
    before = len(keeping.ended(schedule))
    await keeping.until(lambda: len(keeping.ended(schedule)) > before)
    await keeping.taken(keeping.order(Unschedule(schedule)))
    await keeping.until(lambda: {f.job for f in keeping.firings} == {r.job for r in keeping.ended(schedule)})
    ended = keeping.ended(schedule)
    runs = len(marks.read_text().split())
    assert killed == 3 and len(ended) >= 4
    assert 0 < sum(one.ran == "yes" for one in ended) <= runs <= sum(one.ran != "no" for one in ended)


async def test_at_boot_runs_once_in_a_boot_and_not_at_each_start_of_the_agent(agent: Any, keeping: Keeping) -> None:
    (agent.state.directory / "boot_id").write_text("boot-1")
    agent.start()
    schedule = keeping.schedule(AtBoot(), "echo", "up")
    await keeping.taken(schedule)
    agent.stop()
    (agent.state.directory / "boot_id").write_text("boot-2")
    agent.start()
    await keeping.until(lambda: len(keeping.ended(schedule)) == 1)
    agent.agent_process.kill()
    await agent.up(3)
    # Whoever starts now fires what is due before it answers.
    await keeping.taken(keeping.order(Unschedule(schedule)))
    assert {firing.boot for firing in keeping.firings} == {"boot-2"}
    assert len({firing.job for firing in keeping.firings}) == 1


class _Adopted:
    """The keeper that an agent became when its own was killed: our child's child."""

    def __init__(self, process: psutil.Process) -> None:
        self.pid = process.pid
        self._process = process

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self, timeout: float | None = None) -> Any:
        return self._process.wait(timeout)
