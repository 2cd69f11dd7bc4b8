"""Central's thin shell in the simulator: the real `CentralCore` between bus, store and operators.

One batch is decided, committed, and only then carried out; what arrives meanwhile is the next batch. A commit takes
seeded time, can fail, and the process can die between the commit and its knowing of it.

Not here: the store (`fleet_store`).
"""

from __future__ import annotations

__all__ = ("CentralProcess",)

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from msgspec.structs import replace

from libstaragent.errors import StarAgentError
from libstaragent.protocol import trunk as t
from libstaragent.roles.central import CentralCore
from libstaragent.roles.central_schedules import firing_job
from libstaragent.roles.central_state import Decision, Job
from libstaragent.security.acts import SCHEDULE_ACTS, Cancel, Envelope, Member, Pause, Resume
from libstaragent.security.signed import Signed
from libstaragent.testing.clock import ManualClock
from libstaragent.testing.fleet_audit import When
from libstaragent.testing.fleet_bus import SimBus, SimDelivery
from libstaragent.testing.fleet_store import SimStore, StoredJob
from libstaragent.testing.process import SimProcess
from libstaragent.testing.referee import Referee

TICK = 1.0
# A commit's share of failures while the store's disk is well: locks, a database that restarts.
FAILURES = 0.02

Answer = Callable[[bool], None]


class CentralProcess(SimProcess):
    """See the module. Two are planted bugs: with `acknowledge_early` orders leave before the commit, and `audit` says
    when the audit is written, which is to be with it.
    """

    def __init__(
        self,
        clock: ManualClock,
        random: Random,
        bus: SimBus,
        store: SimStore,
        referee: Referee,
        *,
        make: Callable[..., CentralCore],
        verify: Callable[[Signed, int], Envelope],
        known: Mapping[str, Member],
        acknowledge_early: bool,
        audit: When,
        ordering: Callable[[t.Order], None],
    ) -> None:
        super().__init__(clock)
        self._random = random
        self._bus = bus
        self._store = store
        self._referee = referee
        self._known = known
        self._verify = verify
        self._early = acknowledge_early
        self._audit = audit
        self._ordering = ordering
        self._inputs: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._committing = False
        self.core = make(verify=verify)
        for identity, stored in store.jobs.items():
            if len(stored.ended) < len(stored.members):
                self._restore(identity)
        self._load_schedules()
        decision = Decision()
        self.core.redispatch(decision)
        self._carry_out(decision)
        bus.subscribe(self, "reports", self._reported)
        self.later(TICK, self._tick)

    # Inputs --------------------------------------------------------------------------------------------------------

    def submit(self, signed: Signed, watch: bool, answer: Answer) -> None:
        """An operator's job; answered with True once it is on disk."""
        self._input(self._submit, signed, watch, answer)

    def cancel(self, signed: Signed, answer: Answer) -> None:
        """An operator's Cancel, Pause or Resume; answered with True once it is on disk."""
        self._input(self._cancel, signed, answer)

    def watch(self, job: str, on: bool) -> None:
        """Somebody looks at a job, or nobody any more."""
        self._input(self._watch, job, on)

    def _reported(self, delivery: SimDelivery) -> None:
        self._input(self._reports, delivery)

    def _tick(self) -> None:
        self.later(TICK, self._tick)
        self._input(self._tick_core)

    def _input(self, call: Callable[..., None], *args: object) -> None:
        self._inputs.append((call, args))
        if not self._committing:
            self._decide()

    # One batch -----------------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        inputs, self._inputs = self._inputs, []
        decision = Decision()
        answers: list[Answer] = []
        deliveries: list[SimDelivery] = []
        for call, args in inputs:
            call(decision, answers, deliveries, *args)
        if not decision.writes:
            self._done(decision, answers, deliveries)
            return
        if self._early:
            self._carry_out(decision)
        if self._audit == "before":
            self._write_audit(decision)
        self._committing = True
        delay = 0.001 + self._random.random() * (1.0 if self._random.random() < 0.1 else 0.02)
        self.later(delay, self._commit, decision, answers, deliveries)

    def _commit(self, decision: Decision, answers: list[Answer], deliveries: list[SimDelivery]) -> None:
        if self._store.health.errno is not None or self._random.random() < FAILURES:
            self._referee.note("central", "the commit fails")
            self.core.rolled_back(decision)
            for delivery in deliveries:
                delivery.refuse()
            for answer in answers:
                answer(False)
            self._committing = False
            self.later(0.0, self._next)
            return
        if self._audit == "with":
            self._write_audit(decision)
        self._store.commit(decision)
        self.later(0.001 + self._random.random() * 0.03, self._committed, decision, answers, deliveries)

    def _committed(self, decision: Decision, answers: list[Answer], deliveries: list[SimDelivery]) -> None:
        self._committing = False
        if self._audit == "after":
            self._store.audit.append(decision, known=(), now_ms=self.clock.now_ms)
        self._done(decision, answers, deliveries)
        self._next()

    def _write_audit(self, decision: Decision) -> None:
        self._store.audit.append(decision, known=self._store.jobs, now_ms=self.clock.now_ms)

    def _next(self) -> None:
        if self._inputs and not self._committing:
            self._decide()

    def _done(self, decision: Decision, answers: list[Answer], deliveries: list[SimDelivery]) -> None:
        self.core.committed(decision)
        if not self._early or not decision.writes:
            self._carry_out(decision)
        for delivery in deliveries:
            delivery.acknowledge()
        for answer in answers:
            answer(True)

    def _carry_out(self, decision: Decision) -> None:
        by_room: dict[str, list[t.Order]] = {}
        for room, order in decision.orders:
            self._ordering(order)
            by_room.setdefault(room, []).append(order)
        settled: dict[str, list[tuple[str, str]]] = {}
        for room, agent, job in decision.settle:
            settled.setdefault(room, []).append((agent, job))
        for room, pairs in settled.items():
            by_room.setdefault(room, []).append(t.SettledTargets(tuple(pairs)))
        for room, orders in by_room.items():
            self._bus.publish(self, "central", f"orders.{room}", orders)

    # What the core is told -----------------------------------------------------------------------------------------

    def _submit(
        self,
        decision: Decision,
        answers: list[Answer],
        _deliveries: list[SimDelivery],
        signed: Signed,
        watch: bool,
        answer: Answer,
    ) -> None:
        try:
            # Finished long ago and no longer in memory: the store knows it.
            self._restore(self._verify(signed, self.clock.now_ms).id)
            self.core.submit(
                signed,
                None,
                known=self._known,
                source="simulator",
                now_ms=self.clock.now_ms,
                decision=decision,
                watch=watch,
            )
        except StarAgentError as error:
            self._referee.note("central", f"refuses a job: {error}")
            self.later(0.0, answer, False)
            return
        answers.append(answer)

    def _cancel(
        self,
        decision: Decision,
        answers: list[Answer],
        _deliveries: list[SimDelivery],
        signed: Signed,
        answer: Answer,
    ) -> None:
        act = self._verify(signed, self.clock.now_ms).act
        if isinstance(act, Cancel | Pause | Resume):
            self._restore(act.job)
        try:
            take = self.core.cancel if isinstance(act, Cancel) else self.core.pause
            take(signed, now_ms=self.clock.now_ms, decision=decision)
        except StarAgentError as error:
            self._referee.note("central", f"refuses a cancel: {error}")
            self.later(0.0, answer, False)
            return
        answers.append(answer)

    def _watch(
        self, decision: Decision, _answers: list[Answer], _deliveries: list[SimDelivery], job: str, on: bool
    ) -> None:
        self.core.watch(job, on=on, decision=decision)

    def _reports(
        self, decision: Decision, _answers: list[Answer], deliveries: list[SimDelivery], delivery: SimDelivery
    ) -> None:
        deliveries.append(delivery)
        for report in delivery.batch:
            if isinstance(report, t.TargetEnded):
                self._referee.heard(report.agent, report.result)
            elif isinstance(report, t.TargetsEnded | t.TargetsReduced):
                for agent, result, *_ in report.ended:
                    self._referee.heard(agent, result)
        self.core.reports(delivery.batch, now_ms=self.clock.now_ms, decision=decision)
        strange, decision.strange = decision.strange, []
        for report in strange:
            if isinstance(report, t.FiringBegan):
                fresh = not self._restore(report.job)
                self.core.reports((replace(report, new=fresh),), now_ms=self.clock.now_ms, decision=decision)
            elif self._restore(report.result.job):
                self.core.reports((report,), now_ms=self.clock.now_ms, decision=decision)
            else:
                self._referee.breaks("no host knows a job that is not stored", f"{report.result.job}")

        for changed in decision.guards:
            self._referee.breaks("no single host is taken for two", f"{changed.agent}: {changed.guard.finding}")

    def _tick_core(self, decision: Decision, _answers: list[Answer], _deliveries: list[SimDelivery]) -> None:
        self.core.tick(now_ms=self.clock.now_ms, decision=decision)

    def _load_schedules(self) -> None:
        """All that is known of schedules follows from the jobs that are in the store."""
        book = self.core.schedules
        for stored in self._store.jobs.values():
            if not isinstance(stored.envelope.act, SCHEDULE_ACTS):
                continue
            job = self._job_of(stored)
            book.took(job)
            for entry in (*stored.ended.values(), *stored.amendments):
                at_ms = entry.result.finished_ms or entry.received_ms
                book.ended(job, entry.agent, entry.result.state, at_ms, entry.result.code)

    def _job_of(self, stored: StoredJob) -> Job:
        if stored.schedule:
            by = self._store.jobs[stored.schedule].envelope
            return firing_job(by, stored.envelope.id, stored.signed, stored.members, submitted_ms=stored.submitted_ms)
        return Job(stored.envelope, stored.signed, stored.members, source="simulator", submitted_ms=stored.submitted_ms)

    def _restore(self, identity: str) -> bool:
        """Give the core a job of the store that it does not have in memory."""
        if identity in self.core.jobs:
            return True
        stored = self._store.jobs.get(identity)
        if stored is None:
            return False
        job = self._job_of(stored)
        ended = {agent: entry.result.state for agent, entry in stored.ended.items()}
        self.core.restore(job, ended, stored.cancel, stored.past(self.clock.now_ms))
        return True
