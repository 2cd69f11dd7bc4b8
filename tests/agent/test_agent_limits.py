"""An agent with as many open commands as it takes: the next one is refused, on disk first, and can never run later."""

from __future__ import annotations

from typing import Any

from libstaragent import codes
from libstaragent.jobs.journal import Done, Taken
from libstaragent.model.ids import new_ulid
from libstaragent.protocol import messages as m
from libstaragent.protocol.connection import ROOM, Connection
from libstaragent.roles.agent import OPEN_MAX, AgentCore
from libstaragent.roles.agent_effects import Persist, ToKeeper
from libstaragent.security.acts import Envelope, Exec, Member, TargetList
from libstaragent.security.signed import Signed
from libstaragent.testing.trust import FLEET, OPERATOR, PlainTrust

NOW_MS = 1_700_000_000_000
LATER_MS = NOW_MS + 60_000


def a_job(number: int) -> str:
    return new_ulid(NOW_MS, number.to_bytes(10, "big"))


def test_a_command_beyond_the_limit_is_refused_after_its_id_is_on_disk() -> None:
    member = Member(a_job(0), "web01", "main")
    trust = PlainTrust()
    core = AgentCore(
        agent=member.agent,
        verifier=trust.verifier(member),
        state_of=lambda code: "denied",
        version="1",
        boot_nonce=bytes(16),
        hostname="web01",
        addresses=(),
        facts={},
        journal=[
            Taken(a_job(number), Signed(b"", bytes(32), bytes(64)), LATER_MS) for number in range(1, OPEN_MAX + 1)
        ],
    )
    assert len(core.open) == OPEN_MAX
    room = Connection(ROOM, now=0.0)
    core.connected(connects=1, now=0.0, now_ms=NOW_MS)
    assert core.connection is not None
    room.receive(core.connection.take(), 0.0)
    room.send(m.Welcome(protocol=1, features=(), room="main", heartbeat_ms=15_000, clock_ms=NOW_MS))
    job = a_job(OPEN_MAX + 1)
    envelope = Envelope(
        id=job,
        fleet=FLEET,
        operator=OPERATOR,
        act=Exec(argv=("true",)),
        targets=TargetList("web01", (member,)),
        issued=NOW_MS,
        not_before=NOW_MS,
        expires=LATER_MS,
        roster=1,
    )
    room.send(m.Run(job, trust.sign(envelope), None, 0))
    core.receive(room.take(), now=0.0, now_ms=NOW_MS)
    written = [effect for effect in core.effects if isinstance(effect, Persist)]
    assert [effect.record for effect in written] == [Done(job, LATER_MS)] and written[0].sync
    assert not [effect for effect in core.effects if isinstance(effect, ToKeeper)]

    def told() -> list[Any]:
        assert core.connection is not None
        heard = room.receive(core.connection.take(), 0.0)
        return [message.result for message in heard if isinstance(message, m.Result)]

    assert told() == []
    core.persisted(written[0].token, None, now=0.0)
    (result,) = told()
    assert (result.job, result.state, result.code) == (job, "spawn_failed", codes.AGENT_BUSY.code)
    assert job not in core.open
