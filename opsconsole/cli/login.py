"""`opsconsole login`: prove the operator's key to central and keep the bearer token for reads.

Every command logs in by itself when it must; this is for renewing early, for a shorter time, and for curl.
"""

from __future__ import annotations

__all__ = ("run",)

import sys
import time
from argparse import Namespace


def run(options: Namespace) -> int:
    """Runs the command line; the exit status."""
    import anyio

    return anyio.run(_run, options)


async def _run(options: Namespace) -> int:
    from opsconsole.cli.failure import narrate
    from opsconsole.cli.lines_json import json_line
    from opsconsole.config import fleet_of

    async with fleet_of(options) as fleet:
        session = await fleet.login(ttl=options.ttl)
        operator = fleet.context.operator
    until = time.strftime("%Y-%m-%d %H:%M", time.localtime(session.expires_ms / 1000))
    narrate(f"logged in as {operator} until {until}")
    if options.json:
        token = session.token if options.show else None
        sys.stdout.write(json_line("login", operator=operator, expires_ms=session.expires_ms, token=token))
    elif options.show:
        sys.stdout.write(f"{session.token}\n")
    return 0
