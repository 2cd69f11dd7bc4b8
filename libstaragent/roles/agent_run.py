"""One open job of an agent: where it stands, how it is put to the keeper, and how the keeper's summary becomes a
result.
"""

from __future__ import annotations

__all__ = ("LocalRun", "begin_by", "ids_lost", "keeper_spec", "recovered", "result_of")

from binascii import b2a_base64
from typing import Any

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.jobs.journal import Taken
from libstaragent.jobs.spool import BLOCK_SIZE
from libstaragent.model.result import RECORD_HEADER, LeftRunning, Output, TargetResult, records
from libstaragent.protocol.limits import FRAME_MAX
from libstaragent.protocol.messages import Firing, Run
from libstaragent.security.acts import SCHEDULE_ACTS, Exec, Fetch, HostAct, Put
from libstaragent.security.envelope import Envelope, read_unverified

# Head and tail as records, where output in pieces of a byte or two has more header than body; the rest of a frame is
# for digests, detail and the names of what was left running.
RECORDS_MAX = FRAME_MAX - 16 * 1024


class LocalRun:
    """See the module. `state` is one of those that `libstaragent.roles.agent` draws."""

    __slots__ = (
        "begin_by",
        "cancelled",
        "doubtful",
        "draft",
        "envelope",
        "expires_ms",
        "fired",
        "following",
        "last_sent",
        "live_end",
        "live_offset",
        "operator",
        "order",
        "result",
        "sign",
        "started_ms",
        "state",
        "stream",
        "summary",
        "told",
    )

    def __init__(
        self, state: str, *, expires_ms: int, envelope: Envelope | None = None, operator: str | None = None
    ) -> None:
        self.state = state
        self.envelope = envelope
        # Who ordered it: it is his to stop. None for a spool whose order is lost.
        self.operator = operator if envelope is None else envelope.operator
        self.expires_ms = expires_ms
        # Where the wall clock of here does not judge it: when, by `now`, it is too late to begin.
        self.begin_by: float | None = None
        self.cancelled = False
        # It was ordered again before the keeper said whether it has it.
        self.order: Run | None = None
        # Taken before the journal was damaged: whether it ran, and even ended, may be among what is lost.
        self.doubtful = False
        # Whether a file is, or was, pulled for it.
        self.draft = envelope is not None and isinstance(envelope.act, Put)
        # Whether its result is to be signed. After a restart nobody knows, and one signature more does no harm.
        self.sign = True
        self.started_ms: int | None = None
        self.summary: dict[str, Any] | None = None
        self.result: TargetResult | None = None
        self.last_sent = 0.0
        self.stream = 0
        self.live_offset = 0
        self.live_end = 0
        self.following = False
        # What to say of a firing until central knows it, which is `told` then; None for a job that central made.
        self.fired: Firing | None = None
        self.told = True


def begin_by(envelope: Envelope, now: float) -> float | None:
    """When, by `now`, what was just verified is too late to begin; None for what the wall clock judges.

    What is bound to this boot is for hosts whose clock is wrong: they can only count how long its life is.
    """
    return None if envelope.boot_nonce is None else now + (envelope.expires - envelope.issued) / 1000


def recovered(record: Taken) -> LocalRun:
    """What was taken and verified by an agent before us. Of all acts only a Put goes on where it stood: until the
    keeper knows of it, nothing but its draft was touched.
    """
    try:
        envelope = read_unverified(record.signed)
    except StarAgentError:
        # The journal's bytes say nothing, not even whose it is.
        return LocalRun("recovered", expires_ms=record.expires_ms)
    if isinstance(envelope.act, SCHEDULE_ACTS):
        # What it came to is told by the schedules there are (`agent_keeping`).
        return LocalRun("recovered", expires_ms=record.expires_ms, envelope=envelope)
    if isinstance(envelope.act, Put):
        return LocalRun("pulling", expires_ms=record.expires_ms, envelope=envelope)
    return LocalRun("recovered", expires_ms=record.expires_ms, operator=envelope.operator)


def keeper_spec(act: HostAct, owner: str | None = None) -> dict[str, Any]:
    """What the keeper needs to know of a command, or of a file to place or read; `owner` is who ordered it."""
    if not isinstance(act, Exec):
        assert isinstance(act, Put | Fetch)
        return _file_spec(act, owner)
    return {
        "argv": list(act.argv),
        "env": act.env,
        "cwd": act.cwd,
        "user": act.user,
        "umask": act.umask,
        "stdin_b64": b2a_base64(act.stdin, newline=False).decode() if act.stdin else None,
        "timeout_ms": act.timeout_ms,
        "kill_grace_ms": act.kill_grace_ms,
        "output_head": act.output_head,
        "output_tail": act.output_tail,
        "output_spool": act.output_spool,
        "owner": owner or "",
    }


def _file_spec(act: Put | Fetch, owner: str | None) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "argv": ["put" if isinstance(act, Put) else "fetch", act.path],
        "user": act.user,
        "timeout_ms": act.timeout_ms,
        "kill_grace_ms": act.kill_grace_ms,
        "output_head": 0,
        "output_tail": 0,
        "owner": owner or "",
    }
    if isinstance(act, Fetch):
        spec["task"] = {"kind": "read", "path": act.path, "max_bytes": act.max_bytes}
        # All of it, and what the blocks' and records' own heads take.
        spec["output_spool"] = act.max_bytes + act.max_bytes // 1024 + 2 * BLOCK_SIZE
    else:
        spec["task"] = {
            "kind": "place",
            "path": act.path,
            "size": act.size,
            "sha256": act.sha256.hex(),
            "mode": act.mode,
            "owner": act.owner,
            "group": act.group,
        }
    return spec


def result_of(job: str, summary: dict[str, Any], output: Output | None) -> TargetResult:
    """The keeper's summary as it travels."""
    left = summary["left_running"]
    return TargetResult(
        job=job,
        state=summary["state"],
        exit_status=summary["exit_status"],
        signal=summary["signal"],
        core_dumped=summary["core_dumped"],
        errno=summary["errno"],
        code=summary["code"],
        detail=summary["detail"],
        ran=summary["ran"],
        started_ms=summary["started_ms"],
        finished_ms=summary["finished_ms"],
        user_ms=summary["user_ms"] or 0,
        system_ms=summary["system_ms"] or 0,
        max_rss_kb=summary["max_rss_kb"] or 0,
        stdout_bytes=summary["stdout_bytes"] or 0,
        stderr_bytes=summary["stderr_bytes"] or 0,
        stdout_sha256=_digest(summary["stdout_sha256"]),
        stderr_sha256=_digest(summary["stderr_sha256"]),
        left_running=tuple(LeftRunning(entry["pid"], entry["comm"]) for entry in left),
        left_count=summary["left_running_count"],
        output=None if output is None else _fitting(output),
    )


def _fitting(output: Output) -> Output:
    """`output`, with as much of its middle left out and counted as a frame has no room for."""
    head, omitted, tail = output.head, output.omitted, output.tail
    if len(head) + len(tail) <= RECORDS_MAX:
        return output
    keep = _boundary(head, RECORDS_MAX // 2)
    if omitted:
        omitted += _output_bytes(head[keep:])
    else:
        tail = head[keep:] + tail
    cut = _boundary(tail, keep + len(tail) - RECORDS_MAX)
    return Output(head[:keep], omitted + _output_bytes(tail[:cut]), tail[cut:])


def _boundary(data: bytes, at_least: int) -> int:
    """Where the first record begins that lies at `at_least` or after it."""
    position = 0
    for _, part in records(data):
        if position >= at_least:
            break
        position += RECORD_HEADER + len(part)
    return position


def _output_bytes(data: bytes) -> int:
    return sum(len(part) for _, part in records(data))


def _digest(text: str | None) -> bytes | None:
    return bytes.fromhex(text) if text else None


def ids_lost(job: str) -> TargetResult:
    """Of an order that a damaged journal may have had."""
    return TargetResult(job=job, state="interrupted", code=codes.IDS_LOST.code, ran="maybe")
