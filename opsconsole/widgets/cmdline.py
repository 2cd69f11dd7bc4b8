"""The line for `:` commands and `/` filters, with completion and history.

It is not the grammar (`opsconsole.command`, `opsconsole.filter`) and carries nothing out: it posts what was typed.
"""

from __future__ import annotations

__all__ = ("CommandLine",)

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input, Static

from opsconsole.command import History, complete
from opsconsole.widgets.field import Field

Mode = Literal[":", "/"]


class _Completion(Suggester):
    """The grey rest of the word: the first of the completions."""

    def __init__(self, completions: Callable[[str], list[str]]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._completions = completions

    async def get_suggestion(self, value: str) -> str | None:
        found = self._completions(value) if value else []
        return found[0] if found else None


class CommandLine(Horizontal):
    """Hidden until it is opened; `escape` closes it, `enter` submits."""

    DEFAULT_CSS = """
    CommandLine { display: none; height: 1; background: $panel; }
    CommandLine Static { width: 3; padding: 0 0 0 1; color: $role-accent; text-style: bold; background: $panel; }
    """
    BINDINGS: ClassVar = [
        Binding("escape", "close", show=False),
        Binding("ctrl+c", "close", show=False),
        Binding("up", "older", show=False),
        Binding("down", "newer", show=False),
        Binding("tab", "complete", show=False, priority=True),
    ]

    HINTS: ClassVar = [("enter", "do it"), ("tab", "complete"), ("↑↓", "history"), ("esc", "close")]

    class Submitted(Message):
        def __init__(self, mode: Mode, text: str) -> None:
            super().__init__()
            self.mode: Mode = mode
            self.text = text

    class Edited(Message):
        """The filter while it is typed: it is shown at once."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Closed(Message):
        def __init__(self, mode: Mode) -> None:
            super().__init__()
            self.mode: Mode = mode

    def __init__(
        self, *, candidates: Callable[[], Mapping[str, Sequence[str]]], histories: Mapping[str, History]
    ) -> None:
        super().__init__()
        self._candidates = candidates
        self._histories = histories
        self.mode: Mode = ":"

    def compose(self) -> ComposeResult:
        yield Static(markup=False)
        yield Field(suggester=_Completion(self._completions))

    @property
    def is_open(self) -> bool:
        return bool(self.display)

    def _completions(self, value: str) -> list[str]:
        return complete(value, self._candidates()) if self.mode == ":" else []

    def open(self, mode: Mode, text: str = "") -> None:
        self.mode = mode
        self.query_one(Static).update(Content(mode))
        field = self.query_one(Input)
        with self.prevent(Input.Changed):
            field.value = text
        field.cursor_position = len(text)
        self.display = True
        # Now: what is typed next is meant for it.
        self.screen.set_focus(field)

    def close(self) -> None:
        self.display = False

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.mode == "/" and self.is_open:
            self.post_message(self.Edited(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._histories[self.mode].add(event.value)
        self.close()
        self.post_message(self.Submitted(self.mode, event.value))

    def action_close(self) -> None:
        self.close()
        self.post_message(self.Closed(self.mode))

    def action_older(self) -> None:
        self._replace(self._histories[self.mode].older(self.query_one(Input).value))

    def action_newer(self) -> None:
        self._replace(self._histories[self.mode].newer(self.query_one(Input).value))

    def action_complete(self) -> None:
        found = self._completions(self.query_one(Input).value)
        if found:
            self._replace(found[0])

    def _replace(self, text: str) -> None:
        field = self.query_one(Input)
        field.value = text
        field.cursor_position = len(text)
