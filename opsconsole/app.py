"""The console's application: theme, keymap, and the stack of screens.

It holds no domain logic: acts on the fleet are in `acts`, rows and output in `FleetView`, the feed fills them and the
screens show them. Every action comes through `action_act`, so that read-only and errors are handled in one place.

Rules: at most 300 lines; one repaint timer; nothing here blocks: what waits for the fleet is a worker, and its error
goes to the banner with code and remedy.
"""

from __future__ import annotations

__all__ = ("OpsConsoleApp",)

import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from textual.app import App
from textual.screen import Screen
from textual.theme import Theme
from textual.widget import Widget
from textual.widgets import Input

from libstaragent.codes import COMMAND_SYNTAX
from libstaragent.errors import StarAgentError
from opsconsole.actions import ACTIONS, Action, action, verbs
from opsconsole.acts import FleetActs
from opsconsole.command import History
from opsconsole.feed import Feed, as_coded
from opsconsole.fleet_view import FleetView
from opsconsole.job_view import JobView
from opsconsole.keymap import Keymap, default_keymap
from opsconsole.pacing import TICK
from opsconsole.screens.actions import ActionsScreen, Offer, offers
from opsconsole.screens.base import ConsoleScreen
from opsconsole.screens.fleet import FleetScreen
from opsconsole.screens.jobs import JobsScreen
from opsconsole.screens.outcomes import OutcomesScreen
from opsconsole.screens.output import OutputScreen
from opsconsole.source import FleetSource
from opsconsole.theme import DEFAULT_THEME, MONO_THEME, Palette, find_theme, load_themes
from opsconsole.widgets.jump import JumpOverlay
from opsconsole.widgets.lines import LineView

# One way back for each view that a person could still remember.
_FORWARD = 20


class OpsConsoleApp(FleetActs, App[None], inherit_bindings=False):
    """The console on one fleet.

    Args:
        source: the fleet.
        theme: a theme's name; under NO_COLOR `mono` takes its place.
        keymap: each action's keys, from `keymap.read_keymap`; the table's own where it is None.
        read_only: refuse every action that changes anything.
        title: the fleet's name, in the top line.
        clock: the time in seconds since the epoch, for ages.

    Raises:
        NotFound: SA-1121, there is no such theme.
    """

    TITLE = "opsconsole"
    ENABLE_COMMAND_PALETTE = False

    def __init__(
        self,
        source: FleetSource,
        *,
        theme: str = DEFAULT_THEME,
        keymap: Keymap | None = None,
        read_only: bool = False,
        title: str = "fleet",
        clock: Callable[[], float] = time.time,
    ) -> None:
        # Before the rest: App reads the variables of a theme as soon as it is made.
        self._themes = load_themes()
        # Textual 8.2.8 draws ansi themes black on black under NO_COLOR; our themes are RGB and need no ansi colours.
        super().__init__(ansi_color=False)
        self.source = source
        self.fleet = FleetView()
        self.fleet_title = title
        self.read_only = read_only
        self.clock = clock
        self.keymap: Keymap = keymap or default_keymap()
        self.histories: Mapping[str, History] = {":": History(), "/": History()}
        self.animation_level = "none"
        self._feed = Feed(source, self.fleet, report=self.show_error)
        self._forward: list[Callable[[], Screen[None]]] = []
        for known in self._themes.values():
            self.register_theme(known)
        chosen = find_theme(self._themes, MONO_THEME if self.no_color else theme)
        self.palette = Palette(chosen)
        self.theme = chosen.name

    def get_default_screen(self) -> Screen[None]:
        return FleetScreen()

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(self._themes[DEFAULT_THEME].variables)

    def on_mount(self) -> None:
        self.set_keymap({identity: ",".join(keys) for identity, keys in self.keymap.items() if keys})
        self.theme_changed_signal.subscribe(self, self._use_theme)
        self.set_interval(TICK, self._tick)
        self.run_worker(self._feed.follow(), name="feed", exit_on_error=False)

    def _use_theme(self, theme: Theme) -> None:
        if theme.name in self._themes:
            self.palette = Palette(theme)
            for pane in self.screen.query(Widget):
                pane.refresh()

    def _tick(self) -> None:
        screen = self.console_screen
        if screen is not None and screen.ready:
            screen.repaint(time.monotonic())

    # Screens.

    @property
    def console_screen(self) -> ConsoleScreen | None:
        """The full screen that is seen, beneath any question."""
        return next((screen for screen in reversed(self.screen_stack) if isinstance(screen, ConsoleScreen)), None)

    def trail(self) -> list[str]:
        """The breadcrumbs: the full screens of the stack."""
        return [screen.crumb for screen in self.screen_stack if isinstance(screen, ConsoleScreen)]

    def show_error(self, error: StarAgentError) -> None:
        screen = self.console_screen
        if screen is not None and screen.ready:
            screen.show_error(error)

    def _open(self, make: Callable[[], Screen[None]]) -> None:
        self._forward.clear()
        self.push_screen(make())

    def go_back(self) -> None:
        """Leave the view; the hosts are the last."""
        if len(self.screen_stack) < 2:
            return
        left = self.screen
        if isinstance(left, OutputScreen):
            job = left.view.id
            self._forward.append(lambda: OutputScreen(self.fleet.watch(job)))
        elif isinstance(left, JobsScreen):
            self._forward.append(JobsScreen)
        del self._forward[:-_FORWARD]
        self.pop_screen()

    def _return_to(self, kind: type[ConsoleScreen]) -> bool:
        """Go back to the screen of this kind in the stack, if there is one."""
        if not any(isinstance(screen, kind) for screen in self.screen_stack):
            return False
        while not isinstance(self.screen, kind):
            self.pop_screen()
        return True

    def open_job(self, job: str) -> None:
        view = self.fleet.watch(job)
        self._open(lambda: OutputScreen(view))
        self.work_for_screen(self._load_job(view))

    async def _load_job(self, view: JobView) -> None:
        left_out = await self._feed.open_job(view)
        screen = self.console_screen
        if left_out and screen is not None:
            screen.show_note(f"Earlier output of {left_out:,} more hosts is read when you go to one of them.")

    def load_host_output(self, view: JobView, host: str) -> None:
        self.work_for_screen(self._feed.open_host(view, host))

    def work_for_screen(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that waits for the fleet; what goes wrong is shown."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                self.show_error(as_coded(error))

        self.run_worker(guarded(), exit_on_error=False)

    # Actions.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys belong to a line that is typed into, and to a question."""
        if action != "act":
            return super().check_action(action, parameters)
        return isinstance(self.screen, ConsoleScreen) and not isinstance(self.focused, Input)

    def action_act(self, identity: str) -> None:
        """Every key comes here."""
        if isinstance(self.screen, ConsoleScreen):
            self.screen.perform(action(identity))

    def actions(self) -> Sequence[Action]:
        return ACTIONS

    def candidates(self) -> dict[str, Sequence[str]]:
        """What may follow each verb, for completion."""
        screen = self.console_screen
        table = screen.active_table if screen else None
        words: dict[str, Sequence[str]] = dict.fromkeys(verbs(), ())
        words["theme"] = list(self._themes)
        words["sort"] = [column.key for column in table.model.columns] if table else ()
        words["job"] = list(self.fleet.jobs.rows)[:50]
        return words

    def do_view_hosts(self, argument: str = "") -> None:
        self._return_to(FleetScreen)
        if argument and self.console_screen is not None:
            self.console_screen.do_filter_open(argument)

    def do_view_jobs(self, argument: str = "") -> None:
        if not self._return_to(JobsScreen):
            self._return_to(FleetScreen)
            self._open(JobsScreen)
        if argument and self.console_screen is not None:
            self.console_screen.call_after_refresh(self.console_screen.do_filter_open, argument)

    def do_view_outcomes(self, argument: str = "") -> None:
        if not self._return_to(OutcomesScreen):
            self._open(OutcomesScreen)

    def do_view_job(self, argument: str = "") -> None:
        newest = max(self.fleet.jobs.rows.values(), key=lambda row: (row.started or 0.0, row.id), default=None)
        if argument or newest is not None:
            self.open_job(argument or newest.id if newest else argument)
        else:
            raise COMMAND_SYNTAX.error("job: there is none yet")

    def do_view_previous(self) -> None:
        self.go_back()

    def do_view_next(self) -> None:
        if self._forward:
            self.push_screen(self._forward.pop()())

    def do_theme_set(self, argument: str = "") -> None:
        names = list(self._themes)
        following = names[(names.index(self.theme) + 1) % len(names)]
        self.theme = find_theme(self._themes, argument or following).name

    def do_actions_open(self, argument: str = "") -> None:
        self._offer(everything=False)

    def do_palette_open(self) -> None:
        self._offer(everything=True)

    def _offer(self, *, everything: bool) -> None:
        screen = self.console_screen
        if screen is None:
            return

        def chosen(offer: Offer | None) -> None:
            if offer is not None:
                screen.perform(action(offer.id), offer.argument)

        self.push_screen(ActionsScreen(offers(screen, themes=list(self._themes), everything=everything)), chosen)

    def do_jump_open(self) -> None:
        screen = self.console_screen

        def chosen(pane: Widget | None) -> None:
            if isinstance(pane, LineView):
                pane.focus()

        if screen is not None:
            self.push_screen(JumpOverlay(screen.panes), chosen)

    def do_console_interrupt(self) -> None:
        if self.console_screen is not None:
            self.console_screen.show_note(":q or ctrl-q leaves the console; jobs go on, X cancels one.")

    def do_console_quit(self) -> None:
        self.exit()
