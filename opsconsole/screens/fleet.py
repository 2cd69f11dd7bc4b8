"""The hosts: one table, and beside it the details of the host under the cursor where they are asked for."""

from __future__ import annotations

__all__ = ("FleetScreen",)

from collections.abc import Iterable, Sequence

from rich.style import Style
from rich.text import Text
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Static

from opsconsole.fleet_view import age, state_cell
from opsconsole.sanitize import safe
from opsconsole.screens.base import ConsoleScreen
from opsconsole.source import HostRow
from opsconsole.widgets.bindings import bindings_for
from opsconsole.widgets.vtable import VTable


class FleetScreen(ConsoleScreen):
    """Every host, live."""

    BINDINGS = bindings_for("hosts")
    place = "hosts"
    crumb = "hosts"
    DEFAULT_CSS = """
    FleetScreen #detail {
        display: none; background: $surface; border-left: vkey $faint; padding: 1 2; width: 44; height: 1fr;
    }
    FleetScreen.-details #detail { display: block; }
    FleetScreen.-narrow #body { layout: vertical; }
    FleetScreen.-narrow #detail { width: 1fr; height: 10; border-left: none; border-top: solid $faint; padding: 0 2; }
    """

    def compose_body(self) -> Iterable[Widget]:
        app = self.console_app
        with Horizontal(id="body"):
            self.table: VTable[HostRow] = VTable(
                app.fleet.hosts,
                clock=app.clock,
                empty="No host yet: `agentd join` on a machine brings it here.",
                id="hosts",
            )
            self._detail_pane = Static(id="detail", markup=False)
            yield self.table
            yield self._detail_pane

    def run_targets(self) -> Sequence[str]:
        return [row.name for row in self.table.selected()]

    def repaint(self, now: float) -> None:
        super().repaint(now)
        clock = int(self.console_app.clock())
        state = (self.table.model.current, clock, self.console_app.theme, self.has_class("-narrow"))
        if self.has_class("-details") and state != self._shown:
            self._shown = state
            self._detail_pane.update(self._detail(self.table.model.current))

    _shown: object = None

    def _detail(self, row: HostRow | None) -> Text:
        palette = self.console_app.palette
        muted = palette.roles["muted"]
        if row is None:
            return Text("No host under the cursor.", muted)
        now = self.console_app.clock()
        cell = state_cell(row.state)
        text = Text(no_wrap=False, overflow="fold")
        text.append(safe(row.name), palette.foreground + Style(bold=True))
        narrow = self.has_class("-narrow")
        text.append("   " if narrow else "\n")
        text.append(cell.text, palette.roles[cell.role])
        if row.since is not None:
            text.append(f"  since {age(now - row.since)}", muted)
        text.append("\n\n")
        facts = (
            ("address", row.address),
            ("room", row.room),
            ("os", row.os),
            ("agent", row.version),
            ("id", row.id),
        )
        for name, value in facts:
            text.append(f"{name:<9}", muted)
            text.append(safe(value or "-") + "\n", palette.foreground)
        if row.labels:
            text.append("\nlabels\n" if not narrow else f"{'labels':<9}", muted)
            for name, value in row.labels:
                text.append("  " if not narrow else "", muted)
                text.append(safe(name), palette.roles["info"])
                text.append(" = " if value else "", muted)
                text.append(safe(value), palette.foreground)
                text.append("\n" if not narrow else "   ")
        return text

    def do_host_detail(self) -> None:
        self.toggle_class("-details")
        self._shown = None

    def leave_detail(self) -> bool:
        shown = self.has_class("-details")
        self.remove_class("-details")
        return shown
