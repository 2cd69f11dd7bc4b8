"""Bodies of requests: what strangers send does not fill central, and leaves room for those who are known."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agentd.central.api import bodies
from libstaragent import codes
from libstaragent.client.transport import Transport
from libstaragent.model import api
from libstaragent.security.signed import signed_to_json

Refused = Callable[..., None]

# What a body may weigh beyond its envelope: JSON ends with spaces.
LARGE = bodies.MAX_STRANGERS_BODY + 1


def _padded(signed: Any, size: int) -> bytes:
    return signed_to_json(signed).ljust(size)


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(body), 100_000):
        yield body[begin : begin + 100_000]


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.to_thread(threading.Event().wait, 0.01)


@pytest.mark.parametrize("stated", [True, False])
async def test_a_large_body_is_taken_of_one_who_may_read_only(stack: Any, refused: Refused, stated: bool) -> None:
    members = await stack.add_hosts("web01")
    body = _padded(stack.people.exec(members), LARGE)

    async def send(**headers: str) -> Any:
        content = body if stated else _in_pieces(body)
        return await stack.http.post("/v1/jobs?wait=10", content=content, headers=headers)

    refused(await send(), codes.BEARER_MISSING, 401)
    refused(await send(authorization="Bearer opsbearer-nonsense"), codes.BEARER_UNKNOWN, 401)
    assert stack.central.core.jobs == {}
    accepted = await send(**await stack.log_in())
    assert accepted.json()["job"]["counts"] == {"ok": 1}
    assert stack.application._bodies.gathered == 0


async def test_a_body_as_large_as_strangers_may_send_needs_no_token_and_a_bad_one_does_no_harm(stack: Any) -> None:
    members = await stack.add_hosts("web01")
    for headers in ({}, {"authorization": "Bearer opsbearer-nonsense"}):
        body = _padded(stack.people.exec(members), bodies.MAX_STRANGERS_BODY)
        answer = await stack.http.post("/v1/jobs?wait=10", content=body, headers=headers)
        assert answer.json()["job"]["counts"] == {"ok": 1}
    assert (stack.application._bodies.gathered, stack.application._bodies.strangers) == (0, 0)


async def test_strangers_fill_their_part_only_and_give_it_back(
    stack: Any, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MAX_STRANGERS_GATHERED", 1_000_000)
    members = await stack.add_hosts("web01")
    await stack.log_in()
    held = stack.application._bodies
    context = ssl.create_default_context(cadata=stack.state.ca.certificate.decode())
    writers: list[asyncio.StreamWriter] = []
    for _ in range(2):
        _, writer = await asyncio.open_connection(*stack.address, ssl=context)
        writer.write(b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 500000\r\n\r\n" + bytes(499_999))
        await writer.drain()
        writers.append(writer)
    await _until(lambda: held.strangers > 990_000)
    large = _padded(stack.people.exec(members), 300_000)
    full = await stack.http.post("/v1/jobs?wait=10", content=large)
    refused(full, codes.BODIES_FULL, 503)
    assert full.json()["retryable"] is True
    small = await stack.post("/v1/jobs?wait=10", stack.people.exec(members))
    assert small.json()["job"]["counts"] == {"ok": 1}, "what comes whole is not gathered"
    known = await stack.http.post("/v1/jobs?wait=10", content=large, headers=stack.bearer)
    assert known.json()["job"]["counts"] == {"ok": 1}
    for writer in writers:
        writer.transport.abort()
    await _until(lambda: held.gathered == 0)
    again = await stack.http.post("/v1/jobs?wait=10", content=_padded(stack.people.exec(members), 300_000))
    assert again.json()["job"]["counts"] == {"ok": 1}


async def test_the_library_shows_who_it_is_with_a_large_submission_and_logs_in_again_for_it(stack: Any) -> None:
    members = await stack.add_hosts("web01")
    text = (await stack.log_in())["authorization"].removeprefix("Bearer ")
    asked: list[bool] = []

    async def bearer(again: bool) -> str:
        asked.append(again)
        return text if again else "opsbearer-nonsense"

    async def no_reader(again: bool) -> str:
        asked.append(again)
        raise codes.SIGNER_ROLE.error("eve may not read")

    url, ca = f"https://127.0.0.1:{stack.address[1]}", stack.state.ca.certificate.decode()
    for how, size, expected in (
        (bearer, LARGE, [False, True]),
        (bearer, 300_000, [False]),
        (bearer, 0, []),
        (no_reader, 300_000, [False]),
    ):
        asked.clear()
        transport = Transport(url, ca, bearer=how)
        try:
            body = _padded(stack.people.exec(members), size)
            answer = await transport.post("/v1/jobs", body, api.JobAnswer, wait=10)
        finally:
            await transport.aclose()
        assert (answer.job.counts, asked) == ({"ok": 1}, expected)
