"""The user's keymap: TOML that replaces keys of the action table, checked as a whole before any of it is used.

    [keys]
    "run.open" = "x"
    "line.down" = ["j", "down"]

It is not the table (`opsconsole.actions`) and reads no file: text in, keys out.

Rules: pure; every problem is reported at once, each with file, line, key and the nearest valid name; an unknown
action, an unknown key, a key with two meanings in one place, and a destroying action on a navigation key are refused.
"""

from __future__ import annotations

__all__ = ("Keymap", "clashes", "default_keymap", "read_keymap")

import difflib
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from libstaragent.codes import KEYMAP_INVALID
from opsconsole.actions import ACTIONS, NAVIGATION_KEYS, Action, action, key_label, overlap

# Each action's keys, as Textual names them.
Keymap = Mapping[str, tuple[str, ...]]

_SYMBOLS: Mapping[str, str] = {
    "/": "slash",
    ":": "colon",
    "?": "question_mark",
    "*": "asterisk",
    ">": "greater_than_sign",
    "<": "less_than_sign",
    "-": "minus",
    ".": "full_stop",
    ",": "comma",
    ";": "semicolon",
    "!": "exclamation_mark",
    "=": "equals_sign",
    "+": "plus",
    "_": "underscore",
    "[": "left_square_bracket",
    "]": "right_square_bracket",
    "esc": "escape",
}
_NAMED = frozenset(
    [
        "space",
        "enter",
        "escape",
        "tab",
        "shift+tab",
        "up",
        "down",
        "left",
        "right",
        "home",
        "end",
        "pageup",
        "pagedown",
        "insert",
        "delete",
        "backspace",
        *_SYMBOLS.values(),
    ]
)
# Terminals send these for tab, newline, return and backspace: they cannot be told apart.
_AMBIGUOUS = frozenset({"ctrl+i", "ctrl+j", "ctrl+m", "ctrl+h"})


def default_keymap() -> dict[str, tuple[str, ...]]:
    """The table's own keys."""
    return {entry.id: entry.keys for entry in ACTIONS}


def read_keymap(text: str, *, file: str) -> Keymap:
    """The table's keys with those of a keymap file in their place.

    Args:
        text: what the file holds.
        file: its name, for messages.

    Raises:
        UsageError: SA-1020 with every problem, one a line.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise KEYMAP_INVALID.error(f"{file}: {error}") from None
    problems = [
        f"{file}:{_line_of(text, name)}: {name}: unknown table; the only one is [keys]"
        for name in document
        if name != "keys"
    ]
    merged = default_keymap()
    table: Any = document.get("keys", {})
    if not isinstance(table, dict):
        table = {}
        problems.append(f"{file}:{_line_of(text, 'keys')}: keys: not a table")
    for identity, value in _flat(table):
        place = f"{file}:{_line_of(text, identity)}: {identity}"
        if identity not in merged:
            problems.append(f"{place}: no such action{_nearest(identity, list(merged))}")
            continue
        wanted: list[Any] = value if isinstance(value, list) else [value]
        keys: list[str] = []
        for item in wanted:
            key = _key_name(item) if isinstance(item, str) else None
            if key is None:
                problems.append(
                    f"{place}: {item!r} is no key that a terminal sends{_nearest(str(item), sorted(_NAMED))}"
                )
            elif action(identity).effect == "destroy" and (key in NAVIGATION_KEYS or item in NAVIGATION_KEYS):
                problems.append(f"{place}: {item} is a navigation key, and {identity} destroys")
            else:
                keys.append(key)
        merged[identity] = tuple(keys)
    problems.extend(
        f"{file}:{_line_of(text, first.id, second.id)}: {clash}" for first, second, clash in clashes(merged)
    )
    if problems:
        raise KEYMAP_INVALID.error("\n".join(problems))
    return merged


def clashes(keymap: Keymap) -> list[tuple[Action, Action, str]]:
    """Pairs of actions that share a key in places that can be active together."""
    found: list[tuple[Action, Action, str]] = []
    for index, first in enumerate(ACTIONS):
        for second in ACTIONS[index + 1 :]:
            shared = {_key_name(key) for key in keymap[first.id]} & {_key_name(key) for key in keymap[second.id]}
            if shared and overlap(first.where, second.where):
                label = ", ".join(sorted(key_label(key) for key in shared if key))
                found.append((first, second, f"{label} would mean both {first.id} and {second.id}"))
    return found


def _key_name(typed: str) -> str | None:
    """The name that Textual has for a key, or None for what no terminal sends."""
    key = _SYMBOLS.get(typed, typed.replace("ctrl-", "ctrl+").replace("shift-", "shift+"))
    if key in _NAMED or (len(key) == 1 and key.isascii() and key.isalnum()) or re.fullmatch(r"f([1-9]|1[0-2])", key):
        return key
    if re.fullmatch(r"ctrl\+([a-z]|backslash)", key) and key not in _AMBIGUOUS:
        return key
    return None


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The entries of a table, whether ids were quoted or written as dotted keys."""
    entries: list[tuple[str, Any]] = []
    for name, value in table.items():
        if isinstance(value, dict):
            entries.extend(_flat(value, f"{prefix}{name}."))
        else:
            entries.append((prefix + name, value))
    return entries


def _line_of(text: str, *names: str) -> int:
    """The line that first speaks of one of these names."""
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.replace('"', "").replace("'", "").replace(" ", "")
        if any(bare.startswith((name, f"[{name}", f"keys.{name}")) for name in names):
            return number
    return 1


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; the nearest is {near[0]}" if near else ""
