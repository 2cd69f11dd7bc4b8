"""Uploads and reads at central, with a room's double behind the bus: bounds, loss, and slow readers."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from typing import Any

from agentd.bus import READS
from agentd.central.blobs import BLOBS_BYTES_MAX
from agentd.central.reads import READS_MAX, WINDOW
from libstaragent import codes
from libstaragent.jobs.spool_stream import end_record
from libstaragent.model.result import encode_records
from libstaragent.protocol import trunk as t
from libstaragent.protocol.limits import CREDIT_INITIAL
from libstaragent.security.acts import Put, ReadSpool, TargetList

Refused = Callable[..., None]


async def job_of(stack: Any, member: Any) -> str:
    answer = (await stack.post("/v1/jobs?wait=20", stack.people.exec([member]))).json()
    return str(answer["job"]["id"])


def read_of(stack: Any, job: str, member: Any) -> Any:
    return stack.people.sign(stack.people.envelope(ReadSpool(job), TargetList(member.name, (member,))))


async def ordered(stack: Any) -> t.ReadTarget:
    await stack.room.until(lambda: stack.room.of(t.ReadTarget))
    return stack.room.of(t.ReadTarget)[-1]


async def test_a_read_ends_with_a_code_when_a_piece_is_lost(stack: Any, refused: Refused) -> None:
    (member,) = await stack.add_hosts("web01")
    job = await job_of(stack, member)
    asked = asyncio.ensure_future(stack.post("/v1/reads", read_of(stack, job, member)))
    order = await ordered(stack)
    stack.central._bus.publish_lossy(READS, [t.ReadPiece(order.read, 7, b"late")])
    refused(await asked, codes.READ_CUT, 410)
    await stack.room.until(lambda: stack.room.of(t.StopReading))


async def test_a_host_that_is_gone_ends_a_read_that_has_begun_with_its_code(stack: Any) -> None:
    (member,) = await stack.add_hosts("web01")
    job = await job_of(stack, member)
    asked = asyncio.ensure_future(stack.post("/v1/reads", read_of(stack, job, member)))
    order = await ordered(stack)
    first = encode_records([(1, b"one")])
    stack.central._bus.publish_lossy(READS, [t.ReadPiece(order.read, 0, first)])
    stack.central._bus.publish_lossy(READS, [t.ReadOver(order.read, codes.CONNECTION_LOST.code)])
    body = (await asked).content
    assert body.startswith(first)
    assert codes.CONNECTION_LOST.code.encode() in body


async def test_no_more_is_granted_than_the_reader_has_taken(stack: Any) -> None:
    (member,) = await stack.add_hosts("web01")
    job = await job_of(stack, member)
    asked = asyncio.ensure_future(stack.post("/v1/reads", read_of(stack, job, member)))
    order = await ordered(stack)
    sent, pieces = 0, [encode_records([(1, bytes(10_000))]) for _ in range(20)] + [end_record(200_000)]
    for piece in pieces:
        stack.central._bus.publish_lossy(READS, [t.ReadPiece(order.read, sent, piece)])
        sent += len(piece)
    assert (await asked).content == b"".join(pieces)
    await stack.room.until(lambda: stack.room.of(t.StopReading))
    granted = sum(grant.count for grant in stack.room.of(t.GrantRead))
    assert granted == WINDOW - CREDIT_INITIAL + sent
    assert len(stack.central.reads) == 0


async def test_reads_have_a_limit(stack: Any, refused: Refused) -> None:
    (member,) = await stack.add_hosts("web01")
    job = await job_of(stack, member)
    signed = read_of(stack, job, member)
    for _ in range(READS_MAX):
        stack.central.reads.open(signed, None, agent=member.agent, room=member.room, offset=0)
    refused(await stack.post("/v1/reads", signed), codes.READS_FULL, 503)


async def test_a_read_is_of_a_job_and_a_host_that_there_are(stack: Any, refused: Refused) -> None:
    first, second = await stack.add_hosts("web01", "web02")
    job = await job_of(stack, first)
    refused(await stack.post("/v1/reads", read_of(stack, job, second)), codes.HOST_UNKNOWN, 404)
    refused(await stack.post("/v1/reads", read_of(stack, "01ARZ3NDEKTSV4RRFFQ69G5FAV", first)), codes.JOB_UNKNOWN, 404)
    refused(await stack.post("/v1/reads", stack.people.exec([first])), codes.ACT_UNSUPPORTED, 422)


async def test_files_that_wait_have_a_limit(stack: Any, refused: Refused) -> None:
    (member,) = await stack.add_hosts("web01")
    with (stack.state.directory / "blobs" / "other").open("wb") as file:
        file.truncate(BLOBS_BYTES_MAX)
    stack.central.blobs.sweep()
    act = Put(path="/x", size=1, sha256=hashlib.sha256(os.urandom(1)).digest())
    signed = stack.people.sign(stack.people.envelope(act, TargetList("web01", (member,))))
    refused(await stack.post("/v1/blobs", signed), codes.BLOBS_FULL, 503)


async def test_files_that_are_expected_at_once_have_that_limit_together(
    stack: Any, refused: Refused, monkeypatch: Any
) -> None:
    monkeypatch.setattr("agentd.central.blobs.BLOBS_BYTES_MAX", 1000)
    (member,) = await stack.add_hosts("web01")
    contents = [os.urandom(600) for _ in range(2)]
    names = [hashlib.sha256(content).hexdigest() for content in contents]
    for content, name in zip(contents, names, strict=True):
        act = Put(path="/x", size=len(content), sha256=bytes.fromhex(name))
        signed = stack.people.sign(stack.people.envelope(act, TargetList("web01", (member,))))
        assert (await stack.post("/v1/blobs", signed)).status_code == 200
    await stack.log_in()
    first, second = [
        await stack.http.put(f"/v1/blobs/{name}?offset=0", content=content, headers=stack.bearer)
        for content, name in zip(contents, names, strict=True)
    ]
    assert first.status_code == 200
    refused(second, codes.BLOBS_FULL, 503)
