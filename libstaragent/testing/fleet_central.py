"""Central's thin shell in the simulator, and the store under it: the real `CentralCore` between bus, store and
operators.

One batch is decided, committed, and only then carried out; what arrives meanwhile is the next batch. A commit takes
seeded time, can fail, and the process can die between the commit and its knowing of it.

Rules: the store keeps the first end of a target; whatever would replace it breaks a promise, and is said.
"""

from __future__ import annotations

__all__ = ("CentralProcess", "SimStore", "StoredJob")

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from libstaragent.errors import StarAgentError
from libstaragent.jobs.reduce import counts
from libstaragent.protocol import trunk as t
from libstaragent.roles.central import CentralCore
from libstaragent.roles.central_state import Decision, Ended, Job
from libstaragent.security.acts import Cancel, Envelope, Exec, Member
from libstaragent.security.signed import Signed
from libstaragent.testing.clock import ManualClock
from libstaragent.testing.disk import DiskHealth
from libstaragent.testing.fleet_bus import SimBus, SimDelivery
from libstaragent.testing.process import SimProcess
from libstaragent.testing.referee import Referee

TICK = 1.0
# A commit's share of failures while the store's disk is well: locks, a database that restarts.
FAILURES = 0.02

Answer = Callable[[bool], None]


class StoredJob:
    """One job in the store."""

    __slots__ = (
        "amendments",
        "cancel",
        "cancelled_at",
        "deadline_ms",
        "ended",
        "envelope",
        "members",
        "parts",
        "signed",
        "submitted_ms",
    )

    def __init__(self, job: Job) -> None:
        self.envelope = job.envelope
        self.signed = job.signed
        self.members = tuple(job.members.values())
        self.submitted_ms = job.submitted_ms
        self.deadline_ms = job.deadline_ms
        self.ended: dict[str, Ended] = {}
        self.parts: dict[str, bytes] = {}
        self.amendments: list[Ended] = []
        self.cancel: Signed | None = None
        self.cancelled_at = 0.0


class SimStore:
    """What is committed; it outlives central."""

    def __init__(self, clock: ManualClock, referee: Referee) -> None:
        self._clock = clock
        self._referee = referee
        self.health = DiskHealth()
        self.jobs: dict[str, StoredJob] = {}
        self.outputs: dict[bytes, bytes] = {}

    def commit(self, decision: Decision) -> None:
        """Write it."""
        for job in decision.new_jobs:
            if job.id not in self.jobs:
                self.jobs[job.id] = StoredJob(job)
        named = {entry.job for entry in (*decision.ended, *decision.amended, *decision.reduced)}
        unknown = (named | {job for job, _, _ in decision.cancels}) - set(self.jobs)
        if unknown:
            self._referee.breaks("nothing is written about a job that is not stored", ", ".join(sorted(unknown)))
            return
        for _id, signed, _ in decision.cancels:
            stored = self.jobs[_id]
            if stored.cancel is None:
                stored.cancel, stored.cancelled_at = signed, self._clock.now
        for entry in (*decision.ended, *decision.amended):
            if entry.body:
                self.outputs.setdefault(entry.digest, entry.body)
        for part in decision.reduced:
            self.jobs[part.job].parts.setdefault(part.agent, part.part)
        for entry in decision.ended:
            stored = self.jobs[entry.job]
            before = stored.ended.get(entry.agent)
            what = f"{entry.job} on {entry.agent} is {entry.result.state}"
            self._referee.note("store", what)
            if before is not None:
                self._referee.breaks("a terminal state never changes", f"{what}, was {before.result.state}")
            else:
                stored.ended[entry.agent] = entry
                self._referee.kept(entry.agent, entry.result, self._output(entry))
                self._referee.told(entry.agent, entry.result, "the store")
        for entry in decision.amended:
            stored = self.jobs[entry.job]
            self._referee.note("store", f"{entry.job} on {entry.agent} was {entry.result.state} after all")
            self._referee.told(entry.agent, entry.result, "an amendment")
            self._referee.kept(entry.agent, entry.result, self._output(entry))
            if entry.agent not in stored.ended:
                self._referee.breaks("an amendment stands beside an end", f"{entry.job} on {entry.agent}")
            stored.amendments.append(entry)

    def _output(self, entry: Ended) -> bytes | None:
        act = self.jobs[entry.job].envelope.act
        if not entry.digest or (isinstance(act, Exec) and act.reduce and counts(entry.result)):
            return b""
        return self.outputs.get(entry.digest)

    def knows(self, job: str, agent: str) -> bool:
        """Whether the host's own word on this target is in it."""
        stored = self.jobs.get(job)
        entry = stored.ended.get(agent) if stored is not None else None
        if stored is None or entry is None:
            return False
        if entry.result.state not in ("agent_lost", "unreachable"):
            return True
        return any(amended.agent == agent for amended in stored.amendments)


class CentralProcess(SimProcess):
    """See the module. `acknowledge_early` is a planted bug: orders leave before the commit."""

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
    ) -> None:
        super().__init__(clock)
        self._random = random
        self._bus = bus
        self._store = store
        self._referee = referee
        self._known = known
        self._verify = verify
        self._early = acknowledge_early
        self._inputs: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._committing = False
        self.core = make(verify=verify)
        for identity, stored in store.jobs.items():
            if len(stored.ended) < len(stored.members):
                self._restore(identity)
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
        """An operator's cancel; answered with True once it is on disk."""
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
        self._store.commit(decision)
        self.later(0.001 + self._random.random() * 0.03, self._committed, decision, answers, deliveries)

    def _committed(self, decision: Decision, answers: list[Answer], deliveries: list[SimDelivery]) -> None:
        self._committing = False
        self._done(decision, answers, deliveries)
        self._next()

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
        if isinstance(act, Cancel):
            self._restore(act.job)
        try:
            self.core.cancel(signed, now_ms=self.clock.now_ms, decision=decision)
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
            if self._restore(report.result.job):
                self.core.reports((report,), now_ms=self.clock.now_ms, decision=decision)
            else:
                self._referee.breaks("no host knows a job that is not stored", f"{report.result.job}")

    def _tick_core(self, decision: Decision, _answers: list[Answer], _deliveries: list[SimDelivery]) -> None:
        self.core.tick(now_ms=self.clock.now_ms, decision=decision)

    def _restore(self, identity: str) -> bool:
        """Give the core a job of the store that it does not have in memory."""
        if identity in self.core.jobs:
            return True
        stored = self._store.jobs.get(identity)
        if stored is None:
            return False
        job = Job(stored.envelope, stored.signed, stored.members, source="simulator", submitted_ms=stored.submitted_ms)
        self.core.restore(job, {agent: entry.result.state for agent, entry in stored.ended.items()}, stored.cancel)
        return True
