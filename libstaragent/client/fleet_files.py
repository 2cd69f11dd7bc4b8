"""What a fleet can be asked about files: the methods of `Fleet` that put, fetch and read on.

Not here: how (`files`). Rules: a part of `Fleet` and of nothing else.
"""

from __future__ import annotations

__all__ = ("FleetFiles",)

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from libstaragent.client.files import Fetched, Progress, collect_files, fetch_files, put_file, spool_pieces
from libstaragent.client.output import Gap, Piece
from libstaragent.client.submission import FOREGROUND
from libstaragent.security.act_limits import MAX_FILE

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
        ttl: float = FOREGROUND.ttl,
        progress: Progress | None = None,
    ) -> Job:
        """Places the file `source` at the path `to` on hosts, whole or not at all; the job has begun when this returns.

        :param mode, owner, group: what the file gets; None is what a new file of `user` gets.
        :param user: with whose rights; None is the agent's own.
        :param timeout: seconds for its way to the host and the placing.
        :param progress: told how much of it has been uploaded.
        :raises ResourceShort: FILE_FOR_DISTRIBUTION, it is larger than 64 MiB.
        :raises DependencyFailed: FILE_REFUSED, it cannot be read.
        :raises StarAgentError: what central refuses.
        """
        return await put_file(
            _self(self),
            source,
            targets,
            to,
            mode=mode,
            owner=owner,
            group=group,
            user=user,
            timeout=timeout,
            ttl=ttl,
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
        ttl: float = FOREGROUND.ttl,
        progress: Progress | None = None,
        on_job: Callable[[Job], None] | None = None,
    ) -> tuple[Fetched, ...]:
        """Brings the file at `path` from hosts to ``into/HOST/NAME``; returns when all have come, or not.

        :param user: with whose rights it is read; None is the agent's own.
        :param on_job: told the job, with which `collect` can go on if this is cut.
        :raises StarAgentError: what central refuses; of one host, it is in its `Fetched`.
        """
        return await fetch_files(
            _self(self),
            targets,
            path,
            into,
            max_bytes=max_bytes,
            user=user,
            timeout=timeout,
            ttl=ttl,
            progress=progress,
            on_job=on_job,
        )

    async def collect(self, job: str, into: Path, *, progress: Progress | None = None) -> tuple[Fetched, ...]:
        """Brings the files of a `fetch` that was begun earlier; what is there of them is gone on with."""
        return await collect_files(_self(self), await _self(self).job(job), into, progress=progress)

    def read_spool(self, job: str, host: str, offset: int) -> AsyncGenerator[Piece | Gap]:
        """See `Job.read_output`."""
        return spool_pieces(_self(self), job, host, offset=offset)


def _self(part: FleetFiles) -> Fleet:
    return cast("Fleet", part)
