"""What happens in the fleet, as batches of typed events: hosts that come and go, jobs that move.

One connection, from now on; it ends with a coded error when the connection does. Whoever needs to be complete reads the
lists after the first batch and again after each new connection. Not here: following one job to its end (`events`).
"""

from __future__ import annotations

__all__ = ("fleet_events",)

from collections.abc import AsyncGenerator, Sequence

from httpx_sse import EventSource

from libstaragent import codes
from libstaragent.client.answers import decode_answer
from libstaragent.client.transport import Transport, coded
from libstaragent.model.api import Event, EventBatch


async def fleet_events(transport: Transport) -> AsyncGenerator[Sequence[Event], None]:
    """Batches; the first is empty and says that the subscription stands.

    :raises StarAgentError: central refuses, or the connection is gone.
    """
    response = await transport.open_stream("/v1/events")
    try:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise codes.CENTRAL_ANSWER.error("the event stream is none")
        yield ()
        messages = EventSource(response).aiter_sse()
        while True:
            with coded():
                message = await anext(messages, None)
            if message is None:
                raise codes.CENTRAL_UNREACHABLE.error("the event stream ended")
            if message.data:
                yield decode_answer(message.data.encode("utf-8", "replace"), EventBatch).events
    finally:
        await response.aclose()
