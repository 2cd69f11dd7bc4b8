"""Byte streams in memory, as bad as a network may be and still be TCP: in order, whole, split anywhere, late.

`MemoryNetwork.connect` gives two `MemoryTransport`s. What one writes the other's `on_data` gets, after a delay and in
pieces; `on_lost` is called once when the other side is gone. A network has named paths (one a host, say), and a path
can be stalled (bytes wait), healed (they go on), cut (both ends are told) or made silent (half-open: bytes vanish and
nobody is told, as after a power loss or a forgotten NAT entry).

Not here: TLS, sockets. Rules: everything random comes from the `random.Random` that was given.
"""

from __future__ import annotations

__all__ = ("MemoryNetwork", "MemoryTransport")

from collections import deque
from collections.abc import Callable
from random import Random

from libstaragent.testing.clock import ManualClock

# Seconds from one end to the other, before what `slowness` adds.
DELAY_LEAST = 0.0005
DELAY_SPREAD = 0.02


class MemoryTransport:
    """One end of a connection. Set `on_data` and `on_lost` before time goes on."""

    __slots__ = ("_arrives_at", "_held", "_inbox", "_network", "closed", "on_data", "on_lost", "path", "peer", "silent")

    def __init__(self, network: MemoryNetwork, path: str) -> None:
        self._network = network
        self._inbox: deque[bytes] = deque()
        self._held = 0
        self._arrives_at = 0.0
        self.path = path
        self.peer: MemoryTransport = self
        self.closed = False
        self.silent = False
        self.on_data: Callable[[bytes], object] | None = None
        self.on_lost: Callable[[], object] | None = None

    def write(self, data: bytes) -> None:
        """Send bytes; of an end that is closed they go nowhere."""
        if data and not self.closed:
            self._network.carry(self.peer, data)

    def close(self) -> None:
        """Close this end. What was written before still arrives; then the other end is told."""
        if not self.closed:
            self.closed = True
            self._network.carry(self.peer, b"")

    def deliver(self) -> None:
        """The next piece has come to this end."""
        if self._network.is_stalled(self.path):
            self._held += 1
            return
        piece = self._inbox.popleft()
        if self.closed or self.silent:
            return
        if piece:
            if self.on_data is not None:
                self.on_data(piece)
        else:
            self.lose()

    def lose(self) -> None:
        """This end learns that the connection is gone."""
        if not self.closed:
            self.closed = True
            if self.on_lost is not None:
                self.on_lost()

    def resume(self) -> None:
        """The path is healed: what waited arrives now."""
        held, self._held = self._held, 0
        for _ in range(held):
            self.deliver()

    def put(self, piece: bytes, when: float) -> float:
        """Keep a piece that arrives at `when`, never before those sent earlier; the time at which it does."""
        self._inbox.append(piece)
        self._arrives_at = max(self._arrives_at, when)
        return self._arrives_at


class MemoryNetwork:
    """See the module. `slowness` multiplies delays, `splits` is the share of writes that arrive in two pieces."""

    def __init__(self, clock: ManualClock, random: Random, *, slowness: float = 1.0, splits: float = 0.2) -> None:
        self._clock = clock
        self._random = random
        self._slowness = slowness
        self._splits = splits
        self._stalled: set[str] = set()
        self._open: list[MemoryTransport] = []

    def connect(self, path: str) -> tuple[MemoryTransport, MemoryTransport]:
        """Two ends of one new connection on `path`."""
        first, second = MemoryTransport(self, path), MemoryTransport(self, path)
        first.peer, second.peer = second, first
        self._open = [end for end in self._open if not end.closed]
        self._open += (first, second)
        return first, second

    def is_stalled(self, path: str) -> bool:
        """Whether nothing gets through on the path now."""
        return path in self._stalled

    def stall(self, path: str) -> None:
        """Let nothing through; nothing is lost yet."""
        self._stalled.add(path)

    def heal(self, path: str) -> None:
        """Let everything through again."""
        self._stalled.discard(path)
        for end in list(self._open):
            if end.path == path:
                end.resume()

    def cut(self, path: str) -> None:
        """End the path's connections; both ends learn it, what was under way is lost."""
        for end in list(self._open):
            if end.path == path:
                end.lose()

    def silence(self, path: str) -> None:
        """Half-open: nothing arrives on these connections any more, and nobody is told."""
        for end in list(self._open):
            if end.path == path:
                end.silent = True

    def carry(self, to: MemoryTransport, data: bytes) -> None:
        """Take bytes on their way to an end; empty bytes are the end of the stream."""
        if to.closed:
            return
        random = self._random.random
        if len(data) > 1 and random() < self._splits:
            middle = 1 + int(random() * (len(data) - 1))
            pieces: tuple[bytes, ...] = (data[:middle], data[middle:])
        else:
            pieces = (data,)
        for piece in pieces:
            when = self._clock.now + (DELAY_LEAST + random() * DELAY_SPREAD) * self._slowness
            self._clock.call_at(to.put(piece, when), to.deliver)
