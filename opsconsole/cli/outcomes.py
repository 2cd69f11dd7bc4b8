"""`opsconsole outcomes`: how targets ended, counted by code, room, version, state or time."""

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
    from opsconsole.cli.table import table
    from opsconsole.config import fleet_of

    by: list[str] = options.by
    async with fleet_of(options) as fleet:
        found = await fleet.outcomes(since=options.since, by=by)
    if options.json:
        sys.stdout.write("".join(json_line("outcome", row) for row in found.rows))
        return 0
    total = sum(row.targets for row in found.rows)
    values = {
        "time": lambda row: time.strftime("%m-%d %H:%M", time.localtime(row.start_ms / 1000)),
        "room": lambda row: row.room,
        "version": lambda row: row.version,
        "state": lambda row: row.state,
        "code": lambda row: row.code,
    }
    rows = [
        (
            *(values[name](row) for name in by),
            str(row.targets),
            str(row.ok),
            _percent(row.ok, row.targets),
            _percent(row.targets, total),
        )
        for row in found.rows
    ]
    sys.stdout.write(table((*(name.upper() for name in by), "TARGETS", "OK", "RATE", "SHARE"), rows))
    if found.cut:
        narrate(f"there are more: the first {len(found.rows)} rows")
    return 0


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else ""
