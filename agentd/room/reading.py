"""Which agents are read while central is behind: what a room holds stays bounded however many print at once.

What is held is what waits for central (the bus), what was heard in this turn, and unfinished frames. Past the limit
nobody is read any more, at once and not only the one that spoke: in one turn of the loop all others would still be
read. When central has caught up by half a few are let in again, those in the middle of a frame first, and each of them
is read to the end of a frame: many halves of results would fill the memory and none could be passed on.

Not here: decisions, sockets (`server`). Rules: nothing is dropped, and nobody waits for ever: some are let in whatever
others do that began a frame and do not end it.
"""

from __future__ import annotations

__all__ = ("Reading",)

import asyncio
from collections.abc import Callable, Iterable

from agentd.room.peer import Peer

# Bytes of reports that central has not made durable, one without output counted as REPORT_BYTES. 90,000 results without
# output, some seconds of the fastest store, or 300 of the largest outputs.
REPORTS_WAITING_BYTES = 64 * 1024 * 1024
# Let in again and not at the end of a frame yet: with a whole frame of each, half of the limit.
READ_AGAIN_AT_ONCE = 128
# So many are let in even if all of those do not go on.
READ_AGAIN_AT_LEAST = 8
# How often it is looked whether central has caught up; the bus has no word for it.
CATCH_UP_SECONDS = 0.02


class Reading:
    """See the module. `behind` says how many bytes central is behind; `peers` are all connections.

    Attributes:
        unfinished: bytes of frames that have not come whole.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, behind: Callable[[], int], peers: Iterable[Peer]) -> None:
        self._loop = loop
        self._behind = behind
        self._peers = peers
        self._stopped: dict[Peer, None] = {}
        self._let_in: set[Peer] = set()
        self._all_stopped = False
        self._looking = False
        self.unfinished = 0

    def __len__(self) -> int:
        return len(self._stopped)

    def heard(self, peer: Peer) -> None:
        """A peer has spoken, and what it said is in the core."""
        unfinished = 0 if peer.link is None else peer.link.connection.unfinished
        self.unfinished += unfinished - peer.unfinished
        peer.unfinished = unfinished
        if not unfinished:
            self._let_in.discard(peer)
        if not self._all_stopped and self._behind() + self.unfinished > REPORTS_WAITING_BYTES:
            self._all_stopped = True
            for each in list(self._peers):
                self._stop(each)
        elif self._stopped and not unfinished:
            # Those before it have their turn first.
            self._stop(peer)

    def gone(self, peer: Peer) -> None:
        """A connection is closed."""
        self.unfinished -= peer.unfinished
        peer.unfinished = 0
        self._let_in.discard(peer)
        self._stopped.pop(peer, None)

    def _stop(self, peer: Peer) -> None:
        if not peer.reading or peer in self._let_in or peer.transport is None or peer.transport.is_closing():
            return
        peer.reading = False
        peer.transport.pause_reading()
        self._stopped[peer] = None
        if not self._looking:
            self._looking = True
            self._loop.call_later(CATCH_UP_SECONDS, self._look)

    def _look(self) -> None:
        if self._behind() <= REPORTS_WAITING_BYTES // 2:
            self._all_stopped = False
            room = max(READ_AGAIN_AT_LEAST, READ_AGAIN_AT_ONCE - len(self._let_in))
            begun = [peer for peer in self._stopped if peer.unfinished]
            for peer in [*begun, *(peer for peer in self._stopped if not peer.unfinished)][:room]:
                del self._stopped[peer]
                peer.reading = True
                if peer.transport is not None and not peer.transport.is_closing():
                    self._let_in.add(peer)
                    peer.transport.resume_reading()
        self._looking = bool(self._stopped)
        if self._looking:
            self._loop.call_later(CATCH_UP_SECONDS, self._look)
