"""What an agent hands to its keeper and when: what waits for a place, and what an agent before it had taken."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

import pytest

from libstaragent import codes
from libstaragent.jobs.journal import Fired, Record, Refused, Taken
from libstaragent.model.ids import new_ulid
from libstaragent.model.result import TargetResult
from libstaragent.protocol import messages as m
from libstaragent.protocol.connection import ROOM, Connection
from libstaragent.roles.agent import AgentCore
from libstaragent.roles.agent_effects import Persist, ToKeeper
from libstaragent.roles.agent_handover import HANDED_MAX
from libstaragent.roles.keeper import RUNNING_MAX
from libstaragent.security.acts import Act, Cancel, Envelope, Exec, Member, TargetList
from libstaragent.security.signed import Signed
from libstaragent.testing.trust import FLEET, OPERATOR, PlainTrust

NOW_MS = 1_700_000_000_000
LIFE_MS = 60_000
MEMBER = Member(new_ulid(NOW_MS, bytes(10)), "web01", "main")


def a_job(number: int) -> str:
    return new_ulid(NOW_MS, number.to_bytes(10, "big"))


class Trust(PlainTrust):
    """Believes everybody, until somebody is revoked."""

    revoked = False

    def verify(self, signed: Signed, now_ms: int) -> Envelope:
        envelope = super().verify(signed, now_ms)
        if self.revoked and not isinstance(envelope.act, Cancel):
            raise codes.SIGNER_UNKNOWN.error(envelope.operator)
        return envelope


def signed(number: int, act: Act | None = None) -> Signed:
    envelope = Envelope(
        id=a_job(number),
        fleet=FLEET,
        operator=OPERATOR,
        act=act or Exec(argv=("true",)),
        targets=None if isinstance(act, Cancel) else TargetList("web01", (MEMBER,)),
        issued=NOW_MS,
        not_before=NOW_MS,
        expires=NOW_MS + LIFE_MS,
        roster=1,
    )
    return PlainTrust().sign(envelope)


def order(number: int) -> m.Run:
    return m.Run(a_job(number), signed(number), None, 0)


def cancel(number: int) -> m.CancelRun:
    return m.CancelRun(signed(1000 + number, Cancel(a_job(number))))


def taken(*numbers: int) -> tuple[Record, ...]:
    return tuple(Taken(a_job(number), signed(number), NOW_MS + LIFE_MS) for number in numbers)


class Host:
    """An agent on a disk of `records`, connected to a room; the keeper is what the test says it is."""

    def __init__(self, records: Sequence[Record] = (), *, places: int = HANDED_MAX) -> None:
        self.trust = Trust()
        self.core = AgentCore(
            agent=MEMBER.agent,
            verifier=self.trust.verifier(MEMBER),
            state_of=lambda code: "denied",
            version="1",
            boot_nonce=bytes(16),
            hostname="web01",
            addresses=(),
            facts={},
            journal=records,
            handed_max=places,
        )
        self.disk = list(records)
        self.asked: list[dict[str, Any]] = []
        self.results: list[TargetResult] = []
        self.core.connected(connects=1, now=0.0, now_ms=NOW_MS)
        self.room = Connection(ROOM, now=0.0)
        self.hear(m.Welcome(protocol=1, features=(), room="main", heartbeat_ms=15_000, clock_ms=NOW_MS))

    def hear(self, *messages: Any) -> None:
        """The room says all this in one breath."""
        self.told()
        for message in messages:
            self.room.send(message)
        self.core.receive(self.room.take(), now=0.0, now_ms=NOW_MS)
        self.carry_out()

    def keeper(self, *known: dict[str, Any]) -> None:
        """The keeper answers that this is all it has."""
        self.core.keeper_known(known, now=0.0, now_ms=NOW_MS)
        self.carry_out()

    def says(self, event: str, number: int, **fields: Any) -> None:
        """The keeper says something of a job."""
        self.core.keeper_says({"ev": event, "job": a_job(number), **fields}, now=0.0)
        self.carry_out()

    def tick(self, after_ms: int = 0) -> None:
        self.core.tick(now=after_ms / 1000, now_ms=NOW_MS + after_ms)
        self.carry_out()

    def carry_out(self) -> None:
        while self.core.effects:
            effects, self.core.effects = self.core.effects, []
            for effect in effects:
                if isinstance(effect, Persist):
                    before = len(self.results)
                    self.told()
                    assert len(self.results) == before, "it was said before it was on disk"
                    self.disk.append(effect.record)
                    self.core.persisted(effect.token, None, now=0.0)
                elif isinstance(effect, ToKeeper):
                    self.asked.append(effect.request)
        self.told()

    def told(self) -> None:
        assert self.core.connection is not None
        heard = self.room.receive(self.core.connection.take(), 0.0)
        self.results += [message.result for message in heard if isinstance(message, m.Result)]

    @property
    def spawned(self) -> list[str]:
        return [request["job"] for request in self.asked if request["op"] == "spawn"]

    @property
    def said(self) -> list[tuple[str, str | None, str]]:
        return [(result.state, result.code, result.ran) for result in self.results]


ENDED = {"state": "ok", "exit_status": 0, "stdout_bytes": 0, "stderr_bytes": 0}


def ended(number: int, **changes: Any) -> dict[str, Any]:
    """What a keeper says of one that printed nothing."""
    names = ("signal", "errno", "code", "user_ms", "system_ms", "max_rss_kb", "stdout_sha256", "stderr_sha256")
    plain = {"core_dumped": False, "detail": "", "ran": "yes", "left_running": [], "left_running_count": 0}
    times = {"started_ms": NOW_MS, "finished_ms": NOW_MS}
    return {**dict.fromkeys(names), **plain, **times, **ENDED, "job": a_job(number), **changes}


# After a restart ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keeper_first", [True, False], ids=["the keeper answers first", "the room does"])
def test_what_was_taken_and_never_begun_starts_once_when_it_is_ordered_again(keeper_first: bool) -> None:
    host = Host(taken(1))
    if keeper_first:
        host.keeper()
        assert host.spawned == [], "nobody has said yet that it is still wanted"
        host.hear(order(1))
    else:
        host.hear(order(1))
        assert host.spawned == [], "the keeper may have it"
        host.keeper()
    assert host.spawned == [a_job(1)]
    host.hear(order(1))
    assert host.spawned == [a_job(1)] and host.said == []
    host.says("finished", 1, **ended(1))
    assert host.said == [("ok", None, "yes")]


@pytest.mark.parametrize("state", ["starting", "running"])
def test_what_the_keeper_has_is_not_begun_again(state: str) -> None:
    host = Host(taken(1))
    host.keeper({"job": a_job(1), "done": False, "state": state, "end": 0, "at_ms": NOW_MS})
    host.hear(order(1))
    assert host.spawned == []
    host.says("finished", 1, **ended(1))
    assert host.said == [("ok", None, "yes")]


def test_what_the_keeper_had_to_interrupt_is_not_begun_again() -> None:
    host = Host(taken(1))
    host.keeper({"done": True, **ended(1, state="interrupted", ran="maybe")})
    host.hear(order(1))
    assert host.spawned == []
    assert {(state, ran) for state, _, ran in host.said} == {("interrupted", "maybe")}


def test_a_cancel_that_comes_with_the_order_is_heard_before_anything_starts() -> None:
    host = Host(taken(1))
    host.keeper()
    host.hear(order(1), cancel(1))
    assert host.asked == [] and set(host.said) == {("cancelled", None, "no")}


def test_a_cancel_before_the_keeper_s_answer_ends_what_the_keeper_does_not_have() -> None:
    host = Host(taken(1))
    host.hear(order(1), cancel(1))
    assert host.said == []
    host.keeper()
    assert host.asked == [] and host.said == [("cancelled", None, "no")]


def test_it_is_verified_again_and_who_was_revoked_meanwhile_starts_nothing() -> None:
    host = Host(taken(1))
    host.keeper()
    host.trust.revoked = True
    host.hear(order(1))
    assert host.asked == [] and host.said == [("denied", codes.SIGNER_UNKNOWN.code, "no")]


def test_bytes_of_another_order_end_nothing() -> None:
    host = Host(taken(1))
    host.keeper()
    host.hear(m.Run(a_job(1), signed(2), None, 0))
    assert host.asked == [] and host.said == []
    host.hear(order(1))
    assert host.spawned == [a_job(1)]


def test_what_nobody_orders_again_ends_with_its_time() -> None:
    host = Host(taken(1))
    host.keeper()
    host.tick(LIFE_MS - 1)
    assert host.said == []
    host.tick(LIFE_MS)
    assert host.said == [("interrupted", codes.NEVER_STARTED.code, "no")]


def test_a_firing_is_not_made_up_for() -> None:
    fired = Fired(a_job(9), a_job(1), NOW_MS, NOW_MS + LIFE_MS, OPERATOR, "")
    host = Host([fired])
    host.keeper()
    host.hear(m.FiringKnown((a_job(1),)))
    assert host.asked == [] and (host.said[0][1], host.said[0][2]) == (codes.NEVER_STARTED.code, "no")


@pytest.mark.parametrize("how", ["refused by the keeper", "cancelled", "expired"])
def test_what_was_said_not_to_run_is_not_started_by_the_next_process(how: str) -> None:
    host = Host(places=0 if how != "refused by the keeper" else 1)
    host.keeper()
    host.hear(order(1))
    if how == "refused by the keeper":
        host.says("refused", 1, code=codes.SPOOL_REFUSED.code, errno=errno.ENOSPC, detail="")
    elif how == "cancelled":
        host.hear(cancel(1))
    else:
        host.tick(LIFE_MS)
    ((state, code, ran),) = host.said
    assert ran == "no"
    again = Host(host.disk)
    again.keeper()
    again.hear(order(1))
    assert again.asked == [] and again.said == [(state, code or "", "no")]


def test_where_the_disk_does_not_take_the_end_nobody_says_that_it_will_not_run() -> None:
    host = Host()
    host.keeper()
    host.hear(order(1))
    host.core.keeper_says({"ev": "refused", "job": a_job(1), "code": codes.SPOOL_REFUSED.code, "errno": 28}, now=0.0)
    (effect,) = host.core.effects
    assert isinstance(effect, Persist) and isinstance(effect.record, Refused)
    host.core.effects = []
    host.core.persisted(effect.token, errno.EIO, now=0.0)
    host.told()
    assert host.said == [("spawn_failed", codes.SPOOL_REFUSED.code, "maybe")]


def test_a_spool_of_that_name_that_says_nothing_may_mean_that_it_ran() -> None:
    host = Host(taken(1))
    host.keeper()
    host.hear(order(1))
    host.says("refused", 1, code=codes.SPOOL_REFUSED.code, errno=errno.EEXIST, detail="")
    assert host.said == [("spawn_failed", codes.SPOOL_REFUSED.code, "maybe")]


# What waits for a place -----------------------------------------------------------------------------------------------


def test_more_than_the_keeper_has_places_for_wait_in_their_order() -> None:
    host = Host(places=2)
    host.keeper()
    host.hear(*(order(number) for number in range(1, 6)))
    assert host.spawned == [a_job(1), a_job(2)] and host.said == []
    host.says("finished", 2, **ended(2))
    host.says("refused", 1, code=codes.SPAWN_FAILED.code, errno=errno.EAGAIN, detail="")
    assert host.spawned == [a_job(1), a_job(2), a_job(3), a_job(4)]


def test_what_waits_is_cancelled_at_once_and_its_turn_goes_to_the_next() -> None:
    host = Host(places=1)
    host.keeper()
    host.hear(order(1), order(2), order(3))
    host.hear(cancel(2))
    assert host.said == [("cancelled", None, "no")]
    host.says("finished", 1, **ended(1))
    assert host.spawned == [a_job(1), a_job(3)] and [request["op"] for request in host.asked] == ["spawn", "spawn"]


def test_what_waits_for_longer_than_was_signed_does_not_start() -> None:
    host = Host(places=1)
    host.keeper()
    host.hear(order(1), order(2))
    host.says("started", 1, at_ms=NOW_MS)
    host.tick(LIFE_MS - 1)
    assert host.said == []
    host.tick(LIFE_MS)
    assert host.said == [("expired", codes.ENVELOPE_EXPIRED.code, "no")]
    host.says("finished", 1, **ended(1))
    assert host.spawned == [a_job(1)]


@pytest.mark.parametrize("code", [codes.KEEPER_BUSY, codes.AGENT_BUSY])
def test_a_keeper_without_a_place_is_asked_again_and_the_operator_is_told_nothing(code: Any) -> None:
    host = Host()
    host.keeper()
    host.hear(order(1), order(2))
    host.says("refused", 1, code=code.code, errno=None, detail="")
    assert host.said == [] and host.spawned == [a_job(1), a_job(2)]
    host.tick()
    assert host.spawned == [a_job(1), a_job(2), a_job(1)]


def test_what_an_agent_before_us_handed_over_takes_a_place() -> None:
    host = Host(taken(1), places=1)
    host.keeper({"job": a_job(1), "done": False, "state": "running", "end": 0, "at_ms": NOW_MS})
    host.hear(order(2))
    assert host.spawned == []
    host.says("finished", 1, **ended(1))
    assert host.spawned == [a_job(2)]


def test_an_agent_hands_over_no_more_than_a_keeper_runs() -> None:
    assert HANDED_MAX <= RUNNING_MAX
