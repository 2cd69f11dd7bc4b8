"""How targets ended in the last day, by code, room and version; read when the view is opened."""

from __future__ import annotations

__all__ = ("OutcomesScreen", "outcome_columns")

from collections.abc import Iterable, Sequence

from textual.containers import Horizontal
from textual.widget import Widget

from opsconsole.fleet_view import natural, state_cell
from opsconsole.screens.base import ConsoleScreen
from opsconsole.source import OutcomeCount
from opsconsole.table_model import Cell, Column, TableModel
from opsconsole.widgets.bindings import bindings_for
from opsconsole.widgets.vtable import VTable

# How far back the view looks, in seconds.
SINCE = 86_400.0


def outcome_columns() -> Sequence[Column[OutcomeCount]]:
    return (
        Column(
            key="state",
            title="STATE",
            width=15,
            cell=lambda row, _: state_cell(row.state),
            order=lambda row: row.state,
        ),
        Column(
            key="code",
            title="CODE",
            width=8,
            cell=lambda row, _: Cell(row.code or "-", "" if row.code else "muted"),
            order=lambda row: row.code,
        ),
        Column(
            key="room",
            title="ROOM",
            width=9,
            share=1,
            cell=lambda row, _: Cell(row.room),
            order=lambda row: natural(row.room),
        ),
        Column(
            key="version",
            title="AGENT",
            width=8,
            share=1,
            cell=lambda row, _: Cell(row.version or "-", "muted"),
            order=lambda row: natural(row.version),
        ),
        Column(
            key="targets",
            title="TARGETS",
            width=10,
            right=True,
            cell=lambda row, _: Cell(f"{row.targets:,}"),
            order=lambda row: -row.targets,
        ),
        Column(
            key="share",
            title="SHARE",
            width=7,
            right=True,
            cell=lambda row, _: Cell(f"{100 * row.targets / row.total:.1f}%" if row.total else "-", "muted"),
            order=lambda row: -row.targets,
        ),
    )


class OutcomesScreen(ConsoleScreen):
    """The counts of the last day."""

    BINDINGS = bindings_for("outcomes")
    place = "outcomes"
    crumb = "outcomes"

    def compose_body(self) -> Iterable[Widget]:
        self.model: TableModel[OutcomeCount] = TableModel(
            outcome_columns(),
            identity=lambda row: f"{row.state} {row.code} {row.room} {row.version}",
            text=lambda row: f"{row.state} {row.code} {row.room} {row.version}",
        )
        with Horizontal(id="body"):
            self.table: VTable[OutcomeCount] = VTable(
                self.model, clock=self.console_app.clock, empty="Nothing has ended in the last day.", id="outcomes"
            )
            yield self.table

    def current_code(self) -> str:
        row = self.table.model.current
        return "" if row is None else row.code

    def on_mount(self) -> None:
        self.console_app.work_for_screen(self._load())

    async def _load(self) -> None:
        self.model.replace(await self.console_app.source.outcomes(SINCE))
        self.table.update_now()
