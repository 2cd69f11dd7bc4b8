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

    __slots__ = ("ended", "results", "waiting")

    def __init__(self, ended: asyncio.Future[None], *, gather: bool) -> None:
        self.ended = ended
        self.results: dict[str, Ended] | None = {} if gather else None
        self.waiting = 0


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
            waiter = self._by_job[job.id] = Waiter(self._loop.create_future(), gather=gather)
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
            if waiter is not None and not waiter.ended.done():
                waiter.ended.set_result(None)

    def release(self) -> None:
        """Nobody waits any longer: as if their time were over."""
        for waiter in self._by_job.values():
            if not waiter.ended.done():
                waiter.ended.set_exception(TimeoutError())
                # Whoever waits may be gone already.
                waiter.ended.exception()
        self._by_job.clear()
