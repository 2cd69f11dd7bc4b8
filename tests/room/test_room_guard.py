"""A room and identities that two machines may have: whom it lets in, what it delivers meanwhile."""

from __future__ import annotations

from typing import Any

from libstaragent import codes
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t
from libstaragent.protocol.connection import AGENT, Connection
from libstaragent.protocol.limits import FEATURES
from libstaragent.roles.room import RoomCore
from libstaragent.roles.room_guard import TRIAL_SECONDS
from libstaragent.security.signed import Signed

A, B = b"a" * 16, b"b" * 16
SIGNED = Signed(b"", bytes(32), bytes(64))


class Machine:
    """One machine with the agent's identity, and its connection."""

    def __init__(self, room: Room, nonce: bytes, *, issued_s: int = 10) -> None:
        self.room, self.nonce, self.issued_s = room, nonce, issued_s
        self.connects = 4
        self.connect()

    def connect(self) -> list[Any]:
        """A new connection; what the room says on it."""
        self.connects += 1
        self.link = self.room.core.opened("agent", now=self.room.now, issued_s=self.issued_s)
        self.end = Connection(AGENT, now=self.room.now)
        self.end.send(
            m.Hello(
                protocol_min=1,
                protocol_max=1,
                features=FEATURES,
                version="1",
                agent="agent",
                boot_nonce=self.nonce,
                connects=self.connects,
                clock_ms=0,
                roster=0,
                hostname="host",
                addresses=(),
                facts={},
            )
        )
        self.room.core.received(self.link, self.end.take(), now=self.room.now, now_ms=self.room.now_ms)
        return self.heard()

    def heard(self) -> list[Any]:
        return self.end.receive(self.link.connection.take(), self.room.now)

    def jobs(self) -> list[str]:
        return [message.job for message in self.heard() if isinstance(message, m.Run)]


class Room:
    def __init__(self) -> None:
        self.now = 0.0
        self.core = RoomCore(room="main", now=0.0)

    @property
    def now_ms(self) -> int:
        return int(self.now * 1000)

    def order(self, job: str, *, again: bool = False) -> None:
        dispatch = t.Dispatch(job, SIGNED, 60_000, 90_000, (("agent", None),), False, again)
        self.core.order(dispatch, now_ms=self.now_ms)

    def guard(self, state: str, *, keep: bytes = b"", issued_after_s: int = 0) -> None:
        self.core.order(t.GuardHosts((t.HostGuard("agent", state, keep, issued_after_s),)), now_ms=self.now_ms)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.core.tick(now=self.now, now_ms=self.now_ms)

    def ended(self, job: str) -> list[Any]:
        return [r.result for r in self.core.reports if isinstance(r, t.TargetEnded) and r.result.job == job]


def refusal(said: list[Any]) -> Any:
    (message,) = [message for message in said if isinstance(message, m.Refuse | m.GoAway)]
    return message


def test_a_newcomer_beside_a_living_connection_gets_nothing_until_its_trial_is_over() -> None:
    room = Room()
    first = Machine(room, A)
    room.order("sent")
    assert first.jobs() == ["sent"]
    second = Machine(room, B)
    room.order("new")
    assert second.jobs() == []
    room.pass_time(TRIAL_SECONDS)
    assert sorted(second.jobs()) == ["new", "sent"], "nobody came back: it was a restart"


def test_a_process_that_reconnects_has_no_trial() -> None:
    room = Room()
    host = Machine(room, A)
    room.order("sent")
    assert host.jobs() == ["sent"]
    assert [message.job for message in host.connect() if isinstance(message, m.Run)] == ["sent"]


def test_a_restart_after_its_connection_was_closed_has_no_trial() -> None:
    room = Room()
    host = Machine(room, A)
    room.order("sent")
    room.core.closed(host.link, codes.CONNECTION_LOST.code, now_ms=0)
    assert Machine(room, B).link.trial_until == 0.0


def test_a_quarantined_identity_is_refused_with_a_code_and_told_of_and_its_jobs_end() -> None:
    room = Room()
    first = Machine(room, A)
    room.order("sent")
    first.jobs()
    second = Machine(room, B)
    room.order("waits")
    room.guard("quarantined")
    assert refusal(second.heard()).code == codes.HOST_QUARANTINED.code
    (result,) = room.ended("waits")
    assert (result.state, result.code, result.ran) == ("unreachable", codes.HOST_QUARANTINED.code, "no")
    assert room.ended("sent") == [], "it may have run"
    room.core.reports.clear()
    assert refusal(first.connect()).code == codes.HOST_QUARANTINED.code
    (seen,) = [report for report in room.core.reports if isinstance(report, t.HolderSeen)]
    assert (seen.agent, seen.boot_nonce, seen.connects) == ("agent", A, first.connects)
    room.order("later")
    assert room.ended("later")[0].code == codes.HOST_QUARANTINED.code
    room.order("from before", again=True)
    assert room.ended("from before") == [], "an earlier room may have sent it"


def test_the_kept_one_is_told_to_renew_and_gets_what_was_sent_to_it_and_the_other_is_refused_for_good() -> None:
    room = Room()
    first = Machine(room, A)
    room.order("sent")
    assert first.jobs() == ["sent"]
    second = Machine(room, B)
    room.guard("quarantined")
    room.guard("renewing", keep=A, issued_after_s=20)
    assert refusal(second.connect()).code == codes.IDENTITY_SUPERSEDED.code
    said = first.connect()
    assert [message.job for message in said if isinstance(message, m.Run)] == ["sent"]
    assert sum(isinstance(message, m.RenewNow) for message in said) == 1
    room.guard("bound", issued_after_s=20)
    assert refusal(first.connect()).code == codes.IDENTITY_SUPERSEDED.code, "with the old certificate"
    first.issued_s = 20
    assert not [message for message in first.connect() if isinstance(message, m.Refuse | m.RenewNow)]


def test_what_was_sent_to_one_machine_is_never_sent_to_the_other() -> None:
    room = Room()
    first = Machine(room, A)
    room.order("sent")
    assert first.jobs() == ["sent"]
    room.guard("quarantined")
    room.guard("renewing", keep=B, issued_after_s=20)
    second = Machine(room, B)
    assert second.link.up and second.jobs() == []
    room.order("new")
    assert second.jobs() == ["new"]


def test_a_replaced_identity_is_refused() -> None:
    room = Room()
    host = Machine(room, A)
    room.guard("replaced")
    assert refusal(host.connect()).code == codes.HOST_REPLACED.code
