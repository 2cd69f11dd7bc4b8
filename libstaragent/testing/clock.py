"""A clock that is turned by hand, with the things that wait for it: a discrete-event scheduler.

Nothing sleeps. `advance` jumps from one due thing to the next and calls it; in between no time passes, so a minute of
a fleet costs what happens in it and no more. Things due at the same moment run in the order in which they were asked
for, so a run is a function of its inputs alone.

`monotonic` and `time_ms` have the shape of the clocks that the shells take (`clock=`, `wall_ms=`).
Not here: asyncio. Rules: not thread-safe; time never goes back.
"""

from __future__ import annotations

__all__ = ("EPOCH_MS", "ManualClock", "Timer")

import heapq
from collections.abc import Callable
from typing import Any

# Where wall clocks stand at second 0: any time would do, and one for all makes runs comparable.
EPOCH_MS = 1_700_000_000_000


class Timer:
    """One thing that waits; `cancel` makes it never happen."""

    __slots__ = ("args", "call")

    def __init__(self, call: Callable[..., object] | None, args: tuple[Any, ...]) -> None:
        self.call = call
        self.args = args

    def cancel(self) -> None:
        """Do not call it any more."""
        self.call = None
        self.args = ()


class ManualClock:
    """See the module. `now` is seconds since the clock was made."""

    __slots__ = ("_count", "_epoch_ms", "_waiting", "now")

    def __init__(self, *, epoch_ms: int = EPOCH_MS) -> None:
        self.now = 0.0
        self._epoch_ms = epoch_ms
        self._waiting: list[tuple[float, int, Timer]] = []
        self._count = 0

    @property
    def now_ms(self) -> int:
        """The wall clock, in milliseconds since 1970."""
        return self._epoch_ms + int(self.now * 1000)

    def monotonic(self) -> float:
        """The clock for durations, in seconds."""
        return self.now

    def time_ms(self) -> int:
        """The same as `now_ms`."""
        return self.now_ms

    def call_at(self, when: float, call: Callable[..., object], *args: object) -> Timer:
        """Call it at second `when`, or as soon as time goes on where that is past."""
        timer = Timer(call, args)
        self._count += 1
        heapq.heappush(self._waiting, (max(when, self.now), self._count, timer))
        return timer

    def call_later(self, delay: float, call: Callable[..., object], *args: object) -> Timer:
        """Call it after `delay` seconds."""
        return self.call_at(self.now + delay, call, *args)

    def step(self, until: float) -> bool:
        """Jump to the next thing that is due by second `until` and call it; False where there is none."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= until:
            when, _, timer = heapq.heappop(waiting)
            call = timer.call
            if call is None:
                continue
            self.now = when
            call(*timer.args)
            return True
        return False

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass, calling what becomes due in them."""
        until = self.now + seconds
        while self.step(until):
            continue
        self.now = until
