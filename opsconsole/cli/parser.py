"""Reading the command line: the tree of commands, and what stands after ``--``.

Not here: the tree's parts (`tree`), doing any of it; each leaf names its module. Rules: argparse and nothing else is
imported; what stands after ``--`` is the command to run and is never read as an option of ours.
"""

from __future__ import annotations

__all__ = ("USAGE", "build_parser", "parse")

import argparse

from opsconsole.cli.tree.acting import add_acting
from opsconsole.cli.tree.auditing import add_auditing
from opsconsole.cli.tree.counting import add_counting
from opsconsole.cli.tree.files import add_files
from opsconsole.cli.tree.looking import add_looking
from opsconsole.cli.tree.ruling import add_ruling
from opsconsole.cli.tree.scheduling import add_scheduling
from opsconsole.cli.tree.setting_up import add_setting_up
from opsconsole.cli.tree.shared import USAGE, Parser


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options; `command_words` is what stands after ``--``.

    :raises SystemExit: help was asked for (0), or the line cannot be read (64).
    """
    words: list[str] = []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, words = arguments[:at], arguments[at + 1 :]
    options = build_parser().parse_args(arguments)
    options.command_words = [*getattr(options, "words", []), *words]
    if words and not hasattr(options, "words"):
        build_parser().error("nothing may stand after -- here")
    return options


def build_parser() -> argparse.ArgumentParser:
    """The whole tree."""
    parser = Parser(
        prog="opsconsole",
        description="Run anything on a fleet of machines. Without a command it opens the console.",
        epilog="`opsconsole help targets` says how hosts are named; `opsconsole explain CODE` what an error means.",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.set_defaults(module="")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    add_looking(commands)
    add_counting(commands)
    add_acting(commands)
    add_scheduling(commands)
    add_files(commands)
    add_auditing(commands)
    add_ruling(commands)
    add_setting_up(commands)
    return parser
