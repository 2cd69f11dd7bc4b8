"""Results of jobs that are not in memory: what a host repeats long after a job's end, or makes up; and firings of
schedules, which are new as a rule.

The store says what each belongs to. Then it is heard again with its job. Where there is none, the host may forget a
result, and a firing is heard as new.

Not here: what a result changes (`CentralCore`). Rules: a look-up reads the store and may push a job out of memory, so a
host has a number of them a minute; what is over it is passed over unsettled, and counted: the host says it again on
its next connection.
"""

from __future__ import annotations

__all__ = ("LOOKED_UP_A_MINUTE", "StrangeResults")

import asyncio
import logging
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from agentd.central.round import Reports
from libstaragent import codes
from libstaragent.model.ids import is_ulid
from libstaragent.protocol.trunk import FiringBegan, TargetEnded
from libstaragent.roles.central_state import Job

log = logging.getLogger("agentd.central")

# A host that was away for a day comes back with all that it did; nobody gave it more in a minute.
LOOKED_UP_A_MINUTE = 256
MINUTE_SECONDS = 60.0


class StrangeResults:
    """See the module. `recall` gives a job of the store, `forget` lets an agent forget a job, `hear` hears again.

    Attributes:
        passed_over: results that were over their host's number.
    """

    def __init__(
        self,
        recall: Callable[[str], Awaitable[Job | None]],
        forget: Callable[[str, str], None],
        hear: Callable[[Reports], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._recall = recall
        self._forget = forget
        self._hear = hear
        self._looked_up: dict[str, int] = {}
        self._minute = self._loop.time()
        self._tasks: set[asyncio.Task[None]] = set()
        self.passed_over = 0

    def look_up(self, reports: Reports) -> None:
        """Hear these results once it is known what they belong to."""
        task = self._loop.create_task(self._look_up(reports))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Look no more up; what is not done the bus delivers again."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look_up(self, reports: Reports) -> None:
        try:
            results = [report for report in reports.batch if self._may(report.agent)]
            known = {job for job in map(_job_of, results) if is_ulid(job) and await self._recall(job) is not None}
            found: list[TargetEnded | FiringBegan] = []
            for report in results:
                if isinstance(report, FiringBegan):
                    found.append(report if report.job in known else replace(report, new=True))
                elif report.result.job in known:
                    found.append(report)
                else:
                    self._forget(report.agent, report.result.job)
        except Exception:
            log.exception("%s: a result's job could not be read", codes.CENTRAL_BUG.code)
            for delivery in reports.deliveries:
                delivery.refuse()
            return
        self._hear(Reports(found, reports.deliveries))

    def _may(self, agent: str) -> bool:
        now = self._loop.time()
        if now - self._minute >= MINUTE_SECONDS:
            self._minute = now
            self._looked_up.clear()
        count = self._looked_up[agent] = self._looked_up.get(agent, 0) + 1
        if count > LOOKED_UP_A_MINUTE:
            self.passed_over += 1
        return count <= LOOKED_UP_A_MINUTE


def _job_of(report: TargetEnded | FiringBegan) -> str:
    return report.job if isinstance(report, FiringBegan) else report.result.job
