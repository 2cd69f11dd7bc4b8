"""Reads of what hosts keep: from an operator's signed ReadSpool to the bytes that its HTTP answer is made of.

Bytes come by the reader's credit: what is sent and not yet taken by the client is never more than a window, here, in
the room and on the host. A piece that is missed, a room or a host that is gone or silent ends the read with a code; the
client begins another where it stood.

Not here: HTTP (`api.files`), who may read (`Central.permit`, and the host itself). Rules: nothing is kept; each read
has one reader, and ends with it.
"""

from __future__ import annotations

__all__ = ("READS_MAX", "Read", "Reads", "bytes_of")

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from agentd.bus import READS, Bus
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.jobs.spool_stream import ends_with_end, error_end
from libstaragent.protocol import trunk as t
from libstaragent.protocol.limits import CREDIT_INITIAL
from libstaragent.security.membership import Proof
from libstaragent.security.signed import Signed

# Reads at once; each may hold a window.
READS_MAX = 128
# Bytes under way of one read: 5 MB/s over 100 ms.
WINDOW = 512 * 1024
# A host that has something answers in milliseconds; one that says nothing for so long is gone.
SILENCE_SECONDS = 30.0
# Names of reads are nobody's to guess.
READ_NAME_BYTES = 8


class Read:
    """One read, from its order to its end."""

    def __init__(self, name: str, room: str, say: Callable[[str, t.Order], None]) -> None:
        self.name = name
        self.room = room
        self._say = say
        self._pieces: deque[bytes] = deque()
        self._came = 0
        self._wake = asyncio.Event()
        self._error: StarAgentError | None = None

    def piece(self, piece: t.ReadPiece) -> None:
        """Bytes of the host; behind a missed piece nothing can be used."""
        if piece.at != self._came:
            self.fail(codes.READ_CUT.error("a piece was lost"))
            return
        self._came += len(piece.data)
        self._pieces.append(piece.data)
        self._wake.set()

    def fail(self, error: StarAgentError) -> None:
        """It ends here."""
        self._error = self._error or error
        self._wake.set()

    async def next(self) -> bytes:
        """The next bytes.

        :raises StarAgentError: why there are none.
        """
        while not self._pieces:
            if self._error is not None:
                raise self._error
            self._wake.clear()
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                raise codes.READ_CUT.error(f"the host was silent for {SILENCE_SECONDS:.0f} s") from None
        data = self._pieces.popleft()
        self._say(self.room, t.GrantRead(self.name, len(data)))
        return data


class Reads:
    """All reads. `say` hands an order to a room."""

    def __init__(self, bus: Bus, say: Callable[[str, t.Order], None]) -> None:
        self._say = say
        self._open: dict[str, Read] = {}
        bus.subscribe_lossy(READS, self._heard)

    def __len__(self) -> int:
        return len(self._open)

    def open(self, signed: Signed, proof: Proof | None, *, agent: str, room: str, offset: int) -> Read:
        """Ask a host; `close` it in any case.

        :raises ResourceShort: too many are open.
        """
        if len(self._open) >= READS_MAX:
            raise codes.READS_FULL.error(f"at most {READS_MAX}")
        read = Read(os.urandom(READ_NAME_BYTES).hex(), room, self._say)
        self._open[read.name] = read
        self._say(room, t.ReadTarget(read.name, agent, signed, proof, offset))
        self._say(room, t.GrantRead(read.name, WINDOW - CREDIT_INITIAL))
        return read

    def close(self, read: Read) -> None:
        """Its reader has all, or is gone."""
        if self._open.pop(read.name, None) is not None:
            self._say(read.room, t.StopReading(read.name))

    def _heard(self, batch: Sequence[t.ReadPiece | t.ReadOver]) -> None:
        for word in batch:
            read = self._open.get(word.read)
            if read is None:
                continue
            if isinstance(word, t.ReadPiece):
                read.piece(word)
            else:
                code = codes.by_code(word.code) or codes.READ_CUT
                read.fail(code.error("the host's connection" if code is codes.CONNECTION_LOST else ""))


async def bytes_of(read: Read, first: bytes) -> AsyncIterator[bytes]:
    """`first`, and what follows it until the record that says the end."""
    data = first
    while True:
        yield data
        if ends_with_end(data):
            return
        try:
            data = await read.next()
        except StarAgentError as error:
            yield error_end(error)
            return
