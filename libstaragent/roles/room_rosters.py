"""The roster's revisions as a room carries them, and how many of them each connection has been told. Pure.

Not here: whether a revision holds (hosts judge that). Rules: in their order, and no more on a link than it has room
for; the rest follows as bytes leave. Nearly all hosts have the same revision, so what follows it is encoded once and
the bytes are shared: a copy for each of ten thousand connections would be gigabytes.
"""

from __future__ import annotations

__all__ = ("RoomRosters",)

from collections.abc import Callable, Iterable

from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t
from libstaragent.protocol.connection import framed
from libstaragent.roles.room_state import Link
from libstaragent.security.signed import Signed

# Roster revisions in one message: FRAME_MAX, less what the frame itself takes. The largest revision fits alone.
ROSTERS_AT_ONCE = 200 * 1024
# What key, signature and lengths add to a revision's payload.
REVISION_EXTRA = 128


class RoomRosters:
    """See the module."""

    def __init__(
        self, *, send: Callable[[Link, m.RoomMessage, bytes | None], bool], has_room: Callable[[Link], bool]
    ) -> None:
        self._send = send
        self._has_room = has_room
        self._first = 1
        self._revisions: tuple[Signed, ...] = ()
        # The last message, of which revisions and in bytes.
        self._said: tuple[int, int, m.Rosters, bytes] | None = None

    @property
    def newest(self) -> int:
        """The number of the last revision; 0 while there is none."""
        return self._first + len(self._revisions) - 1

    def take(self, order: t.RosterRevisions, links: Iterable[Link]) -> None:
        """What central tells now, for `links` and all that come."""
        self._first, self._revisions, self._said = order.first, order.revisions, None
        for link in links:
            # The one before as well: a host that could not take it then may take both now.
            link.told = min(link.told, self.newest - 2)
            self.tell(link)

    def tell(self, link: Link) -> None:
        """What this connection has not been told, as far as it has room."""
        while link.told < self.newest and self._has_room(link):
            start = end = max(0, link.told + 1 - self._first)
            size = 0
            while end < len(self._revisions):
                size += len(self._revisions[end].payload) + REVISION_EXTRA
                if end > start and size > ROSTERS_AT_ONCE:
                    break
                end += 1
            link.told = self._first + end - 1
            self._send(link, *self._message(start, end))

    def _message(self, start: int, end: int) -> tuple[m.Rosters, bytes]:
        if self._said is None or self._said[:2] != (start, end):
            message = m.Rosters(self._revisions[start:end])
            self._said = start, end, message, framed(message)
        return self._said[2], self._said[3]
