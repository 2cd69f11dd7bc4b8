"""The one-line input of the console: Textual's Input without border, and with a cursor that stands still.

A blinking cursor repaints for nothing twice a second, and makes two pictures of one screen differ.
"""

from __future__ import annotations

__all__ = ("Field",)

from textual.suggester import Suggester
from textual.widgets import Input


class Field(Input):
    """A line to type into."""

    DEFAULT_CSS = """
    Field { border: none; height: 1; padding: 0; width: 1fr; background: $panel; }
    Field:focus { border: none; background: $panel; background-tint: $panel 0%; }
    """

    def __init__(self, *, id: str | None = None, placeholder: str = "", suggester: Suggester | None = None) -> None:
        super().__init__(id=id, placeholder=placeholder, suggester=suggester, compact=True, select_on_focus=False)
        self.cursor_blink = False
