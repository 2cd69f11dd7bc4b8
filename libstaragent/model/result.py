"""What became of one target: a result, and the output that came with it. Frozen values; they travel and are stored
as they are.

`Output` holds the kept part of what a command wrote, as records (``u8 stream | u32 length | bytes``, stream 1 stdout,
2 stderr) in the order in which they came: `head` from the beginning, `tail` to the end. Offsets and `omitted` count
bytes of output, both streams together and without the records' own headers. The true lengths and digests are in the
result, whatever was kept.

Rules: a host may be hostile, so every field is bounded where it is decoded: one that no column of the store holds would
undo the write of everybody else's results.
"""

from __future__ import annotations

__all__ = (
    "RECORD_HEADER",
    "TERMINAL",
    "LeftRunning",
    "Output",
    "TargetResult",
    "Whole",
    "encode_records",
    "failed_result",
    "records",
)

from collections.abc import Iterable, Iterator
from struct import Struct as _Layout
from typing import Annotated

from msgspec import Meta, Struct

_RECORD = _Layout(">BI")
# Bytes of a record before its output.
RECORD_HEADER = _RECORD.size

# 2^53 - 1: the largest integer that every JSON reader keeps exact; and what a 32-bit column holds.
Whole = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
Small = Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]
# A ULID; a state or `ran`; a code of the catalogue.
Word = Annotated[str, Meta(max_length=32)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
# A sentence about what went wrong; longer ones are cut where they are made.
DETAIL_MAX = 1000
# The keeper names 16, each by the kernel's 15 bytes.
LEFT_NAMED_MAX = 64
LEFT_NAME_MAX = 64

# In the order in which a summary names them.
TERMINAL: tuple[str, ...] = (
    "ok",
    "exit_nonzero",
    "signalled",
    "timeout",
    "cancelled",
    "oom",
    "limit",
    "spawn_failed",
    "denied",
    "bad_signature",
    "expired",
    "unreachable",
    "agent_lost",
    "interrupted",
    "unsupported",
)


class LeftRunning(Struct, frozen=True, array_like=True):
    """A process that a finished command left behind."""

    pid: Small
    name: Annotated[str, Meta(max_length=LEFT_NAME_MAX)]


class Output(Struct, frozen=True, array_like=True):
    """The kept records of a run: `head`, then `omitted` bytes of output that were not kept, then `tail`."""

    head: bytes = b""
    omitted: Whole = 0
    tail: bytes = b""


class TargetResult(Struct, frozen=True, array_like=True, kw_only=True):
    """How one target of one job ended. `state` is one of TERMINAL; times are ms since the epoch by the host's clock."""

    job: Word
    state: Word
    exit_status: Small | None = None
    signal: Small | None = None
    core_dumped: bool = False
    errno: Small | None = None
    code: Word | None = None
    detail: Annotated[str, Meta(max_length=DETAIL_MAX)] = ""
    ran: Word = "no"
    started_ms: Whole | None = None
    finished_ms: Whole | None = None
    user_ms: Whole = 0
    system_ms: Whole = 0
    max_rss_kb: Whole = 0
    stdout_bytes: Whole = 0
    stderr_bytes: Whole = 0
    stdout_sha256: Digest | None = None
    stderr_sha256: Digest | None = None
    left_running: Annotated[tuple[LeftRunning, ...], Meta(max_length=LEFT_NAMED_MAX)] = ()
    left_count: Small = 0
    output: Output | None = None
    # The host's own (`libstaragent.security.result_signature`); None where nobody asked for it.
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)] | None = None


def failed_result(
    job: str, state: str, code: str, detail: str = "", *, errno: int | None = None, ran: str = "no"
) -> TargetResult:
    """The result of a target on which nothing was started; `ran` is ``maybe`` where it may be yet."""
    return TargetResult(job=job, state=state, code=code, detail=detail[:DETAIL_MAX], errno=errno, ran=ran)


def encode_records(pairs: Iterable[tuple[int, bytes]]) -> bytes:
    """Records as they travel and are stored."""
    return b"".join(_RECORD.pack(stream, len(data)) + data for stream, data in pairs)


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The (stream, bytes) pairs of a run of spool records; a cut last record gives what there is of it."""
    position = 0
    while position + _RECORD.size <= len(data):
        stream, length = _RECORD.unpack_from(data, position)
        position += _RECORD.size
        yield stream, data[position : position + length]
        position += length
