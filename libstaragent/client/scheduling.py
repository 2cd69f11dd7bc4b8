"""From what a person says of a schedule to what is signed. Pure; times are seconds since the epoch where a person gives
them, ms where they are signed.
"""

from __future__ import annotations

__all__ = ("until_of", "when_of")

from datetime import UTC, datetime

from libstaragent import codes
from libstaragent.jobs.schedule import AT_GRACE_MS, check_when, next_after
from libstaragent.security.act_limits import MAX_SCHEDULE_LIFE_MS
from libstaragent.security.acts import At, AtBoot, Cron, Every, When

# A schedule that nobody renews ends: its operator may be gone by then.
DEFAULT_LIFE_MS = 365 * 24 * 3_600_000
# A minute more than what is due once may be late.
AFTER_AT_MS = AT_GRACE_MS + 60_000


def when_of(*, at: float | None, every: float | None, cron: str | None, zone: str, at_boot: bool, now_ms: int) -> When:
    """The one that is given.

    :raises UsageError: none is, or more than one; or it cannot be read.
    """
    if (at is not None) + (every is not None) + (cron is not None) + at_boot != 1:
        raise codes.SCHEDULE_WHEN.error("give one of at, every, cron and at_boot")
    when: When = AtBoot()
    if at is not None:
        when = At(int(at * 1000))
        if when.at_ms <= now_ms:
            raise codes.SCHEDULE_WHEN.error("that time has passed")
    elif every is not None:
        when = Every(int(every * 1000), now_ms)
    elif cron is not None:
        when = Cron(cron, zone)
    check_when(when)
    return when


def until_of(when: When, until: float | None, now_ms: int) -> int:
    """When it ends.

    :raises UsageError: that is before it would run for the first time, or longer than a schedule may live.
    """
    if until is not None:
        until_ms = int(until * 1000)
        first_ms = next_after(when, now_ms)
        if until_ms <= now_ms:
            raise codes.SCHEDULE_WHEN.error("the end (--until) has passed")
        if until_ms > now_ms + MAX_SCHEDULE_LIFE_MS:
            raise codes.SCHEDULE_WHEN.error("the end (--until) is more than 400 days from now")
        if first_ms is not None and until_ms <= first_ms:
            raise codes.SCHEDULE_WHEN.error(
                f"it would never run: the first time is {_clock(first_ms)}, and the end (--until) {_clock(until_ms)}"
            )
        return until_ms
    return when.at_ms + AFTER_AT_MS if isinstance(when, At) else now_ms + DEFAULT_LIFE_MS


def _clock(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return f"{time_ms} ms"
