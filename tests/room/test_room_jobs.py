"""Orders of central reach agents over real TLS, and what agents say reaches central."""

from __future__ import annotations

from typing import Any

from libstaragent.model.result import TargetResult, encode_records
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t
from libstaragent.protocol.limits import CREDIT_INITIAL, DATA_CHUNK
from libstaragent.roles.room import RENEWAL_EVERY


def ok(job: str) -> TargetResult:
    return TargetResult(job=job, state="ok", exit_status=0, ran="yes")


async def test_a_result_is_relayed_and_settled(place: Any) -> None:
    agent, job = place.name(1), place.name(50)
    client = await place.up(agent)
    place.dispatch(job, agent)
    run = await client.hear(m.Run)
    assert (run.job, run.signed, run.proof, run.stream) == (job, place.signed, None, 0)
    await place.central.report(t.TargetProgress, agent=agent, job=job, state="sent")
    client.say(m.Accepted(job))
    await place.central.report(t.TargetProgress, agent=agent, job=job, state="accepted")
    client.say(m.Started(job, 5))
    await place.central.report(t.TargetProgress, agent=agent, job=job, state="running", at_ms=5)
    client.say(m.Result(ok(job)))
    assert (await place.central.report(t.TargetEnded, agent=agent)).result == ok(job)
    place.central.order(t.SettledTargets(((agent, job),)))
    await place.until(lambda: not place.room.core.holds(agent))
    place.move(1)
    assert (await client.hear(m.Settled)).jobs == (job,)


async def test_settled_rides_along_with_the_next_order(place: Any) -> None:
    agent, first, second = place.name(1), place.name(50), place.name(51)
    client = await place.up(agent)
    place.dispatch(first, agent)
    await client.hear(m.Run)
    client.say(m.Result(ok(first)))
    await place.central.report(t.TargetEnded, agent=agent)
    place.central.order(t.SettledTargets(((agent, first),)))
    place.dispatch(second, agent)
    assert (await client.hear(m.Settled)).jobs == (first,)
    assert (await client.hear(m.Run)).job == second


async def test_progress_that_came_with_the_result_is_not_told(place: Any) -> None:
    agent, job = place.name(1), place.name(50)
    client = await place.up(agent)
    place.dispatch(job, agent)
    await client.hear(m.Run)
    client.say(m.Accepted(job), m.Started(job, 5), m.Result(ok(job)))
    await place.central.report(t.TargetEnded, agent=agent)
    assert [report.state for report in place.central.of(t.TargetProgress)] == ["sent"]


async def test_an_order_is_delivered_when_its_host_connects(place: Any) -> None:
    agent, job = place.name(1), place.name(50)
    place.dispatch(job, agent)
    client = await place.up(agent)
    assert (await client.hear(m.Run)).job == job


async def test_an_order_is_delivered_again_on_reconnect_until_it_is_settled(place: Any) -> None:
    agent, job = place.name(1), place.name(50)
    client = await place.up(agent)
    place.dispatch(job, agent)
    await client.hear(m.Run)
    client.writer.transport.abort()
    await place.central.report(t.HostDown, agent=agent)
    client = await place.up(agent)
    assert (await client.hear(m.Run)).job == job
    client.say(m.Result(ok(job)))
    await place.central.report(t.TargetEnded, agent=agent)
    place.central.order(t.SettledTargets(((agent, job),)))
    await place.until(lambda: not place.room.core.holds(agent))
    client.writer.transport.abort()
    await place.until(lambda: len(place.central.of(t.HostDown)) == 2)
    client = await place.up(agent)
    place.dispatch(place.name(51), agent)
    assert (await client.hear(m.Run)).job == place.name(51)


async def test_a_host_that_was_away_until_the_order_expired_is_reported_undelivered(place: Any) -> None:
    here, away, job = place.name(1), place.name(2), place.name(50)
    client = await place.up(here)
    place.dispatch(job, here, away, seconds=30)
    await client.hear(m.Run)
    place.move(29)
    assert not place.central.of(t.Undelivered)
    place.move(2)
    assert (await place.central.report(t.Undelivered, job=job)).agents == (away,)
    late = await place.up(away)
    place.dispatch(place.name(51), away)
    assert (await late.hear(m.Run)).job == place.name(51)


async def test_what_an_earlier_room_may_have_sent_is_never_reported_undelivered(place: Any) -> None:
    away, job = place.name(2), place.name(50)
    place.dispatch(job, away, seconds=30, again=True)
    await place.until(lambda: place.room.core.holds(away))
    place.move(31)
    client = await place.up(away)
    assert (await client.hear(m.Run)).job == job
    assert not place.central.of(t.Undelivered)


async def test_what_is_past_its_deadline_is_forgotten(place: Any) -> None:
    agent, job = place.name(1), place.name(50)
    client = await place.up(agent)
    place.dispatch(job, agent, seconds=30)
    await client.hear(m.Run)
    place.move(31)
    assert place.room.core.holds(agent)
    place.move(60)
    assert not place.room.core.holds(agent)


async def test_a_cancel_before_it_was_sent_ends_it_in_the_room(place: Any) -> None:
    agent, job = place.name(1), place.name(50)
    place.dispatch(job, agent)
    place.central.order(t.CancelTargets(job, place.signed, (agent,)))
    result = (await place.central.report(t.TargetEnded, agent=agent)).result
    assert (result.state, result.ran) == ("cancelled", "no")
    client = await place.up(agent)
    place.dispatch(place.name(51), agent)
    assert (await client.hear(m.Run)).job == place.name(51)


async def test_a_cancel_reaches_the_host_and_comes_again_on_reconnect(place: Any) -> None:
    agent, job = place.name(1), place.name(50)
    client = await place.up(agent)
    place.dispatch(job, agent)
    await client.hear(m.Run)
    place.central.order(t.CancelTargets(job, place.signed, (agent,)))
    assert (await client.hear(m.CancelRun)).signed == place.signed
    client.writer.transport.abort()
    await place.central.report(t.HostDown, agent=agent)
    client = await place.up(agent)
    await client.hear(m.Run)
    await client.hear(m.CancelRun)


async def test_live_output_flows_with_credits_and_beyond_its_first_allowance(place: Any) -> None:
    agent, job = place.name(1), place.name(50)
    client = await place.up(agent)
    place.dispatch(job, agent, watch=True)
    stream = (await client.hear(m.Run)).stream
    assert stream
    assert client.connection.credit(stream) == CREDIT_INITIAL
    data = encode_records([(1, b"y" * (DATA_CHUNK - 5))])
    sent = 0
    while sent < 3 * CREDIT_INITIAL:
        while client.connection.credit(stream) < len(data):
            await client.more()
        client.send_live(stream, sent, data)
        sent += len(data)
    await place.until(lambda: sum(len(chunk.data) for chunk in place.central.live) == sent)
    assert {(chunk.agent, chunk.job) for chunk in place.central.live} == {(agent, job)}
    assert [chunk.offset for chunk in place.central.live] == list(range(0, sent, len(data)))
    client.say(m.Dropped(job, 7))
    await place.until(lambda: place.central.live[-1] == t.LiveDropped(agent, job, 7))


async def test_watching_begins_and_ends_while_it_runs(place: Any) -> None:
    agent, job = place.name(1), place.name(50)
    client = await place.up(agent)
    place.dispatch(job, agent)
    assert (await client.hear(m.Run)).stream == 0
    place.central.order(t.WatchTargets(job, (agent,), True))
    watch = await client.hear(m.Watch)
    assert watch.stream
    client.send_live(watch.stream, 0, b"first")
    await place.until(lambda: place.central.live)
    place.central.order(t.WatchTargets(job, (agent,), False))
    assert (await client.hear(m.Watch)).stream == 0


async def test_a_flood_of_one_agent_does_not_delay_the_cancel_to_it(place: Any) -> None:
    agent, job = place.name(1), place.name(50)
    client = await place.up(agent)
    place.dispatch(job, agent, watch=True)
    stream = (await client.hear(m.Run)).stream
    data = b"y" * DATA_CHUNK
    sent = 0
    cancelled_at = None
    while True:
        while client.connection.credit(stream) < len(data) and not client.heard:
            await client.more()
        if any(type(message) is m.CancelRun for message in client.heard):
            break
        client.send_live(stream, sent, data)
        sent += len(data)
        if cancelled_at is None and sent >= 8 * CREDIT_INITIAL:
            cancelled_at = sent
            place.central.order(t.CancelTargets(job, place.signed, (agent,)))
    assert cancelled_at is not None, "the flood had not begun"
    assert sent - cancelled_at <= 4 * CREDIT_INITIAL


async def test_the_roster_comes_with_hello_and_when_it_changes(place: Any) -> None:
    agent = place.name(1)
    second = type(place.signed)(payload=b"two", key=b"k" * 32, signature=b"s" * 64)
    place.central.order(t.RosterRevisions(1, (place.signed, second)))
    client = await place.connect(agent)
    client.say(client.hello(roster=1))
    await client.hear(m.Welcome)
    assert (await client.hear(m.Rosters)).revisions == (second,)
    place.central.order(t.RosterRevisions(1, (place.signed, second)))
    assert (await client.hear(m.Rosters)).revisions == (place.signed, second)


async def test_a_renewal_is_asked_for_and_answered(place: Any) -> None:
    agent = place.name(1)
    client = await place.up(agent)
    client.say(m.RenewRequest(b"a request"))
    renewal = await place.central.report(t.RenewCertificate, agent=agent)
    assert (renewal.csr, renewal.room) == (b"a request", "main")
    place.central.order(t.CertificateIssued(agent, b"pem", ""))
    assert (await client.hear(m.Certificate)).pem == b"pem"


async def test_an_agent_that_asks_for_certificates_without_end_is_heard_once_a_minute(place: Any) -> None:
    agent, other = place.name(1), place.name(2)
    client, neighbour = await place.up(agent), await place.up(other)
    client.say(*(m.RenewRequest(b"%d" % number) for number in range(100)))
    await place.until(lambda: place.room.core.renewals_ignored == 99)
    again = await place.up(agent)
    again.say(m.RenewRequest(b"from a new connection"))
    await place.until(lambda: place.room.core.renewals_ignored == 100)
    neighbour.say(m.RenewRequest(b"its first"))
    await place.central.report(t.RenewCertificate, agent=other)
    place.clock.now += RENEWAL_EVERY
    again.say(m.RenewRequest(b"a minute later"))
    await place.central.report(t.RenewCertificate, csr=b"a minute later")
    assert [report.csr for report in place.central.of(t.RenewCertificate)] == [b"0", b"its first", b"a minute later"]
