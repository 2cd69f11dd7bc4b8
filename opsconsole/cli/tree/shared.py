"""What the parts of the command line's tree share: the parser, common options, and how a number is read.

Rules: argparse and nothing else is imported; a usage error ends with 64 (sysexits' EX_USAGE).
"""

from __future__ import annotations

__all__ = (
    "USAGE",
    "Commands",
    "Parser",
    "command",
    "fleet_options",
    "gathering_options",
    "json_option",
    "positive",
    "seconds",
    "within_a_day",
)

import argparse
import sys
from typing import TYPE_CHECKING, Any, NoReturn

USAGE = 64


class Parser(argparse.ArgumentParser):
    """One level of the tree; what it cannot read ends with 64 and a hint."""

    def __init__(self, **options: Any) -> None:
        # An option that was cut short by mistake must not become another.
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        if message.startswith("unrecognized arguments"):
            message += f"\n  → see `{self.prog} --help`; put -- before a command to run, and quote a line for --shell"
        self.exit(USAGE, f"{self.prog}: SA-1031 command_line: {message}\n")


if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[Any]
else:
    Commands = Any


def command(
    commands: Commands, name: str, module: str, help: str, *, description: str | None = None, epilog: str | None = None
) -> argparse.ArgumentParser:
    """A command that `module` carries out; its description is printed as it stands."""
    parser = commands.add_parser(
        name,
        help=help,
        description=description or help,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(module=module)
    return parser


def fleet_options(parser: argparse.ArgumentParser, *, key: bool = True) -> None:
    """Which fleet, and as whom."""
    group = parser.add_argument_group("which fleet")
    group.add_argument("--context", metavar="FILE", help="the context file (or environment OPSCONSOLE_CONTEXT)")
    if key:
        group.add_argument("--key-file", metavar="FILE", help="the operator's key, mode 0600, instead of the keyring")


def json_option(parser: argparse.ArgumentParser) -> None:
    """For programs that read us."""
    parser.add_argument("--json", action="store_true", help="one JSON object a line on stdout")


def gathering_options(parser: argparse.ArgumentParser) -> None:
    """How the outputs of many hosts are shown together."""
    parser.add_argument(
        "--fold",
        nargs="?",
        const="identical",
        choices=("identical", "similar"),
        help="outputs in groups: identical ones, or with =similar those that differ in numbers and names only",
    )
    parser.add_argument("--diff", action="store_true", help="groups of outputs, each compared with the largest")


def positive(text: str) -> int:
    """A whole number from 1."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def within_a_day(text: str) -> float:
    """A time of at most the longest life of an envelope (`libstaragent.client.submission.LONGEST_LIFE`)."""
    value = seconds(text)
    if value > 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} seconds are longer than a day, the longest that an act can wait")
    return value


def seconds(text: str) -> float:
    """A time of at least a millisecond."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.001 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds")
    return value
