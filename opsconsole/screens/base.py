"""What every full screen of the console has: the top line, the banner, the two input bars, the hints.

It is not a screen of its own and knows neither hosts nor jobs: a subclass gives its `place` in the action table, its
`crumb`, its body, and the table and log that actions are about.

Rules: one timer calls `repaint`; an action that starts something long hands it to a worker of the app.
"""

from __future__ import annotations

__all__ = ("ConsoleScreen",)

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget

from libstaragent.codes import CODE_UNKNOWN, COMMAND_SYNTAX, READ_ONLY, by_code
from libstaragent.errors import StarAgentError
from opsconsole.actions import Action, Where, handler_name, key_label, verbs
from opsconsole.command import parse_command
from opsconsole.filter import NO_FILTER, Filter, parse_filter
from opsconsole.widgets.bindings import bindings_for
from opsconsole.widgets.cmdline import CommandLine
from opsconsole.widgets.crumbs import Crumbs
from opsconsole.widgets.hintbar import Banner, HintBar
from opsconsole.widgets.lines import LineView
from opsconsole.widgets.logview import LogView
from opsconsole.widgets.runbar import RunBar
from opsconsole.widgets.vtable import VTable

if TYPE_CHECKING:
    from opsconsole.app import OpsConsoleApp


class ConsoleScreen(Screen[None]):
    """The frame around a body."""

    BINDINGS = bindings_for("anywhere")
    HORIZONTAL_BREAKPOINTS: ClassVar = [(0, "-narrow"), (100, "-wide")]
    DEFAULT_CSS = """
    ConsoleScreen { layout: vertical; background: $background; }
    ConsoleScreen #body { height: 1fr; }
    """
    place: Where = "anywhere"
    crumb = ""

    @property
    def console_app(self) -> OpsConsoleApp:
        return self.app  # type: ignore[return-value]  # only OpsConsoleApp shows these screens

    def compose(self) -> ComposeResult:
        app = self.console_app
        # Held, not looked up: the timer may come while the screen is being taken down and its parts are gone.
        self._crumbs = Crumbs(app.fleet, trail=app.trail, title=app.fleet_title, read_only=app.read_only)
        self._hints = HintBar(hints=self.hints, status=self.status)
        self._banner = Banner(markup=False)
        self._run_bar = RunBar(app.source)
        self._command_line = CommandLine(candidates=app.candidates, histories=app.histories)
        yield self._crumbs
        yield from self.compose_body()
        yield self._banner
        yield self._run_bar
        yield self._command_line
        yield self._hints

    def compose_body(self) -> Iterable[Widget]:
        raise NotImplementedError

    # Set once the parts are there; the timer and the feed may come earlier.
    ready = False

    def on_mount(self) -> None:
        self.ready = True
        panes = self.panes
        if panes:
            panes[0].focus()

    @property
    def panes(self) -> list[LineView]:
        """The panes that are seen, in their order: pane 1 is the first."""
        return [pane for pane in self.query(LineView) if pane.display]

    def repaint(self, now: float) -> None:
        """Called by the app's timer, up to twenty times a second; each part looks whether it has anything new."""
        self._crumbs.repaint(now)
        self._hints.repaint(now)
        for pane in self.panes:
            pane.repaint(now)

    # What can be done here.

    @property
    def places(self) -> set[Where]:
        places: set[Where] = {"anywhere", self.place}
        for node in self.focus_path:
            if isinstance(node, VTable):
                places.add("table")
            elif isinstance(node, LogView):
                places.add("log")
        return places

    @property
    def focus_path(self) -> list[Any]:
        """From the focused widget up to the app: where a handler is looked for."""
        return [*(self.focused.ancestors_with_self if self.focused else [self]), self.app]

    def refusal(self, entry: Action) -> StarAgentError | None:
        """Why an action cannot be done here and now, if so."""
        if self.console_app.read_only and entry.effect != "read":
            return READ_ONLY.error(entry.title)
        if self.places.isdisjoint(entry.where):
            return COMMAND_SYNTAX.error(f"{entry.title}: not in this view")
        return None

    def hints(self) -> list[tuple[str, str]]:
        """Keys and titles for the bottom line: those of an open bar, which hears keys first, else the screen's."""
        if self._run_bar.is_open:
            return self._run_bar.HINTS
        if self._command_line.is_open:
            return self._command_line.HINTS
        app = self.console_app
        ranked = sorted((entry for entry in app.actions() if entry.hint), key=lambda entry: entry.hint)
        return [
            (key_label(app.keymap[entry.id][0]), entry.title)
            for entry in ranked
            if app.keymap[entry.id] and entry.id != f"view.{self.place}" and self.refusal(entry) is None
        ]

    def status(self) -> str:
        """What the screen has to say at the right of the hints."""
        table = self.active_table
        if table is None:
            return ""
        parts: list[str] = []
        if table.model.marks:
            parts.append(f"{len(table.model.marks):,} marked")
        if table.model.filter:
            parts.append(f"/{table.model.filter.source}  {len(table.model):,} of {len(table.model.rows):,}")
        return "   ".join(parts)

    @property
    def active_table(self) -> VTable[Any] | None:
        """The table that marks, sorting and filters are about."""
        if isinstance(self.focused, VTable):
            return self.focused
        return next(iter(self.query(VTable)), None)

    @property
    def filtered(self) -> VTable[Any] | LogView | None:
        """What `/` narrows: the pane in focus."""
        return self.focused if isinstance(self.focused, LogView) else self.active_table

    def perform(self, entry: Action, argument: str = "") -> None:
        """Carry out an action, through the nearest handler around the focus."""
        self._banner.hide()
        refused = self.refusal(entry)
        if refused is not None:
            self.show_error(refused)
            return
        name = handler_name(entry.id)
        for node in self.focus_path:
            handler = getattr(node, name, None)
            if handler is not None:
                try:
                    handler(argument) if entry.argument else handler()
                except StarAgentError as error:
                    self.show_error(error)
                return

    def show_error(self, error: StarAgentError) -> None:
        self._banner.show_error(error, self.console_app.palette)

    def show_note(self, note: str) -> None:
        self._banner.show_note(note, self.console_app.palette)

    def current_code(self) -> str:
        """The code that the row under the cursor has, if any."""
        return ""

    def do_code_explain(self, argument: str = "") -> None:
        name = argument.strip() or self.current_code()
        if not name:
            raise COMMAND_SYNTAX.error("explain SA-NNNN; this row has no code")
        code = by_code(name)
        if code is None:
            raise CODE_UNKNOWN.error(name)
        self._banner.show_code(code, self.console_app.palette)

    # `:` and `/`.

    def do_command_open(self) -> None:
        self._remember_focus()
        self._command_line.open(":")

    def do_filter_open(self, argument: str = "") -> None:
        if argument:
            self._apply_filter(parse_filter(argument))
            return
        self._remember_focus()
        subject = self.filtered
        if subject is not None:
            current = subject.filter if isinstance(subject, LogView) else subject.model.filter
            self._command_line.open("/", current.source)

    def _remember_focus(self) -> None:
        if isinstance(self.focused, LineView):
            self._focus_before = self.focused

    _focus_before: LineView | None = None

    def _restore_focus(self) -> None:
        panes = self.panes
        before = self._focus_before if self._focus_before in panes else next(iter(panes), None)
        if before is not None:
            # Now, not at the next refresh: what was typed is about this pane.
            self.set_focus(before)

    def _apply_filter(self, wanted: Filter) -> None:
        subject = self.filtered
        if isinstance(subject, LogView):
            subject.set_filter(wanted)
        elif subject is not None:
            subject.model.set_filter(wanted)
            subject.update_now()

    def on_command_line_edited(self, event: CommandLine.Edited) -> None:
        subject = self._focus_before
        try:
            wanted = parse_filter(event.text)
        except StarAgentError:
            # Half a pattern is no mistake yet; the filter before it stays.
            return
        if isinstance(subject, LogView):
            subject.set_filter(wanted)
        elif isinstance(subject, VTable):
            subject.model.set_filter(wanted)
            subject.update_now()

    def on_command_line_closed(self, event: CommandLine.Closed) -> None:
        self._restore_focus()
        if event.mode == "/":
            self._apply_filter(NO_FILTER)

    def on_command_line_submitted(self, event: CommandLine.Submitted) -> None:
        self._restore_focus()
        try:
            if event.mode == "/":
                self._apply_filter(parse_filter(event.text))
                return
            table = verbs()
            command = parse_command(event.text, table)
            if command is not None:
                self.perform(table[command.verb], command.argument)
        except StarAgentError as error:
            self.show_error(error)

    # The run bar.

    def do_run_open(self, argument: str = "") -> None:
        self.console_app.run_typed(argument, shell=False)

    def do_run_shell(self, argument: str = "") -> None:
        self.console_app.run_typed(argument, shell=True)

    def run_targets(self) -> Sequence[str]:
        """The names that the run bar starts with."""
        return ()

    def open_run_bar(self, targets: str, *, command: str = "", shell: bool = False) -> None:
        self._remember_focus()
        self._run_bar.open(targets, command=command, shell=shell)

    def on_run_bar_submitted(self, event: RunBar.Submitted) -> None:
        self.console_app.start(event.wanted, event.hosts)

    def close_run_bar(self) -> None:
        self._run_bar.close()
        self._restore_focus()

    def on_run_bar_closed(self) -> None:
        self._restore_focus()

    # Panes, sorting, leaving.

    def do_pane_zoom(self) -> None:
        if self.maximized is not None:
            self.minimize()
        elif isinstance(self.focused, LineView):
            self.maximize(self.focused, container=False)

    def do_sort_by(self, argument: str = "") -> None:
        table = self.active_table
        keys = [column.key for column in table.model.columns] if table else []
        if table is None or argument not in keys:
            raise COMMAND_SYNTAX.error(f"sort {argument}; there are {', '.join(keys)}")
        table.model.sort_by(argument)
        table.update_now()

    def go_to_pane(self, number: int) -> None:
        panes = self.panes
        if number <= len(panes):
            if self.maximized is not None:
                self.minimize()
            panes[number - 1].focus()

    def do_view_back(self) -> None:
        """One level up; what is open closes first."""
        if self.maximized is not None:
            self.minimize()
            return
        table, subject = self.active_table, self.filtered
        if table is not None and table.leave_range():
            return
        if isinstance(subject, LogView):
            if subject.clear_filter():
                return
        elif table is not None and table.model.filter:
            self._apply_filter(NO_FILTER)
            return
        if not self.leave_detail():
            self.console_app.go_back()

    def leave_detail(self) -> bool:
        """Close what the screen has opened beside its table; whether there was anything."""
        return False


for _number in range(1, 10):

    def _go(self: ConsoleScreen, number: int = _number) -> None:
        self.go_to_pane(number)

    setattr(ConsoleScreen, handler_name(f"pane.{_number}"), _go)
