"""The count of connections, by which two machines with one identity are told apart, never goes back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentd.agent.state import AgentState


def test_it_goes_on_over_restarts_and_survives_what_is_no_number(tmp_path: Path) -> None:
    assert [AgentState(tmp_path).count_connect() for _ in range(3)] == [1, 2, 3]
    (tmp_path / "connects").write_bytes(b"what is this")
    state = AgentState(tmp_path)
    assert [state.count_connect(), state.count_connect()] == [1, 2]


def test_an_older_form_of_the_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "connects").write_text("41")
    assert AgentState(tmp_path).count_connect() == 42
    assert AgentState(tmp_path).count_connect() == 43


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_number_that_the_disk_does_not_take_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "connects"
    state = AgentState(tmp_path)
    assert [state.count_connect(), state.count_connect()] == [1, 2]
    path.rename(tmp_path / "kept")
    path.symlink_to("/dev/full")
    descriptor = os.open("/dev/full", os.O_RDWR)
    with pytest.raises(OSError):
        os.write(descriptor, b"1")
    os.close(descriptor)
    assert [state.count_connect(), state.count_connect()] == [0, 0]
    (tmp_path / "kept").rename(path)
    # Mended, and the process was started again: no number comes twice.
    assert AgentState(tmp_path).count_connect() == 3
