"""The agent's files at their limits: a large roster, many large envelopes, a directory that takes nothing, drafts."""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from agentd.agent import drafts as drafts_of_agent
from agentd.agent.drafts import Drafts
from agentd.agent.journal_file import REWRITE_BYTES, JournalFile
from agentd.agent.state import AgentState
from agentd.enrol import host
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.jobs.journal import Taken
from libstaragent.model.ids import new_ulid
from libstaragent.protocol import messages as m
from libstaragent.roles.agent_files import Pulls
from libstaragent.security.acts import Put
from libstaragent.security.roster import Operator, Roster, open_roster, sign_roster
from libstaragent.security.signed import Signed
from libstaragent.security.signing import public_key


def test_a_roster_of_as_many_operators_as_there_may_be_is_read_back_after_a_restart(tmp_path: Path) -> None:
    root = os.urandom(32)
    operators = tuple(Operator(f"operator{number:03}", os.urandom(32), ("operator", "read")) for number in range(512))
    groups = {f"group{number:03}": f"web{number:03}[0001-9999],db{number:03}[0001-9999]" for number in range(512)}
    roster = Roster(
        root=public_key(root),
        revision=1,
        previous=b"",
        issued=1,
        valid_until=2,
        ca=(bytes(32),),
        operators=operators,
        groups=groups,
    )
    state = AgentState(tmp_path)
    state.write_roster(sign_roster(roster, root))
    assert (tmp_path / "roster").stat().st_size > 64 * 1024
    assert open_roster(state.roster()) == roster


def test_open_jobs_larger_than_the_journal_s_bound_do_not_have_it_written_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = JournalFile(path)
    large = Signed(bytes(200 * 1024), bytes(32), bytes(64))
    files: list[int] = []
    for number in range(120):
        job = new_ulid(1, number.to_bytes(10, "big"))
        assert journal.append([Taken(job, large, 1 << 50)], sync=False) is None
        files.append(path.stat().st_ino)
    journal.close()
    assert path.stat().st_size > REWRITE_BYTES
    assert sum(before != after for before, after in itertools.pairwise(files)) == 1
    assert len(JournalFile(path).records) == 120


def test_a_directory_that_takes_no_key_is_found_out_before_anything_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "below", Path("/dev/null/agent")):
        with pytest.raises(StarAgentError) as refused:
            host.keep_key(directory, b"key")
        assert refused.value.errno is not None


class PulledAlone:
    """The part of an agent's core that drafts talk to, with one file on its way."""

    def __init__(self, drafts: Drafts, data: bytes) -> None:
        self.drafts = drafts
        self.data = data
        self.ended: list[str] = []
        self.wants: list[m.Want] = []
        self._effects: list[Any] = []
        self.pulls = Pulls(
            say=self._say,
            act=self._effects.append,
            whole=lambda job, now: self.ended.append("whole"),
            failed=lambda job, state, code, errno, now: self.ended.append(code),
        )
        self.pulls.begin(JOB, Put(path="/x", size=len(data), sha256=hashlib.sha256(data).digest()), 0.0)

    def _say(self, message: m.AgentMessage) -> bool:
        assert isinstance(message, m.Want)
        self.wants.append(message)
        return True

    def turn(self, *, pieces: int) -> None:
        """The effects, and the answers to so many requests."""
        while self._effects or (self.wants and pieces):
            while self._effects:
                self.drafts.carry_out(self._effects.pop(0), self, 0.0)  # type: ignore[arg-type]
            if self.wants and pieces:
                pieces -= 1
                want = self.wants.pop(0)
                piece = self.data[want.offset : want.offset + m.CHUNK_MAX]
                self.pulls.came(m.Chunk(want.job, want.offset, piece), now=0.0)


JOB = new_ulid(1, bytes(10))


def test_what_an_agent_before_us_wrote_of_a_file_is_hashed_in_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts_of_agent, "HASHED_AT_ONCE", 2 * m.CHUNK_MAX)
    data = os.urandom(10 * m.CHUNK_MAX + 5)
    before = PulledAlone(Drafts(tmp_path), data)
    before.turn(pieces=4)
    assert (tmp_path / JOB).stat().st_size == 4 * m.CHUNK_MAX
    after = PulledAlone(Drafts(tmp_path), data)
    after.turn(pieces=100)
    assert after.ended == [] and after.drafts.busy
    steps = 0
    while after.drafts.busy:
        steps += 1
        after.drafts.work(after, 0.0)  # type: ignore[arg-type]
    assert (steps, after.ended) == (6, ["whole"])
    assert (tmp_path / JOB).read_bytes() == data


def test_a_draft_that_is_gone_or_dropped_while_it_is_hashed_ends_its_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts_of_agent, "HASHED_AT_ONCE", m.CHUNK_MAX)
    data = bytes(4 * m.CHUNK_MAX)
    for end in ("gone", "dropped"):
        (tmp_path / JOB).write_bytes(data)
        host = PulledAlone(Drafts(tmp_path), data)
        host.turn(pieces=0)
        host.drafts.work(host, 0.0)  # type: ignore[arg-type]
        assert host.drafts.busy
        if end == "gone":
            (tmp_path / JOB).unlink()
            host.drafts.work(host, 0.0)  # type: ignore[arg-type]
            assert host.ended == [codes.DRAFT_FAILED.code]
        else:
            host.pulls.drop(JOB)
            host.turn(pieces=0)
            assert not (tmp_path / JOB).exists()
        assert not host.drafts.busy
