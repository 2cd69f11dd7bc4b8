"""`opsconsole hosts`: the hosts of the fleet, or those that an expression means."""

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
    from opsconsole.cli.lines_json import json_line
    from opsconsole.cli.table import age, table
    from opsconsole.config import fleet_of

    async with fleet_of(options) as fleet:
        hosts = await fleet.hosts(options.expression)
    if options.json:
        sys.stdout.write("".join(json_line("host", host) for host in hosts))
        return 0
    now_ms = time.time_ns() // 1_000_000
    rows = [
        (
            host.name,
            host.state + (f" {host.code}" if host.code else ""),
            age(host.changed_ms, now_ms) if host.changed_ms else "",
            host.room,
            host.facts.get("os", ""),
            host.addresses[0] if host.addresses else "",
            host.version,
            ",".join(f"{key}={value}" for key, value in sorted(host.labels.items())),
        )
        for host in hosts
    ]
    heading = ("NAME", "STATE", "SINCE", "ROOM", "OS", "ADDRESS", "VERSION", "LABELS")
    sys.stdout.write(table(heading, rows))
    return 0
