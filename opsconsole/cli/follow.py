"""Following a job on the command line: as `opsconsole.following` does it, and Ctrl-C turned into a cancel.

Rules: the first Ctrl-C asks the fleet to cancel the job and goes on to its end, the second leaves.
"""

from __future__ import annotations

__all__ = ("Left", "follow", "follow_end")

import signal
from collections.abc import Callable

import anyio

from libstaragent.client.job import Job
from libstaragent.errors import StarAgentError
from libstaragent.model.api import JobView, TargetView
from opsconsole.cli.failure import describe, narrate
from opsconsole.following import Ending, Following, Watcher


class Left(Exception):
    """The second Ctrl-C: the operator leaves, the job is being cancelled without him."""


async def follow(job: Job, watcher: Watcher) -> tuple[JobView, list[TargetView]]:
    """The job and its targets as they ended.

    :raises StarAgentError: central refuses, or cannot be reached any more.
    :raises Left: Ctrl-C, twice.
    """
    if job.submitted.plan is not None:
        # Where it began: its first wave may be over before its events are read.
        watcher.job(job.submitted)
    return await _follow(job, Following(job, watcher, on_lost=lambda error: _tell_lost(job, error)))


async def follow_end(
    job: Job, on_target: Callable[[TargetView], None], on_job: Callable[[JobView], None] = lambda job: None
) -> tuple[JobView, list[TargetView]]:
    """The same, without their output; `on_target` hears of each as it moves on, `on_job` of where its plan stands."""
    if job.submitted.plan is not None:
        on_job(job.submitted)
    ending = Ending(job, on_target=on_target, on_job=on_job, on_lost=lambda error: _tell_lost(job, error))
    return await _follow(job, ending)


async def _follow(job: Job, followed: Following | Ending) -> tuple[JobView, list[TargetView]]:
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as reading:
            tasks.start_soon(_cancel_on_interrupt, job, reading)
            try:
                await followed.run()
            except Exception as error:
                # Raised outside of the group, which would wrap it.
                failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        if isinstance(failure, OSError) and not isinstance(failure, BrokenPipeError):
            narrate(f"the job goes on without us, and later there is: opsconsole jobs show {job.id}")
        raise failure
    if reading.cancelled_caught:
        raise Left
    return followed.view, list(followed.ended.values())


def _tell_lost(job: Job, error: StarAgentError) -> None:
    narrate(f"opsconsole: {describe(error)}")
    narrate(f"trying again; the job goes on without us, and later there is: opsconsole jobs show {job.id}")


async def _cancel_on_interrupt(job: Job, reading: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT) as interrupts:
        asked = False
        async for _ in interrupts:
            if asked:
                reading.cancel()
                return
            asked = True
            narrate(f"cancelling {job.id}; once more to leave without waiting")
            try:
                await job.cancel()
            except StarAgentError as error:
                narrate(f"opsconsole: {describe(error)}")
