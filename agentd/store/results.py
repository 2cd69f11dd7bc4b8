"""A target's result as a row of the store, and back.

The output's bytes go beside it, under their digest (`libstaragent.jobs.kept_output`), and are joined again by whoever
reads them.
"""

from __future__ import annotations

__all__ = ("result_of", "target_op")

import msgspec

from agentd.store.ops import InsertTarget
from libstaragent.model.result import LeftRunning, Output, TargetResult

_SAME = tuple(name for name in TargetResult.__struct_fields__ if name not in ("detail", "left_running", "output"))


def target_op(agent: str, result: TargetResult, *, omitted: int, digest: bytes, received_ms: int) -> InsertTarget:
    """The row of a target that has ended; `omitted` bytes of its output were not kept, the rest is under `digest`."""
    left = msgspec.json.encode(result.left_running).decode() if result.left_running else None
    return InsertTarget(
        agent=agent,
        detail=result.detail or None,
        omitted=omitted,
        left_running=left,
        output_digest=digest or None,
        received_ms=received_ms,
        **{name: getattr(result, name) for name in _SAME},
    )


def result_of(row: InsertTarget, output: Output | None = None) -> TargetResult:
    """The result that a row stands for; `output` is what was read under its digest, if it was."""
    left = msgspec.json.decode(row.left_running, type=tuple[LeftRunning, ...]) if row.left_running else ()
    return TargetResult(
        detail=row.detail or "", left_running=left, output=output, **{name: getattr(row, name) for name in _SAME}
    )
