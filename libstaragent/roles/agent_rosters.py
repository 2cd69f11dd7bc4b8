"""Roster revisions as they come from the room, until one is believed. Pure; a part of the agent's core.

A revision that has expired is not believed; the one after it may be valid, and follows from it alone. So revisions wait
for the valid one: a long chain comes in many messages, and the last of a message may have expired long ago.

Not here: what makes a revision follow (`libstaragent.security.roster`, through the verifier).
"""

from __future__ import annotations

__all__ = ("ROSTERS_KEPT_MAX", "RosterIntake")

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.roles.agent_effects import Effect, Log, StoreRoster, Verifier
from libstaragent.security.signed import Signed

# What may wait: all that central tells (a thousand) of 8 KiB each.
ROSTERS_KEPT_MAX = 8 * 1024 * 1024


class RosterIntake:
    """See the module."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._waiting: dict[Signed, None] = {}

    def clear(self) -> None:
        """The connection is gone: the next HELLO says what is believed, and all that follows comes again."""
        self._waiting.clear()

    def take(self, revisions: tuple[Signed, ...], now_ms: int) -> list[Effect]:
        """Revisions of the room; what is to be done about them."""
        if self._waiting and all(signed in self._waiting for signed in revisions):
            return []
        self._waiting.update(dict.fromkeys(revisions))
        try:
            signed = self._verifier.take_rosters(tuple(self._waiting), now_ms)
        except StarAgentError as error:
            # A roster that does not chain changes nothing; the revision in HELLO keeps telling central what is
            # believed.
            size = sum(len(signed.payload) for signed in self._waiting)
            if error.code is not codes.ROSTER_EXPIRED or size > ROSTERS_KEPT_MAX:
                self._waiting.clear()
            return [Log(error.code, error.detail)]
        self._waiting.clear()
        return [] if signed is None else [StoreRoster(signed)]
