"""Five fields as in crontab(5), in an IANA time zone: when they are due.

    minute hour day-of-month month day-of-week      lists of `*`, numbers, `a-b`, `*/n`, `a-b/n`; 0 and 7 are Sunday

Where both days are restricted, one of them is enough, as in every cron. When clocks are changed: a time that is left
out is not due; one that comes twice is due the first time only, unless the hour is `*`, which means each real hour.

Why our own: the agent stays small, and the libraries for this bring a date parser and a second table of time zones.
Not here: what runs (`schedule`). Rules: pure; the zone's table is the host's (`zoneinfo`), imported only where there is
a cron schedule; the work of one question is bounded by YEARS_AHEAD.
"""

from __future__ import annotations

__all__ = ("CronTimes", "read_cron")

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from libstaragent import codes
from libstaragent.model.ids import is_time_zone

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
# The 29th of February is at most eight years away.
YEARS_AHEAD = 9
# Clocks are changed by no more than this, so that nothing that comes so much later on the wall is earlier in truth.
LARGEST_CHANGE = timedelta(hours=3)
_DAY = timedelta(days=1)
# A host keeps 64 schedules.
CACHED = 64


class CronTimes:
    """See the module; made by `read_cron`. Times are ms since the epoch."""

    def __init__(self, fields: str, zone: tzinfo) -> None:
        parts = fields.split()
        if len(parts) != len(_FIELDS):
            raise codes.SCHEDULE_WHEN.error(f"{len(parts)} fields, five are needed")
        self._zone = zone
        self._minutes, self._hours, self._days, self._months, weekdays = (
            _values(part, *field) for part, field in zip(parts, _FIELDS, strict=True)
        )
        self._weekdays = {day % 7 for day in weekdays}
        self._any_hour = parts[1] == "*"
        self._either_day = not parts[2].startswith("*") and not parts[4].startswith("*")

    def is_due_at(self, at_ms: int) -> bool:
        """Whether a command is due at just this time."""
        if at_ms % 60_000:
            return False
        local = _moment(at_ms).astimezone(self._zone)
        return (
            self._is_day(local)
            and local.hour in self._hours
            and local.minute in self._minutes
            and (self._any_hour or not local.fold)
        )

    def next_after(self, after_ms: int) -> int | None:
        """The first time after this one; None where there is none in the next years."""
        wall = _moment(after_ms).astimezone(self._zone).replace(tzinfo=None, fold=0)
        best: int | None = None
        best_wall = wall
        for minute in self._walls(wall - LARGEST_CHANGE):
            if best is not None and minute - best_wall > LARGEST_CHANGE:
                break
            for at_ms in self._instants(minute):
                if at_ms > after_ms and (best is None or at_ms < best):
                    best, best_wall = at_ms, minute
        return best

    def _walls(self, first: datetime) -> Iterator[datetime]:
        """What clocks show when it is due, whether or not it comes."""
        day = first.replace(hour=0, minute=0, second=0, microsecond=0)
        hours, minutes = sorted(self._hours), sorted(self._minutes)
        for _ in range(YEARS_AHEAD * 366):
            if self._is_day(day):
                for hour in hours:
                    if day.replace(hour=hour, minute=59) < first:
                        continue
                    for minute in minutes:
                        yield day.replace(hour=hour, minute=minute)
            if day.year >= 9998:
                return
            day += _DAY

    def _instants(self, wall: datetime) -> Iterator[int]:
        for fold in (0, 1) if self._any_hour else (0,):
            moment = wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC)
            back = moment.astimezone(self._zone)
            if back.replace(tzinfo=None, fold=0) == wall and back.fold == fold:
                yield int(moment.timestamp()) * 1000

    def _is_day(self, day: datetime) -> bool:
        if day.month not in self._months:
            return False
        in_month, in_week = day.day in self._days, day.isoweekday() % 7 in self._weekdays
        return in_month or in_week if self._either_day else in_month and in_week


@lru_cache(maxsize=CACHED)
def read_cron(fields: str, zone: str) -> CronTimes:
    """What the fields mean in the time zone.

    :raises UsageError: they cannot be read, or this machine does not know the zone.
    """
    from zoneinfo import ZoneInfo

    try:
        known = ZoneInfo(zone if is_time_zone(zone) else "")
    except (OSError, ValueError, KeyError):
        raise codes.SCHEDULE_WHEN.error(f"no time zone {zone[:64]!r} here") from None
    return CronTimes(fields, known)


def _values(text: str, name: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split(","):
        span, slash, step = item.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            begin, end = low, high
        else:
            begin = _number(first, item, name, low, high)
            end = _number(last, item, name, low, high) if dash else high if slash else begin
        stride = _number(step, item, name, 1, high) if slash else 1
        if begin > end:
            raise codes.SCHEDULE_WHEN.error(f"{name} {item[:40]!r} runs backwards")
        found.update(range(begin, end + 1, stride))
    return frozenset(found)


def _number(text: str, item: str, name: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and low <= int(text) <= high):
        raise codes.SCHEDULE_WHEN.error(f"{name} {item[:40]!r} is not within {low} and {high}")
    return int(text)


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, UTC)
