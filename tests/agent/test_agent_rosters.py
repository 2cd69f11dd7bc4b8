"""A host that was away for long finds its way along the roster's chain, from a real room's core to a real verifier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from agentd.agent.state import Identity
from agentd.agent.verifier import HostVerifier
from libstaragent import codes
from libstaragent.model.host import HostFacts
from libstaragent.model.ids import new_ulid
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t
from libstaragent.roles.agent import AgentCore
from libstaragent.roles.agent_effects import Log, StoreRoster
from libstaragent.roles.agent_rosters import ROSTERS_KEPT_MAX
from libstaragent.roles.room import RoomCore
from libstaragent.security.policy.model import FOUNDERS
from libstaragent.security.roster import Operator, Roster, digest, sign_roster
from libstaragent.security.signed import Signed
from libstaragent.security.signing import fingerprint, public_key

DAY_MS = 86_400_000
START_MS = 1_700_000_000_000
HOST = new_ulid(START_MS, bytes(10))
ROOT = b"r" * 32
# Some hundred groups make a revision of about 12 KiB.
GROUPS = {f"group{number:03d}": "name=" + "x" * 100 for number in range(100)}


def revisions() -> Iterator[Signed]:
    """Each is issued a day after the one before, and is valid for two."""
    previous = b""
    number = 1
    while True:
        issued = START_MS + number * DAY_MS
        signed = sign_roster(
            Roster(
                root=public_key(ROOT),
                revision=number,
                previous=previous,
                issued=issued,
                valid_until=issued + 2 * DAY_MS,
                ca=(bytes(32),),
                operators=(Operator("kim", public_key(b"k" * 32), ("admin",)),),
                groups=GROUPS,
                rules=(FOUNDERS,),
            ),
            ROOT,
        )
        yield signed
        previous = digest(signed)
        number += 1


def chain(length: int) -> tuple[Signed, ...]:
    following = revisions()
    return tuple(next(following) for _ in range(length))


class Away:
    """A host that knows the first revision only, and its room."""

    def __init__(self, first: Signed) -> None:
        identity = Identity(
            agent=HOST,
            name="web01",
            room="main",
            fleet=fingerprint(public_key(ROOT)),
            api="",
            room_address="",
            renew_at_ms=0,
        )
        facts = HostFacts(id=HOST, name="web01")
        self.verifier = HostVerifier(identity, first, facts=facts, boot_nonce=bytes(16), journal=())
        self.agent = AgentCore(
            agent=HOST,
            verifier=self.verifier,
            state_of=lambda code: "denied",
            version="1",
            boot_nonce=bytes(16),
            hostname="web01",
            addresses=(),
            facts={},
        )
        self.room = RoomCore(room="main", now=0.0)
        self.link: Any = None

    def told(self, *known: Signed, first: int = 1) -> None:
        self.room.order(t.RosterRevisions(first, known), now_ms=START_MS)

    def connect(self, *, now_ms: int) -> None:
        self.agent.disconnected()
        self.agent.connected(connects=1, now=0.0, now_ms=now_ms)
        self.link = self.room.opened(HOST, now=0.0)
        self.talk(now_ms=now_ms)

    def talk(self, *, now_ms: int) -> None:
        """Until both have said all they have to say."""
        assert self.agent.connection is not None
        while self.agent.connection.queued or self.link.connection.queued:
            self.room.received(self.link, self.agent.connection.take(), now=0.0, now_ms=now_ms)
            self.agent.receive(self.link.connection.take(), now=0.0, now_ms=now_ms)
            self.room.written(self.link, now_ms=now_ms)
        assert self.link.connection.state == "open"

    @property
    def stored(self) -> list[Signed]:
        return [effect.signed for effect in self.agent.effects if isinstance(effect, StoreRoster)]

    @property
    def refusals(self) -> list[Any]:
        return [effect.code for effect in self.agent.effects if isinstance(effect, Log)]


def test_a_host_that_missed_a_month_of_revisions_believes_the_newest() -> None:
    known = chain(30)
    host = Away(known[0])
    host.told(*known)
    host.connect(now_ms=START_MS + 30 * DAY_MS)
    assert host.refusals, "no message of the chain ended with a revision that has expired"
    assert host.verifier.roster_revision == 30
    assert host.stored[-1] == known[-1]


def test_a_chain_that_has_expired_as_a_whole_is_believed_once_a_valid_revision_follows() -> None:
    known = chain(31)
    host = Away(known[0])
    host.told(*known[:25])
    now_ms = START_MS + 30 * DAY_MS
    host.connect(now_ms=now_ms)
    assert host.verifier.roster_revision == 1
    assert set(host.refusals) == {codes.ROSTER_EXPIRED}
    refusals = len(host.refusals)
    host.told(*known[:25])
    host.talk(now_ms=now_ms)
    assert len(host.refusals) == refusals, "what came again was judged again"
    host.told(*known[:30])
    host.talk(now_ms=now_ms)
    assert host.verifier.roster_revision == 30


@pytest.mark.parametrize("broken_at", [3, 20])
def test_nothing_is_believed_of_a_chain_with_a_revision_that_does_not_hold(broken_at: int) -> None:
    known = list(chain(30))
    known[broken_at] = msgspec.structs.replace(known[broken_at], signature=bytes(64))
    host = Away(known[0])
    host.told(*known)
    host.connect(now_ms=START_MS + 30 * DAY_MS)
    assert host.verifier.roster_revision == 1
    assert host.stored == []


def test_an_older_connection_leaves_nothing_behind() -> None:
    known = chain(30)
    host = Away(known[0])
    host.told(*known[:10])
    now_ms = START_MS + 30 * DAY_MS
    host.connect(now_ms=now_ms)
    assert host.verifier.roster_revision == 1
    other = RoomCore(room="main", now=0.0)
    host.room = other
    host.told(*known[10:], first=11)
    host.connect(now_ms=now_ms)
    assert host.verifier.roster_revision == 1


def test_what_is_kept_of_an_expired_chain_is_bounded() -> None:
    following = revisions()
    first = next(following)
    host = Away(first)
    host.connect(now_ms=START_MS)
    size = 0
    connection = host.link.connection
    while size <= ROSTERS_KEPT_MAX + 400_000:
        part = tuple(next(following) for _ in range(15))
        connection.send(m.Rosters(part))
        host.agent.receive(connection.take(), now=0.0, now_ms=START_MS + 5000 * DAY_MS)
        size += sum(len(signed.payload) for signed in part)
    assert codes.ROSTER_CHAIN in host.refusals
    assert host.verifier.roster_revision == 1
