"""The run bar: targets, a command, and the hosts that it would run on before it does.

It is not the sender: it posts a request that has been read and whose hosts have been seen; the screen asks for the
count where there are many, and the app starts the job.

Rules: the preview is always there; nothing is submitted while the hosts of the present expression are not known; an
argument vector goes to the hosts as it is, and a line for a shell only where that has been chosen and is said.
"""

from __future__ import annotations

__all__ = ("RunBar",)

import asyncio
import re
from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input, Static

from libstaragent.errors import StarAgentError
from opsconsole.command import RunRequest, request
from opsconsole.sanitize import safe
from opsconsole.source import FleetSource
from opsconsole.theme import Palette
from opsconsole.widgets.field import Field

# A pause in typing after which the preview is asked for.
_PAUSE = 0.12
_SHELL_SIGNS = re.compile(r"[|;<>&*$`]")


class RunBar(Vertical):
    """Hidden until it is opened."""

    DEFAULT_CSS = """
    RunBar { display: none; height: auto; background: $surface; border-top: solid $role-accent; padding: 0 1; }
    RunBar Horizontal { height: 1; }
    RunBar .label { width: 10; color: $role-muted; }
    RunBar Field { background: $surface; }
    RunBar Field:focus { background: $panel; }
    RunBar #how { width: auto; color: $role-muted; padding: 0 0 0 2; }
    RunBar #preview { height: auto; max-height: 3; }
    """
    BINDINGS: ClassVar = [
        Binding("escape", "close", show=False),
        Binding("ctrl+c", "close", show=False),
        Binding("f2", "toggle_shell", show=False),
        Binding("up", "app.focus_previous", show=False),
        Binding("down", "app.focus_next", show=False),
    ]

    HINTS: ClassVar = [("enter", "run"), ("tab", "next field"), ("F2", "shell or not"), ("esc", "close")]

    class Submitted(Message):
        def __init__(self, wanted: RunRequest, hosts: Sequence[str]) -> None:
            super().__init__()
            self.wanted = wanted
            self.hosts = hosts

    class Closed(Message):
        """Given up."""

    def __init__(self, source: FleetSource) -> None:
        super().__init__()
        self._source = source
        self._shell = False
        self._hosts: tuple[str, Sequence[str]] | None = None

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Static("on", classes="label", markup=False)
            yield Field(id="targets", placeholder="web[01-20]   @group   role=db")
        with Horizontal():
            yield Static("run", classes="label", markup=False)
            yield Field(id="command", placeholder="uptime")
            yield Static(id="how", markup=False)
        yield Static(id="preview", markup=False)

    @property
    def is_open(self) -> bool:
        return bool(self.display)

    @property
    def palette(self) -> Palette:
        return self.app.palette  # type: ignore[attr-defined,no-any-return]  # OpsConsoleApp has one; see app.py

    def open(self, targets: str, *, command: str = "", shell: bool = False) -> None:
        self._shell = shell
        self._hosts = None
        self._say(Text())
        self._show_how()
        self.query_one("#targets", Input).value = targets
        field = self.query_one("#command", Input)
        field.value = command
        self.display = True
        # Now: what is typed next is meant for it.
        self.screen.set_focus(field if targets else self.query_one("#targets", Input))
        if targets:
            self._preview(targets)

    def close(self) -> None:
        self.display = False

    def _show_how(self) -> None:
        word = "in a shell" if self._shell else "as typed, no shell"
        self.query_one("#how", Static).update(Text(word))

    def _say(self, text: Text) -> None:
        self.query_one("#preview", Static).update(text)

    def _show_preview(self) -> None:
        if self._hosts is None:
            return
        _, names = self._hosts
        text = Text()
        text.append(f"{len(names):,} host{'s' if len(names) != 1 else ''}".ljust(10), self.palette.roles["info"])
        shown = names[:40]
        text.append("  ".join(safe(name) for name in shown), self.palette.foreground)
        if len(names) > len(shown):
            text.append(f"  … and {len(names) - len(shown):,} more", self.palette.roles["muted"])
        command = self.query_one("#command", Input).value
        if not self._shell and _SHELL_SIGNS.search(command):
            text.append("\n▲ without a shell, | > $ and * reach the command as they are", self.palette.roles["warn"])
        self._say(text)

    def _show_error(self, error: StarAgentError) -> None:
        text = Text()
        text.append(f"✗ {error.code.code}  ", self.palette.roles["bad"] + Style(bold=True))
        text.append(safe(f"{error.code.sentence}: {error.detail}" if error.detail else error.code.sentence))
        text.append(f"\n  {safe(error.code.remedy)}", self.palette.roles["muted"])
        self._say(text)

    @work(exclusive=True, exit_on_error=False, group="preview")
    async def _preview(self, targets: str) -> None:
        await asyncio.sleep(_PAUSE)
        await self._resolve(targets)

    async def _resolve(self, targets: str) -> Sequence[str] | None:
        """The hosts of an expression, shown as well; None after showing why there are none."""
        if self._hosts is None or self._hosts[0] != targets:
            try:
                self._hosts = (targets, await self._source.preview(targets))
            except StarAgentError as error:
                self._hosts = None
                self._show_error(error)
                return None
        self._show_preview()
        return self._hosts[1]

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if not self.is_open:
            return
        if event.input.id == "targets":
            self._hosts = None
            if event.value.strip():
                self._preview(event.value.strip())
            else:
                self._say(Text())
        else:
            self._show_preview()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.input.id == "targets" and not self.query_one("#command", Input).value:
            self.query_one("#command", Input).focus()
        else:
            self._submit()

    @work(exclusive=True, exit_on_error=False, group="preview")
    async def _submit(self) -> None:
        try:
            wanted = request(
                self.query_one("#targets", Input).value, self.query_one("#command", Input).value, shell=self._shell
            )
        except StarAgentError as error:
            self._show_error(error)
            return
        hosts = await self._resolve(wanted.targets)
        if hosts is not None:
            self.post_message(self.Submitted(wanted, hosts))

    def action_toggle_shell(self) -> None:
        self._shell = not self._shell
        self._show_how()
        self._show_preview()

    def action_close(self) -> None:
        self.close()
        self.post_message(self.Closed())
