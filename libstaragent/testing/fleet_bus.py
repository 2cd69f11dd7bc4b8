"""The bus between room and central in the simulator: what JetStream promises (`agentd.bus`), and
everything else denied.

A batch is safe once it has reached the broker; what a publisher that dies had not handed over is lost. A batch is
delivered at least once: late, sometimes twice though acknowledged, again when nobody acknowledged it in time, and in a
run that `reorders`, not in the order of publication. A process can be cut off.

Rules: everything random comes from the `random.Random` that was given.
"""

from __future__ import annotations

__all__ = ("SimBus", "SimDelivery")

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from libstaragent.testing.clock import ManualClock
from libstaragent.testing.process import SimProcess

# What was not acknowledged after this many seconds is delivered again.
ACK_WAIT = 3.0
# What was refused, and what finds nobody, comes again after this long.
AGAIN = 0.5


class SimDelivery:
    """One batch on its way; the same object for each time that it is delivered."""

    __slots__ = ("_bus", "acknowledged", "batch", "subject")

    def __init__(self, bus: SimBus, subject: str, batch: Sequence[Any]) -> None:
        self._bus = bus
        self.subject = subject
        self.batch = batch
        self.acknowledged = False

    def acknowledge(self) -> None:
        """Never deliver it again."""
        if not self.acknowledged:
            self.acknowledged = True
            self._bus.unacknowledged -= 1

    def refuse(self) -> None:
        """Deliver it again."""
        self._bus.soon(self, AGAIN)


class SimBus:
    """See the module."""

    def __init__(
        self, clock: ManualClock, random: Random, *, slowness: float, duplicates: float, reorders: bool
    ) -> None:
        self._clock = clock
        self._random = random
        self._slowness = slowness
        self.duplicates = duplicates
        self._reorders = reorders
        self._handlers: dict[str, tuple[SimProcess, Callable[[SimDelivery], None]]] = {}
        self._last: dict[object, float] = {}
        self.cut_off: set[str] = set()
        self.unacknowledged = 0

    def publish(self, who: SimProcess, role: str, subject: str, batch: Sequence[Any]) -> None:
        """Hand over a batch; it is lost if `who` dies before the broker has it."""
        if batch:
            who.at(self._arrival((who, subject)), self._take, who, role, SimDelivery(self, subject, batch))

    def subscribe(self, who: SimProcess, subject: str, handler: Callable[[SimDelivery], None]) -> None:
        """Take the deliveries of a subject, as long as `who` lives."""
        self._handlers[subject] = (who, handler)

    def soon(self, delivery: SimDelivery, delay: float) -> None:
        """Deliver after so many seconds, unless it is acknowledged by then."""
        self._clock.call_later(delay, self._deliver, delivery)

    def _arrival(self, lane: object) -> float:
        when = self._clock.now + (0.0005 + self._random.random() * 0.01) * self._slowness
        if not self._reorders:
            when = self._last[lane] = max(when, self._last.get(lane, 0.0))
        return when

    def _take(self, who: SimProcess, role: str, delivery: SimDelivery) -> None:
        if role in self.cut_off:
            who.later(AGAIN / 2, self._take, who, role, delivery)
            return
        self.unacknowledged += 1
        self._clock.call_at(self._arrival(delivery.subject), self._deliver, delivery)
        if self._random.random() < self.duplicates:
            self._clock.call_later(self._random.random() * 12, self._hand_over, delivery)

    def _deliver(self, delivery: SimDelivery) -> None:
        if delivery.acknowledged:
            return
        if self._hand_over(delivery):
            if not delivery.acknowledged:
                self.soon(delivery, ACK_WAIT)
        else:
            self.soon(delivery, AGAIN)

    def _hand_over(self, delivery: SimDelivery) -> bool:
        who, handler = self._handlers.get(delivery.subject, (None, None))
        if who is None or handler is None or not who.alive or delivery.subject.partition(".")[0] in self.cut_off:
            return False
        handler(delivery)
        return True
