"""Whether results are what their hosts signed: judged on the operator's machine, from what the API tells.

    signed     the host's key, as first seen here, signed exactly this
    unsigned   there is no signature
    forged     there is one and it does not hold, or the output is not the one that was signed, or the key is another

Not here: keys (`known_hosts`), asking central. Rules: pure; what central itself says of a host it could not reach
(`unreachable`, `agent_lost`) carries no signature and needs none.
"""

from __future__ import annotations

__all__ = ("Verdict", "judge", "needs_signature")

from typing import Literal

from msgspec import Struct

from libstaragent.model.api import OutputView, TargetView
from libstaragent.model.result import LeftRunning, Output, TargetResult
from libstaragent.security.result_signature import kept_digest, result_holds

Word = Literal["signed", "unsigned", "forged"]


class Verdict(Struct, frozen=True):
    """One target and how far its result is its host's word."""

    target: TargetView
    word: Word
    detail: str = ""


def judge(target: TargetView, *, fleet: str, key: bytes) -> Verdict:
    """The verdict on one ended target; `key` is the agent's, empty where none is known."""
    if not target.signature:
        return Verdict(target, "unsigned")
    if not key:
        return Verdict(target, "forged", "the host has no key")
    try:
        kept = _hex(target.output_sha256)
        if isinstance(target.output, OutputView):
            shown = kept_digest(Output(target.output.head, target.output.omitted, target.output.tail))
            if target.output_sha256 is not None and shown != kept:
                return Verdict(target, "forged", "the output is another")
            kept = shown
        result = _result(target)
    except ValueError:
        return Verdict(target, "forged", "it cannot be read")
    holds = result_holds(result, fleet=fleet, agent=target.agent, kept=kept, key=key)
    return Verdict(target, "signed") if holds else Verdict(target, "forged", "the signature does not hold")


def needs_signature(target: TargetView) -> bool:
    """Whether this end is a host's word, and not central's or a room's."""
    return not (target.state in ("unreachable", "agent_lost") or (target.state == "cancelled" and target.ran == "no"))


def _result(target: TargetView) -> TargetResult:
    left = tuple(entry.partition(" ") for entry in target.left_running)
    return TargetResult(
        job=target.job,
        state=target.state,
        exit_status=target.exit_status,
        signal=target.signal,
        core_dumped=target.core_dumped,
        errno=target.errno,
        code=target.code,
        detail=target.detail,
        ran=target.ran,
        started_ms=target.started_ms,
        finished_ms=target.finished_ms,
        stdout_bytes=target.stdout_bytes,
        stderr_bytes=target.stderr_bytes,
        stdout_sha256=_hex(target.stdout_sha256),
        stderr_sha256=_hex(target.stderr_sha256),
        left_running=tuple(LeftRunning(int(pid), name) for pid, _, name in left),
        left_count=target.left_count,
        signature=_hex(target.signature),
    )


def _hex(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)
