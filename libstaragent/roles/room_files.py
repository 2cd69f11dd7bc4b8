"""A room's part in files and spools: it carries reads of spools up and pieces of files down. Pure.

A read is a stream of an agent's connection: opened by central's word, its bytes handed on as they come, its credit
given back as the reader takes them. It ends with central's word, or with the connection.

Pieces of a file that a job places are asked for by agents and had from central, once: those that came lately are kept,
because a job's hosts want the same ones at about the same time. A piece is given only to a host for which an order of
that job is open here; one that does not fit on a connection now is asked for again.

A connection on trial (`room_guard`) may be another machine's than the one that is meant: it is neither read from nor
given pieces until that is over.

Not here: who may read (the host judges), what is in a piece (the host checks the whole). Rules: everything may be lost
and is asked for again by whoever misses it; each table has its bound.
"""

from __future__ import annotations

__all__ = ("RoomFiles",)

from collections import OrderedDict
from collections.abc import Callable, Mapping

from libstaragent import codes
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t
from libstaragent.roles.room_state import Link

# Pieces kept for the other hosts of a job: 256 of 64 KiB.
KEPT_BYTES_MAX = 16 * 1024 * 1024
# Pieces that central was asked for and has not sent; the next ask replaces the oldest.
ASKED_MAX = 4096
# Hosts that wait for one piece; the rest ask again.
WAITING_MAX = 20_000
# When central is asked once more for a piece.
ASK_AGAIN_MS = 2000
# Reads open in one room: each costs some table entries here and a stream there.
READS_MAX = 1024

Piece = tuple[str, int]


class RoomFiles:
    """See the module. `read` and `wanted` are for central, lossy; the caller takes and clears them."""

    def __init__(
        self,
        *,
        room: str,
        links: Mapping[str, Link],
        send: Callable[[Link, m.RoomMessage], bool],
        has_room: Callable[[Link], bool],
        wants: Callable[[str, str], bool],
    ) -> None:
        self._room = room
        self._links = links
        self._send = send
        self._has_room = has_room
        self._wants = wants
        self._reads: dict[str, tuple[Link, int]] = {}
        self._kept: OrderedDict[Piece, t.BlobPiece] = OrderedDict()
        self._kept_bytes = 0
        self._asked: OrderedDict[Piece, tuple[int, dict[str, None]]] = OrderedDict()
        self.read: list[t.ReadPiece | t.ReadOver] = []
        self.wanted: list[t.WantPiece] = []
        # For whoever looks at a room: pieces asked of central, given to hosts, not given because no order is open for
        # them or they are no pieces, and those that have to be asked for again.
        self.asked = 0
        self.given = 0
        self.refused = 0
        self.put_off = 0

    @property
    def kept_bytes(self) -> int:
        """Of pieces kept for other hosts."""
        return self._kept_bytes

    # Spools --------------------------------------------------------------------------------------------------------

    def order(self, order: t.ReadTarget | t.GrantRead | t.StopReading) -> None:
        """Central's word about a read."""
        match order:
            case t.ReadTarget():
                self._open(order)
            case t.GrantRead():
                found = self._reads.get(order.read)
                if found is not None:
                    self._send(found[0], m.Credit(found[1], order.count))
            case t.StopReading():
                found = self._reads.pop(order.read, None)
                if found is not None:
                    link, stream = found
                    link.reads.pop(stream, None)
                    self._send(link, m.StopRead(stream))
                    link.connection.close_stream(stream)

    def _open(self, order: t.ReadTarget) -> None:
        if order.read in self._reads:
            return
        link = self._links.get(order.agent)
        if link is None or link.connection.state != "open" or link.trial_until:
            self.read.append(t.ReadOver(order.read, codes.HOST_UNREACHABLE.code))
            return
        if len(self._reads) >= READS_MAX:
            self.read.append(t.ReadOver(order.read, codes.READS_FULL.code))
            return
        stream = link.next_stream
        link.next_stream += 1
        link.reads[stream] = order.read
        self._reads[order.read] = (link, stream)
        self._send(link, m.Read(stream, order.signed, order.proof, order.offset))

    def heard(self, link: Link, piece: m.LiveOutput) -> None:
        """Bytes on a stream that is no job's."""
        read = link.reads.get(piece.stream)
        if read is not None:
            self.read.append(t.ReadPiece(read, piece.offset, piece.data))

    def closed(self, link: Link) -> None:
        """A connection is gone, and the reads on it."""
        for read in link.reads.values():
            self._reads.pop(read, None)
            self.read.append(t.ReadOver(read, codes.CONNECTION_LOST.code))
        link.reads.clear()

    # Pieces of files -----------------------------------------------------------------------------------------------

    def want(self, link: Link, want: m.Want, now_ms: int) -> None:
        """A host asks for a piece."""
        if want.offset % m.CHUNK_MAX or not self._wants(link.agent, want.job):
            self.refused += 1
            return
        if link.trial_until:
            self.put_off += 1
            return
        piece = (want.job, want.offset)
        kept = self._kept.get(piece)
        if kept is not None:
            self._kept.move_to_end(piece)
            self._give(link, kept)
            return
        asked_ms, waiting = self._asked.pop(piece, (0, {}))
        if len(waiting) < WAITING_MAX:
            waiting[link.agent] = None
        if now_ms - asked_ms >= ASK_AGAIN_MS:
            asked_ms = now_ms
            self.asked += 1
            self.wanted.append(t.WantPiece(self._room, link.agent, want.job, want.offset))
        self._asked[piece] = (asked_ms, waiting)
        if len(self._asked) > ASKED_MAX:
            self._asked.popitem(last=False)

    def came(self, piece: t.BlobPiece) -> None:
        """A piece from central, for all who wait for it."""
        key = (piece.job, piece.offset)
        _, waiting = self._asked.pop(key, (0, {}))
        if not piece.code and key not in self._kept:
            self._kept[key] = piece
            self._kept_bytes += len(piece.data)
            while self._kept_bytes > KEPT_BYTES_MAX:
                self._kept_bytes -= len(self._kept.popitem(last=False)[1].data)
        for agent in waiting:
            link = self._links.get(agent)
            if link is not None:
                self._give(link, piece)

    def _give(self, link: Link, piece: t.BlobPiece) -> None:
        if self._has_room(link) and self._send(link, m.Chunk(piece.job, piece.offset, piece.data, piece.code)):
            self.given += 1
        else:
            self.put_off += 1
