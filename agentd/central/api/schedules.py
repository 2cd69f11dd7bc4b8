"""Schedules over HTTP: looking. They come, rest and go by jobs (`POST /v1/jobs`).

Not here: routes (`routes`), what is known (`central.schedules`).
"""

from __future__ import annotations

__all__ = ("SchedulesApi",)

import asyncio

from agentd.central.api.call import Call, Reply
from agentd.central.history import History
from agentd.central.schedules import schedule_view
from agentd.central.service import Central
from libstaragent import codes
from libstaragent.model.api import ScheduleList, ScheduleView
from libstaragent.roles.central_schedules import KeptSchedule


class SchedulesApi:
    """See the module."""

    def __init__(self, central: Central, history: History) -> None:
        self._central = central
        self._history = history

    async def listed(self, call: Call) -> Reply:
        """GET /v1/schedules"""
        ended = call.flag("ended")
        now_ms = self._central.now_ms()
        found = [one for one in self._central.core.schedules.all() if ended or one.is_live(now_ms)]
        return Reply(ScheduleList(schedules=tuple([await self._view(one) for one in found])))

    async def one(self, call: Call) -> Reply:
        """GET /v1/schedules/{id}"""
        name = call.part("id")
        kept = self._central.core.schedules.named(name, self._central.now_ms())
        if kept is None:
            raise codes.SCHEDULE_UNKNOWN.error(name[:100])
        return Reply(await self._view(kept))

    async def _view(self, kept: KeptSchedule) -> ScheduleView:
        last_id = await asyncio.to_thread(self._history.last_firing, kept.id)
        last = None
        if last_id is not None:
            job = self._central.job(last_id)
            last = await asyncio.to_thread(self._history.job_view, last_id) if job is None else self._central.view(job)
        return schedule_view(kept, last, self._central.now_ms(), dict(self._central.hosts.members))
