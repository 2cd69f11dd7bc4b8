"""The question before an act on many hosts, or one that destroys: it is answered by typing their exact number."""

from __future__ import annotations

__all__ = ("ConfirmScreen",)

from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from opsconsole.sanitize import safe
from opsconsole.theme import Palette
from opsconsole.widgets.field import Field

# Names listed; the number says the rest.
_NAMED = 12


class ConfirmScreen(ModalScreen[bool]):
    """Dismissed with True when the number was typed."""

    DEFAULT_CSS = """
    ConfirmScreen { align: center middle; background: $background 60%; }
    ConfirmScreen #box {
        width: 64; max-width: 94%; height: auto; padding: 1 2; background: $surface; border: round $role-warn;
    }
    ConfirmScreen Static { height: auto; }
    ConfirmScreen Field { padding: 0 1; margin: 1 0 0 0; }
    """
    BINDINGS: ClassVar = [
        Binding("escape", "dismiss(False)", show=False),
        Binding("ctrl+c", "dismiss(False)", show=False),
    ]

    def __init__(self, question: str, *, what: str, hosts: Sequence[str], count: int) -> None:
        super().__init__()
        self._question = question
        self._what = what
        self._hosts = hosts
        self._count = count

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(self._text(), markup=False)
            yield Field(placeholder=f"type {self._count} and press enter; esc leaves")
            yield Static(id="wrong", markup=False)

    def _text(self) -> Text:
        palette: Palette = self.app.palette  # type: ignore[attr-defined]
        text = Text()
        text.append("▲ " + safe(self._question) + "\n\n", palette.roles["warn"] + Style(bold=True))
        text.append("$ " + safe(self._what) + "\n\n", palette.foreground)
        text.append(f"{self._count:,} host{'s' if self._count != 1 else ''}", palette.roles["info"])
        if self._hosts:
            text.append("   " + "  ".join(safe(name) for name in self._hosts[:_NAMED]), palette.roles["muted"])
            if self._count > _NAMED:
                text.append(f"  … and {self._count - _NAMED:,} more", palette.roles["muted"])
        return text

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.value.strip().replace(",", "") == str(self._count):
            self.dismiss(True)
            return
        palette: Palette = self.app.palette  # type: ignore[attr-defined]
        self.query_one("#wrong", Static).update(
            Text(f"✗ that is not {self._count}; nothing was done", palette.roles["bad"])
        )
