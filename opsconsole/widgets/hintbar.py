"""The two lines at the bottom: the hints of what can be done here, and the banner for what went wrong.

The hints are not hand-kept: they are the ranked actions of the table that are valid now, with the keys of the keymap.
"""

from __future__ import annotations

__all__ = ("Banner", "HintBar")

from collections.abc import Callable, Sequence

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from libstaragent.errors import Code, StarAgentError
from opsconsole.sanitize import safe
from opsconsole.theme import Palette

# More than this and nobody reads them; the rest is behind `?`.
MAX_HINTS = 8


class HintBar(Widget):
    """At most eight hints, and on the right what the screen has to say (marks, filter)."""

    DEFAULT_CSS = """
    HintBar { height: 1; background: $panel; }
    """
    ALLOW_SELECT = False

    def __init__(self, *, hints: Callable[[], Sequence[tuple[str, str]]], status: Callable[[], str]) -> None:
        super().__init__()
        self._hints = hints
        self._status = status
        self._shown: object = None

    def repaint(self, now: float) -> None:
        state = (tuple(self._hints()), self._status())
        if state != self._shown:
            self._shown = state
            self.refresh()

    def render_line(self, y: int) -> Strip:
        palette: Palette = self.app.palette  # type: ignore[attr-defined]
        status = self._status()
        right = [Segment(safe(status) + " ", palette.roles["info"])] if status else []
        room = self.size.width - sum(segment.cell_length for segment in right)
        left = [Segment(" ")]
        used = 1
        hints = list(self._hints())
        # The way to all the others is never the one that is cut.
        last = hints.pop() if hints else None
        reserve = sum(map(len, last)) + 4 if last else 0
        for key, title in hints[: MAX_HINTS - 1]:
            length = len(key) + len(title) + 4
            if used + length + reserve > room:
                break
            left += self._hint(palette, key, title)
            used += length
        if last and used + reserve <= room:
            left += self._hint(palette, *last)
        base = self.rich_style
        strip = Strip(left).adjust_cell_length(max(0, room))
        return Strip([*strip, *right]).apply_style(base).adjust_cell_length(self.size.width, base)

    @staticmethod
    def _hint(palette: Palette, key: str, title: str) -> list[Segment]:
        return [
            Segment(key, palette.roles["accent"] + Style(bold=True)),
            Segment(" " + title + "   ", palette.roles["muted"]),
        ]


class Banner(Static):
    """What went wrong, with its code and what to do; any later action of the operator takes it away."""

    DEFAULT_CSS = """
    Banner { display: none; height: auto; max-height: 6; padding: 0 1; background: $panel; }
    Banner.-shown { display: block; }
    """

    def show_error(self, error: StarAgentError, palette: Palette) -> None:
        text = Text()
        text.append("✗ ", palette.roles["bad"])
        text.append(error.code.code + "  ", palette.roles["bad"] + Style(bold=True))
        detail = "\n".join(safe(line) for line in error.detail.splitlines())
        text.append(error.code.sentence + (f": {detail}" if detail else "") + "\n", palette.foreground)
        text.append("  " + safe(error.code.remedy), palette.roles["muted"])
        self._show(text)

    def show_code(self, code: Code, palette: Palette) -> None:
        """What a code means, as when it happens here, and what to do."""
        text = Text()
        text.append("● ", palette.roles["info"])
        text.append(f"{code.code}  ", palette.roles["info"] + Style(bold=True))
        text.append(code.sentence + "\n", palette.foreground)
        text.append("  " + code.remedy, palette.roles["muted"])
        self._show(text)

    def show_note(self, note: str, palette: Palette) -> None:
        text = Text()
        text.append("● ", palette.roles["info"])
        text.append(safe(note), palette.foreground)
        self._show(text)

    def _show(self, text: Text) -> None:
        self.update(text)
        self.add_class("-shown")

    def hide(self) -> bool:
        """Take it away; whether it was there."""
        shown = self.has_class("-shown")
        self.remove_class("-shown")
        return shown
