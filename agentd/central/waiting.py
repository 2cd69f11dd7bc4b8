"""Who waits for the end of a job, and what they are given with it.

Not here: HTTP, time limits. Rules: a job nobody waits for costs one look-up a batch; the results of a small job are
gathered as they come, so that the answer needs no read of the store.
"""

from __future__ import annotations

__all__ = ("WAITED_TARGETS", "Waiter", "Waiters")

import asyncio

from libstaragent.roles.central_state import Decision, Ended, Job

# Results that a waiting caller gets with its answer; beyond it they are read in pages.
WAITED_TARGETS = 100


class Waiter:
    """Those who wait for one job. `results` has what was gathered, or is None."""

    __slots__ = ("_callers", "_loop", "results", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, gather: bool) -> None:
        self._loop = loop
        self.results: dict[str, Ended] | None = {} if gather else None
        self.waiting = 0
        # Once nobody needs to wait any longer: whether the job had ended then.
        self._callers: list[asyncio.Future[bool]] | bool = []

    async def ended(self, within: float) -> bool:
        """Whether the job ends within so many seconds."""
        if isinstance(self._callers, bool):
            return self._callers
        # Neither shield nor timeout: a caller that has a future of its own needs no more than a timer.
        future: asyncio.Future[bool] = self._loop.create_future()
        self._callers.append(future)
        late = self._loop.call_later(within, _resolve, future, False)
        try:
            return await future
        finally:
            late.cancel()

    def resolve(self, ended: bool) -> None:
        """The job has ended, or nobody waits for that any longer."""
        callers, self._callers = self._callers, ended
        if not isinstance(callers, bool):
            for future in callers:
                _resolve(future, ended)


def _resolve(future: asyncio.Future[bool], ended: bool) -> None:
    # Whoever waits may be gone already.
    if not future.done():
        future.set_result(ended)


class Waiters:
    """All of them, by job."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._by_job: dict[str, Waiter] = {}

    def join(self, job: Job) -> Waiter | None:
        """One more for this job; None when it has ended."""
        if not job.open:
            return None
        waiter = self._by_job.get(job.id)
        if waiter is None:
            # What came before nobody gathered; then all of it is read from the store at the end.
            gather = len(job.members) <= WAITED_TARGETS and job.open == len(job.members)
            waiter = self._by_job[job.id] = Waiter(self._loop, gather=gather)
        waiter.waiting += 1
        return waiter

    def leave(self, job: Job, waiter: Waiter) -> None:
        """One who waited does not any more."""
        waiter.waiting -= 1
        if waiter.waiting <= 0 and self._by_job.get(job.id) is waiter:
            del self._by_job[job.id]

    def forget(self, job_id: str) -> None:
        """The job was never taken: whoever asked for it is told by its request."""
        self._by_job.pop(job_id, None)

    def answer(self, decision: Decision) -> None:
        """What a committed decision brings them."""
        waiters = self._by_job
        if not waiters:
            return
        for entry in decision.ended:
            waiter = waiters.get(entry.job)
            if waiter is not None and waiter.results is not None:
                waiter.results[entry.agent] = entry
        for job in decision.finished:
            waiter = waiters.pop(job.id, None)
            if waiter is not None:
                waiter.resolve(True)

    def release(self) -> None:
        """Nobody waits any longer: as if their time were over."""
        for waiter in self._by_job.values():
            waiter.resolve(False)
        self._by_job.clear()
