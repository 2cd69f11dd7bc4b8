"""The operators of a simulated fleet: they submit jobs, watch some, cancel some, and ask again until they are answered.

Rules: the same request again is the same envelope, so an answer that was lost makes no second job.
"""

from __future__ import annotations

__all__ = ("Operators",)

from collections.abc import Callable, Sequence
from random import Random

from libstaragent.model.ids import new_ulid
from libstaragent.security.acts import Act, Cancel, Envelope, Exec, Member, Pause, Plan, Resume, TargetList, act_text
from libstaragent.security.signed import Signed
from libstaragent.testing.clock import ManualClock
from libstaragent.testing.fleet_central import CentralProcess
from libstaragent.testing.referee import Referee
from libstaragent.testing.trust import OPERATOR, PlainTrust

# Jobs come within so many seconds, while things go wrong.
SUBMIT_WITHIN = 20.0
# No answer in this time: ask again.
PATIENCE = 2.0
# What jobs ask the rooms to make of their outputs.
REDUCERS = ("count", "uniq-count", "sort-merge")
# A command that nobody waits for to end, and the timeout that would end it: only a cancel does in time.
ENDLESS_MS = 1_000_000
ENDLESS_TIMEOUT_MS = 180_000
# The share of jobs with a plan, and how often a pause is sent.
PLANNED = 0.35
PAUSE_TRIES = 3


class Operators:
    """See the module. `accepted` are the jobs that central said are taken; `central_of` is set by the fleet."""

    def __init__(
        self,
        clock: ManualClock,
        random: Random,
        referee: Referee,
        trust: PlainTrust,
        members: Sequence[Member],
        jobs: int,
    ) -> None:
        self._clock = clock
        self._random = random
        self._referee = referee
        self._trust = trust
        self._members = members
        self.central_of: Callable[[], CentralProcess | None] = lambda: None
        self.accepted: set[str] = set()
        self._busy = jobs
        for _ in range(jobs):
            clock.call_later(random.random() * SUBMIT_WITHIN, self._new_job)

    @property
    def done(self) -> bool:
        """Whether every request is answered or given up."""
        return not self._busy

    def _new_job(self) -> None:
        draw = self._random.random
        cancelled = draw() < 0.35
        endless = cancelled and draw() < 0.5
        ttl_ms = 1000 + int(draw() * 4000) if draw() < 0.4 else 10_000 + int(draw() * 20_000)
        expires = self._clock.now_ms + ttl_ms
        runtime_ms = ENDLESS_MS if endless else int(5000 * draw() ** 3)
        output = int(draw() * 40_000) if draw() < 0.3 else int(draw() * 3) * 100
        act = Exec(
            argv=(
                "sim",
                str(runtime_ms),
                "3" if draw() < 0.2 else "0",
                str(output),
                str(int(draw() < 0.2)),
                str(expires),
                "own" if draw() < 0.4 else "same",
            ),
            reduce=self._random.choice(REDUCERS) if draw() < 0.3 else "",
            timeout_ms=ENDLESS_TIMEOUT_MS if endless else 500 + int(draw() * 8000),
            kill_grace_ms=1000,
        )
        count = 1 + int(draw() * len(self._members))
        plan = None
        if draw() < PLANNED:
            count = max(count, 2)
            plan = self._plan(count)
        signed, identity = self._sign(act, expires, tuple(self._random.sample(self._members, count)), plan)
        self._referee.note(
            "operator", f"submits {identity} for {count} hosts, {ttl_ms} ms, runs {runtime_ms} ms, {plan}"
        )
        if plan is not None:
            self._steer(identity, plan)
        self._submit(signed, identity, expires, draw() < 0.3, draw() * 6 if cancelled else None)

    def _plan(self, count: int) -> Plan:
        draw = self._random.random
        return Plan(
            waves=(*sorted(self._random.sample(range(1, count), 1 + int(draw() * (count - 1)))), count)
            if draw() < 0.7
            else (),
            window=None if draw() < 0.4 else 1 + int(draw() * count),
            max_failures=None if draw() < 0.6 else int(draw() * 2),
            wait_ms=int(draw() * 2000) if draw() < 0.3 else 0,
            confirm=draw() < 0.3,
            turn_ms=int(500 + draw() * 5000) if draw() < 0.5 else 0,
        )

    def _steer(self, identity: str, plan: Plan) -> None:
        """Pause it, perhaps, and resume it, as one who looks now and then."""
        draw = self._random.random
        at = draw() * 6
        if draw() < 0.5:
            self._clock.call_later(at, self._pause_job, identity, True)
            if draw() < 0.2:
                return
        looks = 3 if plan.confirm else 1
        for _ in range(looks):
            at += draw() * 6
            self._clock.call_later(at, self._pause_job, identity, False)

    def _pause_job(self, identity: str, paused: bool) -> None:
        act = Pause(identity) if paused else Resume(identity)
        signed, _ = self._sign(act, self._clock.now_ms + 24 * 3_600_000, None)
        self._referee.note("operator", f"{'pauses' if paused else 'resumes'} {identity}")
        self._send_pause(signed, PAUSE_TRIES)

    def _send_pause(self, signed: Signed, tries: int) -> None:
        """Sent a few times, whatever is said: it is taken once, also when the answer was lost."""
        central = self.central_of()
        if central is not None:
            central.cancel(signed, lambda taken: None)
        if tries > 1:
            self._clock.call_later(self._random.random() * PATIENCE, self._send_pause, signed, tries - 1)

    def order(self, act: Act, expires: int, members: tuple[Member, ...], *, operator: str = OPERATOR) -> Envelope:
        """Sign an act and submit it, as often as it takes; what was signed."""
        envelope = self._envelope(act, expires, members, operator=operator)
        self._referee.note(operator, f"submits {envelope.id} for {len(members)} hosts: {act_text(act)}")
        self._busy += 1
        self._submit(self._trust.sign(envelope), envelope.id, expires, False, None)
        return envelope

    def _sign(
        self, act: Act, expires: int, members: tuple[Member, ...] | None, plan: Plan | None = None
    ) -> tuple[Signed, str]:
        envelope = self._envelope(act, expires, members, plan)
        return self._trust.sign(envelope), envelope.id

    def _envelope(
        self,
        act: Act,
        expires: int,
        members: tuple[Member, ...] | None,
        plan: Plan | None = None,
        *,
        operator: str = OPERATOR,
    ) -> Envelope:
        now_ms = self._clock.now_ms
        identity = new_ulid(now_ms, self._random.randbytes(10))
        return Envelope(
            id=identity,
            fleet=self._trust.fleet,
            operator=operator,
            act=act,
            targets=None if members is None else TargetList("*", members),
            issued=now_ms,
            not_before=now_ms,
            expires=expires,
            roster=1,
            plan=plan,
        )

    def _submit(self, signed: Signed, identity: str, expires: int, watch: bool, cancel_after: float | None) -> None:
        answered = False

        def answer(taken: bool) -> None:
            nonlocal answered
            if answered:
                return
            answered = True
            if not taken:
                again()
                return
            self._referee.note("operator", f"{identity} is accepted")
            self.accepted.add(identity)
            if cancel_after is None:
                self._busy -= 1
            else:
                self._clock.call_later(cancel_after, self._cancel_job, identity)
            if watch:
                self._clock.call_later(self._random.random() * 2, self._watch, identity, True)
                self._clock.call_later(2 + self._random.random() * 5, self._watch, identity, False)

        def again() -> None:
            if self._clock.now_ms >= expires:
                self._busy -= 1
            else:
                self._clock.call_later(
                    self._random.random() * PATIENCE, self._submit, signed, identity, expires, watch, cancel_after
                )

        def waited() -> None:
            nonlocal answered
            if not answered:
                answered = True
                again()

        central = self.central_of()
        if central is None:
            again()
            return
        central.submit(signed, watch, answer)
        self._clock.call_later(PATIENCE, waited)

    def _watch(self, identity: str, on: bool) -> None:
        central = self.central_of()
        if central is not None:
            central.watch(identity, on)

    def _cancel_job(self, identity: str) -> None:
        signed, _ = self._sign(Cancel(identity), self._clock.now_ms + 24 * 3_600_000, None)
        self._referee.note("operator", f"cancels {identity}")
        self._cancel(signed)

    def _cancel(self, signed: Signed) -> None:
        answered = False

        def answer(taken: bool) -> None:
            nonlocal answered
            if answered:
                return
            answered = True
            if taken:
                self._busy -= 1
            else:
                self._clock.call_later(PATIENCE, self._cancel, signed)

        def waited() -> None:
            nonlocal answered
            if not answered:
                answered = True
                self._cancel(signed)

        central = self.central_of()
        if central is None:
            self._clock.call_later(PATIENCE, self._cancel, signed)
            return
        central.cancel(signed, answer)
        self._clock.call_later(PATIENCE, waited)
