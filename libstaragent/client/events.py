"""What happens to one job, as typed events, from now until its end.

The stream of central is the quick way and may break, lag or be cut by a proxy; what is stored is the sure way. So at
each connect, after each `Lagged` and at the end the job's targets are read, and what the stream did not bring is told
from there: every target's end is told exactly once, and the iteration ends when the job has.

Not here: what the output means (`output`). A shell: it waits and it reads.

Rules: a broken stream is opened again with full jitter, until the job's deadline has passed by `PATIENCE_SECONDS`; what
is no failure of the way (denied, unknown job) is raised at once.
"""

from __future__ import annotations

__all__ = ("JobEvents",)

import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

import anyio
import httpx
import msgspec
from httpx_sse import EventSource, ServerSentEvent

from libstaragent import codes
from libstaragent.client.answers import decode_answer
from libstaragent.client.transport import Transport, coded
from libstaragent.errors import StarAgentError
from libstaragent.jobs.states import advances, is_terminal
from libstaragent.model.api import (
    Event,
    EventBatch,
    JobChanged,
    JobView,
    Lagged,
    TargetChanged,
    TargetPage,
    TargetView,
)

# Full jitter below these: a restarted central is found again soon and not by everybody at once.
FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0
# After a job's deadline central still has to write down the ends; after this nobody will.
PATIENCE_SECONDS = 60.0
# One broken connection is mended at once and nobody's business; two are an outage.
TOLD_AFTER = 2
# Targets a page, without their output about 400 bytes each.
PAGE = 1000


class JobEvents:
    """An asynchronous iterator over one job's events. Close it with `aclose` if it is left before its end."""

    def __init__(
        self, transport: Transport, job: JobView, *, forget: Callable[[JobEvents], None], output: bool = True
    ) -> None:
        self._transport = transport
        self._job = job
        self._forget = forget
        self._output = output
        self._states: dict[tuple[str, bool], str] = {}
        self._pending: deque[Event] = deque()
        self._response: httpx.Response | None = None
        self._messages: AsyncIterator[ServerSentEvent] | None = None
        self._failures = 0
        self._ended = False
        # Told once an outage, when the second try has failed as well.
        self.on_lost: Callable[[StarAgentError], None] | None = None

    @property
    def job(self) -> JobView:
        """The job as it was last heard of."""
        return self._job

    @property
    def more(self) -> bool:
        """Whether the next event is here already."""
        return bool(self._pending)

    def __aiter__(self) -> JobEvents:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        :raises StarAgentError: central refuses, or cannot be reached any more.
        """
        while not self._pending:
            if self._ended:
                await self.aclose()
                raise StopAsyncIteration
            try:
                await self._advance()
            except StarAgentError as error:
                await self._disconnect()
                await self._back_off(error)
        return self._pending.popleft()

    async def aclose(self) -> None:
        """Ends the stream."""
        self._ended = True
        self._forget(self)
        await self._disconnect()

    async def _advance(self) -> None:
        if self._job.finished_ms is not None:
            await self._read_stored()
            return
        if self._messages is None:
            response = await self._transport.open_stream(
                f"/v1/jobs/{self._job.id}/events", output=None if self._output else 0
            )
            self._response = response
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise codes.CENTRAL_ANSWER.error("the event stream is none")
            self._messages = EventSource(response).aiter_sse()
            await self._read_stored()
            return
        with coded():
            message = await anext(self._messages, None)
        if message is None:
            raise codes.CENTRAL_UNREACHABLE.error("the event stream ended")
        if not message.data:
            return
        self._failures = 0
        for event in decode_answer(message.data.encode("utf-8", "replace"), EventBatch).events:
            await self._take(event)

    async def _take(self, event: Event) -> None:
        match event:
            case TargetChanged():
                self._tell_target(event.target)
            case JobChanged():
                if event.job.id == self._job.id and self._job.finished_ms is None:
                    self._job = event.job
                    # The end is told by `_read_stored`, after the ends of all targets.
                    if event.job.finished_ms is None:
                        self._pending.append(event)
            case Lagged():
                self._pending.append(event)
                await self._read_stored()
            case _:
                self._pending.append(event)

    async def _read_stored(self) -> None:
        job = await self._transport.get(f"/v1/jobs/{self._job.id}", JobView)
        self._failures = 0
        if job.counts.get("queued", 0) < job.targets:
            after: str | None = None
            while True:
                page = await self._transport.get(f"/v1/jobs/{job.id}/targets", TargetPage, after=after, limit=PAGE)
                for target in page.targets:
                    self._tell_target(target)
                after = page.next
                if after is None:
                    break
        changed = job != self._job or job.finished_ms is not None
        self._job = job
        if changed:
            self._pending.append(JobChanged(job))
        self._ended = job.finished_ms is not None

    def _tell_target(self, target: TargetView) -> None:
        key = (target.agent, target.amendment)
        known = self._states.get(key)
        try:
            news = known is None or advances(known, target.state)
            if known is None and target.state == "queued":
                self._states[key] = target.state
                return
            if not is_terminal(target.state):
                news = news and known != target.state
        except KeyError as error:
            raise codes.CENTRAL_ANSWER.error(f"unknown state {target.state!r}") from error
        if news:
            self._states[key] = target.state
            self._pending.append(TargetChanged(msgspec.structs.replace(target, output=msgspec.UNSET)))

    async def _back_off(self, error: StarAgentError) -> None:
        late = time.time() - self._job.deadline_ms / 1000
        if not error.code.retryable or late > PATIENCE_SECONDS:
            await self.aclose()
            raise error
        longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** min(self._failures, 10))
        self._failures += 1
        if self._failures == TOLD_AFTER and self.on_lost is not None:
            self.on_lost(error)
        await anyio.sleep(random.uniform(0, longest))

    async def _disconnect(self) -> None:
        response, messages = self._response, self._messages
        self._response = self._messages = None
        if response is not None:
            await response.aclose()
        if messages is not None:
            # Reading from what is closed ends the generators inside each other, which nobody else would do in order.
            try:
                await anext(messages, None)
            except (httpx.HTTPError, httpx.StreamError, RuntimeError, anyio.ClosedResourceError):
                pass
