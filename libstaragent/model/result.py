"""What became of one target: a result, and the output that came with it. Frozen values; they travel and are stored
as they are.

`Output` holds the kept part of what a command wrote, as records (``u8 stream | u32 length | bytes``, stream 1 stdout,
2 stderr) in the order in which they came: `head` from the beginning, `tail` to the end. Offsets and `omitted` count
bytes of output, both streams together and without the records' own headers. The true lengths and digests are in the
result, whatever was kept.
"""

from __future__ import annotations

__all__ = (
    "RECORD_HEADER",
    "TERMINAL",
    "LeftRunning",
    "Output",
    "TargetResult",
    "encode_records",
    "failed_result",
    "records",
)

from collections.abc import Iterable, Iterator
from struct import Struct as _Layout

from msgspec import Struct

_RECORD = _Layout(">BI")
# Bytes of a record before its output.
RECORD_HEADER = _RECORD.size

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

    pid: int
    name: str


class Output(Struct, frozen=True, array_like=True):
    """The kept records of a run: `head`, then `omitted` bytes of output that were not kept, then `tail`."""

    head: bytes = b""
    omitted: int = 0
    tail: bytes = b""


class TargetResult(Struct, frozen=True, array_like=True, kw_only=True):
    """How one target of one job ended. `state` is one of TERMINAL; times are ms since the epoch by the host's clock."""

    job: str
    state: str
    exit_status: int | None = None
    signal: int | None = None
    core_dumped: bool = False
    errno: int | None = None
    code: str | None = None
    detail: str = ""
    ran: str = "no"
    started_ms: int | None = None
    finished_ms: int | None = None
    user_ms: int = 0
    system_ms: int = 0
    max_rss_kb: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_sha256: bytes | None = None
    stderr_sha256: bytes | None = None
    left_running: tuple[LeftRunning, ...] = ()
    left_count: int = 0
    output: Output | None = None


def failed_result(job: str, state: str, code: str, detail: str = "", *, errno: int | None = None) -> TargetResult:
    """The result of a target on which nothing was started."""
    return TargetResult(job=job, state=state, code=code, detail=detail[:1000], errno=errno, ran="no")


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
