"""A look into a ring of lines: which of them pass the filter, and where one stands among them.

It is not the ring and holds no lines, only the numbers of those that pass. New lines are tested once, as they come.

Rules: pure; without a filter it costs nothing, whatever the ring holds; numbers of lines that left the ring leave
here too.
"""

from __future__ import annotations

__all__ = ("LogModel",)

from bisect import bisect_left

from opsconsole.filter import NO_FILTER, Filter
from opsconsole.ring import Ring


class LogModel:
    """The lines of a ring that are shown, by index and by number."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.filter = NO_FILTER
        self._hits: list[int] = []
        self._scanned = 0

    def set_filter(self, wanted: Filter) -> None:
        self.filter = wanted
        self._hits = []
        self._scanned = 0

    def update(self) -> None:
        """Test the lines that came since the last call, and forget those that left."""
        if not self.filter:
            return
        ring, matches = self.ring, self.filter.matches
        self._hits.extend(ring.numbers(lambda entry: matches(entry.line.text), since=self._scanned))
        self._scanned = ring.end
        gone = bisect_left(self._hits, ring.first)
        if gone:
            del self._hits[:gone]

    def __len__(self) -> int:
        return len(self._hits) if self.filter else len(self.ring)

    def number(self, index: int) -> int:
        """The number of the line at this index among those shown."""
        return self._hits[index] if self.filter else self.ring.first + index

    def index(self, number: int) -> int:
        """Where a line stands, or where it would: the first one shown at or after it."""
        if self.filter:
            return bisect_left(self._hits, number)
        return min(max(number - self.ring.first, 0), len(self.ring))
