"""The table of the console: any number of rows, of which only the visible ones are ever looked at.

It is not Textual's DataTable, which measures every cell and repaints everything on any change (seconds at 10,000
rows). It shows a `TableModel`, which holds rows, order, marks and cursor; here are only a top row and column widths.

Rules: columns have fixed widths and share what is left over; where the screen is narrow the columns of the highest rank
leave and the title line says so; the cursor row has a bar as well as a colour.
"""

from __future__ import annotations

__all__ = ("VTable",)

import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip

from opsconsole.filter import Filter
from opsconsole.pacing import TABLE_INTERVAL, Pacer
from opsconsole.sanitize import safe
from opsconsole.table_model import Column, TableModel
from opsconsole.widgets.bindings import bindings_for
from opsconsole.widgets.lines import LineView, fit

Row = TypeVar("Row")

# Cursor bar, mark, space.
_GUTTER = 3
_GAP = 2


class VTable(LineView, Generic[Row]):
    """A virtual table over a model."""

    BINDINGS = bindings_for("table")
    DEFAULT_CSS = """
    VTable { height: 1fr; width: 1fr; background: $background; }
    """

    class CursorMoved(Message):
        """Another row is under the cursor; one message a key press, none for changes from the fleet."""

    def __init__(
        self,
        model: TableModel[Row],
        *,
        clock: Callable[[], float],
        empty: str,
        id: str | None = None,
        pane_title: str = "",
    ) -> None:
        super().__init__(id=id)
        self.model = model
        self.pane_title = pane_title
        self._clock = clock
        self._empty = empty
        self._top = 0
        self._pacer = Pacer(TABLE_INTERVAL)
        self._range_start: int | None = None
        self._layout: tuple[int, list[tuple[Column[Row], int]]] = (-1, [])

    def set_model(self, model: TableModel[Row]) -> None:
        """Show another model's rows."""
        self.model = model
        self._top = 0
        self._range_start = None
        self.update_now()

    def repaint(self, now: float) -> None:
        self.model.settle(now)
        # Ages on the screen grow even where no row changed: once a second.
        if self._pacer.due((id(self.model), self.model.revision, int(self._clock())), now):
            self._keep_cursor_visible()
            self.refresh()

    def update_now(self) -> None:
        """Show what the operator just did, without waiting for the timer."""
        self.model.settle(time.monotonic())
        self._keep_cursor_visible()
        self.refresh()

    @property
    def body_height(self) -> int:
        return max(0, self.size.height - 1)

    def _keep_cursor_visible(self) -> None:
        position, height = self.model.position, max(1, self.body_height)
        self._top = min(self._top, position, max(0, len(self.model) - height))
        self._top = max(self._top, position - height + 1, 0)

    def on_resize(self) -> None:
        self._keep_cursor_visible()

    # Drawing.

    def columns_for(self, width: int) -> list[tuple[Column[Row], int]]:
        """The columns that fit in `width` cells, and how wide each is."""
        if self._layout[0] == width:
            return self._layout[1]
        room = width - _GUTTER - 1
        columns = list(self.model.columns)
        while len(columns) > 1 and sum(column.width + _GAP for column in columns) - _GAP > room:
            columns.remove(max(columns, key=lambda column: column.rank))
        spare = max(0, room - sum(column.width + _GAP for column in columns) + _GAP)
        shares = sum(column.share for column in columns)
        fitted = [(column, column.width + (spare * column.share // shares if shares else 0)) for column in columns]
        self._layout = (width, fitted)
        return fitted

    def _why_empty(self) -> str:
        return "Nothing matches the filter; esc clears it." if self.model.filter else self._empty

    def render_line(self, y: int) -> Strip:
        if y == 0:
            return self._render_titles()
        row = y - 1
        index = self._top + row
        bar = self.bar_segment(row, self.body_height, self._top, self.body_height, len(self.model))
        window = self.model.window(index, 1)
        if not window:
            text = "   " + self._why_empty() if row == 1 and not len(self.model) else ""
            return self.strip([Segment(fit(text, self.size.width - 1), self.palette.roles["muted"]), bar])
        identity, values = window[0]
        under_cursor = identity == self.model.cursor
        now = self._clock()
        focused = self.has_focus
        mark = self._mark(identity, index)
        state = (under_cursor, focused, mark, bar, int(now), self.size.width, self.palette, self._base)
        return self.drawn(identity, values, state, lambda: self._render_row(values, under_cursor, mark, bar, now))

    def _render_row(self, values: Row, under_cursor: bool, mark: str, bar: Segment, now: float) -> Strip:
        segments = self._gutter(mark, under_cursor)
        for number, (column, width) in enumerate(self.columns_for(self.size.width)):
            if number:
                segments.append(Segment(" " * _GAP))
            cell = column.cell(values, now)
            style = self.palette.roles.get(cell.role, self.palette.foreground)
            if under_cursor and number == 0:
                style += Style(bold=True)
            segments.append(Segment(fit(safe(cell.text), width, right=column.right), style))
        used = sum(segment.cell_length for segment in segments)
        segments.append(Segment(" " * max(0, self.size.width - 1 - used)))
        return self.strip([*segments, bar], over=self._row_ground(under_cursor))

    def _row_ground(self, under_cursor: bool) -> Style | None:
        # Without focus the bar alone says where the cursor is: one bright row on the screen at a time.
        return self.palette.cursor if under_cursor and self.has_focus else None

    def _mark(self, identity: str, index: int) -> str:
        in_range = self._range_start is not None and (
            min(self._range_start, self.model.position) <= index <= max(self._range_start, self.model.position)
        )
        return "◆" if identity in self.model.marks else "◇" if in_range else " "

    def _gutter(self, mark: str, under_cursor: bool) -> list[Segment]:
        roles = self.palette.roles
        bar_style = roles["accent"] if self.has_focus else self.palette.faint
        return [Segment("▌" if under_cursor else " ", bar_style), Segment(mark + " ", roles["accent"])]

    def _render_titles(self) -> Strip:
        segments = [
            Segment(fit(f" {self.pane_number}" if self.pane_number else "", _GUTTER), self.palette.roles["muted"])
        ]
        for number, (column, width) in enumerate(self.columns_for(self.size.width)):
            if number:
                segments.append(Segment(" " * _GAP))
            sorted_here = column.key == self.model.sort_key
            title = column.title + ((" ▼" if self.model.descending else " ▲") if sorted_here else "")
            style = self.palette.title + (self.palette.roles["accent"] if sorted_here else Style.null())
            segments.append(Segment(fit(title, width, right=column.right), style))
        return self.strip(segments)

    # Moving and marking: what the action table calls.

    def _moved(self) -> None:
        self.update_now()
        self.post_message(self.CursorMoved())

    def scroll_lines(self, delta: int) -> None:
        self.model.move(delta)
        self._moved()

    def do_line_down(self) -> None:
        self.scroll_lines(1)

    def do_line_up(self) -> None:
        self.scroll_lines(-1)

    def do_line_left(self) -> None:
        self.scroll_lines(0)

    def do_line_right(self) -> None:
        self.scroll_lines(0)

    def do_line_first(self) -> None:
        self.model.move_to(0)
        self._moved()

    def do_line_last(self) -> None:
        self.model.move_to(len(self.model) - 1)
        self._moved()

    def do_page_half_down(self) -> None:
        self.scroll_lines(max(1, self.body_height // 2))

    def do_page_half_up(self) -> None:
        self.scroll_lines(-max(1, self.body_height // 2))

    def do_page_down(self) -> None:
        self.scroll_lines(max(1, self.body_height))

    def do_page_up(self) -> None:
        self.scroll_lines(-max(1, self.body_height))

    def do_mark_toggle(self) -> None:
        self.model.toggle_mark()
        self.model.move(1)
        self._moved()

    def do_mark_range(self) -> None:
        if self._range_start is None:
            self._range_start = self.model.position
        else:
            self.model.mark_between(self._range_start, self.model.position)
            self._range_start = None
        self._moved()

    def do_mark_visible(self) -> None:
        self.model.mark_visible()
        self._moved()

    def do_mark_clear(self) -> None:
        self._range_start = None
        self.model.clear_marks()
        self._moved()

    def do_sort_next(self) -> None:
        self.model.sort_step(1)
        self._moved()

    def do_sort_previous(self) -> None:
        self.model.sort_step(-1)
        self._moved()

    def do_sort_reverse(self) -> None:
        self.model.reverse()
        self._moved()

    def do_find_next(self) -> None:
        self._find(1)

    def do_find_previous(self) -> None:
        self._find(-1)

    def _find(self, step: int) -> None:
        wanted: Filter = self.model.filter
        found = self.model.find(wanted, start=self.model.position + step, step=step)
        if found is not None:
            self.model.move_to(found)
            self._moved()

    def leave_range(self) -> bool:
        """Give up a range that was begun; whether there was one."""
        begun, self._range_start = self._range_start is not None, None
        if begun:
            self.update_now()
        return begun

    def on_click(self, event: events.Click) -> None:
        if event.y == 0:
            self._sort_at(event.x)
        else:
            self.model.move_to(self._top + event.y - 1)
            self._moved()

    def _sort_at(self, x: int) -> None:
        left = _GUTTER
        for column, width in self.columns_for(self.size.width):
            if left <= x < left + width + _GAP:
                self.model.sort_by(
                    column.key, descending=self.model.sort_key == column.key and not self.model.descending
                )
                self._moved()
                return
            left += width + _GAP

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def selected(self) -> list[Any]:
        """The rows an action is about: the marked ones, else the one under the cursor."""
        return self.model.chosen()
