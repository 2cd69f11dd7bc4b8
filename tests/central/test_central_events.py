"""Events over HTTPS: batches, filters, live output, a reader that is too slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from httpx_sse import aconnect_sse

from agentd.central.hub import BUFFER_EVENTS, BUFFER_OUTPUT_BYTES, MAX_SUBSCRIBERS, Hub
from libstaragent import codes
from libstaragent.model import api
from libstaragent.model.result import TargetResult, encode_records
from libstaragent.protocol import trunk as t

WITHIN_SECONDS = 20


@asynccontextmanager
async def reading(stack: Any, path: str) -> AsyncIterator[Callable[[Callable[[list[Any]], bool]], Any]]:
    """A reader of events: call it with a condition on all events so far to wait for it."""
    async with aconnect_sse(stack.http, "GET", path, headers=stack.bearer) as source:
        assert source.response.status_code == 200, await source.response.aread()
        messages = source.aiter_sse()
        seen: list[Any] = []

        async def until(holds: Callable[[list[Any]], bool]) -> list[Any]:
            async with asyncio.timeout(WITHIN_SECONDS):
                while not holds(seen):
                    message = await anext(messages)
                    if message.data:
                        seen.extend(msgspec.json.decode(message.data, type=api.EventBatch).events)
            return seen

        yield until
        await messages.aclose()


def of(events: list[Any], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


async def test_the_fleets_events_tell_of_jobs_and_targets_but_carry_no_output(stack: Any) -> None:
    await stack.log_in()
    [member] = await stack.add_hosts("web01")
    async with reading(stack, "/v1/events") as until:
        await stack.post("/v1/jobs?wait=10", stack.people.exec([member]))
        events = await until(lambda seen: any(job.job.finished_ms for job in of(seen, api.JobChanged)))
    assert of(events, api.TargetChanged)[-1].target.state == "ok"
    assert of(events, api.OutputLive) == []
    assert all(event.target.output is msgspec.UNSET for event in of(events, api.TargetChanged))
    assert len(stack.central.hub) == 0 or await gone(stack)


async def gone(stack: Any) -> bool:
    """The server has seen that all readers went."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while len(stack.central.hub):
            await stack.http.get("/v1/health")
    return True


async def test_one_jobs_events_carry_its_live_output_and_nothing_of_others(
    stack: Any, result_ok: Callable[..., TargetResult]
) -> None:
    await stack.log_in()
    [member] = await stack.add_hosts("web01")
    stack.room.answers = lambda agent, job: None
    first = (await stack.post("/v1/jobs", stack.people.exec([member]))).json()["job"]["id"]
    second = (await stack.post("/v1/jobs", stack.people.exec([member]))).json()["job"]["id"]
    async with reading(stack, f"/v1/jobs/{first}/events") as until:
        await stack.room.until(lambda: bool(stack.room.of(t.WatchTargets)))
        assert stack.room.of(t.WatchTargets) == [t.WatchTargets(first, (member.agent,), True)]
        stack.room.report(t.TargetProgress(member.agent, first, "running", 0))
        stack.room.report(t.TargetProgress(member.agent, second, "running", 0))
        records = encode_records([(1, b"hello")])
        stack.room.live(
            t.LiveChunk(member.agent, second, 0, records),
            t.LiveChunk(member.agent, first, 7, records),
            t.LiveDropped(member.agent, first, 99),
        )
        events = await until(lambda seen: len(of(seen, api.OutputLive)) == 2)
        chunk, dropped = of(events, api.OutputLive)
        assert (chunk.host, chunk.offset, chunk.data, dropped.dropped) == ("web01", 7, records, 99)
        assert [event.target.state for event in of(events, api.TargetChanged)] == ["running"]
        stack.room.report(t.TargetEnded(member.agent, result_ok(second)), t.TargetEnded(member.agent, result_ok(first)))
        events = await until(lambda seen: any(job.job.finished_ms for job in of(seen, api.JobChanged)))
        assert {event.job.id for event in of(events, api.JobChanged)} == {first}
    await gone(stack)


async def test_the_last_reader_of_a_job_turns_its_live_output_off(stack: Any) -> None:
    await stack.log_in()
    [member] = await stack.add_hosts("web01")
    stack.room.answers = lambda agent, job: None
    job = (await stack.post("/v1/jobs", stack.people.exec([member]))).json()["job"]["id"]
    async with reading(stack, f"/v1/jobs/{job}/events"):
        async with reading(stack, f"/v1/jobs/{job}/events"):
            assert [order.on for order in stack.room.of(t.WatchTargets)] == [True]
    await stack.room.until(lambda: len(stack.room.of(t.WatchTargets)) == 2)
    assert [order.on for order in stack.room.of(t.WatchTargets)] == [True, False]


async def test_a_reader_that_does_not_read_is_told_how_much_it_missed(stack: Any) -> None:
    await stack.log_in()
    [member] = await stack.add_hosts("web01")
    stack.room.answers = lambda agent, job: None
    job = (await stack.post("/v1/jobs", stack.people.exec([member]))).json()["job"]["id"]
    chunk = t.LiveChunk(member.agent, job, 0, bytes(64 * 1024))
    async with reading(stack, f"/v1/jobs/{job}/events") as until:
        await until(lambda seen: True)
        # Far more than the sockets' buffers and the reader's own; nothing is read meanwhile.
        rounds = 0
        while not stack.central.hub.dropped:
            stack.room.live(*[chunk] * 64)
            rounds += 1
            # The other connection is served while this one is stuck.
            assert (await stack.http.get("/v1/health")).status_code == 200
        events = await until(lambda seen: bool(of(seen, api.Lagged)))
        [lagged] = of(events, api.Lagged)
        assert lagged.events == stack.central.hub.dropped
        assert len(of(events, api.OutputLive)) + lagged.events == rounds * 64


async def test_a_buffer_is_bounded_by_events_and_by_bytes() -> None:
    hub = Hub()
    by_count, by_size = hub.subscribe("a"), hub.subscribe("b")
    for _ in range(BUFFER_EVENTS + 3):
        hub.publish(api.OutputLive("a", "x", "x", 0, b""), "a")
    for _ in range(5):
        hub.publish(api.OutputLive("b", "x", "x", 0, bytes(BUFFER_OUTPUT_BYTES // 4)), "b")
    taken = by_count.take()
    assert (len(taken), taken[-1]) == (BUFFER_EVENTS + 1, api.Lagged(3))
    taken = by_size.take()
    assert (len(taken), taken[-1]) == (5, api.Lagged(1))
    assert by_size.take() == []


async def test_more_readers_than_it_takes_are_refused(stack: Any, refused: Callable[..., None]) -> None:
    await stack.log_in()
    held = [stack.central.hub.subscribe() for _ in range(MAX_SUBSCRIBERS)]
    refused(await stack.get("/v1/events"), codes.TOO_MANY_READERS, 503)
    for subscription in held:
        stack.central.hub.unsubscribe(subscription)


async def test_events_of_a_job_that_is_not_there_are_refused(stack: Any, refused: Callable[..., None]) -> None:
    await stack.log_in()
    refused(await stack.get(f"/v1/jobs/{stack.people.envelope(None).id}/events"), codes.JOB_UNKNOWN, 404)
