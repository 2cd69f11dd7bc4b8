"""One agent's connection as the event loop sees it: bytes between a TLS transport and its `Link`.

Not here: what the bytes mean (`libstaragent.roles.room`), and when written bytes leave (`agentd.room.server`).

Rules: one small object a connection, slots only. While the transport says that its buffer is full nothing is taken
from the link: what waits there stays in order of urgency, so a cancel still overtakes, and the link's own bound
(OUTGOING_MAX) ends the connection of a peer that does not read.
"""

from __future__ import annotations

__all__ = ("Peer",)

import asyncio
from typing import TYPE_CHECKING, cast

from libstaragent.roles.room import Link

if TYPE_CHECKING:
    from agentd.room.server import Room

# What the transport may hold of a peer that reads slowly, before the rest waits in the link in order of urgency. One
# result-sized frame; more would only be bytes that a cancel cannot overtake.
WRITE_BUFFER = 64 * 1024


class Peer(asyncio.Protocol):
    """See the module."""

    __slots__ = ("blocked", "link", "reading", "room", "transport", "unfinished")

    def __init__(self, room: Room) -> None:
        self.room = room
        self.link: Link | None = None
        self.transport: asyncio.Transport | None = None
        self.blocked = False
        self.reading = True
        self.unfinished = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self.link = self.room.opened(self)

    def data_received(self, data: bytes) -> None:
        self.room.received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.room.lost(self, exc)
        self.transport = None

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False
        self.room.writable(self)
