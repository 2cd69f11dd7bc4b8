"""What a fleet can be asked about schedules, without ``async``: `libstaragent.client.schedules`.

Rules: those of `libstaragent.sync`: nothing is decided here, and a test holds the two surfaces together.
"""

from __future__ import annotations

__all__ = ("FleetSchedules",)

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from libstaragent.client import fleet as awaited_fleet
from libstaragent.client import job as awaited_job
from libstaragent.model.api import ScheduleView
from libstaragent.security.acts import Schedule

if TYPE_CHECKING:
    from libstaragent.sync import Job


T = TypeVar("T")


class FleetSchedules:
    """See the module. `Fleet` runs the calls, and makes its own jobs of those that they give."""

    _fleet: awaited_fleet.Fleet

    def _call(self, function: Callable[[], Awaitable[T]]) -> T:
        raise NotImplementedError

    def _made(self, job: awaited_job.Job) -> Job:
        raise NotImplementedError

    def schedule(
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
        """Puts a command on hosts, to run there when it is due."""
        return self._made(
            self._call(
                lambda: self._fleet.schedule(
                    name,
                    targets,
                    argv,
                    at=at,
                    every=every,
                    cron=cron,
                    zone=zone,
                    at_boot=at_boot,
                    until=until,
                    ttl=ttl,
                    timeout=timeout,
                    shell=shell,
                    user=user,
                    cwd=cwd,
                    env=env,
                    stdin=stdin,
                    signed=signed,
                )
            ),
        )

    def schedules(self, *, ended: bool = False) -> tuple[ScheduleView, ...]:
        """The schedules, the oldest first."""
        return self._call(lambda: self._fleet.schedules(ended=ended))

    def find_schedule(self, name: str) -> ScheduleView:
        """The schedule with this name or id."""
        return self._call(lambda: self._fleet.find_schedule(name))

    def pause_schedule(self, name: str) -> Job:
        """Lets a schedule rest on its hosts."""
        return self._made(self._call(lambda: self._fleet.pause_schedule(name)))

    def resume_schedule(self, name: str) -> Job:
        """Lets a paused schedule go on."""
        return self._made(self._call(lambda: self._fleet.resume_schedule(name)))

    def remove_schedule(self, name: str) -> Job:
        """Takes a schedule from its hosts."""
        return self._made(self._call(lambda: self._fleet.remove_schedule(name)))

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
        """The act of putting a schedule on hosts, to be signed and submitted."""
        return self._fleet.scheduling(
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
