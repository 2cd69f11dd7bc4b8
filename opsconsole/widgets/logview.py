"""Live output: a window on a ring of lines.

It is not Textual's Log or RichLog, which stop at three to four thousand lines a second and let escape sequences
through. It holds no text: `job_view.OutputLog` sanitises and keeps, `LogModel` filters, this draws the lines that are
on the screen.

Rules: it follows only while it stands at the bottom; scrolling up pauses and the lines stay where they are; nothing
that arrives moves the sideways position; what was dropped is said in the title line.
"""

from __future__ import annotations

__all__ = (
    "LogView",
    "cut",
)

from rich.cells import cell_len, get_character_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from opsconsole.filter import NO_FILTER, Filter
from opsconsole.log_model import LogModel
from opsconsole.pacing import LOG_INTERVAL, Pacer
from opsconsole.ring import Entry, Ring
from opsconsole.sanitize import Line, safe
from opsconsole.widgets.bindings import bindings_for
from opsconsole.widgets.lines import LineView, fit

# Cells that `h` and `l` scroll by.
_SIDEWAYS = 8
# A host's name before its lines takes at most this, so that the output keeps the screen.
_MAX_PREFIX = 20


def cut(text: str, start: int, width: int) -> int:
    """The index just past the characters from `start` on that fit in `width` cells; at least one character."""
    if text.isascii():
        return min(len(text), start + width)
    used = 0
    for index in range(start, len(text)):
        used += get_character_cell_size(text[index])
        if used > width:
            return max(index, start + 1)
    return len(text)


class LogView(LineView):
    """The lines of one ring."""

    BINDINGS = bindings_for("log")
    DEFAULT_CSS = """
    LogView { height: 1fr; width: 1fr; background: $background; }
    """

    def __init__(self, *, id: str | None = None, pane_title: str = "output") -> None:
        super().__init__(id=id)
        self.pane_title = pane_title
        self.follow = True
        self.wrap = True
        self.prefixed = True
        self._model = LogModel(Ring(1))
        self._top = 0
        self._sideways = 0
        self._prefix = 0
        self._rows: list[tuple[Entry, int, int]] = []
        self._pacer = Pacer(LOG_INTERVAL)
        self.subject = ""

    @property
    def ring(self) -> Ring:
        return self._model.ring

    @property
    def filter(self) -> Filter:
        return self._model.filter

    def show(self, ring: Ring, *, subject: str, prefixed: bool) -> None:
        """Look into another ring. `subject` says whose lines these are; `prefixed` puts the host before each."""
        self._model = LogModel(ring)
        self.subject, self.prefixed = subject, prefixed
        self.follow, self._top, self._sideways, self._prefix = True, 0, 0, 0
        self.update_now()

    def set_filter(self, wanted: Filter) -> None:
        self._model.set_filter(wanted)
        self.update_now()

    def repaint(self, now: float) -> None:
        if self._pacer.due((self.ring.end, self.ring.dropped, self.ring.omitted, self.subject), now):
            self.update_now()

    def update_now(self) -> None:
        """Lay out the rows that are seen, and draw them."""
        self._model.update()
        self._rows = self._rows_at_bottom() if self.follow else self._rows_from_top()
        self.refresh()

    @property
    def body_height(self) -> int:
        return max(0, self.size.height - 1)

    @property
    def _text_width(self) -> int:
        return max(1, self.size.width - 1 - (self._prefix + 4 if self.prefixed else 3))

    # Which rows are seen. A row is a line, or with wrapping a part of one.

    def _parts(self, entry: Entry) -> list[tuple[Entry, int, int]]:
        text = entry.line.text
        if self.prefixed:
            self._prefix = min(max(self._prefix, cell_len(safe(entry.host))), _MAX_PREFIX, max(4, self.size.width // 4))
        if not self.wrap:
            return [(entry, self._sideways, len(text))]
        parts: list[tuple[Entry, int, int]] = []
        start, width = 0, self._text_width
        while True:
            end = cut(text, start, width)
            parts.append((entry, start, end))
            if end >= len(text):
                return parts
            start = end

    def _rows_at_bottom(self) -> list[tuple[Entry, int, int]]:
        rows: list[tuple[Entry, int, int]] = []
        index = len(self._model)
        while index > 0 and len(rows) < self.body_height:
            index -= 1
            rows[:0] = self._parts(self.ring[self._model.number(index)])
        self._top = self._model.number(index) if len(self._model) else 0
        return rows[-self.body_height :] if self.body_height else []

    def _rows_from_top(self) -> list[tuple[Entry, int, int]]:
        rows: list[tuple[Entry, int, int]] = []
        index = self._model.index(self._top)
        while index < len(self._model) and len(rows) < self.body_height:
            rows.extend(self._parts(self.ring[self._model.number(index)]))
            index += 1
        return rows[: self.body_height]

    @property
    def below(self) -> int:
        """Lines after the last one that is seen."""
        if self.follow:
            return 0
        return max(0, len(self._model) - self._model.index(self._top) - self.body_height)

    # Drawing.

    def render_line(self, y: int) -> Strip:
        if y == 0:
            return self._render_title()
        row = y - 1
        shown = min(self.body_height, len(self._model))
        top = len(self._model) - shown if self.follow else self._model.index(self._top)
        bar = self.bar_segment(row, self.body_height, top, shown, len(self._model))
        if row >= len(self._rows):
            text = ""
            if row == 1 and not self._rows:
                text = "   No line passes the filter." if self.filter else "   No output yet."
            return self.strip([Segment(fit(text, self.size.width - 1), self.palette.roles["muted"]), bar])
        entry, start, end = self._rows[row]
        state = (bar, self._prefix, self.prefixed, self.wrap, self.size.width, self.palette, self._base)
        return self.drawn((id(entry), start, end), entry, state, lambda: self._render_row(entry, start, end, bar))

    def _render_row(self, entry: Entry, start: int, end: int, bar: Segment) -> Strip:
        segments = self._render_prefix(entry, first=start == 0 or not self.wrap)
        segments.extend(self._render_text(entry.line, start, end))
        used = sum(segment.cell_length for segment in segments)
        segments.append(Segment(" " * max(0, self.size.width - 1 - used)))
        return self.strip([*segments, bar])

    def _render_prefix(self, entry: Entry, *, first: bool) -> list[Segment]:
        roles = self.palette.roles
        if not first:
            return [Segment(" " * (self._prefix + 4) if self.prefixed else "   ")]
        rule = Segment("! ", roles["warn"]) if entry.stream == "stderr" else Segment("│ ", self.palette.faint)
        if not self.prefixed:
            return [Segment(" "), rule]
        return [Segment(" " + fit(safe(entry.host), self._prefix) + " ", roles["muted"]), rule]

    def _render_text(self, line: Line, start: int, end: int) -> list[Segment]:
        text, width = line.text, self._text_width
        marker = ""
        if not self.wrap:
            end = cut(text, start, width)
            if end < len(text):
                end, marker = cut(text, start, width - 1), "›"
        segments: list[Segment] = []
        at = start
        for span in line.spans:
            if span.end <= at or span.start >= end:
                continue
            if span.start > at:
                segments.append(Segment(text[at : span.start], self.palette.foreground))
            at = max(at, span.start)
            stop = min(span.end, end)
            segments.append(Segment(text[at:stop], self.palette.foreground + self.palette.output(span.style)))
            at = stop
        if at < end:
            segments.append(Segment(text[at:end], self.palette.foreground))
        if marker:
            segments.append(Segment(marker, self.palette.roles["muted"]))
        return segments

    def _render_title(self) -> Strip:
        roles = self.palette.roles
        right: list[Segment] = []
        if self.ring.dropped:
            right.append(Segment(f"⚠ {self.ring.dropped:,} lines dropped   ", roles["warn"]))
        if self.ring.omitted:
            right.append(Segment(f"⚠ {self.ring.omitted:,} bytes not shown   ", roles["warn"]))
        if self.filter:
            right.append(
                Segment(f"/{fit(safe(self.filter.source), min(20, len(self.filter.source)))}   ", roles["info"])
            )
        if self.follow:
            right.append(Segment("▼ following ", roles["good"]))
        else:
            right.append(Segment(f"‖ paused, {self.below:,} below ", roles["warn"]))
        room = self.size.width - 1 - sum(segment.cell_length for segment in right)
        number = self.pane_number
        title = f" {number if number else ''} {self.pane_title} · {safe(self.subject)}".replace("  ", " ")
        return self.strip([Segment(fit(title, max(0, room)), self._title_style()), *right])

    def _title_style(self) -> Style:
        return self.palette.title + self.palette.roles["accent"] if self.has_focus else self.palette.title

    # Moving: what the action table calls.

    def scroll_lines(self, delta: int) -> None:
        self._go_to(self._model.index(self._top) + delta, down=delta > 0)

    def _go_to(self, index: int, *, down: bool) -> None:
        last = max(0, len(self._model) - 1)
        index = min(max(index, 0), last)
        if len(self._model):
            self._top = self._model.number(index)
        self.follow = False
        self.update_now()
        # At the bottom it follows; going up where everything is seen is no reason to stop.
        if (down or index == 0) and self._sees_the_end():
            self.do_line_last()

    def _sees_the_end(self) -> bool:
        if not self._rows:
            return True
        final = self.ring[self._model.number(len(self._model) - 1)]
        entry, _, end = self._rows[-1]
        return entry is final and (not self.wrap or end >= len(final.line.text))

    def do_line_down(self) -> None:
        if not self.follow:
            self.scroll_lines(1)

    def do_line_up(self) -> None:
        self.scroll_lines(-1)

    def do_page_half_down(self) -> None:
        if not self.follow:
            self.scroll_lines(max(1, self.body_height // 2))

    def do_page_half_up(self) -> None:
        self.scroll_lines(-max(1, self.body_height // 2))

    def do_page_down(self) -> None:
        if not self.follow:
            self.scroll_lines(max(1, self.body_height - 1))

    def do_page_up(self) -> None:
        self.scroll_lines(-max(1, self.body_height - 1))

    def do_line_first(self) -> None:
        self._go_to(0, down=False)

    def do_line_last(self) -> None:
        self.follow = True
        self.update_now()

    def do_log_follow(self) -> None:
        self.follow = not self.follow
        self.update_now()

    def do_log_wrap(self) -> None:
        self.wrap = not self.wrap
        self._sideways = 0
        self.update_now()

    def do_line_left(self) -> None:
        self._sideways = max(0, self._sideways - _SIDEWAYS)
        self.update_now()

    def do_line_right(self) -> None:
        if not self.wrap:
            longest = max((len(entry.line.text) for entry, _, _ in self._rows), default=0)
            self._sideways = min(self._sideways + _SIDEWAYS, max(0, longest - _SIDEWAYS))
            self.update_now()

    def do_find_next(self) -> None:
        self.do_line_down()

    def do_find_previous(self) -> None:
        self.do_line_up()

    def clear_filter(self) -> bool:
        """Show every line again; whether there was a filter."""
        if not self.filter:
            return False
        self.set_filter(NO_FILTER)
        return True

    def on_resize(self) -> None:
        self.update_now()

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()
