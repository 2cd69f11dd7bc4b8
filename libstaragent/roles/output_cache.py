"""Bodies of kept output that this process has seen, by digest, the least recently used forgotten first.

A room knows by it what it need not send again, central by it what a digest stands for. Both may forget at any time:
who has no body asks for the result again, whole.

Rules: pure; bounded in bytes and in number; what was forgotten is counted.
"""

from __future__ import annotations

__all__ = ("BODIES_BYTES_MAX", "BODIES_MAX", "OutputCache")

from collections import OrderedDict

# In a process that is room and central, bodies in both are the same bytes. 150 of the largest, thousands of a page.
BODIES_BYTES_MAX = 32 * 1024 * 1024
# About 2 MB of keys for outputs that are a few bytes each.
BODIES_MAX = 16_384


class OutputCache:
    """See the module.

    Attributes:
        bytes: what the bodies hold. forgotten: bodies that were pushed out.
    """

    __slots__ = ("_bodies", "_bytes_max", "bytes", "forgotten")

    def __init__(self, *, bytes_max: int = BODIES_BYTES_MAX) -> None:
        self._bodies: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes_max = bytes_max
        self.bytes = 0
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._bodies)

    def get(self, digest: bytes) -> bytes | None:
        """The body, if it is still here."""
        body = self._bodies.get(digest)
        if body is not None:
            self._bodies.move_to_end(digest)
        return body

    def put(self, digest: bytes, body: bytes) -> None:
        """Keep a body under its digest. Whoever puts it has made sure that they belong together."""
        if digest in self._bodies:
            self._bodies.move_to_end(digest)
            return
        self._bodies[digest] = body
        self.bytes += len(body)
        while self.bytes > self._bytes_max or len(self._bodies) > BODIES_MAX:
            _, gone = self._bodies.popitem(last=False)
            self.bytes -= len(gone)
            self.forgotten += 1
