"""`opsconsole hosts`: the hosts of the fleet, or those that an expression means; `hosts resolve`: of two machines with
one identity, keep one; `hosts revoke`: put one out of the fleet.

Rules: one word is an expression, a verb has a name after it, so a host may be called as a verb is.
"""

from __future__ import annotations

__all__ = ("run",)

import sys
import time
from argparse import Namespace

# As `libstaragent.security.clock.MAX_SKEW_MS`, of which a message's way is no part.
CLOCK_MARKED_MS = 30_000
_VERBS = ("resolve", "revoke")


def run(options: Namespace) -> int:
    """Runs the command line; the exit status."""
    import anyio

    return anyio.run(_run, options)


async def _run(options: Namespace) -> int:
    from libstaragent import codes
    from libstaragent.errors import NotFound
    from opsconsole.cli.failure import usage
    from opsconsole.cli.lines_json import json_line
    from opsconsole.cli.table import age, table
    from opsconsole.config import fleet_of

    words: list[str] = options.what
    if len(words) > 1:
        return await _act(words, options)
    async with fleet_of(options) as fleet:
        try:
            hosts = await fleet.hosts(words[0] if words else None)
        except NotFound as error:
            if error.code is codes.HOST_UNKNOWN and words[0] in _VERBS:
                raise usage(f"{words[0]} needs a host's name after it; no host is called {words[0]}") from error
            raise
    if options.json:
        sys.stdout.write("".join(json_line("host", host) for host in hosts))
        return 0
    now_ms = time.time_ns() // 1_000_000
    rows = [
        (
            host.name,
            " ".join(filter(None, (host.state, host.code, _clock(host.clock_ahead_ms)))),
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
    doubles = [
        (
            host.name,
            holder.nonce,
            holder.hostname,
            holder.addresses[0] if holder.addresses else "",
            age(holder.first_ms, now_ms),
            age(holder.last_ms, now_ms),
        )
        for host in hosts
        for holder in host.holders
    ]
    if doubles:
        sys.stdout.write("\n" + table(("QUARANTINED", "NONCE", "HOSTNAME", "ADDRESS", "FIRST", "LAST"), doubles))
    return 0


async def _act(words: list[str], options: Namespace) -> int:
    from opsconsole.cli.failure import narrate, usage
    from opsconsole.cli.lines_json import json_line
    from opsconsole.config import fleet_of

    verb, *names = words
    if verb == "revoke" and len(names) == 1:
        from opsconsole.cli.operator import revoke_host

        return await revoke_host(names[0], options)
    if verb != "resolve" or len(names) != 1:
        raise usage(f"{' '.join(words)!r} is neither one expression nor `resolve NAME` nor `revoke NAME`")
    keep = None if options.keep == "newest" else options.keep
    async with fleet_of(options) as fleet:
        host = await fleet.resolve_clone(names[0], keep=keep)
    if options.json:
        sys.stdout.write(json_line("host", host))
    else:
        narrate(f"{names[0]}: the machine that was kept renews its certificate; the other must join anew")
    return 0


def _clock(ahead_ms: int) -> str:
    """How far a host's clock is off, where acts are refused for it."""
    if abs(ahead_ms) <= CLOCK_MARKED_MS:
        return ""
    return f"clock{ahead_ms / 60_000:+.0f}m" if abs(ahead_ms) >= 120_000 else f"clock{ahead_ms / 1000:+.0f}s"
