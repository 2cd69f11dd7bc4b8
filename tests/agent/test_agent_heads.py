"""A host as a witness of the audit: it keeps the heads that pings tell, whatever is killed, and tells them signed."""

from __future__ import annotations

import json
import signal
from typing import Any

from agentd.bus import orders_subject
from libstaragent import codes
from libstaragent.model.result import records
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t
from libstaragent.protocol.connection import AGENT, ROOM, Connection
from libstaragent.roles.room import RoomCore
from libstaragent.security.acts import ReadHeads
from libstaragent.security.envelope import sign


def digest(number: int) -> bytes:
    return bytes([number]) * 32


def tell(agent: Any, seq: int, hashed: bytes, at_ms: int) -> None:
    agent.bus.publish(orders_subject("main"), [t.AuditHead(seq, hashed, at_ms)])


async def told(agent: Any) -> list[list[Any]]:
    """What the host says when it is asked."""
    envelope = agent.envelope(ReadHeads())
    agent.dispatch(sign(envelope, agent.fleet.operator), envelope.id)
    result = await agent.result(envelope.id)
    assert (result.state, result.exit_status, result.ran) == ("ok", 0, "yes")
    assert result.output is not None
    ((stream, text),) = records(result.output.head)
    assert stream == 1 and len(text) == result.stdout_bytes
    return json.loads(text)["heads"]


async def test_heads_are_kept_over_kill_9_of_agent_and_keeper_and_told(agent: Any) -> None:
    tell(agent, 7, digest(7), 1)
    agent.start()
    await agent.up(1)
    assert [(seq, hashed) for seq, hashed, _ in await told(agent)] == [(7, digest(7).hex())]
    tell(agent, 9, digest(9), 2)
    agent.agent_process.send_signal(signal.SIGKILL)
    await agent.up(2)
    assert [seq for seq, _, _ in await told(agent)] == [7, 9]
    heir = agent.agent_process
    agent.process.kill()
    agent.process.wait(20)
    await agent.up(3)
    assert [seq for seq, _, _ in await told(agent)] == [7, 9]
    heir.terminate()
    heir.wait(20)


async def test_a_state_of_the_audit_that_goes_back_is_logged_and_kept_beside_the_other(agent: Any) -> None:
    tell(agent, 9, digest(9), 1)
    agent.start()
    await agent.up(1)
    # The room is new, and is told what central has now.
    await agent.restart_room()
    tell(agent, 4, digest(4), 2)
    await agent.up(2)
    assert [seq for seq, _, _ in await told(agent)] == [9, 4]
    assert codes.AUDIT_WENT_BACK.code in agent.log


def a_room() -> tuple[RoomCore, Any, Connection]:
    room = RoomCore(room="main", now=0.0)
    link = room.opened("01HF00000000000000000000A1", now=0.0)
    return room, link, Connection(AGENT, now=0.0)


def hello(connection: Connection, room: RoomCore, link: Any) -> list[Any]:
    connection.send(
        m.Hello(
            protocol_min=1,
            protocol_max=1,
            features=(),
            version="1",
            agent=link.agent,
            boot_nonce=bytes(16),
            connects=1,
            clock_ms=0,
            roster=0,
            hostname="",
            addresses=(),
            facts={},
        )
    )
    room.received(link, connection.take(), now=0.0, now_ms=0)
    return connection.receive(link.connection.take(), 0.0)


def test_the_newest_head_comes_with_the_first_ping_and_with_each_heartbeat() -> None:
    room, link, connection = a_room()
    room.order(t.AuditHead(5, digest(5), 10), now_ms=0)
    heard = hello(connection, room, link)
    assert heard[1] == m.Ping(0, 5, digest(5))
    room.order(t.AuditHead(8, digest(8), 20), now_ms=0)
    room.order(t.AuditHead(6, digest(6), 15), now_ms=0)  # delivered again, late
    room.tick(now=17.0, now_ms=17_000)
    assert connection.receive(link.connection.take(), 17.0) == [m.Ping(17_000, 8, digest(8))]


def test_a_room_that_knows_of_no_audit_tells_none() -> None:
    room, link, connection = a_room()
    assert [type(message) for message in hello(connection, room, link)] == [m.Welcome]
    room.tick(now=17.0, now_ms=17_000)
    assert connection.receive(link.connection.take(), 17.0) == [m.Ping(17_000)]
    assert link.connection.side == ROOM
