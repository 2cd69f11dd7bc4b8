"""Rounds: what arrives in one turn of the loop, and during the last commit, is decided and written together.

One at a time. So a decision never rests on another that may still be rolled back, and a busy store makes the rounds
larger instead of more.

Not here: what follows a commit (`service`). Rules: a job is written by itself, because the store may refuse its id; all
reports and the clock in one write, because only together do they say which target is a job's last. Within a round
nothing awaits.
"""

from __future__ import annotations

__all__ = ("Rounds",)

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from agentd.central.directory import Directory
from agentd.central.round import Reports, Round, Unit
from agentd.central.writes import decision_ops
from agentd.store.writer import Lane
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.protocol import trunk as t
from libstaragent.roles.central import CentralCore
from libstaragent.roles.central_state import Decision

log = logging.getLogger("agentd.central")

# Reports in one round: about a tenth of a second of the fastest store, so that a request waits no longer behind them.
REPORTS_A_ROUND = 4096


class _Aftermath(Protocol):
    def written(self, turn: Round, decisions: Sequence[Decision]) -> None:
        """These decisions of the round are on disk, and the others did not happen."""
        ...

    def strange(self, reports: Reports, jobs: set[str]) -> None:
        """Reports, some about jobs that are not in memory: to be heard again when those are, or settled."""
        ...


class Rounds:
    """See the module.

    Attributes:
        heard: reports heard since the start. refused: writes undone. store_failing: whether the last one was.
    """

    def __init__(
        self, core: CentralCore, hosts: Directory, lane: Lane, after: _Aftermath, *, now_ms: Callable[[], int]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._core = core
        self._hosts = hosts
        self._lane = lane
        self._after = after
        self._now_ms = now_ms
        self._requests: deque[Callable[[Round], None]] = deque()
        self._reports: deque[Reports] = deque()
        self._tick_due = False
        self._scheduled = False
        self.present: Round | None = None
        self.idle = asyncio.Event()
        self.idle.set()
        self.heard = 0
        self.refused = 0
        self.store_failing = False

    def ask(self, decide: Callable[[Round], None]) -> None:
        """A request: called in the next round, to which it adds what it decides."""
        self._requests.append(decide)
        self._soon()

    def hear(self, reports: Reports) -> None:
        """What rooms say."""
        self._reports.append(reports)
        self._soon()

    def tick(self) -> None:
        """A second has passed."""
        self._tick_due = True
        self._soon()

    def _soon(self) -> None:
        if not self._scheduled and self.present is None:
            self._scheduled = True
            self.idle.clear()
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        turn = self.present = Round(self._now_ms())
        for _ in range(len(self._requests)):
            self._requests.popleft()(turn)
        self._hear_reports(turn)
        for unit in turn.units:
            if unit.ops:
                turn.open += 1
                try:
                    self._lane.submit(unit.ops, lambda error, unit=unit: self._answered(turn, unit, error))
                except StarAgentError as error:
                    turn.open -= 1
                    unit.error = error
        if not turn.open:
            self._end(turn)

    def _hear_reports(self, turn: Round) -> None:
        decision = Decision()
        taken: list[Reports] = []
        count = 0
        while self._reports and (not taken or count + len(self._reports[0].batch) <= REPORTS_A_ROUND):
            reports = self._reports.popleft()
            taken.append(reports)
            count += len(reports.batch)
            self._hear(reports.batch, turn.now_ms, decision)
            turn.rooms.extend(report.room for report in reports.batch if type(report) is t.RoomStarted)
        if self._tick_due:
            self._tick_due = False
            self._core.tick(now_ms=turn.now_ms, decision=decision)
        if not taken and not decision.ended:
            return
        self.heard += count
        deliveries = [delivery for reports in taken for delivery in reports.deliveries]
        if decision.strange:
            # All of it is heard again with the jobs that are missing now; what is decided now does no harm twice, and
            # nothing is acknowledged whose write may fail.
            everything = [report for reports in taken for report in reports.batch]
            missing = {report.result.job for report in decision.strange if isinstance(report, t.TargetEnded)}
            self._after.strange(Reports(everything, deliveries), missing)
            deliveries = []

        def done(error: StarAgentError | None) -> None:
            for delivery in deliveries:
                if error is None:
                    delivery.acknowledge()
                else:
                    delivery.refuse()

        turn.add(decision, decision_ops(decision, self._hosts), done)

    def _hear(self, batch: Sequence[Any], now_ms: int, decision: Decision) -> None:
        try:
            self._core.reports(batch, now_ms=now_ms, decision=decision)
        except Exception:
            # A fault of ours in one report must not hold up the others for ever; heard again, they do no harm.
            for report in batch:
                try:
                    self._core.reports((report,), now_ms=now_ms, decision=decision)
                except Exception:
                    log.exception("%s: a report was passed over: %.500r", codes.CENTRAL_BUG.code, report)

    def _answered(self, turn: Round, unit: Unit, error: StarAgentError | None) -> None:
        unit.error = error
        turn.open -= 1
        if not turn.open:
            self._end(turn)

    def _end(self, turn: Round) -> None:
        self.present = None
        written: list[Decision] = []
        for unit in turn.units:
            if unit.ops:
                self.store_failing = unit.error is not None and unit.error.code is codes.STORE_FAILED
            if unit.error is None:
                self._core.committed(unit.decision)
                written.append(unit.decision)
            else:
                self._core.rolled_back(unit.decision)
                self.refused += 1
                if unit.error.code is not codes.JOB_REPEATED:
                    log.error("a write failed and is undone: %s", unit.error)
        self._after.written(turn, written)
        for unit in turn.units:
            for done in unit.done:
                done(unit.error)
        if self._requests or self._reports or self._tick_due:
            self._soon()
        else:
            self.idle.set()
