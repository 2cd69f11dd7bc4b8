"""`opsconsole console`: the console on a fleet; also what `opsconsole` alone opens on a terminal."""

from __future__ import annotations

__all__ = ("run",)

import sys
from argparse import Namespace


def run(options: Namespace) -> int:
    """Runs the console until it is left."""
    from opsconsole.cli.failure import narrate
    from opsconsole.config import fleet_of

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        narrate("opsconsole: the console needs a terminal; `opsconsole exec`, `hosts` and `jobs` do not")
        return 64
    fleet = fleet_of(options, warn_days=0)
    try:
        import textual  # noqa: F401  asked for here, so that its absence is told before anything is drawn
    except ModuleNotFoundError:
        narrate("opsconsole: the console needs textual: install opsconsole[console]")
        return 64
    from opsconsole.hosting.terminal import open_console

    return open_console(fleet, read_only=options.read_only, theme=options.theme)
