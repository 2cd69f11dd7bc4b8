"""Times, sizes, rates, days and hours as a person writes them in a policy file, and back.

    60s 5min 2h 30d       64KiB 4MiB 1000       10/min 100/h       mon-fri sat       08:00-18:00

Not here: the file (`reader`, `writing`). Rules: pure; whole numbers only, so that each value has few spellings.
"""

from __future__ import annotations

__all__ = (
    "DAYS",
    "clock_text",
    "days_of",
    "hours_of",
    "ms_of",
    "ms_text",
    "rate_of",
    "rate_text",
    "size_of",
    "size_text",
)

from libstaragent.security.policy.model import Rate

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_DIGITS = "0123456789"
# More digits than any limit has.
_MAX_DIGITS = 15


def ms_of(text: str) -> int:
    """``60s`` in ms.

    :raises ValueError: it is no time.
    """
    return _amount(text, _MS, "a time such as 60s, 5min, 2h or 30d")


def size_of(text: str) -> int:
    """``64KiB`` in bytes.

    :raises ValueError: it is no size.
    """
    return _amount(text, _BYTES, "a size such as 1000B, 64KiB or 4MiB")


def rate_of(text: str) -> Rate:
    """``10/min``.

    :raises ValueError: it is no rate.
    """
    count, sign, span = text.partition("/")
    if not sign or not _is_number(count) or span not in _MS:
        raise ValueError(f"{text!r} is not a rate such as 10/min or 100/h")
    return Rate(int(count), _MS[span])


def days_of(text: str) -> tuple[int, ...]:
    """``mon-fri``, ``sat`` or ``fri-mon`` as numbers, Monday being 0.

    :raises ValueError: it is no day.
    """
    first, sign, last = text.lower().partition("-")
    if first not in DAYS or (sign and last not in DAYS):
        raise ValueError(f"{text!r} is not days such as mon-fri or sat")
    start, end = DAYS.index(first), DAYS.index(last or first)
    return tuple((start + step) % 7 for step in range((end - start) % 7 + 1))


def hours_of(text: str) -> tuple[int, int]:
    """``08:00-18:00`` as minutes of the day.

    :raises ValueError: these are no hours.
    """
    start, sign, end = text.partition("-")
    if not sign:
        raise ValueError(f"{text!r} is not hours such as 08:00-18:00")
    first, last = _minute(start.strip()), _minute(end.strip())
    if first == 24 * 60:
        raise ValueError("24:00 is an end, not a beginning")
    return first, last


def ms_text(ms: int) -> str:
    """The reverse of `ms_of`."""
    return _text(ms, _MS)


def size_text(size: int) -> str:
    """The reverse of `size_of`."""
    return _text(size, _BYTES)


def rate_text(rate: Rate) -> str:
    """The reverse of `rate_of`; a period that has no unit is written in ms."""
    unit = next((unit for unit, size in _MS.items() if size == rate.per_ms), "")
    return f"{rate.count}/{unit or f'{rate.per_ms} ms'}"


def clock_text(minute: int) -> str:
    """A minute of the day as ``08:00``."""
    return f"{minute // 60:02}:{minute % 60:02}"


def _minute(text: str) -> int:
    hours, sign, minutes = text.partition(":")
    if not sign or not (_is_number(hours) and _is_number(minutes)) or len(minutes) != 2:
        raise ValueError(f"{text!r} is not a time of day such as 08:00")
    total = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or total > 24 * 60:
        raise ValueError(f"{text!r} is not a time of day such as 08:00")
    return total


def _amount(text: str, units: dict[str, int], what: str) -> int:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text[len(number) :]
    if not _is_number(number.strip()) or unit not in units:
        raise ValueError(f"{text!r} is not {what}")
    return int(number) * units[unit]


def _is_number(text: str) -> bool:
    return 0 < len(text) <= _MAX_DIGITS and not text.strip(_DIGITS)


def _text(value: int, units: dict[str, int]) -> str:
    for unit, size in reversed(units.items()):
        if value and value % size == 0:
            return f"{value // size}{unit}"
    return f"0{next(iter(units))}"
