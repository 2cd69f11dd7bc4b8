"""One target's output as one sequence: what came live, completed by what was stored, nothing twice, gaps named.

    live      [0 … 812) [812 … 4090)        lost        [9000 … 9600)
    stored    [0 …………………… head) omitted (tail ………………………………… end)

Offsets count the bytes that the command wrote, both streams together, in the order in which they came. A reader that
must have everything (a pipe) is *patient*: after a gap it waits for what was stored. One that watches is not: it sees
`Gap` and goes on.

Not here: fetching, prefixes, the sanitiser. Rules: pure; bytes that cannot be read as records give nothing and raise
nothing.
"""

from __future__ import annotations

__all__ = ("STDERR", "STDOUT", "Gap", "OutputMerge", "Piece", "output_pieces")

from collections.abc import Iterator

from msgspec import Struct

from libstaragent.model.api import OutputLive, OutputView
from libstaragent.model.result import records

STDOUT = 1
STDERR = 2


class Piece(Struct, frozen=True):
    """Bytes of one stream (STDOUT or STDERR), cut anywhere."""

    stream: int
    data: bytes


class Gap(Struct, frozen=True):
    """`size` bytes are not shown here: they were not kept, or not sent to this viewer."""

    size: int


class OutputMerge:
    """The output of one target so far; `position` bytes of it were given out or named as a gap."""

    def __init__(self, *, patient: bool) -> None:
        self.position = 0
        self.gaps = 0
        self.closed = False
        self._patient = patient
        self._waiting = False
        self._seen = 0

    def live(self, event: OutputLive) -> list[Piece | Gap]:
        """What `event` adds."""
        if self.closed or event.offset < 0:
            return []
        self._seen = max(self._seen, event.offset + _size(event.data))
        if self._waiting:
            return []
        if event.offset > self.position and self._patient:
            self._waiting = True
            return []
        return list(self._take(event.offset, event.data))

    def whole(self, size: int) -> bool:
        """Whether all of an output of `size` bytes was given out, so that nothing has to be fetched."""
        return self.position == size and not self.gaps and not self._waiting

    def finish(self, stored: OutputView | None) -> list[Piece | Gap]:
        """What the stored output adds; nothing is taken after it."""
        if self.closed:
            return []
        self.closed = True
        if stored is None:
            return [self._gap(self._seen - self.position)] if self._seen > self.position else []
        pieces = list(self._take(0, stored.head))
        start = _size(stored.head) + max(0, stored.omitted)
        if start > self.position and stored.omitted:
            pieces.append(self._gap(start - self.position))
        pieces.extend(self._take(start, stored.tail))
        return pieces

    def _take(self, offset: int, data: bytes) -> Iterator[Piece | Gap]:
        for stream, payload in records(data):
            end = offset + len(payload)
            if offset > self.position:
                yield self._gap(offset - self.position)
            if end > self.position and stream in (STDOUT, STDERR):
                new = payload[self.position - offset :]
                self.position = end
                yield Piece(stream, new)
            offset = end

    def _gap(self, size: int) -> Gap:
        self.position += size
        self.gaps += size
        return Gap(size)


def output_pieces(stored: OutputView) -> list[Piece | Gap]:
    """All of a stored output, in its order."""
    return OutputMerge(patient=True).finish(stored)


def _size(data: bytes) -> int:
    return sum(len(payload) for _, payload in records(data))
