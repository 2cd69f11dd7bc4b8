"""A store on disk, and ops with the fields that a test does not care about filled in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentd.store import Store
from agentd.store.ops import InsertJob, InsertTarget, UpsertHost


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path) as opened:
        yield opened


@pytest.fixture
def job() -> Callable[..., InsertJob]:
    def make(id: str, *, operator: str = "ann", envelope: bytes = b"signed") -> InsertJob:
        return InsertJob(
            id=id,
            operator=operator,
            act="exec",
            title="uptime",
            submitted_ms=1,
            expires_ms=2,
            deadline_ms=3,
            source="::1",
            envelope=envelope,
            members=b"\x90",
        )

    return make


@pytest.fixture
def target() -> Callable[..., InsertTarget]:
    def make(job: str, agent: str, *, state: str = "ok") -> InsertTarget:
        return InsertTarget(job=job, agent=agent, state=state, exit_status=0, ran="yes", received_ms=4)

    return make


@pytest.fixture
def host() -> Callable[..., UpsertHost]:
    def make(id: str, name: str) -> UpsertHost:
        return UpsertHost(id=id, name=name, room="hz", labels={"tier": "web"}, facts={"os": "linux"}, enrolled_ms=1)

    return make
