"""A renewal whose step cannot be started, or whose request is gone, is told and tried again later."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentd.agent.renewal import RETRY_MS, Renewal
from agentd.agent.state import AgentState, Identity

DEADLINE = 30.0
IDENTITY = Identity(
    agent="a", name="web01", room="main", fleet="f", api="127.0.0.1:1", room_address="127.0.0.1:1", renew_at_ms=1
)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def renewal(tmp_path: Path, said: list[str]) -> Iterator[Renewal]:
    made = Renewal(AgentState(tmp_path), IDENTITY, log=said.append)
    yield made
    assert made.process is None, "a step was left running"


@pytest.fixture
def no_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An interpreter that an upgrade has taken away, which is put back by creating it."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    return tmp_path / "python"


def runs(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def ended(renewal: Renewal) -> None:
    """Wait until the step's process is a zombie."""
    assert renewal.process is not None
    descriptor = os.pidfd_open(renewal.process)
    try:
        assert select.select([descriptor], [], [], DEADLINE)[0]
    finally:
        os.close(descriptor)


def test_a_step_that_cannot_be_started_is_tried_again_later(
    renewal: Renewal, said: list[str], no_python: Path, tmp_path: Path
) -> None:
    assert renewal.due(10) is None
    assert len(said) == 1 and "No such file" in said[0]
    assert renewal.due(10 + RETRY_MS - 1) is None and len(said) == 1
    runs(no_python, f"echo csr > {tmp_path}/request.pem")
    assert renewal.due(10 + RETRY_MS) is None
    ended(renewal)
    assert renewal.due(11 + RETRY_MS) == b"csr\n"


def test_a_request_that_is_gone_is_made_again_later(
    renewal: Renewal, said: list[str], no_python: Path, tmp_path: Path
) -> None:
    runs(no_python, "exit 0")
    assert renewal.due(10) is None
    ended(renewal)
    assert renewal.due(11) is None
    assert len(said) == 1 and "request.pem" in said[0]
    runs(no_python, f"echo csr > {tmp_path}/request.pem")
    assert renewal.due(10 + RETRY_MS) is None
    ended(renewal)
    assert renewal.due(11 + RETRY_MS) == b"csr\n"


def test_an_answer_that_cannot_be_installed_now_does_not_end_the_agent(
    renewal: Renewal, said: list[str], no_python: Path
) -> None:
    renewal.install(b"certificate", "")
    assert len(said) == 1 and "No such file" in said[0] and renewal.process is None


def test_while_there_is_no_room_to_ask_the_request_is_kept_and_not_made_again(
    renewal: Renewal, no_python: Path, tmp_path: Path
) -> None:
    runs(no_python, f"echo csr >> {tmp_path}/request.pem")
    assert renewal.due(10) is None
    ended(renewal)
    for now_ms in range(11, 20):
        assert renewal.due(now_ms) == b"csr\n"
        renewal.postpone(b"csr\n")
    assert renewal.due(20) == b"csr\n"
    assert renewal.due(21) is None and renewal.process is None
