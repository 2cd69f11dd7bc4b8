"""A no stays a no: what a host refused does not run when the same order comes again and what was wrong with it is
mended. Real signatures, a real verifier, and the agent's core.
"""

from __future__ import annotations

import errno
import hashlib
from typing import Any

import pytest

from agentd.agent.state import Identity
from agentd.agent.verifier import HostVerifier
from libstaragent import codes
from libstaragent.errors import Code
from libstaragent.jobs.journal import Record, Refused
from libstaragent.model.host import HostFacts
from libstaragent.model.ids import new_ulid
from libstaragent.model.result import TargetResult
from libstaragent.protocol import messages as m
from libstaragent.protocol.connection import ROOM, Connection
from libstaragent.roles.agent import AgentCore
from libstaragent.roles.agent_effects import Log, Persist, ToKeeper
from libstaragent.roles.refusals import (
    LONGEST_LIFE_MS,
    REFUSALS_MAX,
    REFUSED_IDS_MAX,
    STRANGERS_IDS_MAX,
    Refusals,
    refused_until,
)
from libstaragent.security.acts import Envelope, Exec, Member, TargetList
from libstaragent.security.authority import terminal_state
from libstaragent.security.envelope import sign
from libstaragent.security.policy.model import FOUNDERS
from libstaragent.security.roster import Operator, Roster, digest, sign_roster
from libstaragent.security.signed import Signed
from libstaragent.security.signing import fingerprint, public_key

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
ROOT, KIM, LEE = b"r" * 32, b"k" * 32, b"l" * 32
MEMBER = Member(new_ulid(NOW_MS, bytes(10)), "web01", "main")


def roster(number: int, previous: bytes, **operators: tuple[bytes, tuple[str, ...]]) -> Signed:
    listed = tuple(Operator(name, public_key(seed), roles) for name, (seed, roles) in operators.items())
    return sign_roster(
        Roster(
            root=public_key(ROOT),
            revision=number,
            previous=previous,
            issued=NOW_MS,
            valid_until=NOW_MS + 24 * HOUR_MS,
            ca=(hashlib.sha256(b"").digest(),),
            operators=listed,
            rules=(FOUNDERS,),
        ),
        ROOT,
    )


FIRST = roster(1, b"", kim=(KIM, ("operator",)), lee=(LEE, ("read",)))
SECOND = roster(2, digest(FIRST), kim=(KIM, ("operator",)), lee=(LEE, ("operator",)))


def order(seed: bytes = LEE, operator: str = "lee", **changes: Any) -> m.Run:
    fields: dict[str, Any] = {
        "id": new_ulid(NOW_MS, b"0123456789"),
        "fleet": fingerprint(public_key(ROOT)),
        "operator": operator,
        "act": Exec(argv=("true",)),
        "targets": TargetList("web01", (MEMBER,)),
        "issued": NOW_MS,
        "not_before": NOW_MS,
        "expires": NOW_MS + HOUR_MS,
        "roster": 1,
    }
    envelope = Envelope(**(fields | changes))
    return m.Run(envelope.id, sign(envelope, seed), None, 0)


class Host:
    """A host with the first revision; its disk is `records`."""

    def __init__(self, records: tuple[Record, ...] = (), *, believes: Signed = FIRST) -> None:
        identity = Identity(
            agent=MEMBER.agent,
            name="web01",
            room="main",
            fleet=fingerprint(public_key(ROOT)),
            api="",
            room_address="",
            renew_at_ms=0,
        )
        verifier = HostVerifier(
            identity,
            believes,
            facts=HostFacts(id=MEMBER.agent, name="web01", room="main"),
            boot_nonce=bytes(16),
            journal=records,
        )
        self.core = AgentCore(
            agent=MEMBER.agent,
            verifier=verifier,
            state_of=terminal_state,
            version="1",
            boot_nonce=bytes(16),
            hostname="web01",
            addresses=(),
            facts={},
            journal=records,
        )
        self.core.keeper_known([], now=0.0, now_ms=NOW_MS)
        self.disk: list[Record] = list(records)
        self.errno: int | None = None
        self.spawned: list[Any] = []
        self.results: list[TargetResult] = []
        self.logged: list[Code] = []
        self.new_room()

    def new_room(self) -> None:
        """A connection to a room that knows nothing."""
        self.core.disconnected()
        self.core.connected(connects=1, now=0.0, now_ms=NOW_MS)
        self.room = Connection(ROOM, now=0.0)
        self.hear(m.Welcome(protocol=1, features=(), room="main", heartbeat_ms=15_000, clock_ms=NOW_MS))

    def hear(self, *messages: Any, now_ms: int = NOW_MS) -> None:
        connection = self.core.connection
        assert connection is not None
        self.room.receive(connection.take(), 0.0)
        for message in messages:
            self.room.send(message)
        self.core.receive(self.room.take(), now=0.0, now_ms=now_ms)
        while self.core.effects:
            effects, self.core.effects = self.core.effects, []
            for effect in effects:
                if isinstance(effect, Persist):
                    assert not self.told(), "it was said before it was on disk"
                    if self.errno is None:
                        self.disk.append(effect.record)
                    self.core.persisted(effect.token, self.errno, now=0.0)
                elif isinstance(effect, ToKeeper):
                    self.spawned.append(effect.request)
                elif isinstance(effect, Log):
                    self.logged.append(effect.code)
        self.results += self.told()

    def told(self) -> list[TargetResult]:
        assert self.core.connection is not None
        heard = self.room.receive(self.core.connection.take(), 0.0)
        return [message.result for message in heard if isinstance(message, m.Result)]


def test_what_was_denied_does_not_run_when_a_roster_grants_it_later_and_a_new_room_says_it_again() -> None:
    host = Host()
    denied = order()
    host.hear(denied)
    assert [(result.state, result.code) for result in host.results] == [("denied", codes.SIGNER_ROLE.code)]
    host.hear(m.Rosters((SECOND,)))
    host.hear(m.Settled((denied.job,)))
    host.new_room()
    host.hear(denied)
    assert host.spawned == []
    assert host.results[-1].state == "interrupted" and host.results[-1].code == codes.RESULT_GONE.code
    # The same order from the same operator under another id does run: only this one was refused.
    host.hear(order(id=new_ulid(NOW_MS, b"abcdefghij")))
    assert [request["op"] for request in host.spawned] == ["spawn"]


def test_it_does_not_run_after_a_restart_either_and_the_same_refusal_is_said() -> None:
    host = Host()
    denied = order()
    host.hear(denied)
    again = Host(tuple(host.disk), believes=SECOND)
    again.hear(denied)
    assert again.spawned == []
    assert [(result.state, result.code, result.ran) for result in again.results] == [
        ("denied", codes.SIGNER_ROLE.code, "no")
    ]


@pytest.mark.parametrize(("refused", "code"), [(True, codes.SIGNER_ROLE), (False, codes.JOURNAL_FAILED)])
def test_nobody_is_told_that_it_did_not_run_while_the_next_process_would_run_it(refused: bool, code: Code) -> None:
    host = Host()
    host.errno = errno.EIO
    asked = order() if refused else order(KIM, "kim")
    host.hear(asked)
    host.hear(asked)
    assert {(result.code, result.ran) for result in host.results} == {(code.code, "maybe")} and host.spawned == []
    again = Host(tuple(host.disk), believes=SECOND)
    again.hear(asked)
    assert [request["op"] for request in again.spawned] == ["spawn"]


def test_what_had_expired_by_a_clock_that_was_wrong_does_not_run_when_the_clock_is_mended() -> None:
    host = Host()
    late = order(KIM, "kim")
    host.hear(late, now_ms=NOW_MS + 2 * HOUR_MS)
    assert host.results[-1].state == "expired"
    host.new_room()
    host.hear(late)
    assert host.spawned == [] and host.results[-1].state == "expired"


def test_a_room_cannot_spend_the_id_of_an_order_that_it_has_not_got() -> None:
    host = Host()
    good = order(KIM, "kim")
    forged = Signed(good.signed.payload, good.signed.key, bytes(64))
    host.hear(m.Run(good.job, forged, None, 0))
    other = order(LEE, "lee", id=new_ulid(NOW_MS, b"abcdefghij"))
    host.hear(m.Run(good.job, other.signed, None, 0))
    assert [result.state for result in host.results] == ["bad_signature", "denied"]
    assert host.disk == []
    host.hear(good)
    assert [request["op"] for request in host.spawned] == ["spawn"]


@pytest.mark.parametrize("expires", [NOW_MS + 5, NOW_MS + 23 * HOUR_MS])
def test_a_refused_id_is_kept_no_longer_than_an_envelope_may_live(expires: int) -> None:
    signed = order(expires=expires).signed
    assert refused_until(signed, order().job, codes.SIGNER_ROLE, NOW_MS) == expires
    assert refused_until(signed, order().job, codes.SIGNER_ROLE, NOW_MS - LONGEST_LIFE_MS) == min(expires, NOW_MS)


def test_words_are_kept_up_to_a_number_and_their_ids_beyond_it() -> None:
    refusals = Refusals()
    for number in range(REFUSALS_MAX + 1):
        refusals.add(TargetResult(job=str(number), state="denied"))
        refusals.written(str(number))
    assert refusals.word("0") is None and refusals.word("1") is not None
    records = tuple(Refused(str(number), NOW_MS + HOUR_MS, "denied", "") for number in range(REFUSALS_MAX + 1))
    host = Host(records)
    host.hear(m.Run("0", order().signed, None, 0))
    assert host.results[-1].code == codes.RESULT_GONE.code and host.spawned == []


def test_a_room_that_makes_up_strangers_without_end_fills_neither_the_disk_nor_the_memory_of_a_host() -> None:
    host = Host()
    flood = [
        order(b"x" * 32, "eve", id=new_ulid(NOW_MS, number.to_bytes(10))) for number in range(STRANGERS_IDS_MAX + 50)
    ]
    for _ in range(2):
        for asked in flood:
            host.hear(asked)
    said = {result.job: (result.state, result.code, result.ran) for result in host.results}
    kept, beyond = flood[:STRANGERS_IDS_MAX], flood[STRANGERS_IDS_MAX:]
    assert {said[asked.job] for asked in kept} == {("bad_signature", codes.SIGNER_UNKNOWN.code, "no")}
    assert {said[asked.job] for asked in beyond} == {("bad_signature", codes.SIGNER_UNKNOWN.code, "maybe")}
    assert [type(record) for record in host.disk] == [Refused] * STRANGERS_IDS_MAX
    assert set(host.logged) == {codes.REFUSALS_FULL} and len(host.logged) == 2 * len(beyond)
    # What the roster's own operators may not do is remembered all the same, and what they may do runs.
    host.hear(order())
    host.hear(order(KIM, "kim", id=new_ulid(NOW_MS, b"abcdefghij")))
    assert host.results[-1].ran == "no" and [request["op"] for request in host.spawned] == ["spawn"]
    # The next process of the agent counts those on disk.
    again = Host(tuple(host.disk))
    again.hear(order(b"y" * 32, "eve", id=new_ulid(NOW_MS, b"anotherone")))
    assert again.results[-1].ran == "maybe" and again.disk == host.disk


def test_an_operator_whose_orders_are_refused_without_end_fills_no_disk_either_and_places_become_free() -> None:
    first = tuple(
        Refused(new_ulid(NOW_MS, number.to_bytes(10)), NOW_MS + number, "denied", codes.SIGNER_ROLE.code)
        for number in range(REFUSED_IDS_MAX)
    )
    host = Host(first)
    host.hear(order())
    assert (host.results[-1].ran, host.disk, host.logged) == ("maybe", list(first), [codes.REFUSALS_FULL])
    # Two days later, by an operator's signature, the first ids are of no use to anybody.
    later = NOW_MS + 48 * HOUR_MS
    third = sign_roster(
        Roster(
            root=public_key(ROOT),
            revision=2,
            previous=digest(FIRST),
            issued=NOW_MS,
            valid_until=later + HOUR_MS,
            ca=(hashlib.sha256(b"").digest(),),
            operators=(Operator("kim", public_key(KIM), ("operator",)), Operator("lee", public_key(LEE), ("read",))),
            rules=(FOUNDERS,),
        ),
        ROOT,
    )
    host.hear(m.Rosters((third,)))
    host.hear(
        order(KIM, "kim", id=new_ulid(NOW_MS, b"abcdefghij"), issued=later, not_before=later, expires=later + HOUR_MS),
        now_ms=later,
    )
    host.core.tick(now=1.0)
    host.hear(order(issued=later, not_before=later, expires=later + HOUR_MS), now_ms=later)
    assert host.results[-1].code == codes.SIGNER_ROLE.code and host.results[-1].ran == "no"
