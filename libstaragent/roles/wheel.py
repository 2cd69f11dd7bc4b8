"""Timers of which most are cancelled: things due at a time, in buckets of one second. Pure.

A room has one entry a connection and one an order, central one a job; nearly all but those of connections are taken out
long before they are due. A heap would keep each until then, and walking everything once a second costs what the fleet
is large. Here adding and taking out are one dict operation each, and a second's tick touches only what is due. What is
due comes up to a second late.

Rules: the owner remembers under which time it put a thing in; a thing is in the wheel once at most.
"""

from __future__ import annotations

__all__ = ("Wheel",)

import heapq
from typing import Generic, TypeVar

T = TypeVar("T")

# Nothing that waits here needs to be known to less than the second in which `tick` is called.
BUCKET_MS = 1000


class Wheel(Generic[T]):
    """See the module. Times are integer milliseconds of whichever clock the owner uses throughout."""

    __slots__ = ("_buckets", "_seconds")

    def __init__(self) -> None:
        self._buckets: dict[int, dict[T, None]] = {}
        self._seconds: list[int] = []

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self._buckets.values())

    def add(self, thing: T, due_ms: int) -> None:
        """`thing` is due at `due_ms`, rounded up to the next whole second."""
        second = -(-due_ms // BUCKET_MS)
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = {}
            heapq.heappush(self._seconds, second)
        bucket[thing] = None

    def discard(self, thing: T, due_ms: int) -> None:
        """Take `thing`, put in as due at `due_ms`, out; nothing happens when it is not there."""
        bucket = self._buckets.get(-(-due_ms // BUCKET_MS))
        if bucket is not None:
            bucket.pop(thing, None)
            if not bucket:
                # A dict that was large stays large: what a busy second leaves behind would lie here until it is due.
                self._buckets[-(-due_ms // BUCKET_MS)] = {}

    def due(self, now_ms: int) -> list[T]:
        """Take out and return what is due, in the order of time."""
        things: list[T] = []
        while self._seconds and self._seconds[0] * BUCKET_MS <= now_ms:
            things.extend(self._buckets.pop(heapq.heappop(self._seconds)))
        return things
