"""How many firings of a schedule one host may have made jobs of, and for which times. Pure.

Whoever holds a member of a schedule can claim firings that never were. Each would be a row a host in the store, so

    when      not before the schedule was signed, not after now (but for what clocks may differ), on its own grid
    how many  as many as a host that was cut off may have kept, and then one in each period of the schedule

Only a claim that makes a job counts: of one firing all hosts but the first tell for nothing. An honest host never comes
near this; one that did would not be lost, since what is over is not answered, and so said again.

Not here: whether the host is in the schedule (`central_schedules`). Rules: times are ms by central's clock, but for the
firing's own.
"""

from __future__ import annotations

__all__ = ("CLAIMS_AT_ONCE", "FiringClaims", "is_plausible")

from libstaragent.jobs.schedule import FIRINGS_MAX, is_due_at, shortest_ms
from libstaragent.security.acts import At, Envelope, Schedule
from libstaragent.security.clock import MAX_SKEW_MS

# What a host that was cut off may have kept, and some that it tells while these are on their way.
CLAIMS_AT_ONCE = FIRINGS_MAX + 64


def is_plausible(envelope: Envelope, at_ms: int, now_ms: int) -> bool:
    """Whether the schedule in `envelope` can have fired at `at_ms`.

    :raises StarAgentError: its times cannot be read on this machine.
    """
    act = envelope.act
    assert isinstance(act, Schedule)
    if not 0 <= at_ms < min(act.until_ms, now_ms + MAX_SKEW_MS):
        return False
    # Once, a moment before it was signed, is late and not false.
    if not isinstance(act.when, At) and at_ms < envelope.issued - MAX_SKEW_MS:
        return False
    return is_due_at(act.when, at_ms)


class FiringClaims:
    """The claims on one schedule: what is left to each host, and since when. One entry a member at most."""

    __slots__ = ("_left", "_period_ms")

    def __init__(self, act: Schedule) -> None:
        self._period_ms = shortest_ms(act.when)
        self._left: dict[str, tuple[float, int]] = {}

    def left(self, agent: str, now_ms: int) -> int:
        """How many more jobs this host may make now."""
        return int(self._at(agent, now_ms))

    def take(self, agent: str, now_ms: int) -> None:
        """It made one."""
        self._left[agent] = (self._at(agent, now_ms) - 1, now_ms)

    def give_back(self, agent: str, now_ms: int) -> None:
        """That one could not be written."""
        self._left[agent] = (min(CLAIMS_AT_ONCE, self._at(agent, now_ms) + 1), now_ms)

    def _at(self, agent: str, now_ms: int) -> float:
        left, at_ms = self._left.get(agent, (CLAIMS_AT_ONCE, now_ms))
        return min(CLAIMS_AT_ONCE, left + max(0, now_ms - at_ms) / self._period_ms)
