"""A log for what others can bring about as often as they like: each code once a while, with what was left out counted.

Rules: pure; `now` in monotonic seconds.
"""

from __future__ import annotations

__all__ = ("QUIET", "RareLog")

from collections.abc import Callable

from libstaragent.errors import Code

# Seconds between two lines of one code: enough to be seen, and 1,500 lines a day at most.
QUIET = 60.0


class RareLog:
    """See the module. There are as many entries as codes, which are few."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._last: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def say(self, code: Code, detail: str, now: float) -> None:
        """Log it, or count it while its code is quiet."""
        last = self._last.get(code.code)
        if last is not None and now - last < QUIET:
            self._unsaid[code.code] = self._unsaid.get(code.code, 0) + 1
            return
        self._last[code.code] = now
        unsaid = self._unsaid.pop(code.code, 0)
        self._log(f"dropped: {code.error(detail)}" + (f" ({unsaid} more of this code before)" if unsaid else ""))
