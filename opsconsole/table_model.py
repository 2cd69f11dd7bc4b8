"""A table without a screen: rows by id, sorted, filtered, marked, with a cursor. What `widgets.vtable` shows.

It is not a widget and knows neither hosts nor jobs: columns say how a row becomes cells and how rows compare.

Rules: pure; the cursor and the marks are on ids, so that a row that moves takes them along; changes from the fleet
re-sort a large table at most once a second (rows that jump cannot be read, and a sort of 100,000 costs a tenth of
one), changes by the operator at once.
"""

from __future__ import annotations

__all__ = ("Cell", "Column", "TableModel")

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from opsconsole.filter import NO_FILTER, Filter

Row = TypeVar("Row")

# Up to here a sort costs under a millisecond or two and is done whenever asked; above, it waits for its second.
_SORT_AT_ONCE = 1_000
_SORT_INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class Cell:
    """Text as it came, and the role that the theme colours: good, warn, bad, info, muted or none."""

    text: str
    role: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Generic[Row]):
    """One column.

    Attributes:
        width: cells on the screen; never measured from the rows.
        cell: the row and the time now give what stands there.
        order: what rows are compared by.
        share: which part of the width that is left over it takes; 0 keeps it fixed.
        rank: the highest ranks leave first where the screen is narrow.
    """

    key: str
    title: str
    width: int
    cell: Callable[[Row, float], Cell]
    order: Callable[[Row], Any]
    share: int = 0
    rank: int = 0
    right: bool = False


class TableModel(Generic[Row]):
    """The rows, and the way they are looked at now."""

    def __init__(
        self, columns: Sequence[Column[Row]], *, identity: Callable[[Row], str], text: Callable[[Row], str]
    ) -> None:
        self.columns = tuple(columns)
        self.rows: dict[str, Row] = {}
        self.marks: set[str] = set()
        self.filter = NO_FILTER
        self.sort_key = self.columns[0].key
        self.descending = False
        self.cursor: str | None = None
        self.revision = 0
        self._identity = identity
        self._text = text
        self._order: list[str] = []
        self._positions: dict[str, int] | None = None
        self._stale = False
        self._urgent = True
        self._sorted_at = 0.0
        self._anchor = 0

    def __len__(self) -> int:
        """Rows that pass the filter."""
        return len(self._order)

    # What the fleet changes.

    def apply(self, changed: Iterable[Row]) -> None:
        """Take rows as they are now, new or known."""
        order_of = self._column(self.sort_key).order
        for row in changed:
            identity = self._identity(row)
            before = self.rows.get(identity)
            if before == row:
                continue
            self.rows[identity] = row
            self.revision += 1
            if not self._stale and (
                before is None
                or order_of(before) != order_of(row)
                or (self.filter and self.filter.matches(self._text(before)) != self.filter.matches(self._text(row)))
            ):
                self._stale = True

    def replace(self, rows: Iterable[Row]) -> None:
        """Take these rows and no others."""
        self.rows = {self._identity(row): row for row in rows}
        self.marks &= self.rows.keys()
        self._touch()

    # What the operator changes.

    def set_filter(self, wanted: Filter) -> None:
        self.filter = wanted
        self._touch()

    def sort_by(self, key: str, *, descending: bool = False) -> None:
        self._column(key)
        self.sort_key, self.descending = key, descending
        self._touch()

    def sort_step(self, step: int) -> None:
        """Sort by the column `step` to the right of the one now, going round."""
        keys = [column.key for column in self.columns]
        self.sort_by(keys[(keys.index(self.sort_key) + step) % len(keys)])

    def reverse(self) -> None:
        self.sort_by(self.sort_key, descending=not self.descending)

    def move(self, delta: int) -> None:
        self.move_to(self.position + delta)

    def move_to(self, index: int) -> None:
        if self._order:
            self._anchor = min(max(index, 0), len(self._order) - 1)
            self.cursor = self._order[self._anchor]
            self.revision += 1

    def toggle_mark(self) -> None:
        if self.cursor is not None:
            self.marks ^= {self.cursor}
            self.revision += 1

    def mark_between(self, start: int, end: int) -> None:
        """Mark the visible rows from one index to the other, both included."""
        low, high = sorted((start, end))
        self.marks.update(self._order[max(low, 0) : high + 1])
        self.revision += 1

    def mark_visible(self) -> None:
        """Mark every row that passes the filter; unmark them if all of them were."""
        if self.marks.issuperset(self._order):
            self.marks.difference_update(self._order)
        else:
            self.marks.update(self._order)
        self.revision += 1

    def clear_marks(self) -> None:
        self.marks.clear()
        self.revision += 1

    # What the screen reads.

    def settle(self, now: float) -> None:
        """Bring order and cursor up to date, as far as it is time to."""
        soon = len(self.rows) <= _SORT_AT_ONCE or not 0 <= now - self._sorted_at < _SORT_INTERVAL
        if not (self._urgent or (self._stale and soon)):
            return
        order_of, rows, matches = self._column(self.sort_key).order, self.rows, self.filter.matches
        # Ids settle what the column leaves equal, or rows would trade places between two sorts.
        keyed = [
            (order_of(row), identity) for identity, row in rows.items() if not self.filter or matches(self._text(row))
        ]
        keyed.sort(reverse=self.descending)
        self._order = [identity for _, identity in keyed]
        self._positions = None
        self._stale = self._urgent = False
        self._sorted_at = now
        self.revision += 1
        if self._order and self.cursor not in self.positions:
            self.move_to(self._anchor)
        elif not self._order:
            self.cursor = None
        self._anchor = self.position

    @property
    def positions(self) -> dict[str, int]:
        if self._positions is None:
            self._positions = {identity: index for index, identity in enumerate(self._order)}
        return self._positions

    @property
    def position(self) -> int:
        """The index of the cursor among the visible rows; 0 where there are none."""
        return 0 if self.cursor is None else self.positions.get(self.cursor, 0)

    @property
    def current(self) -> Row | None:
        return None if self.cursor is None else self.rows.get(self.cursor)

    def window(self, start: int, count: int) -> list[tuple[str, Row]]:
        """The ids and rows of `count` visible rows from index `start` on."""
        return [(identity, self.rows[identity]) for identity in self._order[start : start + count]]

    def chosen(self) -> list[Row]:
        """What an action is about: the marked rows in their order, else the one under the cursor."""
        if self.marks:
            return [self.rows[identity] for identity in self.rows if identity in self.marks]
        return [] if self.current is None else [self.current]

    def find(self, wanted: Filter, *, start: int, step: int) -> int | None:
        """The index of the next visible row that matches, from `start` on in steps of 1 or -1, going round once."""
        count = len(self._order)
        for distance in range(count):
            index = (start + step * distance) % count
            if wanted.matches(self._text(self.rows[self._order[index]])):
                return index
        return None

    def _touch(self) -> None:
        self._urgent = True
        self.revision += 1

    def _column(self, key: str) -> Column[Row]:
        return next(column for column in self.columns if column.key == key)
