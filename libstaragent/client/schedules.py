"""The part of `libstaragent.client.fleet.Fleet` that is about schedules: what hosts run by themselves when it is due.

Not here: what is said of when (`scheduling`). Rules: a schedule comes, rests and goes by jobs, each signed here.
"""

from __future__ import annotations

__all__ = ("FleetSchedules",)

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from libstaragent import codes
from libstaragent.client.scheduling import until_of, when_of
from libstaragent.client.submission import check_meant
from libstaragent.model.api import ScheduleList, ScheduleView
from libstaragent.security.acts import Act, PauseSchedule, Schedule, Unschedule

if TYPE_CHECKING:
    from libstaragent.client.fleet import Fleet
    from libstaragent.client.job import Job


class FleetSchedules:
    """See the module."""

    @property
    def _fleet(self) -> Fleet:
        return cast("Fleet", self)

    async def schedule(
        self,
        name: str,
        targets: str,
        argv: Sequence[str],
        *,
        at: float | None = None,
        every: float | None = None,
        cron: str | None = None,
        zone: str = "UTC",
        at_boot: bool = False,
        until: float | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
        shell: bool = False,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        signed: bool = False,
    ) -> Job:
        """Puts a command on the hosts that `targets` means now, to run there when it is due; the job of putting it.

        :param at: once, at this time (seconds since the epoch); or `every` so many seconds; or when the five fields of
            `cron` say in the time zone `zone`; or `at_boot`: one of the four.
        :param until: when it ends (seconds since the epoch): in a year, if None.
        :param ttl: seconds within which a host may take it: an hour.
        :raises UsageError: not one of the four, or it cannot be read.
        :raises StarAgentError: as `run`; or another schedule has the name.
        """
        act = self.scheduling(
            name,
            argv,
            at=at,
            every=every,
            cron=cron,
            zone=zone,
            at_boot=at_boot,
            until=until,
            timeout=timeout,
            shell=shell,
            user=user,
            cwd=cwd,
            env=env,
            stdin=stdin,
            signed=signed,
        )
        members = await self._fleet.resolve(targets)
        _, submission = await self._fleet.sign(act, expression=targets, members=members, ttl=ttl, background=True)
        return await self._fleet.submit(submission)

    def scheduling(
        self,
        name: str,
        argv: Sequence[str],
        *,
        at: float | None = None,
        every: float | None = None,
        cron: str | None = None,
        zone: str = "UTC",
        at_boot: bool = False,
        until: float | None = None,
        timeout: float | None = None,
        shell: bool = False,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        signed: bool = False,
    ) -> Schedule:
        """The act of putting a schedule on hosts, to be signed and submitted; see `schedule`."""
        command = self._fleet.command(
            argv, timeout=timeout, shell=shell, user=user, cwd=cwd, env=env, stdin=stdin, signed=signed
        )
        when = when_of(at=at, every=every, cron=cron, zone=zone, at_boot=at_boot, now_ms=_now_ms())
        return Schedule(name, when, command, until_of(when, until, _now_ms()))

    async def schedules(self, *, ended: bool = False) -> tuple[ScheduleView, ...]:
        """The schedules, the oldest first; with those that fire no more if `ended`."""
        found = await self._fleet.transport.get("/v1/schedules", ScheduleList, ended=int(ended))
        return found.schedules

    async def find_schedule(self, name: str) -> ScheduleView:
        """The schedule with this name or id.

        :raises NotFound: there is none.
        """
        return await self._fleet.transport.get(f"/v1/schedules/{quote(name, safe='')}", ScheduleView)

    async def pause_schedule(self, name: str) -> Job:
        """Lets a schedule rest on its hosts: what is due meanwhile does not run. The job of doing so."""
        return await self._manage_schedule(name, lambda schedule: PauseSchedule(schedule, True))

    async def resume_schedule(self, name: str) -> Job:
        """Lets a paused schedule go on. The job of doing so."""
        return await self._manage_schedule(name, lambda schedule: PauseSchedule(schedule, False))

    async def remove_schedule(self, name: str) -> Job:
        """Takes a schedule from its hosts; what runs goes on. The job of doing so."""
        return await self._manage_schedule(name, Unschedule)

    async def _manage_schedule(self, name: str, act: Callable[[str], Act]) -> Job:
        view = await self._fleet.find_schedule(name)
        members = tuple(member for member in view.members if view.states.get(member.name) not in ("removed", "refused"))
        if not members:
            raise codes.SCHEDULE_UNKNOWN.error(f"{name} is on no host")
        check_meant(view.expression, members, await self._fleet.roster())
        _, submission = await self._fleet.sign(
            act(view.id), expression=view.expression, members=members, background=True
        )
        return await self._fleet.submit(submission)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
