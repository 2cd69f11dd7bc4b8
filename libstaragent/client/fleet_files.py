"""What a fleet can be asked about files: the methods of `Fleet` that put, fetch and read on.

Not here: how (`files`). Rules: a part of `Fleet` and of nothing else.
"""

from __future__ import annotations

__all__ = ("FleetFiles",)

from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from libstaragent.client.files import Fetched, Progress, act_of_put, collect_files, place_file, spool_pieces
from libstaragent.client.output import Gap, Piece
from libstaragent.client.plans import in_order
from libstaragent.security.act_limits import MAX_FILE
from libstaragent.security.acts import Fetch, Member, Plan, Put

if TYPE_CHECKING:
    from libstaragent.client.fleet import Fleet
    from libstaragent.client.job import Job


class FleetFiles:
    """See the module."""

    async def put(
        self,
        source: Path,
        targets: str,
        to: str,
        *,
        mode: int | None = None,
        owner: str | None = None,
        group: str | None = None,
        user: str | None = None,
        timeout: float = 600.0,
        ttl: float | None = None,
        background: bool = False,
        waves: str | Sequence[int | str] | None = None,
        window: int | None = None,
        max_failures: int | str | None = None,
        wait: float = 0.0,
        confirm_waves: bool = False,
        life: float | None = None,
        progress: Progress | None = None,
    ) -> Job:
        """Places the file `source` at the path `to` on hosts, whole or not at all; the job has begun when this returns.

        :param mode, owner, group: what the file gets; None is what a new file of `user` gets.
        :param user: with whose rights; None is the agent's own.
        :param timeout: seconds for its way to the host and the placing.
        :param ttl, background, waves, window, max_failures, wait, confirm_waves, life: as for `Fleet.run`.
        :param progress: told how much of it has been uploaded.
        :raises ResourceShort: FILE_FOR_DISTRIBUTION, it is larger than 64 MiB.
        :raises DependencyFailed: FILE_REFUSED, it cannot be read.
        :raises StarAgentError: what central refuses.
        """
        fleet = _self(self)
        act = await self.placing(source, to, mode=mode, owner=owner, group=group, user=user, timeout=timeout)
        members = await fleet.resolve(targets)
        plan = fleet.plan(
            len(members),
            waves=waves,
            window=window,
            max_failures=max_failures,
            wait=wait,
            confirm_waves=confirm_waves,
            ttl=ttl,
            background=background,
        )
        return await self.place(
            act,
            source,
            targets,
            members if plan is None else in_order(members),
            ttl=ttl,
            background=background,
            plan=plan,
            life=life,
            progress=progress,
        )

    async def placing(
        self,
        source: Path,
        to: str,
        *,
        mode: int | None = None,
        owner: str | None = None,
        group: str | None = None,
        user: str | None = None,
        timeout: float = 600.0,
    ) -> Put:
        """The act of placing `source`, which is read for its digest; see `put`. Nothing is sent."""
        return await act_of_put(source, to, mode=mode, owner=owner, group=group, user=user, timeout=timeout)

    async def place(
        self,
        act: Put,
        source: Path,
        expression: str,
        members: Sequence[Member],
        *,
        ttl: float | None = None,
        background: bool = False,
        plan: Plan | None = None,
        life: float | None = None,
        progress: Progress | None = None,
    ) -> Job:
        """Signs what `placing` gave for hosts that were resolved before, uploads `source` and submits the job.

        :raises StarAgentError: as `put`; `source` is another file than the one that was read.
        """
        return await place_file(
            _self(self),
            act,
            source,
            expression=expression,
            members=members,
            ttl=ttl,
            background=background,
            plan=plan,
            life=life,
            progress=progress,
        )

    async def fetch(
        self,
        targets: str,
        path: str,
        into: Path,
        *,
        max_bytes: int = MAX_FILE,
        user: str | None = None,
        timeout: float = 600.0,
        ttl: float | None = None,
        progress: Progress | None = None,
        on_job: Callable[[Job], None] | None = None,
    ) -> tuple[Fetched, ...]:
        """Brings the file at `path` from hosts to ``into/HOST/NAME``; returns when all have come, or not.

        :param max_bytes: a larger file is refused by its host.
        :param user: with whose rights it is read; None is the agent's own.
        :param on_job: told the job, with which `collect` can go on if this is cut.
        :raises StarAgentError: what central refuses; of one host, it is in its `Fetched`.
        """
        fleet = _self(self)
        members = await fleet.resolve(targets)
        act = self.fetching(path, max_bytes=max_bytes, user=user, timeout=timeout)
        _, submission = await fleet.sign(act, expression=targets, members=members, ttl=ttl)
        job = await fleet.submit(submission)
        if on_job is not None:
            on_job(job)
        return await collect_files(fleet, job, into, progress=progress)

    @staticmethod
    def fetching(path: str, *, max_bytes: int = MAX_FILE, user: str | None = None, timeout: float = 600.0) -> Fetch:
        """The act of reading a file, to be signed and submitted; `collect` brings what hosts have read."""
        return Fetch(path=path, max_bytes=max_bytes, user=user, timeout_ms=int(timeout * 1000))

    async def collect(self, job: str, into: Path, *, progress: Progress | None = None) -> tuple[Fetched, ...]:
        """Brings the files of a `fetch` that was begun earlier; what is there of them is gone on with."""
        return await collect_files(_self(self), await _self(self).job(job), into, progress=progress)

    def read_spool(self, job: str, host: str, offset: int) -> AsyncGenerator[Piece | Gap]:
        """See `Job.read_output`."""
        return spool_pieces(_self(self), job, host, offset=offset)


def _self(part: FleetFiles) -> Fleet:
    return cast("Fleet", part)
