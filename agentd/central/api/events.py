"""Events over HTTP, as server-sent events: one `EventBatch` a message, at most every 50 ms, a comment when it is quiet.

Not here: the buffers (`central.hub`). Rules: a reader is unsubscribed however its connection ends; one that does not
read fills its own buffer only.
"""

from __future__ import annotations

__all__ = ("EventsApi",)

import asyncio
from collections.abc import AsyncIterator

import msgspec

from agentd.central.api.call import Call, Stream
from agentd.central.history import History
from agentd.central.hub import BATCH_SECONDS, Hub, Subscription
from agentd.central.service import Central
from libstaragent import codes
from libstaragent.model.api import Event, EventBatch, JobChanged
from libstaragent.model.ids import is_ulid

SSE = b"text/event-stream"
# Below the minute after which proxies close what is silent.
HEARTBEAT_SECONDS = 15.0

_encode = msgspec.json.Encoder().encode


class EventsApi:
    """See the module."""

    def __init__(self, central: Central, hub: Hub, history: History) -> None:
        self._central = central
        self._hub = hub
        self._history = history

    async def fleet(self, call: Call) -> Stream:
        """GET /v1/events"""
        return self._stream(self._hub.subscribe(), job=None)

    async def job(self, call: Call) -> Stream:
        """GET /v1/jobs/{id}/events"""
        job_id = call.part("id")
        known = is_ulid(job_id) and (
            self._central.job(job_id) is not None or await asyncio.to_thread(self._history.members, job_id) is not None
        )
        if not known:
            raise codes.JOB_UNKNOWN.error(job_id[:100])
        subscription = self._hub.subscribe(job_id, output=call.number("output", 1, low=0, high=1) == 1)
        live = self._central.job(job_id)
        view = await asyncio.to_thread(self._history.job_view, job_id) if live is None else self._central.view(live)
        if view is not None and view.finished_ms is not None:
            # Its reader need not wait for what will not come. An end that is still being written will come.
            subscription.offer(JobChanged(view))
        return self._stream(subscription, job=job_id)

    def _stream(self, subscription: Subscription, *, job: str | None) -> Stream:
        pieces = _messages(subscription, job)
        return Stream(pieces, content_type=SSE, closed=lambda: self._hub.unsubscribe(subscription))


async def _messages(subscription: Subscription, job: str | None) -> AsyncIterator[bytes]:
    """Until the reader goes, or, of one job, until its end was told."""
    # At once, so that the client knows it is subscribed before it does what it wants to see.
    yield b": subscribed\n\n"
    while not subscription.closed:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await subscription.ready()
        except TimeoutError:
            yield b": still here\n\n"
            continue
        # What comes within the next 50 ms goes along.
        await asyncio.sleep(BATCH_SECONDS)
        events = tuple(subscription.take())
        yield b"data: " + _encode(EventBatch(events)) + b"\n\n"
        if job is not None and any(_is_end(event, job) for event in events):
            return


def _is_end(event: Event, job: str) -> bool:
    return isinstance(event, JobChanged) and event.job.id == job and event.job.finished_ms is not None
