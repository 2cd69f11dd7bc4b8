"""How connections end: silence, replacement, a room that stops; and what the room holds of them."""

from __future__ import annotations

from typing import Any

from libstaragent import codes
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t


async def test_a_silent_peer_is_pinged_and_closed_after_three_heartbeats(place: Any) -> None:
    agent = place.name(1)
    client = await place.up(agent)
    place.move(16)
    await client.hear(m.Ping)
    place.move(16)
    await client.hear(m.Ping)
    assert not place.central.of(t.HostDown)
    place.move(15)
    assert (await place.central.report(t.HostDown, agent=agent)).code == codes.PEER_SILENT.code
    assert (await client.hear(m.GoAway)).code == codes.PEER_SILENT.code
    await client.until_closed()
    assert not place.room.core.links


async def test_a_peer_that_answers_stays(place: Any) -> None:
    client = await place.up(place.name(1))
    for _ in range(6):
        place.move(16)
        await client.hear(m.Ping)
        heard = place.room.bytes_in
        client.say(m.Pong(0))
        await place.until(lambda heard=heard: place.room.bytes_in > heard)
    assert not place.central.of(t.HostDown)


async def test_a_newer_connection_of_one_agent_replaces_the_older(place: Any) -> None:
    agent = place.name(1)
    older = await place.up(agent)
    newer = await place.connect(agent)
    newer.say(newer.hello(connects=2))
    await newer.hear(m.Welcome)
    assert (await older.hear(m.GoAway)).code == codes.REPLACED.code
    await older.until_closed()
    await place.until(lambda: len(place.central.of(t.HostUp)) == 2)
    kinds = [type(report) for report in place.central.reports]
    assert kinds == [t.RoomStarted, t.HostUp, t.HostDown, t.HostUp]
    job = place.name(50)
    place.dispatch(job, agent)
    assert (await newer.hear(m.Run)).job == job


async def test_a_connection_that_breaks_is_reported_down(place: Any) -> None:
    agent = place.name(1)
    client = await place.up(agent)
    client.writer.transport.abort()
    assert (await place.central.report(t.HostDown, agent=agent)).code == codes.CONNECTION_LOST.code


async def test_an_agent_that_says_bye_is_reported_down_with_its_code(place: Any) -> None:
    agent = place.name(1)
    client = await place.up(agent)
    client.say(m.Bye("SA-5999", "upgrade"))
    assert (await place.central.report(t.HostDown, agent=agent)).code == "SA-5999"
    await client.until_closed()


async def test_a_room_that_stops_sends_its_agents_away_for_a_while(place: Any) -> None:
    clients = [await place.up(place.name(number)) for number in range(1, 4)]
    await place.room.stop()
    for client in clients:
        away = await client.hear(m.GoAway)
        assert away.code == codes.ROOM_STOPPING.code
        assert away.retry_after_ms > 0
        await client.until_closed()


async def test_when_central_is_behind_agents_are_not_read_and_nothing_is_lost(place: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("agentd.room.reading.REPORTS_WAITING_BYTES", 10 * t.REPORT_BYTES)
    agent = place.name(1)
    client = await place.up(agent)
    place.central.hold = True
    client.say(*(m.Accepted(place.name(100 + number)) for number in range(12)))
    await place.until(lambda: len(place.central.of(t.TargetProgress)) == 12)
    # Whoever speaks now is heard, and then no more.
    client.say(*(m.Accepted(place.name(112 + number)) for number in range(8)))
    await place.until(lambda: place.room.reading_paused)
    client.say(*(m.Accepted(place.name(200 + number)) for number in range(20)))
    place.central.hold = False
    for delivery in place.central.held:
        delivery.acknowledge()
    await place.until(lambda: len(place.central.of(t.TargetProgress)) == 40)
    assert not place.room.reading_paused


async def test_a_peer_that_does_not_read_is_cut_and_the_rest_goes_on(place: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("libstaragent.protocol.connection.OUTGOING_MAX", 64 * 1024)
    slow, other = place.name(1), place.name(2)
    client = await place.up(slow)
    client.writer.transport.pause_reading()
    reading = await place.up(other)
    large = type(place.signed)(payload=b"x" * 60_000, key=b"k" * 32, signature=b"s" * 64)
    # Loopback buffers take megabytes before the room sees that nobody reads.
    for number in range(400):
        expires = place.clock.wall_ms() + 60_000
        place.central.order(
            t.Dispatch(
                job=place.name(1000 + number),
                signed=large,
                expires_ms=expires,
                deadline_ms=expires + 60_000,
                targets=((slow, None),),
                watch=False,
                again=False,
            )
        )
        await place.until(lambda: not place.room.core.dirty)
        if place.central.of(t.HostDown):
            break
    assert (await place.central.report(t.HostDown, agent=slow)).code == codes.PEER_SLOW.code
    job = place.name(50)
    place.dispatch(job, other)
    assert (await reading.hear(m.Run)).job == job
