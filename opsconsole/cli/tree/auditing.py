"""Commands on the audit."""

from __future__ import annotations

__all__ = (
    "add_auditing",
    "count",
    "moment",
)

import argparse
import time

from opsconsole.cli.tree.shared import Commands, command, fleet_options, json_option, positive

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# Hosts that are asked unless told: each keeps its own heads, so a few that a thief does not have are enough.
DEFAULT_AGENTS = 8


def add_auditing(commands: Commands) -> None:
    audit = command(commands, "audit", "opsconsole.cli.audit", "who did what where; and whether that record is whole")
    verbs = audit.add_subparsers(metavar="VERB", dest="verb", required=True)
    listing = verbs.add_parser("list", help="acts, logins and the ends of jobs, the newest first")
    listing.add_argument("--since", type=moment, metavar="TIME", help="90s, 15m, 2h or 3d ago, or from 2026-01-31 on")
    listing.add_argument("--operator", metavar="NAME", help="those of this operator, as claimed")
    listing.add_argument("--host", metavar="HOST", help="those about this host")
    listing.add_argument("--denied", action="store_true", help="those that were refused")
    listing.add_argument("--limit", type=positive, default=50, metavar="N", help="at most N (50)")
    verify = verbs.add_parser(
        "verify",
        help="read the whole audit, and hold it against what this client and hosts have seen of it",
        description="Read the whole audit, hash it again, and hold it against the entries that this client and some\n"
        "hosts have seen. Ends with 0 if it holds, 1 if something was found.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verify.add_argument(
        "--agents", type=count, default=DEFAULT_AGENTS, metavar="N", help=f"ask N hosts ({DEFAULT_AGENTS}); 0 asks none"
    )
    for verb in (listing, verify):
        json_option(verb)
        fleet_options(verb)


def count(text: str) -> int:
    """A whole number from 0."""
    return 0 if text == "0" else positive(text)


def moment(text: str) -> int:
    """A time in ms since the epoch: so long ago, or a date with or without a time of day, here."""
    from datetime import datetime  # late: `--help` needs none

    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.isascii() and number.isdigit():
        return max(1, int((time.time() - int(number) * _UNITS[unit]) * 1000))
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither 90s, 15m, 2h, 3d nor a date such as 2026-01-31"
        ) from None
