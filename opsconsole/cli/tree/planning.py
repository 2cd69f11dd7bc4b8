"""Options that bound how far an act reaches at once, for every command that acts on hosts."""

from __future__ import annotations

__all__ = ("confirm_option", "plan_options", "reach_options")

import argparse

from opsconsole.cli.tree.shared import positive, seconds


def plan_options(parser: argparse.ArgumentParser) -> None:
    """How it spreads over its hosts; signed with it."""
    group = parser.add_argument_group("how it spreads")
    group.add_argument(
        "--waves", metavar="LIST", help="begin on so many hosts, then on more: 1,10%%,100%% (each when the last ended)"
    )
    group.add_argument("--window", type=positive, metavar="N", help="begin on at most N hosts at once")
    group.add_argument(
        "--max-failures", metavar="N", help="begin on no more once more than N (or N%%) have not ended ok"
    )
    group.add_argument("--wait", type=seconds, default=0.0, metavar="S", help="seconds of rest between waves")
    group.add_argument("--confirm-waves", action="store_true", help="wait for `jobs resume` after each wave")
    group.add_argument("--life", type=seconds, metavar="S", help="seconds until no further host is begun on")


def reach_options(parser: argparse.ArgumentParser) -> None:
    """Looking at the hosts before, and confirming their number."""
    parser.add_argument("--preview", action="store_true", help="show the hosts and the plan; sign and send nothing")
    confirm_option(parser)


def confirm_option(parser: argparse.ArgumentParser) -> None:
    """Confirming the number of hosts."""
    parser.add_argument("--yes", type=positive, metavar="COUNT", help="confirm the exact number of hosts")
