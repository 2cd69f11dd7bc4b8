"""Commands that count."""

from __future__ import annotations

__all__ = ("add_counting",)

import argparse

from opsconsole.cli.tree.shared import Commands, command, fleet_options, json_option, seconds

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_GROUPS = ("time", "room", "version", "state", "code")


def add_counting(commands: Commands) -> None:
    outcomes = command(
        commands,
        "outcomes",
        "opsconsole.cli.outcomes",
        "how targets ended, counted by code, room, version, state or time",
        description="How targets ended: OK of TARGETS (RATE), and the SHARE of all that each row has.\n\n"
        "  opsconsole outcomes --since 1d --by version\n"
        "  opsconsole outcomes --since 7d --by time,room --json",
    )
    outcomes.add_argument(
        "--since", type=_time, default=3600.0, metavar="TIME", help="so far back: 30m, 1h, 7d (1h); at most 30d"
    )
    outcomes.add_argument(
        "--by", type=_groups, default=["code"], metavar="NAMES", help=f"some of {','.join(_GROUPS)} (code)"
    )
    json_option(outcomes)
    fleet_options(outcomes)


def _time(text: str) -> float:
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    return seconds(number) * unit


def _groups(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in _GROUPS or names.count(name) > 1:
            raise argparse.ArgumentTypeError(f"{text!r} is not some of {','.join(_GROUPS)}")
    return names
