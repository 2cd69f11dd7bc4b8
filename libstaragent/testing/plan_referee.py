"""Whether planned jobs keep to their plans, judged twice: when central's orders leave, by what is on disk then; and
when a command really starts, by which commands have started.

Not here: the rules as central follows them (`libstaragent.roles.pacing`). Rules: it asks the store and its own record,
never central's memory; it says what is allowed in another way than the core, so that one mistake is not made twice.
"""

from __future__ import annotations

__all__ = ("PlanReferee",)

from collections.abc import Container

from libstaragent.protocol import trunk as t
from libstaragent.roles.pacing import WITHOUT_TURN
from libstaragent.testing.clock import ManualClock
from libstaragent.testing.fleet_store import SimStore, StoredJob
from libstaragent.testing.referee import Referee


class PlanReferee:
    """See the module. `turns` counts first orders of planned jobs, `later` those of a second wave or a later one."""

    def __init__(self, clock: ManualClock, referee: Referee, store: SimStore) -> None:
        self._clock = clock
        self._referee = referee
        self._store = store
        self._ordered: dict[str, set[str]] = {}
        self.turns = 0
        self.later = 0

    def ordering(self, order: t.Order) -> None:
        """An order leaves central."""
        if not isinstance(order, t.Dispatch):
            return
        stored = self._store.jobs.get(order.job)
        if stored is None or stored.envelope.plan is None:
            return
        ordered = self._ordered.setdefault(order.job, set())
        first = [agent for agent, _ in order.targets if agent not in ordered]
        ordered.update(first)
        self.turns += len(first)
        for agent in first:
            self._judge_turn(order.job, stored, agent)
        plan = stored.envelope.plan
        if first and plan.window is not None and len(ordered - set(stored.ended)) > plan.window:
            self._breaks(order.job, first, f"{len(ordered - set(stored.ended))} are open in a window of {plan.window}")

    def started(self, job: str, agent: str) -> None:
        """A command passed its gate."""
        stored = self._store.jobs.get(job)
        if stored is None or stored.envelope.plan is None or agent in stored.ended:
            # Of one that was given up as lost, others have taken the place.
            return
        plan = stored.envelope.plan
        running = [one for one in self._order(stored) if (job, one) in self._referee.runs and one not in stored.ended]
        if plan.window is not None and len(running) > plan.window:
            self._breaks(job, [agent], f"{len(running)} have started in a window of {plan.window}")
        for before in self._before(stored, agent):
            if before not in stored.ended:
                self._breaks(job, [agent], f"has started, and {before} of an earlier wave has not ended")

    def _judge_turn(self, job: str, stored: StoredJob, agent: str) -> None:
        plan = stored.envelope.plan
        assert plan is not None
        before = self._before(stored, agent)
        self.later += bool(before)
        open_before = [one for one in before if one not in stored.ended]
        if open_before:
            self._breaks(job, [agent], f"{open_before} of an earlier wave have not ended")
            return
        if stored.pauses and stored.pauses[-1].paused:
            self._breaks(job, [agent], "the job is paused")
        ended_ms = max((stored.ended[one].received_ms for one in before), default=0)
        resumed = any(not entry.paused and entry.at_ms >= ended_ms for entry in stored.pauses)
        if before and plan.confirm and not resumed:
            self._breaks(job, [agent], f"nobody confirmed the wave before, of {len(before)}")
        rested_ms = self._clock.now_ms - ended_ms
        if before and rested_ms < plan.wait_ms:
            self._breaks(job, [agent], f"the wave before ended {rested_ms} ms ago, not {plan.wait_ms}")
        failed = [
            one for one, entry in stored.ended.items()
            if entry.result.state != "ok" and entry.result.code not in WITHOUT_TURN
        ]  # fmt: skip
        if plan.max_failures is not None and len(failed) > plan.max_failures:
            self._breaks(job, [agent], f"{len(failed)} have failed")

    def _before(self, stored: StoredJob, agent: str) -> list[str]:
        """All hosts of earlier waves."""
        order = self._order(stored)
        place = order.index(agent)
        plan = stored.envelope.plan
        assert plan is not None
        return order[: max((end for end in plan.waves if end <= place), default=0)]

    @staticmethod
    def _order(stored: StoredJob) -> list[str]:
        return [member.agent for member in stored.members]

    def _breaks(self, job: str, agents: Container[str], why: str) -> None:
        self._referee.breaks("a plan is kept to", f"{job} begins on {agents}: {why}")
