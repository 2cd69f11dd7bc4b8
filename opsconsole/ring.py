"""A bounded ring of lines: what a log view looks into.

It is not a widget and draws nothing. Each line has a sequence number that never changes while it is held; the oldest
lines leave when the ring is full, and are counted, as are the lines that were lost before they came here.

Rules: pure; appending and reading by number are constant time whatever the capacity; nothing is ever copied out whole.
"""

from __future__ import annotations

__all__ = ("MERGED_LINES", "Entry", "Ring")

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from opsconsole.sanitize import Line

# At 10,000 lines/s this is five seconds of the flood, and about 15 MB of short lines: enough to stop and read, small
# enough for a console that stays open for weeks.
MERGED_LINES = 50_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One line, where it came from, and on which stream."""

    host: str
    stream: str
    line: Line


class Ring:
    """Lines `first` … `end - 1` are held."""

    def __init__(self, capacity: int = MERGED_LINES) -> None:
        if capacity < 1:
            raise ValueError("a ring holds at least one line")
        self._capacity = capacity
        self._slots: list[Entry] = []
        self._lost = 0
        self.omitted = 0
        self.end = 0

    def __len__(self) -> int:
        return self.end - self.first

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def first(self) -> int:
        """The number of the oldest line that is held."""
        return max(0, self.end - self._capacity)

    @property
    def dropped(self) -> int:
        """Lines that cannot be read here any more: pushed out of the ring, or lost on the way to it."""
        return self.first + self._lost

    def lose(self, lines: int) -> None:
        """Count lines that were lost before they came here."""
        self._lost += lines

    def omit(self, size: int) -> None:
        """Count bytes of output that were not kept, or not sent here; how many lines they were nobody knows."""
        self.omitted += size

    def extend(self, entries: Iterable[Entry]) -> None:
        slots, capacity = self._slots, self._capacity
        for entry in entries:
            if len(slots) < capacity:
                slots.append(entry)
            else:
                slots[self.end % capacity] = entry
            self.end += 1

    def __getitem__(self, number: int) -> Entry:
        if not self.first <= number < self.end:
            raise IndexError(f"line {number} is not held (held: {self.first} to {self.end - 1})")
        return self._slots[number % self._capacity]

    def numbers(self, matches: Callable[[Entry], bool], *, since: int = 0) -> Iterator[int]:
        """The numbers of the held lines from `since` on that match."""
        for number in range(max(since, self.first), self.end):
            if matches(self[number]):
                yield number

    def search(self, matches: Callable[[Entry], bool], *, start: int, backwards: bool = False) -> int | None:
        """The nearest match from `start` on (or back from it), going round once; None where nothing matches."""
        first, count = self.first, len(self)
        if not count:
            return None
        offset = min(max(start - first, 0), count - 1)
        step = -1 if backwards else 1
        for distance in range(count):
            number = first + (offset + step * distance) % count
            if matches(self[number]):
                return number
        return None
