"""The pull of a file, whatever becomes of its pieces: the core alone, its disk and its room played by the test."""

from __future__ import annotations

import hashlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from libstaragent import codes
from libstaragent.protocol import messages as m
from libstaragent.roles.agent_effects import CheckDraft, DropDraft, Effect, OpenDraft, WriteDraft
from libstaragent.roles.agent_files import PULLED_AT_ONCE, WANTED_AT_ONCE, Pulls
from libstaragent.security.acts import Put

JOB = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


class Host:
    """A pull with a disk in memory; `wants` are the requests that nobody has answered."""

    def __init__(self, data: bytes, draft: bytes = b"", *, timeout_ms: int = 600_000) -> None:
        self.data = data
        self.drafts: dict[str, bytearray] = {JOB: bytearray(draft)}
        self.wants: list[m.Want] = []
        self.ended: list[tuple[str, str]] = []
        self.connected = True
        self.pulls = Pulls(say=self._say, act=self._carry, whole=self._whole, failed=self._failed)
        self._queue: list[Effect] = []
        act = Put(path="/x", size=len(data), sha256=hashlib.sha256(data).digest(), timeout_ms=timeout_ms)
        self.pulls.begin(JOB, act, 0.0)

    def _say(self, message: m.AgentMessage) -> bool:
        if self.connected and isinstance(message, m.Want):
            self.wants.append(message)
        return self.connected

    def _carry(self, effect: Effect) -> None:
        self._queue.append(effect)

    def _whole(self, job: str, now: float) -> None:
        self.ended.append((job, "whole"))

    def _failed(self, job: str, state: str, code: str, errno: int | None, now: float) -> None:
        self.ended.append((job, code))

    def work(self, now: float) -> None:
        """The disk does what it was asked."""
        while self._queue:
            effect = self._queue.pop(0)
            if isinstance(effect, OpenDraft):
                self.pulls.opened(effect.job, len(self.drafts.setdefault(effect.job, bytearray())), None, now=now)
            elif isinstance(effect, WriteDraft):
                draft = self.drafts[effect.job]
                assert len(draft) == effect.offset, "a gap"
                draft += effect.data
                self.pulls.written(effect.job, None, now=now)
            elif isinstance(effect, CheckDraft):
                self.pulls.checked(effect.job, hashlib.sha256(self.drafts[effect.job]).digest(), None, now=now)
            elif isinstance(effect, DropDraft):
                self.drafts.pop(effect.job, None)

    def piece(self, want: m.Want) -> m.Chunk:
        return m.Chunk(want.job, want.offset, self.data[want.offset : want.offset + m.CHUNK_MAX])


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([0, 1, m.CHUNK_MAX, 3 * m.CHUNK_MAX, 7 * m.CHUNK_MAX + 5]),
    held=st.integers(0, 7),
    seed=st.integers(0, 1 << 30),
)
def test_a_file_becomes_whole_whatever_is_lost_doubled_or_late(size: int, held: int, seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(size)
    host = Host(data, data[: held * m.CHUNK_MAX])
    now = 0.0
    waiting: list[m.Chunk] = []
    for _ in range(2000):
        host.work(now)
        if host.ended:
            break
        waiting += [host.piece(want) for want in host.wants if chance.random() > 0.3]
        host.wants.clear()
        chance.shuffle(waiting)
        for _ in range(chance.randrange(4)):
            if waiting:
                chunk = waiting[-1] if chance.random() < 0.2 else waiting.pop()
                host.pulls.came(chunk, now=now)
        if chance.random() < 0.1:
            host.pulls.connected(now)
        now += 1.0
        host.pulls.tick(now)
    assert host.ended == [(JOB, "whole")]
    assert bytes(host.drafts[JOB]) == data


def test_a_few_pieces_are_asked_for_at_once() -> None:
    host = Host(bytes(20 * m.CHUNK_MAX))
    host.work(0.0)
    assert [want.offset for want in host.wants] == [index * m.CHUNK_MAX for index in range(WANTED_AT_ONCE)]


def test_a_few_files_are_pulled_at_once_and_the_others_follow() -> None:
    host = Host(bytes(10))
    act = Put(path="/x", size=10, sha256=hashlib.sha256(bytes(10)).digest())
    names = [JOB, *(f"01ARZ3NDEKTSV4RRFFQ69G5F{number:02}" for number in range(10))]
    for name in names[1:]:
        host.drafts[name] = bytearray()
        host.pulls.begin(name, act, 0.0)
    host.work(0.0)
    assert len({want.job for want in host.wants}) == PULLED_AT_ONCE
    while host.wants:
        host.pulls.came(host.piece(host.wants.pop(0)), now=0.0)
        host.work(0.0)
    assert sorted(host.ended) == sorted((name, "whole") for name in names)


def test_bytes_that_are_not_what_was_signed_are_refused_when_all_are_there() -> None:
    host = Host(bytes(10))
    host.work(0.0)
    host.pulls.came(m.Chunk(JOB, 0, b"x" * 10), now=0.0)
    host.work(0.0)
    assert host.ended == [(JOB, codes.FILE_DIGEST.code)]


def test_a_draft_that_the_loss_of_power_spoiled_is_pulled_once_more_and_no_oftener() -> None:
    data = random.Random(1).randbytes(2 * m.CHUNK_MAX)
    spoiled = bytes(m.CHUNK_MAX)
    for honest in (True, False):
        host = Host(data, spoiled)
        for _ in range(10):
            host.work(0.0)
            for want in host.wants:
                chunk = host.piece(want)
                host.pulls.came(chunk if honest else m.Chunk(JOB, want.offset, bytes(len(chunk.data))), now=0.0)
            host.wants.clear()
        assert host.ended == [(JOB, "whole" if honest else codes.FILE_DIGEST.code)]
        assert not honest or host.drafts[JOB] == data


def test_a_pull_ends_at_its_deadline_and_when_the_file_is_gone() -> None:
    late, gone = Host(bytes(10), timeout_ms=5000), Host(bytes(10))
    for host in (late, gone):
        host.work(0.0)
    late.pulls.tick(4.9)
    assert late.ended == []
    late.pulls.tick(5.0)
    gone.pulls.came(m.Chunk(JOB, 0, b"", codes.BLOB_GONE.code), now=1.0)
    assert late.ended == [(JOB, codes.COMMAND_TIMEOUT.code)]
    assert gone.ended == [(JOB, codes.BLOB_GONE.code)]
