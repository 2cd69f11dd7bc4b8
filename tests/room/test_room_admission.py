"""Who gets a connection to a room, who does not, and that both sides are told why."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

from libstaragent import codes
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t
from libstaragent.protocol.frames import CONTROL, encode_frame
from libstaragent.protocol.limits import FRAME_MAX, HELLO_TIMEOUT
from libstaragent.roles.admission import ADMIT_BURST
from libstaragent.security.identity import create_ca
from libstaragent.security.tls import client_context

DAY_MS = 86_400_000


async def refused_by_tls(place: Any, context: ssl.SSLContext) -> None:
    """In TLS 1.3 the client's handshake is over before the server has judged its certificate: the alert comes on the
    first read.
    """
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        client = await place.connect(place.name(1), context)
        client.say(client.hello())
        await client.hear(m.Welcome)


async def test_an_agent_with_a_certificate_of_the_fleet_is_welcomed(place: Any) -> None:
    agent = place.name(1)
    client = await place.connect(agent)
    client.say(client.hello(hostname="web07", clock_ms=place.clock.wall_ms() + 700))
    welcome = await client.hear(m.Welcome)
    assert (welcome.room, welcome.protocol, welcome.heartbeat_ms) == ("main", 1, 15_000)
    up = await place.central.report(t.HostUp, agent=agent)
    assert (up.hostname, up.clock_ahead_ms) == ("web07", 700)
    assert place.central.reports[0] == t.RoomStarted("main")


async def test_a_certificate_of_another_ca_ends_the_handshake(place: Any, pki: Any) -> None:
    stranger = create_ca(fleet="1" * 64, now_ms=place.now_ms())
    await refused_by_tls(place, pki.agent_context(place.name(1), ca=stranger))
    await place.until(lambda: place.room.failed_handshakes == 1)
    assert not place.room.core.links


async def test_no_certificate_ends_the_handshake(place: Any, pki: Any) -> None:
    await refused_by_tls(place, client_context(pki.ca.certificate.decode()))
    await place.until(lambda: place.room.failed_handshakes == 1)


async def test_an_expired_certificate_ends_the_handshake(place: Any, pki: Any) -> None:
    await refused_by_tls(place, pki.agent_context(place.name(1), made_ms=place.now_ms() - DAY_MS))
    await place.until(lambda: place.room.failed_handshakes == 1)


async def test_a_server_certificate_is_no_agents(place: Any, pki: Any) -> None:
    certificate, key = pki.room_files
    context = client_context(pki.ca.certificate.decode())
    context.load_cert_chain(certificate, key)
    await refused_by_tls(place, context)
    await place.until(lambda: place.room.failed_handshakes == 1)


async def test_a_certificate_of_another_room_is_refused_with_a_code(place: Any, pki: Any) -> None:
    agent = place.name(1)
    client = await place.connect(agent, pki.agent_context(agent, room="elsewhere"))
    refuse = await client.hear(m.Refuse)
    assert refuse.code == codes.WRONG_ROOM.code
    await client.until_closed()
    assert (await place.central.report(t.HostDown, agent=agent)).code == codes.WRONG_ROOM.code


async def test_hello_with_another_agents_id_is_refused_with_a_code(place: Any) -> None:
    client = await place.connect(place.name(1))
    client.say(client.hello(agent=place.name(2)))
    refuse = await client.hear(m.Refuse)
    assert refuse.code == codes.IDENTITY_MISMATCH.code
    assert place.name(2) in refuse.detail
    await client.until_closed()
    assert (await place.central.report(t.HostDown, agent=place.name(1))).code == codes.IDENTITY_MISMATCH.code
    assert not place.central.of(t.HostUp)


async def test_a_version_mismatch_is_seen_on_both_sides(place: Any) -> None:
    agent = place.name(1)
    client = await place.connect(agent)
    client.say(client.hello(protocol_min=7, protocol_max=9))
    refuse = await client.hear(m.Refuse)
    assert refuse.code == codes.VERSION_MISMATCH.code
    assert "7 to 9" in refuse.detail
    assert refuse.retry_after_ms > 0
    await client.until_closed()
    assert (await place.central.report(t.HostDown, agent=agent)).code == codes.VERSION_MISMATCH.code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: room\r\n\r\n", codes.FRAME_TOO_LARGE),
        (b"\x00\x00\x00\x06\x77\x00\x00\x00\x00x", codes.FRAME_MALFORMED),
        (encode_frame(CONTROL, 0, b"\xc1garbage"), codes.MESSAGE_MALFORMED),
        ((FRAME_MAX + 1).to_bytes(4, "big") + b"\x01\x00\x00\x00\x00", codes.FRAME_TOO_LARGE),
    ],
    ids=["another protocol", "unknown frame", "unreadable message", "announced too large"],
)
async def test_what_is_not_the_protocol_is_answered_with_a_code_and_closed(place: Any, data: bytes, code: Any) -> None:
    client = await place.connect(place.name(1))
    client.writer.write(data)
    assert (await client.hear(m.Refuse)).code == code.code
    await client.until_closed()


async def test_garbage_after_hello_closes_with_the_code_in_goaway(place: Any) -> None:
    agent = place.name(1)
    client = await place.up(agent)
    client.writer.write(b"\xff" * 100)
    assert (await client.hear(m.GoAway)).code == codes.FRAME_TOO_LARGE.code
    await client.until_closed()
    assert (await place.central.report(t.HostDown, agent=agent)).code == codes.FRAME_TOO_LARGE.code
    assert agent not in place.room.core.links


async def test_a_peer_that_never_says_hello_is_closed(place: Any) -> None:
    client = await place.connect(place.name(1))
    await place.until(lambda: place.room.connections == 1)
    place.move(HELLO_TIMEOUT - 1)
    place.move(3)
    assert (await client.hear(m.Refuse)).code == codes.PEER_SILENT.code
    await client.until_closed()


async def test_beyond_the_admission_rate_sockets_are_closed_before_tls(place: Any) -> None:
    for number in range(int(ADMIT_BURST)):
        assert place.room.core.admission.admit(f"10.0.{number // 250}.{number % 250}", place.clock.now)
    host, port = place.address
    reader, writer = await asyncio.open_connection(host, port)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert (place.room.refused, place.room.core.admission.crowding) == (1, 0)
    place.clock.now += 1
    await place.up(place.name(1))


async def test_an_address_that_has_had_its_share_is_closed_before_tls_and_others_are_not(place: Any) -> None:
    while place.room.core.admission.admit("127.0.0.1", place.clock.now):
        pass
    place.clock.now += 1
    while place.room.core.admission.admit("127.0.0.1", place.clock.now):
        pass
    crowding = place.room.core.admission.crowding
    host, port = place.address
    reader, writer = await asyncio.open_connection(host, port)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert place.room.core.admission.crowding == crowding + 1
    reader, writer = await asyncio.open_connection(
        host, port, ssl=place.pki.agent_context(place.name(1)), local_addr=("127.0.0.2", 0)
    )
    writer.close()
    await writer.wait_closed()
