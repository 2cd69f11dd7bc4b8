"""The user's keymap: what it may change, and how it says what is wrong."""

from __future__ import annotations

import pytest

from libstaragent.errors import StarAgentError
from opsconsole.keymap import default_keymap, read_keymap


def problems(text: str) -> list[str]:
    with pytest.raises(StarAgentError) as raised:
        read_keymap(text, file="keymap.toml")
    assert raised.value.code.code == "SA-1020"
    return raised.value.detail.splitlines()


def test_a_file_replaces_the_keys_it_names_and_leaves_the_others() -> None:
    keymap = read_keymap('[keys]\n"run.open" = "x"\nline.down = ["j", "ctrl-n"]\n', file="keymap.toml")
    assert keymap["run.open"] == ("x",)
    assert keymap["line.down"] == ("j", "ctrl+n")
    assert keymap["line.up"] == default_keymap()["line.up"]


def test_two_keys_can_trade_places() -> None:
    keymap = read_keymap('[keys]\n"line.down" = "k"\n"line.up" = "j"\n', file="keymap.toml")
    assert (keymap["line.down"], keymap["line.up"]) == (("k",), ("j",))


def test_every_problem_is_named_with_file_line_and_the_nearest_name() -> None:
    text = '[keys]\n"run.opne" = "x"\n"line.down" = "pagedwon"\n"line.up" = "ctrl+m"\n[other]\na = 1\n'
    assert problems(text) == [
        "keymap.toml:5: other: unknown table; the only one is [keys]",
        "keymap.toml:2: run.opne: no such action; the nearest is run.open",
        "keymap.toml:3: line.down: 'pagedwon' is no key that a terminal sends; the nearest is pagedown",
        "keymap.toml:4: line.up: 'ctrl+m' is no key that a terminal sends",
    ]


def test_a_key_with_two_meanings_in_one_place_is_refused() -> None:
    assert problems('[keys]\n\n"run.open" = "J"\n') == [
        "keymap.toml:3: J would mean both run.open and view.jobs",
    ]


def test_a_destroying_action_gets_no_navigation_key() -> None:
    assert problems('[keys]\n"job.cancel" = "ctrl+d"\n') == [
        "keymap.toml:2: job.cancel: ctrl+d is a navigation key, and job.cancel destroys",
    ]


@pytest.mark.parametrize("text", ["keys = 3", "[keys\n", '[keys]\n"run.open" = 3'])
def test_what_is_no_keymap_has_the_code_too(text: str) -> None:
    assert problems(text)
