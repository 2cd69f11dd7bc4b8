"""The event hub: what happens now, to whoever watches, in batches.

Not the truth: what is stored is. A reader that is too slow loses events, is told how many (`Lagged`) and reads the
store again. Not here: SSE and JSON (`api/events`), which targets send live output (`CentralCore.watch`).

Rules: nobody watching costs nothing: callers ask `wanted` before they build an event. No reader can hold up another
or the control plane: a full buffer counts and drops. The first subscriber of a job's output turns the hosts' live
output on, the last turns it off.
"""

from __future__ import annotations

__all__ = ("BATCH_SECONDS", "BUFFER_EVENTS", "MAX_SUBSCRIBERS", "Hub", "Subscription")

import asyncio
from collections.abc import Callable

from libstaragent import codes
from libstaragent.model.api import Event, Lagged, OutputLive

# One message a reader every 50 ms: 20 a second are smooth to the eye, and a batch costs 1.4 % of a core where a
# message an event costs 19.
BATCH_SECONDS = 0.05
# 1,000 targets that end and say a few lines each, within one batch; about 10 MB at the worst for one reader.
BUFFER_EVENTS = 8192
# A chunk of live output is at most some tens of KiB, so bytes are bounded besides events.
BUFFER_OUTPUT_BYTES = 8 * 1024 * 1024
# Each is a connection and a buffer; a console holds one or two.
MAX_SUBSCRIBERS = 512


class Subscription:
    """One reader. Await `ready`, then `take`."""

    __slots__ = ("_events", "_output_bytes", "_wake", "closed", "dropped", "job", "output")

    def __init__(self, job: str | None, *, output: bool) -> None:
        self.job = job
        self.output = output
        self.dropped = 0
        self.closed = False
        self._events: list[Event] = []
        self._output_bytes = 0
        self._wake = asyncio.Event()

    def offer(self, event: Event) -> None:
        """Keep `event` for this reader, or count it as dropped."""
        size = len(event.data) if isinstance(event, OutputLive) else 0
        if len(self._events) >= BUFFER_EVENTS or self._output_bytes + size > BUFFER_OUTPUT_BYTES:
            self.dropped += 1
        else:
            self._events.append(event)
            self._output_bytes += size
        self._wake.set()

    def close(self) -> None:
        """Nothing will come any more."""
        self.closed = True
        self._wake.set()

    async def ready(self) -> None:
        """Returns when there is something to take."""
        await self._wake.wait()

    def take(self) -> list[Event]:
        """What was kept since the last time; a `Lagged` at its end says how many were not."""
        events, self._events = self._events, []
        self._output_bytes = 0
        self._wake.clear()
        if self.dropped:
            events.append(Lagged(self.dropped))
            self.dropped = 0
        return events


class Hub:
    """All readers; not thread-safe, it lives on the event loop."""

    def __init__(self) -> None:
        self._everything: set[Subscription] = set()
        self._by_job: dict[str, set[Subscription]] = {}
        # Said when a job's output gets its first reader or loses its last.
        self.on_watch: Callable[[str, bool], None] = lambda job, on: None
        self.dropped = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def subscribe(self, job: str | None = None, *, output: bool = True) -> Subscription:
        """A reader of the whole fleet's events, or of one job's and, with `output`, of its live output.

        :raises ResourceShort: there are too many.
        """
        if len(self) >= MAX_SUBSCRIBERS:
            raise codes.TOO_MANY_READERS.error(f"at most {MAX_SUBSCRIBERS}")
        subscription = Subscription(job, output=output and job is not None)
        self._count += 1
        if job is None:
            self._everything.add(subscription)
        else:
            readers = self._by_job.setdefault(job, set())
            watched = self.watched(job)
            readers.add(subscription)
            if output and not watched:
                self.on_watch(job, True)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """The reader is gone."""
        job = subscription.job
        readers = self._everything if job is None else self._by_job.get(job, set())
        if subscription not in readers:
            return
        readers.discard(subscription)
        self._count -= 1
        if job is None:
            return
        if subscription.output and not self.watched(job):
            self.on_watch(job, False)
        if not readers:
            self._by_job.pop(job, None)

    def close(self) -> None:
        """The process stops: every reader's stream ends after what is kept for it."""
        for subscription in [*self._everything, *(one for readers in self._by_job.values() for one in readers)]:
            subscription.close()

    def wanted(self, job: str | None = None) -> bool:
        """Whether anybody would see an event of this job, or, without one, of the fleet."""
        return bool(self._everything) or (job is not None and job in self._by_job)

    def watched(self, job: str) -> bool:
        """Whether anybody reads the live output of this job."""
        return any(reader.output for reader in self._by_job.get(job, ()))

    def publish(self, event: Event, job: str | None = None) -> None:
        """To everyone whom it concerns; live output goes to the readers of its job only."""
        live = isinstance(event, OutputLive)
        for subscription in self._by_job.get(job, ()) if job is not None else ():
            if subscription.output or not live:
                self._offer(subscription, event)
        if not live:
            for subscription in self._everything:
                self._offer(subscription, event)

    def _offer(self, subscription: Subscription, event: Event) -> None:
        before = subscription.dropped
        subscription.offer(event)
        self.dropped += subscription.dropped - before
