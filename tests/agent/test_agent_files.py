"""The agent's files at their limits: a large roster, many large envelopes, a directory that takes nothing."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from agentd.agent.journal_file import REWRITE_BYTES, JournalFile
from agentd.agent.state import AgentState
from agentd.enrol import host
from libstaragent.errors import StarAgentError
from libstaragent.jobs.journal import Taken
from libstaragent.model.ids import new_ulid
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
