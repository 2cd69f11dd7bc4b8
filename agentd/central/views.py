"""Jobs and targets as the API shows them, made from what is in memory or in the store.

Not here: paging and reading (`history`). Rules: pure functions; a view says nothing that is not on disk, but for the
states of open targets, which are the rooms' word.
"""

from __future__ import annotations

__all__ = ("command_text", "expression_of", "job_view", "open_view", "output_view", "target_view", "whole_result")

from typing import Any

import msgspec

from libstaragent.jobs.kept_output import output_of
from libstaragent.model.api import JobView, OutputView, TargetView
from libstaragent.model.result import Output, TargetResult
from libstaragent.roles.central_state import Ended, Job
from libstaragent.security.acts import Envelope, Member, act_text

# A list shows one line of a command; the whole is in the envelope.
MAX_COMMAND_TEXT = 500


def command_text(envelope: Envelope) -> str:
    """What runs, as one would type it."""
    text = act_text(envelope.act)
    return text if len(text) <= MAX_COMMAND_TEXT else text[: MAX_COMMAND_TEXT - 1] + "…"


def expression_of(envelope: Envelope) -> str:
    """What the operator typed to choose the hosts."""
    return "" if envelope.targets is None else envelope.targets.expression


def job_view(job: Job, *, ended: bool = True) -> JobView:
    """A job that is in memory; without `ended` its end, which may not be on disk yet, is not told."""
    pacing = job.pacing
    planned: dict[str, Any] = {}
    if pacing is not None:
        waits = "resume" if pacing.awaits_resume else "rest" if pacing.over and pacing.plan.wait_ms else ""
        planned = {
            "plan": pacing.plan,
            "wave": pacing.wave,
            "held": pacing.held,
            "paused": pacing.paused and pacing.held > 0,
            "waits": waits,
            "stopped": pacing.stopped,
        }
    return JobView(
        id=job.id,
        operator=job.operator,
        command=command_text(job.envelope),
        expression=expression_of(job.envelope),
        targets=len(job.members),
        counts=dict(job.counts),
        submitted_ms=job.submitted_ms,
        expires_ms=job.envelope.expires,
        deadline_ms=job.deadline_ms,
        finished_ms=job.ended_at if ended else None,
        cancelled=job.cancel is not None,
        source=job.source,
        schedule=job.schedule_name,
        **planned,
    )


def open_view(job: str, member: Member, state: str) -> TargetView:
    """A target that has not ended."""
    ran = "maybe" if state in ("running", "accepted", "sent") else "no"
    return TargetView(job=job, agent=member.agent, host=member.name, room=member.room, state=state, ran=ran)


def target_view(
    member: Member,
    result: TargetResult,
    received_ms: int,
    *,
    amendment: bool = False,
    output: bool = False,
    kept: bytes | None = None,
    pruned: bool = False,
) -> TargetView:
    """A target that has ended; with its kept output when `output`. `kept` is the digest of that output, if known;
    `pruned`: it is not there any longer.
    """
    view = TargetView(
        job=result.job,
        agent=member.agent,
        host=member.name,
        room=member.room,
        state=result.state,
        exit_status=result.exit_status,
        signal=result.signal,
        core_dumped=result.core_dumped,
        errno=result.errno,
        code=result.code,
        detail=result.detail,
        ran=result.ran,
        started_ms=result.started_ms,
        finished_ms=result.finished_ms,
        received_ms=received_ms,
        stdout_bytes=result.stdout_bytes,
        stderr_bytes=result.stderr_bytes,
        stdout_sha256=_hex(result.stdout_sha256),
        stderr_sha256=_hex(result.stderr_sha256),
        left_running=tuple(f"{left.pid} {left.name}" for left in result.left_running),
        left_count=result.left_count,
        amendment=amendment,
        output_sha256=_hex(kept),
        signature=_hex(result.signature),
        output_pruned=pruned,
        **({"output": output_view(result.output)} if output else {}),
    )
    return view


def whole_result(entry: Ended) -> TargetResult:
    """A result with its output."""
    return msgspec.structs.replace(entry.result, output=output_of(entry.body)) if entry.body else entry.result


def output_view(output: Output | None) -> OutputView | None:
    """The kept output, as the API shows it."""
    return None if output is None else OutputView(head=output.head, omitted=output.omitted, tail=output.tail)


def _hex(digest: bytes | None) -> str | None:
    return None if digest is None else digest.hex()
