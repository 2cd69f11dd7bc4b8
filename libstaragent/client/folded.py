"""Folding a job's outputs at the operator's end: what central has is read, each distinct output once.

Not here: what a group is (`libstaragent.jobs.folding`). Rules: what a host brought after its deadline is its output;
targets that have not ended are in no group.
"""

from __future__ import annotations

__all__ = ("compared", "folded", "printed")

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import anyio

from libstaragent.jobs import folding
from libstaragent.jobs.folding import Group, GroupDiff, Printed
from libstaragent.jobs.states import is_terminal
from libstaragent.model.api import OutputView, TargetView
from libstaragent.model.result import Output

if TYPE_CHECKING:
    from libstaragent.client.job import Job

# Distinct outputs are read by themselves when they are few for the targets; pages with all outputs cost less else.
DISTINCT_SHARE = 4
# Read at once; central answers each from one row.
READ_AT_ONCE = 8
# Above it folding takes so long that the loop must not wait for it.
IN_LOOP_MAX = 64


async def folded(job: Job, *, similar: bool) -> tuple[Group, ...]:
    """See `Job.fold`."""
    found = await printed(job)
    fold = folding.fold_similar if similar else folding.fold
    return tuple(fold(found) if len(found) <= IN_LOOP_MAX else await anyio.to_thread.run_sync(fold, found))


async def compared(groups: Sequence[Group]) -> tuple[GroupDiff, ...]:
    """See `Job.diff`."""
    return tuple(await anyio.to_thread.run_sync(folding.diff, groups))


async def printed(job: Job) -> list[Printed]:
    """The ended targets and their outputs."""
    targets = _latest(await job.targets())
    distinct: dict[str, TargetView] = {}
    for target in targets:
        if target.output_sha256 is not None:
            distinct.setdefault(target.output_sha256, target)
    if len(distinct) * DISTINCT_SHARE > len(targets) and len(distinct) > READ_AT_ONCE:
        targets = _latest(await job.targets(output=True))
        return [_printed(target, _kept(target.output)) for target in targets]
    outputs = await _read(job, distinct)
    return [_printed(target, outputs.get(target.output_sha256 or "", Output())) for target in targets]


def _latest(targets: Sequence[TargetView]) -> list[TargetView]:
    """One view a host: its amendment, if there is one."""
    found = {target.agent: target for target in sorted(targets, key=lambda target: target.amendment)}
    return [target for target in found.values() if is_terminal(target.state)]


async def _read(job: Job, distinct: Mapping[str, TargetView]) -> dict[str, Output]:
    found: dict[str, Output] = {}
    waiting = list(distinct.items())

    async def read() -> None:
        while waiting:
            digest, target = waiting.pop()
            found[digest] = _kept(await job.stored_output(target.agent))

    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(min(READ_AT_ONCE, len(waiting))):
                tasks.start_soon(read)
    except* Exception as errors:
        # What is raised is what central said, and not a group around it.
        failure = errors.exceptions[0]
    if failure is not None:
        raise failure
    return found


def _kept(output: object) -> Output:
    if not isinstance(output, OutputView):
        return Output()
    return Output(head=output.head, omitted=output.omitted, tail=output.tail)


def _printed(target: TargetView, output: Output) -> Printed:
    return Printed(
        host=target.host,
        state=target.state,
        exit_status=target.exit_status,
        signal=target.signal,
        code=target.code,
        stdout_bytes=target.stdout_bytes,
        stderr_bytes=target.stderr_bytes,
        stdout_sha256=target.stdout_sha256,
        stderr_sha256=target.stderr_sha256,
        output=output,
    )
