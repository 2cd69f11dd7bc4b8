"""The top line: where one is, and how the fleet is.

It is not hand-kept: the crumbs are the screen stack, the counts are the fleet view's.
"""

from __future__ import annotations

__all__ = ("Crumbs",)

from collections.abc import Callable, Sequence

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from opsconsole.fleet_view import FleetView
from opsconsole.sanitize import safe
from opsconsole.theme import Palette
from opsconsole.widgets.lines import fit

_STATES = (("up", "●", "good"), ("never", "▲", "warn"), ("down", "✗", "bad"))


class Crumbs(Widget):
    """`★ fleet › hosts › job …` on the left; hosts by state and the link on the right."""

    DEFAULT_CSS = """
    Crumbs { height: 1; background: $panel; }
    """
    ALLOW_SELECT = False

    def __init__(self, fleet: FleetView, *, trail: Callable[[], Sequence[str]], title: str, read_only: bool) -> None:
        super().__init__()
        self._fleet = fleet
        self._trail = trail
        self._title = title
        self._read_only = read_only
        self._shown: object = None

    def repaint(self, now: float) -> None:
        state = (tuple(sorted(self._fleet.host_counts.items())), self._fleet.link, tuple(self._trail()))
        if state != self._shown:
            self._shown = state
            self.refresh()

    def render_line(self, y: int) -> Strip:
        palette: Palette = self.app.palette  # type: ignore[attr-defined]
        muted, accent = palette.roles["muted"], palette.roles["accent"]
        right = self._right(palette)
        room = max(0, self.size.width - sum(segment.cell_length for segment in right))
        left = [Segment(" ★ ", accent), Segment(safe(self._title), palette.foreground + Style(bold=True))]
        trail = list(self._trail())
        for number, name in enumerate(trail):
            last = number == len(trail) - 1
            left.append(Segment("  ›  " if room > 50 else " › ", palette.faint + muted))
            left.append(Segment(safe(name), palette.foreground if last else muted))
        base = self.rich_style
        strip = Strip(left)
        if strip.cell_length > room:
            # The end of the trail is where one is: the beginning gives way.
            strip = Strip([Segment(" …", muted), *strip.crop(strip.cell_length - max(0, room - 3))])
        strip = strip.adjust_cell_length(room)
        return Strip([*strip, *right]).apply_style(base).adjust_cell_length(self.size.width, base)

    def _right(self, palette: Palette) -> list[Segment]:
        wide = self.size.width >= 80
        segments: list[Segment] = []
        if self._read_only:
            segments.append(Segment("read-only   ", palette.roles["warn"]))
        for state, glyph, role in _STATES:
            count = self._fleet.host_counts[state]
            if count or state == "up":
                segments.append(Segment(f"{glyph} {count:,}{' ' + state if wide else ''}  ", palette.roles[role]))
        link = self._fleet.link
        if link.live:
            segments.append(Segment(" ◉ live " if wide else " ◉ ", palette.roles["muted"]))
        else:
            segments.append(Segment(f" ◎ {fit(safe(link.detail or 'no link'), 12).strip()} ", palette.roles["warn"]))
        return segments
