"""A target's result as a row of the store, and back.

The output's bytes go beside it, under their digest, and are joined again by whoever reads them.
"""

from __future__ import annotations

__all__ = ("output_of", "result_of", "target_ops")

import msgspec

from agentd.store.ops import InsertOutput, InsertTarget
from libstaragent.model.result import LeftRunning, Output, TargetResult
from libstaragent.security.result_signature import kept_digest

_SAME = tuple(name for name in TargetResult.__struct_fields__ if name not in ("detail", "left_running", "output"))


def target_ops(agent: str, result: TargetResult, *, received_ms: int) -> list[InsertTarget | InsertOutput]:
    """What to write for the end of a target: its row, and its output if it has any."""
    written: list[InsertTarget | InsertOutput] = []
    output = result.output
    digest = kept_digest(output)
    if digest is not None:
        written.append(InsertOutput(digest, msgspec.msgpack.encode(output)))
    left = msgspec.json.encode(result.left_running).decode() if result.left_running else None
    row = InsertTarget(
        agent=agent,
        detail=result.detail or None,
        omitted=output.omitted if output is not None else 0,
        left_running=left,
        output_digest=digest,
        received_ms=received_ms,
        **{name: getattr(result, name) for name in _SAME},
    )
    written.append(row)
    return written


def output_of(body: bytes) -> Output:
    """The output that an `InsertOutput` of `target_ops` holds."""
    return msgspec.msgpack.decode(body, type=Output)


def result_of(row: InsertTarget, output: Output | None = None) -> TargetResult:
    """The result that a row stands for; `output` is what was read under its digest, if it was."""
    left = msgspec.json.decode(row.left_running, type=tuple[LeftRunning, ...]) if row.left_running else ()
    return TargetResult(
        detail=row.detail or "", left_running=left, output=output, **{name: getattr(row, name) for name in _SAME}
    )
