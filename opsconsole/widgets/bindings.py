"""Bindings of Textual made from the action table.

They are priority bindings, because Textual carries those out before it looks at the next key: with the others, a fast
`:q` is over before the line to type it into has the focus. `OpsConsoleApp.check_action` stands back where one types.

It is not the table. Each binding has the action's id, so that a keymap can replace its keys, and calls the app's one
`action_act`, which is where read-only and everything else that holds for all actions is decided.
"""

from __future__ import annotations

__all__ = ("bindings_for",)

from textual.binding import Binding, BindingType

from opsconsole.actions import ACTIONS, Where


def bindings_for(*places: Where) -> list[BindingType]:
    """A binding for each action that has keys in these places."""
    return [
        Binding(",".join(entry.keys), f"app.act('{entry.id}')", entry.title, id=entry.id, show=False, priority=True)
        for entry in ACTIONS
        if entry.keys and not set(entry.where).isdisjoint(places)
    ]
