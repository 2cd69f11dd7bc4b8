"""Rounds: what arrives in one turn of the loop, and during the last commit, is decided and written together.

One at a time. So a decision never rests on another that may still be rolled back, and a busy store makes the rounds
larger instead of more.

Not here: what follows a commit (`service`). Rules: a job is written by itself, because the store may refuse its id; all
reports and the clock in one write, because only together do they say which target is a job's last. Within a round
nothing awaits. A fault of ours in one request or report undoes that one and no other; one in undoing it ends the
process, because what memory says is then not what is on disk, and a new process reads it there.
"""

from __future__ import annotations

__all__ = ("Ask", "Rounds", "exit_process")

import asyncio
import logging
import os
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from agentd.central.directory import Directory
from agentd.central.outcomes import Outcomes
from agentd.central.round import Reports, Round, Unit
from agentd.central.writes import decision_ops, job_ops
from agentd.store.ops import Op
from agentd.store.writer import Lane
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.protocol import trunk as t
from libstaragent.roles.central import CentralCore
from libstaragent.roles.central_state import Decision

log = logging.getLogger("agentd.central")

# Reports in one round: about a tenth of a second of the fastest store, so that a request waits no longer behind them.
REPORTS_A_ROUND = 4096
# And their bytes: outputs are copied on their way into the database, all those of a round at once.
REPORTS_A_ROUND_BYTES = 16 * 1024 * 1024
# A commit takes milliseconds, on a bad disk a second; a round that is open for so long does not end by itself.
STUCK_MS = 15_000
# EX_SOFTWARE of sysexits.h: the supervisor starts it again.
EXIT_BUG = 70

# What a request decides: it adds a unit to the round. It raises why it is refused; what it decided is undone then.
Ask = Callable[[Round, Decision], None]


def exit_process() -> None:
    """End at once: nothing that is not on disk has been said, so nothing needs an orderly end."""
    logging.shutdown()
    os._exit(EXIT_BUG)


class _Aftermath(Protocol):
    def written(self, turn: Round, decisions: Sequence[Decision]) -> None:
        """These decisions of the round are on disk, and the others did not happen."""
        ...

    def strange(self, reports: Reports) -> None:
        """Results of jobs that are not in memory: to be heard again when those are, or settled."""
        ...


class Rounds:
    """See the module.

    Attributes:
        heard: reports heard since the start. refused: writes undone. store_failing: whether the last one was.
    """

    def __init__(
        self,
        core: CentralCore,
        hosts: Directory,
        lane: Lane,
        after: _Aftermath,
        *,
        outcomes: Outcomes,
        now_ms: Callable[[], int],
        give_up: Callable[[], None] = exit_process,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._core = core
        self._hosts = hosts
        self._lane = lane
        self._after = after
        self._outcomes = outcomes
        self._now_ms = now_ms
        self._give_up = give_up
        self._requests: deque[tuple[Ask, Callable[[Exception], None]]] = deque()
        self._reports: deque[Reports] = deque()
        self._tick_due = False
        self._scheduled = False
        self.present: Round | None = None
        self.idle = asyncio.Event()
        self.idle.set()
        self.heard = 0
        self.refused = 0
        self.store_failing = False

    @property
    def stuck(self) -> bool:
        """Whether the present round should have ended long ago."""
        return self.present is not None and self._now_ms() - self.present.now_ms > STUCK_MS

    def ask(self, decide: Ask, refuse: Callable[[Exception], None]) -> None:
        """A request: `decide` is called in the next round; what it raises goes to `refuse`."""
        self._requests.append((decide, refuse))
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
        try:
            self._scheduled = False
            turn = self.present = Round(self._now_ms())
            for _ in range(len(self._requests)):
                self._decide(turn, *self._requests.popleft())
            self._hear_reports(turn)
            for unit in turn.units:
                if unit.ops:
                    self._write(turn, unit)
            if not turn.open:
                self._end(turn)
        except Exception as error:
            self._lost(error)

    def _decide(self, turn: Round, decide: Ask, refuse: Callable[[Exception], None]) -> None:
        decision = Decision()
        before = len(turn.units)
        try:
            decide(turn, decision)
        except Exception as error:
            del turn.units[before:]
            self._core.rolled_back(decision)
            # What is not coded is a fault of ours, and whoever awaits it says so.
            refuse(error)

    def _write(self, turn: Round, unit: Unit) -> None:
        turn.open += 1
        try:
            # In the same commit: what is counted is what is stored, whatever is killed.
            counted = self._outcomes.ops(unit.decision.ended, turn.now_ms)
            self._lane.submit([*unit.ops, *counted], lambda error: self._answered(turn, unit, error))
        except Exception as error:
            turn.open -= 1
            unit.error = error if isinstance(error, StarAgentError) else _bug(error)

    def _hear_reports(self, turn: Round) -> None:
        taken: list[Reports] = []
        batch: list[Any] = []
        count = size = 0
        while self._reports and (
            not taken
            or (
                count + self._reports[0].count <= REPORTS_A_ROUND
                and size + self._reports[0].bytes <= REPORTS_A_ROUND_BYTES
            )
        ):
            taken.append(self._reports.popleft())
            batch.extend(taken[-1].batch)
            count += taken[-1].count
            size += taken[-1].bytes
        ticks, self._tick_due = self._tick_due, False
        if not taken and not ticks:
            return
        decision, ops = self._heard(batch, turn.now_ms, ticks=ticks)
        if not taken and not decision.writes and not decision.paced:
            return
        self.heard += count
        turn.rooms.extend(report.room for report in batch if type(report) is t.RoomStarted)
        deliveries = [delivery for reports in taken for delivery in reports.deliveries]

        def done(error: StarAgentError | None) -> None:
            if error is None and decision.strange:
                # The rest is on disk; a delivery is done with when these are too.
                self._after.strange(Reports(decision.strange, deliveries))
                return
            for delivery in deliveries:
                if error is None:
                    delivery.acknowledge()
                else:
                    delivery.refuse()

        unit = turn.add(decision, ops, done)
        turn.fresh.update((job.id, unit) for job in decision.new_jobs)

    def _heard(self, batch: Sequence[Any], now_ms: int, *, ticks: bool) -> tuple[Decision, list[Op]]:
        """What these reports and the clock lead to; without those in which we have a fault, which would hold up the
        others for ever.
        """
        try:
            return self._weigh(batch, now_ms, ticks=ticks)
        except Exception:
            log.exception("%s: reports are looked at one by one", codes.CENTRAL_BUG.code)
        sound = [report for report in batch if self._is_sound(report, now_ms)]
        try:
            return self._weigh(sound, now_ms, ticks=ticks)
        except Exception:
            log.exception("%s: the clock was passed over", codes.CENTRAL_BUG.code)
        return self._weigh(sound, now_ms, ticks=False)

    def _is_sound(self, report: Any, now_ms: int) -> bool:
        try:
            decision, _ = self._weigh((report,), now_ms, ticks=False)
        except Exception:
            log.exception("%s: a report was passed over: %.500r", codes.CENTRAL_BUG.code, report)
            return False
        self._core.rolled_back(decision)
        return True

    def _weigh(self, batch: Sequence[Any], now_ms: int, *, ticks: bool) -> tuple[Decision, list[Op]]:
        decision = Decision()
        try:
            self._core.reports(batch, now_ms=now_ms, decision=decision)
            if ticks:
                self._core.tick(now_ms=now_ms, decision=decision)
            # Firings of schedules are jobs that hosts tell of.
            made = [op for job in decision.new_jobs for op in job_ops(job)]
            return decision, [*made, *decision_ops(decision, self._hosts)]
        except Exception:
            self._core.rolled_back(decision)
            raise

    def _answered(self, turn: Round, unit: Unit, error: StarAgentError | None) -> None:
        unit.error = error
        turn.open -= 1
        if not turn.open:
            try:
                self._end(turn)
            except Exception as fault:
                self._lost(fault)

    def _end(self, turn: Round) -> None:
        self.present = None
        for unit in turn.units:
            if unit.ops:
                self.store_failing = unit.error is not None and unit.error.code is codes.STORE_FAILED
            if unit.error is not None:
                self._core.rolled_back(unit.decision)
                self.refused += 1
                if unit.error.code is not codes.JOB_REPEATED:
                    log.error("a write failed and is undone: %s", unit.error)
        # After what did not happen is undone: planned jobs go on now, by what is on disk.
        written = [unit.decision for unit in turn.units if unit.error is None]
        for decision in written:
            self._core.committed(decision)
        self._after.written(turn, written)
        for unit in turn.units:
            for done in unit.done:
                _guarded(done, unit.error)
        if self._requests or self._reports or self._tick_due:
            self._soon()
        else:
            self.idle.set()

    def _lost(self, error: Exception) -> None:
        log.critical("%s: memory and store may differ: this process ends", codes.CENTRAL_BUG.code, exc_info=error)
        self._give_up()


def _bug(error: Exception) -> StarAgentError:
    incident = secrets.token_hex(6)
    log.error("a write could not be queued, id %s", incident, exc_info=error)
    return codes.CENTRAL_BUG.error(f"id {incident}")


def _guarded(done: Callable[[StarAgentError | None], None], error: StarAgentError | None) -> None:
    """One who cannot hear it keeps nobody else from hearing it."""
    try:
        done(error)
    except Exception:
        log.exception("%s: somebody was not told of the end of a round", codes.CENTRAL_BUG.code)
