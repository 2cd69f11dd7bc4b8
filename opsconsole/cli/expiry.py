"""Saying, beside what a command does, that the roster ends soon: then no host does anything until it is signed anew.

Not here: that it has ended (SA-4341, wherever it is read), how early is early enough (`opsconsole.config`). Rules: once
a command, on stderr.
"""

from __future__ import annotations

__all__ = ("WarningFleet",)

import time

from libstaragent.client.fleet import Fleet
from libstaragent.security.roster import Roster
from opsconsole.cli.failure import narrate

HOUR_MS = 3_600_000


class WarningFleet(Fleet):
    """A fleet whose roster is looked at when it is read for an act: it is told if it ends within `warn_days`."""

    warn_days = 0

    async def roster(self) -> Roster:
        """As in `Fleet`."""
        roster = await super().roster()
        hours = (roster.valid_until - time.time_ns() // 1_000_000) // HOUR_MS
        if hours < self.warn_days * 24:
            self.warn_days = 0
            left = f"{hours // 24} days" if hours >= 48 else f"{hours} hours" if hours > 1 else "an hour or less"
            narrate(
                f"warning: the roster ends in {left}, and then no host acts: an admin runs `opsconsole policy renew`"
            )
        return roster
