"""The summary of a finished command: which of the terminal states it is, and every figure that belongs to it.

The raw wait status decides, so a command that exits with 137 is `exit_nonzero` and only a real signal is `signalled`.
Why the keeper ended it (timeout, cancel, its own end) goes before how it then ended; the exit status or signal still
stand beside it. `ran` is ``no`` only where the gate was never opened or exec itself failed.

Not here: the wire. The agent takes this as it is and adds host and job to it.
"""

from __future__ import annotations

import os

from libstaragent.codes import (
    COMMAND_INTERRUPTED,
    COMMAND_OOM,
    COMMAND_TIMEOUT,
    FILE_ELSEWHERE,
    FILE_FAILED,
    FILE_NOT_REGULAR,
    FILE_OWNER_UNKNOWN,
    FILE_TOO_LARGE,
    SPOOL_DAMAGED,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libstaragent.roles.keeper_job import KeptJob

__all__ = ("LEFT_MAX", "Usage", "summary_of")

# Left-over processes named in a result; the rest are only counted.
LEFT_MAX = 16

_SIGKILL = 9

# A task that began and could not be done, unlike a command that could not be started.
_TASK_FAILED = frozenset(
    code.code for code in (FILE_ELSEWHERE, FILE_FAILED, FILE_NOT_REGULAR, FILE_OWNER_UNKNOWN, FILE_TOO_LARGE)
)

_CODE_OF_STATE = {
    "timeout": COMMAND_TIMEOUT.code,
    "oom": COMMAND_OOM.code,
    "interrupted": COMMAND_INTERRUPTED.code,
}


class Usage:
    """What the kernel counted for the main process and the children that it waited for.

    `max_rss_kb` is never below the keeper's own size: the kernel counts the moment between fork and exec too.
    """

    __slots__ = ("max_rss_kb", "system_ms", "user_ms")

    def __init__(self, user_ms: int = 0, system_ms: int = 0, max_rss_kb: int = 0) -> None:
        self.user_ms = user_ms
        self.system_ms = system_ms
        self.max_rss_kb = max_rss_kb


def _state(kept: KeptJob, signal: int | None, oom: bool) -> str:
    if kept.exec_code is not None and kept.cause is None:
        return "exit_nonzero" if kept.exec_code in _TASK_FAILED else "spawn_failed"
    if kept.cause is not None:
        return kept.cause
    if kept.gate == "shut":
        return "interrupted"
    if signal is not None:
        return "oom" if oom and signal == _SIGKILL else "signalled"
    return "exit_nonzero" if kept.status else "ok"


def _ran(kept: KeptJob) -> str:
    if kept.gate == "shut" or (kept.exec_code is not None and kept.exec_code not in _TASK_FAILED):
        return "no"
    return "yes" if kept.gate == "open" else "maybe"


def summary_of(kept: KeptJob, facts: dict[str, object], now_ms: int) -> dict[str, object]:
    """The record of a job whose output is complete; `facts` as `KeeperCore.on_drained` takes them."""
    status = kept.status
    exit_status = signal = None
    began = kept.exec_code is None or kept.exec_code in _TASK_FAILED
    if status is not None and began and kept.gate != "shut":
        signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        exit_status = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    state = _state(kept, signal, facts.get("oom") is True)
    code = kept.exec_code if state in ("spawn_failed", "exit_nonzero") else _CODE_OF_STATE.get(state)
    if kept.gate == "damaged":
        code = SPOOL_DAMAGED.code
    return {
        "state": state,
        "exit_status": exit_status,
        "signal": signal,
        "core_dumped": bool(signal is not None and status is not None and os.WCOREDUMP(status)),
        "errno": kept.exec_errno,
        "code": code,
        "detail": kept.exec_detail[:200],
        "ran": _ran(kept),
        "started_ms": kept.started_ms or None,
        "finished_ms": kept.exited_ms or now_ms,
        "user_ms": kept.usage.user_ms,
        "system_ms": kept.usage.system_ms,
        "max_rss_kb": kept.usage.max_rss_kb,
        "stdout_bytes": facts.get("stdout_bytes"),
        "stderr_bytes": facts.get("stderr_bytes"),
        "stdout_sha256": facts.get("stdout_sha256"),
        "stderr_sha256": facts.get("stderr_sha256"),
        "omitted_bytes": facts.get("omitted_bytes"),
        "left_running": facts.get("left_running", []),
        "left_running_count": facts.get("left_running_count", 0),
    }
