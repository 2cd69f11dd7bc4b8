"""Files through a room to many hosts: real cores of room and agents over real frames, disk and central in memory."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest

from libstaragent import codes
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t
from libstaragent.protocol.connection import AGENT, Connection
from libstaragent.protocol.limits import FEATURES
from libstaragent.roles import room_files
from libstaragent.roles.agent_effects import CheckDraft, OpenDraft, WriteDraft
from libstaragent.roles.agent_files import Pulls
from libstaragent.roles.room import RoomCore
from libstaragent.roles.room_guard import TRIAL_SECONDS
from libstaragent.security.acts import Put
from libstaragent.security.signed import Signed

JOB = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
SIGNED = Signed(b"", bytes(32), bytes(64))


class Host:
    """An agent that pulls the file of the job that it was given."""

    def __init__(self, fleet: Fleet, name: str, *, nonce: bytes = b"a" * 16) -> None:
        self.fleet = fleet
        self.name = name
        self.nonce = nonce
        self.draft = bytearray()
        self.ended: list[str] = []
        self.heard: list[Any] = []
        self.effects: list[Any] = []
        self.pulls = Pulls(
            say=self._say,
            act=self.effects.append,
            whole=lambda job, now: self.ended.append("whole"),
            failed=lambda job, state, code, errno, now: self.ended.append(code),
        )
        self.connect()

    def connect(self) -> None:
        core = self.fleet.core
        self.link = core.opened(self.name, now=self.fleet.now)
        self.end = Connection(AGENT, now=self.fleet.now)
        self.end.send(
            m.Hello(
                protocol_min=1,
                protocol_max=1,
                features=FEATURES,
                version="1",
                agent=self.name,
                boot_nonce=self.nonce,
                connects=1,
                clock_ms=0,
                roster=0,
                hostname=self.name,
                addresses=(),
                facts={},
            )
        )
        self.turn()

    def _say(self, message: m.AgentMessage) -> bool:
        self.end.send(message)
        return True

    def turn(self) -> None:
        """What was said goes to the room, and what the room says comes here."""
        fleet = self.fleet
        fleet.core.received(self.link, self.end.take(), now=fleet.now, now_ms=fleet.now_ms)
        for message in self.end.receive(self.link.connection.take(), fleet.now):
            self.heard.append(message)
            if isinstance(message, m.Run):
                self.pulls.begin(message.job, fleet.act, fleet.now)
            elif isinstance(message, m.Chunk):
                self.pulls.came(message, now=fleet.now)
        while self.effects:
            effect = self.effects.pop(0)
            if isinstance(effect, OpenDraft):
                self.pulls.opened(effect.job, 0, None, now=fleet.now)
            elif isinstance(effect, WriteDraft):
                self.draft += effect.data
                self.pulls.written(effect.job, None, now=fleet.now)
            elif isinstance(effect, CheckDraft):
                self.pulls.checked(effect.job, hashlib.sha256(self.draft).digest(), None, now=fleet.now)

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.heard if type(message) is kind]


class Fleet:
    """A room, its hosts, and a central that has the file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.act = Put(path="/x", size=len(data), sha256=hashlib.sha256(data).digest())
        self.now = 100.0
        self.core = RoomCore(room="main", now=self.now)
        self.hosts: list[Host] = []
        self.central_sent = 0
        self.most_kept = 0

    @property
    def now_ms(self) -> int:
        return int(self.now * 1000)

    def add(self, count: int) -> None:
        self.hosts += [Host(self, f"host{len(self.hosts) + number}") for number in range(count)]

    def dispatch(self) -> None:
        targets = tuple((host.name, None) for host in self.hosts)
        self.core.order(
            t.Dispatch(JOB, SIGNED, 600_000, 900_000, targets, False, False, parts=True), now_ms=self.now_ms
        )

    def answer(self) -> None:
        """Central answers what it was asked."""
        files = self.core.files
        wanted, files.wanted = files.wanted, []
        for want in wanted:
            self.central_sent += 1
            files.came(t.BlobPiece(want.job, want.offset, self.data[want.offset : want.offset + m.CHUNK_MAX]))
        self.most_kept = max(self.most_kept, files.kept_bytes)

    def spread(self, chance: random.Random, *, share: float) -> None:
        """Until all have it; in each round only a `share` of the hosts gets a turn."""
        for _ in range(5000):
            open_hosts = [host for host in self.hosts if not host.ended]
            if not open_hosts:
                return
            for host in open_hosts:
                if chance.random() < share:
                    host.turn()
            self.answer()
            self.now += 0.01
            for host in open_hosts:
                host.pulls.tick(self.now)
        raise AssertionError("it does not end")


def test_a_large_file_comes_from_central_once_however_many_hosts_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_files, "KEPT_BYTES_MAX", 16 * m.CHUNK_MAX)
    chance = random.Random(3)
    pieces = 40
    fleet = Fleet(chance.randbytes(pieces * m.CHUNK_MAX - 5))
    fleet.add(30)
    fleet.dispatch()
    fleet.spread(chance, share=0.9)
    assert {tuple(host.ended) for host in fleet.hosts} == {("whole",)}
    assert all(host.draft == fleet.data for host in fleet.hosts)
    files = fleet.core.files
    assert (files.asked, fleet.central_sent) == (pieces, pieces)
    assert files.given == 30 * pieces
    assert 0 < fleet.most_kept <= room_files.KEPT_BYTES_MAX < len(fleet.data)


def test_hosts_that_come_when_the_first_pieces_are_forgotten_get_them_from_central_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room_files, "KEPT_BYTES_MAX", 8 * m.CHUNK_MAX)
    chance = random.Random(4)
    fleet = Fleet(chance.randbytes(20 * m.CHUNK_MAX))
    fleet.add(5)
    fleet.dispatch()
    fleet.spread(chance, share=1.0)
    fleet.add(5)
    fleet.dispatch()
    fleet.spread(chance, share=1.0)
    assert {tuple(host.ended) for host in fleet.hosts} == {("whole",)}
    assert fleet.core.files.asked == 40
    assert fleet.most_kept <= room_files.KEPT_BYTES_MAX


def test_a_host_is_given_pieces_of_its_own_open_jobs_only() -> None:
    fleet = Fleet(bytes(10))
    fleet.add(2)
    stranger, member = fleet.hosts
    fleet.core.order(
        t.Dispatch(JOB, SIGNED, 600_000, 900_000, ((member.name, None),), False, False), now_ms=fleet.now_ms
    )
    stranger.end.send(m.Want(JOB, 0))
    stranger.turn()
    member.end.send(m.Want(JOB, 1))
    member.turn()
    assert (fleet.core.files.wanted, fleet.core.files.refused) == ([], 2)
    # Its own request for the piece came out of the order.
    member.turn()
    assert [want.offset for want in fleet.core.files.wanted] == [0]


def test_a_newcomer_on_trial_is_neither_given_pieces_nor_read_from() -> None:
    fleet = Fleet(bytes(10))
    fleet.add(1)
    first = fleet.hosts[0]
    fleet.dispatch()
    second = Host(fleet, first.name, nonce=b"b" * 16)
    second.end.send(m.Want(JOB, 0))
    second.turn()
    fleet.core.order(t.ReadTarget("read", first.name, SIGNED, None, 0), now_ms=fleet.now_ms)
    second.turn()
    assert second.of(m.Chunk) == [] and second.of(m.Read) == []
    assert fleet.core.files.put_off == 1
    assert fleet.core.files.read == [t.ReadOver("read", codes.HOST_UNREACHABLE.code)]
    fleet.now += TRIAL_SECONDS
    fleet.core.tick(now=fleet.now, now_ms=fleet.now_ms)
    fleet.core.order(t.ReadTarget("read", first.name, SIGNED, None, 0), now_ms=fleet.now_ms)
    second.turn()
    second.end.send(m.Want(JOB, 0))
    second.turn()
    fleet.answer()
    second.turn()
    assert len(second.of(m.Read)) == 1 and second.of(m.Chunk)
