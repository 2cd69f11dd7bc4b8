"""The action table: complete, safe, and the source of docs/keys.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsconsole.actions import ACTIONS, NAVIGATION_KEYS, handler_name, keys_document, verbs
from opsconsole.app import OpsConsoleApp
from opsconsole.keymap import clashes, default_keymap
from opsconsole.screens.fleet import FleetScreen
from opsconsole.screens.jobs import JobsScreen
from opsconsole.screens.output import OutputScreen
from opsconsole.widgets.logview import LogView
from opsconsole.widgets.vtable import VTable

HANDLERS = {
    "table": (VTable,),
    "log": (LogView,),
    "hosts": (FleetScreen,),
    "jobs": (JobsScreen,),
    "output": (OutputScreen,),
    "anywhere": (FleetScreen, JobsScreen, OutputScreen),
}


@pytest.mark.parametrize("entry", ACTIONS, ids=lambda entry: entry.id)
def test_every_action_is_carried_out_in_every_place_where_it_is_valid(entry) -> None:
    for place in entry.where:
        for kind in HANDLERS[place]:
            assert hasattr(kind, handler_name(entry.id)) or hasattr(OpsConsoleApp, handler_name(entry.id))


@pytest.mark.parametrize("entry", ACTIONS, ids=lambda entry: entry.id)
def test_every_action_can_be_reached_and_is_explained(entry) -> None:
    assert entry.keys or entry.verbs
    assert entry.help.endswith(".")


def test_no_action_that_destroys_sits_on_a_navigation_key() -> None:
    destroying = [entry for entry in ACTIONS if entry.effect == "destroy"]
    assert destroying
    for entry in destroying:
        assert NAVIGATION_KEYS.isdisjoint(entry.keys)
        assert all(len(key) == 1 and key.isupper() for key in entry.keys)


def test_ids_and_verbs_are_unique() -> None:
    assert len({entry.id for entry in ACTIONS}) == len(ACTIONS)
    assert len(verbs()) == sum(len(entry.verbs) for entry in ACTIONS)


def test_no_key_has_two_meanings_in_one_place() -> None:
    assert clashes(default_keymap()) == []


def test_the_keys_of_the_house_are_all_bound() -> None:
    bound = {key for entry in ACTIONS for key in entry.keys}
    house = "h j k l g G ctrl+d ctrl+u slash n N colon question_mark escape space v asterisk z ctrl+o ctrl+p"
    assert {*house.split(), *"123456789", "left_square_bracket", "right_square_bracket"} <= bound


def test_the_document_of_the_keys_is_current() -> None:
    document = Path(__file__).resolve().parents[2] / "docs" / "keys.md"
    assert document.read_text(encoding="utf-8") == keys_document(), "write keys_document() to docs/keys.md again"
