"""The bus inside one process: what `agentd all` runs on. It dies with the process, and then so do both of its ends."""

from __future__ import annotations

__all__ = ("MemoryBus",)

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from agentd.bus import Delivery

log = logging.getLogger("agentd.bus")

# A batch that was refused (the disk is full, say), or whose handler failed, is delivered again after this many seconds.
REDELIVER_AFTER = 0.5
# Batches that wait for a handler that has never come: orders for a room that is not run here, as of a host whose token
# named another. A room that starts is given all that is open anyway; of one that does not, the oldest are let go.
UNHEARD_MAX = 1024


class _Delivery:
    __slots__ = ("_subject", "batch", "failures", "size")

    def __init__(self, batch: Sequence[Any], subject: _Subject, size: int) -> None:
        self.batch = batch
        self.size = size
        self.failures = 0
        self._subject = subject

    def acknowledge(self) -> None:
        self._subject.settled(self)

    def refuse(self) -> None:
        self._subject.again(self)


class _Subject:
    """One subject's queue and its single handler."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[_Delivery] = deque()
        self._out: set[_Delivery] = set()
        self._scheduled = False
        self.handler: Callable[[Delivery], None] | None = None
        self.unacknowledged = 0
        self.unacknowledged_bytes = 0

    def put(self, batch: Sequence[Any], size: int) -> None:
        if self.handler is None and len(self._waiting) >= UNHEARD_MAX:
            gone = self._waiting.popleft()
            self.unacknowledged -= len(gone.batch)
            self.unacknowledged_bytes -= gone.size
        self._waiting.append(_Delivery(batch, self, size))
        self.unacknowledged += len(batch)
        self.unacknowledged_bytes += size
        self.wake()

    def wake(self) -> None:
        if not self._scheduled and self.handler is not None and self._waiting:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def settled(self, delivery: _Delivery) -> None:
        if delivery in self._out:
            self._out.discard(delivery)
            self.unacknowledged -= len(delivery.batch)
            self.unacknowledged_bytes -= delivery.size

    def again(self, delivery: _Delivery) -> None:
        if delivery in self._out:
            self._out.discard(delivery)
            self._loop.call_later(REDELIVER_AFTER, self._put_back, delivery)

    def _put_back(self, delivery: _Delivery) -> None:
        self._waiting.appendleft(delivery)
        self.wake()

    def _deliver(self) -> None:
        self._scheduled = False
        handler = self.handler
        while self._waiting and handler is not None:
            delivery = self._waiting.popleft()
            self._out.add(delivery)
            try:
                handler(delivery)
            except Exception:
                # A broken handler must neither lose the batch nor hold up those behind it.
                delivery.failures += 1
                if delivery.failures & (delivery.failures - 1) == 0:
                    # The 1st, 2nd, 4th, … time is told: one batch that can never be taken must not fill the log.
                    log.exception("a handler failed (%d times for this batch); it gets it again", delivery.failures)
                self.again(delivery)


class MemoryBus:
    """A `Bus` on one event loop; not thread-safe."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._subjects: dict[str, _Subject] = {}
        self._lossy: dict[str, Callable[[Sequence[Any]], None]] = {}

    def publish(self, subject: str, batch: Sequence[Any], *, size: int = 0) -> None:
        """See `Bus`."""
        if batch:
            self._subject(subject).put(batch, size)

    def publish_lossy(self, subject: str, batch: Sequence[Any]) -> None:
        """See `Bus`."""
        handler = self._lossy.get(subject)
        if handler is not None and batch:
            handler(batch)

    def subscribe(self, subject: str, handler: Callable[[Delivery], None]) -> None:
        """See `Bus`."""
        entry = self._subject(subject)
        entry.handler = handler
        entry.wake()

    def subscribe_lossy(self, subject: str, handler: Callable[[Sequence[Any]], None]) -> None:
        """See `Bus`."""
        self._lossy[subject] = handler

    def unacknowledged(self, subject: str) -> int:
        """See `Bus`."""
        return self._subject(subject).unacknowledged

    def unacknowledged_bytes(self, subject: str) -> int:
        """See `Bus`."""
        return self._subject(subject).unacknowledged_bytes

    def _subject(self, subject: str) -> _Subject:
        entry = self._subjects.get(subject)
        if entry is None:
            entry = self._subjects[subject] = _Subject(self._loop)
        return entry
