"""Outputs of many hosts over HTTP: in groups, and reduced.

Not here: putting them together (`central.outputs`). Rules: read from the store, beside the loop, a few at a time: each
reads all results of a job.
"""

from __future__ import annotations

__all__ = ("OutputsApi",)

import asyncio

from agentd.central.api.call import Call, Reply
from agentd.central.outputs import folded_view, reduced_view
from agentd.central.service import Central
from agentd.store.reader import Reader
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.jobs.reduce import Reducer, parse_reducer
from libstaragent.model.ids import is_ulid
from libstaragent.roles.central_state import Job

# Jobs whose outputs are put together at once: each costs a core some tenths of a second for 10,000 hosts.
AT_ONCE = 2
DEFAULT_GROUPS = 100
MAX_GROUPS = 1000


class OutputsApi:
    """See the module."""

    def __init__(self, central: Central, read: Reader) -> None:
        self._central = central
        self._read = read
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def folded(self, call: Call) -> Reply:
        """GET /v1/jobs/{id}/folded"""
        job = await self._job(call)
        limit = call.number("limit", DEFAULT_GROUPS, low=1, high=MAX_GROUPS)
        still_open = len(self._central.open_states(job))
        async with self._turns:
            view = await asyncio.to_thread(
                folded_view, self._read, job.id, dict(job.members), still_open=still_open, limit=limit
            )
        return Reply(view)

    async def reduced(self, call: Call) -> Reply:
        """GET /v1/jobs/{id}/reduced"""
        job = await self._job(call)
        reducer = _reducer(job)
        hosts, still_open = len(job.members), len(self._central.open_states(job))
        async with self._turns:
            view = await asyncio.to_thread(
                reduced_view, self._read, job.id, reducer, hosts=hosts, still_open=still_open
            )
        return Reply(view)

    async def _job(self, call: Call) -> Job:
        job_id = call.part("id")
        job = await self._central.recall(job_id) if is_ulid(job_id) else None
        if job is None:
            raise codes.JOB_UNKNOWN.error(job_id[:100])
        return job


def _reducer(job: Job) -> Reducer:
    try:
        return parse_reducer(job.reduce)
    except StarAgentError as error:
        # Its outputs travelled whole, also where a later version would know the name.
        raise codes.NOT_REDUCED.error(job.id) from error
