"""The operators who put schedules on a simulated fleet, let them rest, go on, and take them away; and what goes wrong
with clocks and operators meanwhile.

A run either has clocks that are set, or schedules that rest: what is due in a rest is told by the host's clock.

Rules: everything drawn comes from one `Random` of the seed's own, so that runs without schedules are what they were.
"""

from __future__ import annotations

__all__ = ("KEEPING_KINDS", "Schedulers")

from collections.abc import Sequence
from random import Random

from libstaragent.security.acts import (
    At,
    AtBoot,
    Every,
    Exec,
    Member,
    PauseSchedule,
    Schedule,
    Unschedule,
    When,
)
from libstaragent.testing.clock import EPOCH_MS, ManualClock
from libstaragent.testing.fleet_keeper import Machine
from libstaragent.testing.operators import Operators
from libstaragent.testing.schedule_referee import ScheduleReferee
from libstaragent.testing.trust import OPERATOR
from libstaragent.testing.weather import FAULTS_END

KEEPING_KINDS = ("set clock", "revoke operator")
# One who signs schedules and may be struck from the roster.
LEAVER = "bob"
# Schedules go on a little when all is well again, so that it is seen whether they do.
UNTIL_MS = EPOCH_MS + int((FAULTS_END + 8) * 1000)
# Less than what clocks may differ before a host is not believed.
SET_CLOCK_MS = 25_000


class Schedulers:
    """See the module. `events` takes the faults that happened."""

    def __init__(
        self,
        clock: ManualClock,
        seed: int,
        operators: Operators,
        referee: ScheduleReferee,
        members: Sequence[Member],
        machines: Sequence[Machine],
        events: list[str],
    ) -> None:
        self._clock = clock
        self._random = Random(f"schedules {seed}")
        self._operators = operators
        self._referee = referee
        self._members = members
        self._machines = machines
        self._events = events
        draw = self._random.random
        self._steered = draw() < 0.6
        for number in range(1 + int(draw() * 3)):
            clock.call_later(draw() * 12, self._add, number)
        if not self._steered:
            for _ in range(1 + int(draw() * 3)):
                clock.call_later(draw() * (FAULTS_END - 1), self._set_clock, self._random.choice(machines))
        if draw() < 0.4:
            clock.call_later(draw() * FAULTS_END, self._revoke)

    @property
    def over(self) -> bool:
        """Whether no schedule fires any more."""
        return self._clock.now_ms > UNTIL_MS

    def mend(self) -> None:
        """All clocks are right from here on."""
        for machine in self._machines:
            machine.ahead_ms = 0

    def _add(self, number: int) -> None:
        draw = self._random.random
        members = tuple(self._random.sample(self._members, 1 + int(draw() * len(self._members))))
        name = f"s{number}"
        runtime_ms, timeout_ms = int(2500 * draw() ** 2), 500 + int(draw() * 4000)
        argv = ("sim", str(runtime_ms), "3" if draw() < 0.2 else "0", str(int(draw() * 3) * 100), "0")
        run = Exec(argv=(*argv, str(UNTIL_MS + 60_000), "own", name), timeout_ms=timeout_ms, kill_grace_ms=500)
        when = self._when()
        act = Schedule(name, when, run, UNTIL_MS)
        operator = LEAVER if draw() < 0.5 else OPERATOR
        ttl_ms = 3000 + int(draw() * 10_000)
        envelope = self._operators.order(act, self._clock.now_ms + ttl_ms, members, operator=operator)
        self._referee.signed(envelope)
        if not self._steered:
            return
        after = 0.0
        for paused in (True, False, True):
            after += 0.5 + draw() * 8
            if draw() < 0.6:
                self._clock.call_later(after, self._manage, PauseSchedule(envelope.id, paused), members)
        if draw() < 0.3:
            self._clock.call_later(after + draw() * 10, self._manage, Unschedule(envelope.id), members)

    def _when(self) -> When:
        draw = self._random.random
        kind = draw()
        if kind < 0.7:
            return Every(self._random.choice((1000, 1500, 2000, 3000)), EPOCH_MS - 500_000)
        return At(self._clock.now_ms + int(draw() * 20_000)) if kind < 0.85 else AtBoot()

    def _manage(self, act: PauseSchedule | Unschedule, members: tuple[Member, ...]) -> None:
        ttl_ms = 3000 + int(self._random.random() * 15_000)
        self._operators.order(act, self._clock.now_ms + ttl_ms, members)

    def _set_clock(self, machine: Machine) -> None:
        machine.ahead_ms = int((self._random.random() * 2 - 1) * SET_CLOCK_MS)
        self._referee.excused.add(machine.name)
        self._referee.clocks_set.add(machine.name)
        self._events.append("set clock")

    def _revoke(self) -> None:
        self._events.append("revoke operator")
        for machine in self._machines:
            machine.revoked.add(LEAVER)
