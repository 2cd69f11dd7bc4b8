"""Jump mode: a letter on every pane; pressing it goes there.

The shape is posting's: an overlay that knows the panes' places and is dismissed with the one that was chosen.
"""

from __future__ import annotations

__all__ = ("JumpOverlay",)

from collections.abc import Sequence

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.geometry import Offset
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

LETTERS = "asdfgqwert"


class JumpOverlay(ModalScreen[Widget | None]):
    """Lies over a screen and names its panes."""

    DEFAULT_CSS = """
    JumpOverlay { background: $background 40%; layers: marks; }
    JumpOverlay Static {
        layer: marks; position: absolute; width: auto; height: 1; padding: 0 1;
        background: $role-accent; color: $background; text-style: bold;
    }
    """

    def __init__(self, panes: Sequence[Widget]) -> None:
        super().__init__()
        self._panes = dict(zip(LETTERS, panes, strict=False))

    def compose(self) -> ComposeResult:
        for letter, pane in self._panes.items():
            mark = Static(Content(letter))
            mark.offset = Offset(pane.region.x + 1, pane.region.y)
            yield mark

    def on_key(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()
        self.dismiss(self._panes.get(event.key))

    def on_resize(self, event: events.Resize) -> None:
        # The marks would stand where the panes no longer are.
        if event.size != self.app.size:
            self.dismiss(None)
