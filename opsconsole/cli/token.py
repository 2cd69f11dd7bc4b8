"""`opsconsole token`: a token with which hosts can join, bound to a room, to names, to networks and in time."""

from __future__ import annotations

__all__ = ("run", "terms_of")

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from opsconsole.cli.execute import variables

if TYPE_CHECKING:
    from libstaragent.security.acts import IssueToken


def run(options: Namespace) -> int:
    """Runs the command line; the exit status."""
    import anyio

    return anyio.run(_run, options)


def terms_of(options: Namespace) -> IssueToken:
    """The act that the options describe."""
    from libstaragent.security.acts import IssueToken

    return IssueToken(
        room=options.room,
        uses=options.uses,
        ttl_ms=int(options.ttl * 1000),
        name_pattern=options.name,
        networks=tuple(options.network),
        labels=variables(options.label, "--label"),
        replaces=options.replaces,
    )


async def _run(options: Namespace) -> int:
    from opsconsole.cli.failure import narrate
    from opsconsole.cli.lines_json import json_line
    from opsconsole.config import fleet_of

    act = terms_of(options)
    async with fleet_of(options) as fleet:
        issued = await fleet.issue_token(
            room=act.room,
            uses=act.uses,
            ttl=act.ttl_ms / 1000,
            name_pattern=act.name_pattern,
            networks=act.networks,
            labels=act.labels,
            replaces=act.replaces,
        )
    if options.json:
        sys.stdout.write(json_line("token", issued))
    else:
        narrate(f"for {issued.uses} host{'' if issued.uses == 1 else 's'}; said only this once")
        sys.stdout.write(f"{issued.token}\n")
    return 0
