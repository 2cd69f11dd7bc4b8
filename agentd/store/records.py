"""What is read from the store: frozen values, one kind for each table that is read.

A target's row is the op that wrote it (`ops.InsertTarget`), an amendment's `ops.InsertAmendment`.
"""

from __future__ import annotations

__all__ = ("Cancel", "Host", "Job", "JobSummary", "Outcome", "Pause", "Session", "Token")

from msgspec import Struct


class JobSummary(Struct, frozen=True, kw_only=True):
    """A job as lists show it. `state` is None while it is open; `counts` maps target state to number once it is not."""

    id: str
    operator: str
    act: str
    title: str
    submitted_ms: int
    expires_ms: int
    deadline_ms: int
    source: str
    state: str | None = None
    counts: dict[str, int] = {}
    finished_ms: int | None = None


class Job(JobSummary, frozen=True, kw_only=True):
    """A job whole: with the signed act and the msgpack of its frozen members (agent, name, room)."""

    envelope: bytes
    members: bytes


class Host(Struct, frozen=True, kw_only=True):
    """An enrolled host."""

    id: str
    name: str
    room: str
    labels: dict[str, str]
    facts: dict[str, str]
    certificate_serial: str | None
    certificate_not_after_ms: int | None
    enrolled_ms: int
    last_seen_ms: int | None
    revoked: bool
    result_key: bytes | None
    guard: bytes | None


class Token(Struct, frozen=True, kw_only=True):
    """An enrolment token, without its secret."""

    id: str
    digest: bytes
    room: str
    name_pattern: str
    networks: tuple[str, ...]
    labels: dict[str, str]
    uses_left: int
    expires_ms: int
    created_by: str
    replaces: bool = False


class Session(Struct, frozen=True, kw_only=True):
    """A login, without its secret."""

    id: str
    digest: bytes
    operator: str
    key: bytes
    expires_ms: int


class Pause(Struct, frozen=True, kw_only=True):
    """A request to pause a job or to go on with it."""

    id: str
    job: str
    seq: int
    paused: bool
    begun: int
    confirmed: int
    operator: str
    signed: bytes
    at_ms: int


class Cancel(Struct, frozen=True, kw_only=True):
    """A request to cancel a job."""

    id: str
    job: str
    operator: str
    signed: bytes
    at_ms: int


class Outcome(Struct, frozen=True, kw_only=True):
    """How many targets ended, and how many of them ok; what was summed over is None."""

    start_ms: int | None = None
    room: str | None = None
    version: str | None = None
    state: str | None = None
    code: str | None = None
    targets: int | None
    ok: int | None
