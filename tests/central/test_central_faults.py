"""Central when the bus redelivers, delays and cuts, and when the store cannot write: nothing lost, nothing twice,
nothing said before it is on disk.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from agentd.bus import Delivery
from agentd.bus.memory import MemoryBus
from libstaragent import codes
from libstaragent.model import api
from libstaragent.model.result import TargetResult
from libstaragent.protocol import trunk as t


class _Copy:
    """A delivery that a handler sees more than once; only the last acknowledgement is the bus's."""

    def __init__(self, whole: Delivery, batch: Sequence[Any], counts: dict[str, int]) -> None:
        self.batch = batch
        self._whole = whole
        self._counts = counts

    def acknowledge(self) -> None:
        self._counts["acknowledged"] += 1
        self._whole.acknowledge()

    def refuse(self) -> None:
        self._counts["refused"] += 1
        self._whole.refuse()


class FaultyBus(MemoryBus):
    """A bus that gives each batch of reports twice, the second time late, and splits some in two."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._loop_of_faults = loop
        self._random = random.Random(7)
        self.counts = {"acknowledged": 0, "refused": 0, "again": 0, "cut": 0}

    def subscribe(self, subject: str, handler: Callable[[Delivery], None]) -> None:
        if subject != "reports":
            super().subscribe(subject, handler)
            return

        def deliver(delivery: Delivery) -> None:
            batch = list(delivery.batch)
            if len(batch) > 1 and self._random.random() < 0.5:
                # A connection that broke within the batch: the first part comes, then all of it again.
                self.counts["cut"] += 1
                handler(_Copy(_Nobody(), batch[: len(batch) // 2], self.counts))
            handler(_Copy(delivery, batch, self.counts))
            self.counts["again"] += 1
            late = _Copy(_Nobody(), batch, self.counts)
            self._loop_of_faults.call_later(self._random.random() / 50, handler, late)

        super().subscribe(subject, deliver)


class _Nobody:
    batch: Sequence[Any] = ()

    def acknowledge(self) -> None:
        pass

    def refuse(self) -> None:
        pass


async def test_reports_that_come_twice_late_and_in_parts_end_each_target_once(make_stack: Callable[..., Any]) -> None:
    async with make_stack(bus=FaultyBus) as stack:
        members = await stack.add_hosts(*(f"web{number:02}" for number in range(40)))
        jobs = [stack.people.exec(members) for _ in range(5)]
        responses = await asyncio.gather(*(stack.post("/v1/jobs?wait=20", job, members) for job in jobs))
        ids = [response.json()["job"]["id"] for response in responses]
        assert all(response.json()["job"]["counts"] == {"ok": 40} for response in responses)
        await stack.room.until(lambda: len(stack.room.settled) == 200)
        for job in ids:
            assert len(stack.store.read.targets(job)) == 40
            assert stack.store.read.amendments(job) == []
        assert stack.central.counters["ended"] == 200
        assert stack.room.bus.counts["again"] > 0 and stack.room.bus.counts["cut"] > 0


async def test_the_end_of_a_target_is_settled_only_after_it_is_on_disk(make_stack: Callable[..., Any]) -> None:
    seen: list[bool] = []

    async with make_stack() as stack:
        members = await stack.add_hosts("web01")
        plain = stack.room.bus.publish

        def publish(subject: str, batch: Sequence[Any]) -> None:
            for order in batch:
                if isinstance(order, t.Dispatch):
                    seen.append(stack.store.read.job(order.job) is not None)
                elif isinstance(order, t.SettledTargets):
                    seen.extend(stack.store.read.target(job, agent) is not None for agent, job in order.pairs)
            plain(subject, batch)

        stack.room.bus.publish = publish
        for _ in range(5):
            await stack.post("/v1/jobs?wait=10", stack.people.exec(members))
        await stack.room.until(lambda: len(stack.room.settled) == 5)
    assert seen == [True] * 10


async def test_open_jobs_are_given_to_the_rooms_again_after_a_restart(
    make_stack: Callable[..., Any], result_ok: Callable[..., TargetResult]
) -> None:
    async with make_stack() as stack:
        first, second = await stack.add_hosts("web01", "web02")
        stack.room.answers = lambda agent, job: result_ok(job) if agent == first.agent else None
        job = (await stack.post("/v1/jobs", stack.people.exec([first, second]))).json()["job"]["id"]
        await stack.room.until(lambda: (first.agent, job) in stack.room.settled)
        cancel = stack.people.cancel(job)
        await stack.post(f"/v1/jobs/{job}/cancel", cancel)
    async with make_stack(answers=lambda agent, job: None) as stack:
        await stack.room.until(lambda: bool(stack.room.of(t.CancelTargets)))
        [again] = stack.room.of(t.Dispatch)
        assert (again.job, [agent for agent, _ in again.targets], again.again) == (job, [second.agent], True)
        assert stack.room.of(t.CancelTargets)[0].signed == cancel
        assert stack.room.of(t.RosterRevisions)[0].revisions == tuple(stack.people.revisions)
        await stack.log_in()
        assert (await stack.get(f"/v1/jobs/{job}")).json()["counts"] == {"ok": 1, "sent": 1}
        stack.room.report(t.TargetEnded(second.agent, TargetResult(job=job, state="cancelled", ran="yes")))
        await stack.room.until(lambda: (second.agent, job) in stack.room.settled)
        done = (await stack.get(f"/v1/jobs/{job}")).json()
    assert (done["counts"], done["cancelled"]) == ({"ok": 1, "cancelled": 1}, True)


async def test_a_room_that_starts_anew_gets_the_roster_and_its_open_targets(stack: Any) -> None:
    members = await stack.add_hosts("web01")
    stack.room.answers = lambda agent, job: None
    await stack.post("/v1/jobs", stack.people.exec(members))
    await stack.room.until(lambda: len(stack.room.of(t.Dispatch)) == 1)
    before = len(stack.room.of(t.RosterRevisions))
    stack.room.report(t.RoomStarted("main"))
    await stack.room.until(lambda: len(stack.room.of(t.Dispatch)) == 2)
    assert stack.room.of(t.Dispatch)[1].again
    assert len(stack.room.of(t.RosterRevisions)) == before + 1


async def test_a_store_that_takes_no_more_refuses_with_a_code_and_recovers(
    stack: Any, refused: Callable[..., None]
) -> None:
    """The queue is full: one submission larger than it may hold waits for the disk."""
    members = await stack.add_hosts("web01")
    writer = stack.store._writer
    most = writer._max_ops
    writer._max_ops = 0
    signed = stack.people.exec(members)
    refused(await stack.post("/v1/jobs?wait=5", signed), codes.STORE_BUSY, 503)
    assert stack.room.of(t.Dispatch) == [], "nothing is sent that is not on disk"
    assert stack.central.core.jobs == {}
    writer._max_ops = most
    answer = msgspec.json.decode((await stack.post("/v1/jobs?wait=5", signed)).content, type=api.JobAnswer)
    assert answer.job.counts == {"ok": 1}


async def test_results_that_cannot_be_written_are_delivered_again_until_they_can(
    stack: Any, result_ok: Callable[..., TargetResult]
) -> None:
    members = await stack.add_hosts("web01")
    stack.room.answers = lambda agent, job: None
    job = (await stack.post("/v1/jobs", stack.people.exec(members))).json()["job"]["id"]
    writer = stack.store._writer
    most = writer._max_ops
    writer._max_ops = 0
    stack.room.report(t.TargetEnded(members[0].agent, result_ok(job)))
    async with asyncio.timeout(10):
        while not stack.central.counters["refused"]:
            await stack.http.get("/v1/health")
    assert stack.central.core.jobs[job].open == 1
    assert stack.room.settled == set()
    writer._max_ops = most
    await stack.room.until(lambda: (members[0].agent, job) in stack.room.settled)
    assert stack.store.read.target(job, members[0].agent).state == "ok"


async def test_certificates_are_renewed_for_hosts_of_the_fleet_only(stack: Any) -> None:
    from libstaragent.security.identity import certificate_span, create_agent_key, create_csr

    [member] = await stack.add_hosts("web01")
    csr = create_csr(create_agent_key())
    stranger = stack.people.envelope(None).id
    stack.room.report(
        t.RenewCertificate(member.agent, "main", csr),
        t.RenewCertificate(stranger, "main", csr),
        t.RenewCertificate(member.agent, "main", b"garbage"),
    )
    await stack.room.until(lambda: len(stack.room.of(t.CertificateIssued)) == 3)
    issued, unknown, garbage = stack.room.of(t.CertificateIssued)
    assert (issued.agent, issued.code) == (member.agent, "")
    begin, end = certificate_span(issued.pem)
    assert begin < end
    assert (unknown.pem, unknown.code) == (b"", codes.HOST_UNKNOWN.code)
    assert (garbage.pem, garbage.code) == (b"", codes.CSR_REFUSED.code)
