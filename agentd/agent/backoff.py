"""When to try again: full jitter, so that a fleet that lost its room at one moment does not come back at one moment.

Source: "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): of the schemes compared there, a uniform choice
between zero and the exponential bound needs the least work. Pure: `random` gives 0 ≤ x < 1.
"""

from __future__ import annotations

__all__ = ("Backoff",)

from collections.abc import Callable

# The first bound, in seconds: a room that was restarted is back within it.
FIRST = 0.5
# The last: after a long outage every host is back within half a minute; what is too much is turned away.
LAST = 30.0


class Backoff:
    """Pauses in seconds, growing until `reset`."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._bound = FIRST

    def pause(self, *, at_least: float = 0.0) -> float:
        """How long to wait before the next try; the other side may have asked for more."""
        pause = at_least + self._random() * self._bound
        self._bound = min(LAST, self._bound * 2)
        return pause

    def reset(self) -> None:
        """It worked."""
        self._bound = FIRST
