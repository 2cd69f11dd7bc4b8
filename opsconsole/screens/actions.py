"""`?` and ctrl-p: what can be done, found by a few letters of its name, and done with enter.

It is not a help text of its own: the rows are the action table's, with the keymap's keys, and for what cannot be done
here and now the reason. `?` lists what is valid in the view; ctrl-p lists everything.
"""

from __future__ import annotations

__all__ = ("ActionsScreen", "Offer", "offers")

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from opsconsole.actions import ACTIONS, key_label
from opsconsole.filter import parse_filter
from opsconsole.table_model import Cell, Column, TableModel
from opsconsole.widgets.field import Field
from opsconsole.widgets.vtable import VTable

if TYPE_CHECKING:
    from opsconsole.screens.base import ConsoleScreen


@dataclass(frozen=True, slots=True)
class Offer:
    """One row: an action with an argument perhaps, and why it cannot be done, or nothing."""

    rank: int
    id: str
    argument: str
    keys: str
    title: str
    help: str
    effect: str
    refusal: str


def _columns() -> Sequence[Column[Offer]]:
    def role(row: Offer) -> str:
        return "muted" if row.refusal else ""

    return (
        Column(
            key="rank",
            title="ACTION",
            width=18,
            cell=lambda row, _: Cell(row.title, role(row)),
            order=lambda row: row.rank,
        ),
        Column(
            key="keys",
            title="KEYS",
            width=11,
            rank=1,
            cell=lambda row, _: Cell(row.keys, "muted" if row.refusal else "accent"),
            order=lambda row: row.keys,
        ),
        Column(
            key="effect",
            title="EFFECT",
            width=7,
            rank=2,
            cell=lambda row, _: Cell(row.effect, {"destroy": "bad", "mutate": "warn"}.get(row.effect, "muted")),
            order=lambda row: row.effect,
        ),
        Column(
            key="help",
            title="WHAT IT DOES",
            width=20,
            share=1,
            cell=lambda row, _: Cell(row.refusal or row.help, "muted" if not row.refusal else "warn"),
            order=lambda row: row.help,
        ),
    )


def offers(screen: ConsoleScreen, *, themes: Sequence[str], everything: bool) -> list[Offer]:
    """What a screen offers: the actions that are valid in its places, or all of them with the themes by name."""
    rows: list[Offer] = []
    for entry in ACTIONS:
        if not everything and screen.places.isdisjoint(entry.where):
            continue
        refusal = screen.refusal(entry)
        keys = " ".join(key_label(key) for key in screen.console_app.keymap[entry.id])
        rows.append(
            Offer(
                rank=len(rows),
                id=entry.id,
                argument="",
                keys=keys or f":{entry.verbs[0]}",
                title=entry.title,
                help=entry.help,
                effect=entry.effect,
                refusal="" if refusal is None else refusal.detail or refusal.code.sentence,
            )
        )
    if everything:
        help_ = "Use this theme."
        for name in themes:
            rows.append(Offer(len(rows), "theme.set", name, f":theme {name}", f"theme {name}", help_, "read", ""))
    return rows


class ActionsScreen(ModalScreen[Offer | None]):
    """Dismissed with the row that was chosen."""

    DEFAULT_CSS = """
    ActionsScreen { align: center middle; background: $background 60%; }
    ActionsScreen #box { width: 100; max-width: 96%; height: 80%; background: $surface; border: round $role-accent;
    padding: 0 1; } ActionsScreen Input { border: none; height: 1; padding: 0 2; margin: 0 0 1 0; background: $panel;
    } ActionsScreen Input:focus { border: none; background: $panel; background-tint: $panel 0%; } ActionsScreen VTable
    { background: $surface; }
    """
    BINDINGS: ClassVar = [
        Binding("escape", "dismiss(None)", show=False),
        Binding("ctrl+c", "dismiss(None)", show=False),
        Binding("down,ctrl+n", "move(1)", show=False),
        Binding("up", "move(-1)", show=False),
        Binding("pagedown", "move(10)", show=False),
        Binding("pageup", "move(-10)", show=False),
    ]

    def __init__(self, offers: Sequence[Offer]) -> None:
        super().__init__()
        self.model: TableModel[Offer] = TableModel(
            _columns(),
            identity=lambda row: f"{row.id} {row.argument}",
            text=lambda row: f"{row.title} {row.id} {row.help}",
        )
        self.model.replace(offers)

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Field(placeholder="a few letters of what you want; enter does it")
            yield VTable(self.model, clock=lambda: 0.0, empty="No action of that name.")

    def on_mount(self) -> None:
        self.query_one(VTable).can_focus = False
        self.query_one(Input).focus()
        self.query_one(VTable).update_now()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.model.set_filter(parse_filter(f"-f {event.value}"))
        table = self.query_one(VTable)
        table.update_now()
        self.model.move_to(0)
        table.update_now()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self.model.current is not None:
            self.dismiss(self.model.current)

    def action_move(self, delta: int) -> None:
        self.model.move(delta)
        self.query_one(VTable).update_now()

    def on_vtable_cursor_moved(self) -> None:
        self.query_one(Input).focus()
