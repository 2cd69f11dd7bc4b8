"""What the table and the log view have in common: a window on many lines, drawn line by line.

It is not a Textual ScrollView: the position is ours (a row, or a line's number), so that "at the bottom", "this row"
and "this line" stay true while rows come and go underneath. Nothing is measured that is not on the screen.

Rules: no message a line and no widget a row; the app's one timer calls `repaint`; everything drawn has been sanitised.
"""

from __future__ import annotations

__all__ = ("LineView", "fit", "scrollbar")

from collections.abc import Callable, Hashable

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from opsconsole.theme import Palette

# Rows that are kept drawn: several of the tallest screens.
_KEPT_STRIPS = 1_024


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Text in exactly `width` cells; an ellipsis says that it was cut."""
    if width <= 0:
        return ""
    if text.isascii():
        if len(text) <= width:
            return text.rjust(width) if right else text.ljust(width)
        return text[: width - 1] + "…"
    length = cell_len(text)
    if length <= width:
        return " " * (width - length) + text if right else text + " " * (width - length)
    return set_cell_size(text, width - 1) + "…"


def scrollbar(row: int, height: int, top: int, shown: int, total: int) -> bool | None:
    """What stands in the scrollbar's cell of a row: thumb, track, or None where everything is seen."""
    if total <= shown or height <= 0:
        return None
    size = max(1, height * shown // total)
    start = round((height - size) * top / max(1, total - shown))
    return start <= row < start + size


class LineView(Widget, can_focus=True):
    """A focusable pane of drawn lines. Subclasses draw `render_row` and move in `scroll_lines`."""

    ALLOW_SELECT = False
    ALLOW_MAXIMIZE = True
    # What this pane is called in jump mode and by its digit.
    pane_title = ""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._base = Style.null()
        self._strips: dict[Hashable, tuple[object, object, Strip]] = {}

    def render_lines(self, crop: Region) -> list[Strip]:
        # Once a paint, not once a line: the style of a widget is gathered from all its ancestors.
        self._base = self.rich_style
        return super().render_lines(crop)

    def drawn(self, key: Hashable, subject: object, state: object, draw: Callable[[], Strip]) -> Strip:
        """The strip of a row, drawn again only where its subject is another object or its state differs.

        A strip that is the same object costs Textual nothing either: it keeps what it sent to the terminal.
        """
        known = self._strips.get(key)
        if known is not None and known[0] is subject and known[1] == state:
            return known[2]
        if len(self._strips) >= _KEPT_STRIPS:
            self._strips.clear()
        strip = draw()
        self._strips[key] = (subject, state, strip)
        return strip

    @property
    def palette(self) -> Palette:
        return self.app.palette  # type: ignore[attr-defined,no-any-return]  # OpsConsoleApp has one; see app.py

    @property
    def pane_number(self) -> int:
        """The digit that goes to this pane, where there is more than one; otherwise 0."""
        panes = [pane for pane in self.screen.query(LineView) if pane.display]
        return panes.index(self) + 1 if len(panes) > 1 and self in panes else 0

    def repaint(self, now: float) -> None:
        """Draw again if there is something new; called by the app's timer."""
        raise NotImplementedError

    def scroll_lines(self, delta: int) -> None:
        raise NotImplementedError

    def bar_segment(self, row: int, height: int, top: int, shown: int, total: int) -> Segment:
        """The last cell of a row."""
        thumb = scrollbar(row, height, top, shown, total)
        if thumb is None:
            return Segment(" ")
        return Segment("▐", self.palette.roles["muted"] if thumb else self.palette.faint)

    def strip(self, segments: list[Segment], *, over: Style | None = None) -> Strip:
        """A row of exactly the pane's width on the pane's ground; `over` is laid beneath every segment's own style."""
        base = self._base if over is None else self._base + over
        return Strip(segments).apply_style(base).adjust_cell_length(self.size.width, base)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.scroll_lines(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.scroll_lines(-3)
