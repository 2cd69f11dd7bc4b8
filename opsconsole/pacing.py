"""When to repaint: changes come at any rate, frames go out at a bounded one.

It is not a timer: the one timer of the console asks it with `now`. Tables are repainted at most ten times a second (a
row that moves faster cannot be read), logs at most twenty (a follower sees flow, not steps).

Rules: pure, `now` in seconds of any steady clock; nothing is due that has not changed; a change is shown at the
latest one interval after it came.
"""

from __future__ import annotations

__all__ = ("LOG_INTERVAL", "TABLE_INTERVAL", "TICK", "Pacer")

TABLE_INTERVAL = 0.1
LOG_INTERVAL = 0.05
# The timer's period: the shorter of the two.
TICK = LOG_INTERVAL
# A timer that fires a little early must not lose its turn, or 20 Hz would become 10.
_EARLY = 0.2


class Pacer:
    """Says when something that changes at will may be painted again."""

    def __init__(self, interval: float) -> None:
        self._interval = interval * (1 - _EARLY)
        self._painted_at: float | None = None
        self._seen: object = None

    def due(self, revision: object, now: float) -> bool:
        """Whether to paint now; saying yes takes note of it. `revision` is any value that differs after a change."""
        if revision == self._seen:
            return False
        if self._painted_at is not None and 0 <= now - self._painted_at < self._interval:
            return False
        self._seen = revision
        self._painted_at = now
        return True
