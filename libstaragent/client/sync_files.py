"""What a fleet can be asked about files, without ``async``: `libstaragent.client.fleet_files`.

Rules: those of `libstaragent.sync`: nothing is decided here, and a test holds the two surfaces together.
"""

from __future__ import annotations

__all__ = ("FleetFiles",)

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from libstaragent.client import fleet as awaited_fleet
from libstaragent.client import job as awaited_job
from libstaragent.client.files import Fetched, Progress
from libstaragent.security.act_limits import MAX_FILE
from libstaragent.security.acts import Fetch, Member, Plan, Put

if TYPE_CHECKING:
    from libstaragent.sync import Job


T = TypeVar("T")


class FleetFiles:
    """See the module. `Fleet` runs the calls, and makes its own jobs of those that they give."""

    _fleet: awaited_fleet.Fleet

    def _call(self, function: Callable[[], Awaitable[T]]) -> T:
        raise NotImplementedError

    def _made(self, job: awaited_job.Job) -> Job:
        raise NotImplementedError

    def put(
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
        """Places a file on hosts."""
        return self._made(
            self._call(
                lambda: self._fleet.put(
                    source,
                    targets,
                    to,
                    mode=mode,
                    owner=owner,
                    group=group,
                    user=user,
                    timeout=timeout,
                    ttl=ttl,
                    background=background,
                    waves=waves,
                    window=window,
                    max_failures=max_failures,
                    wait=wait,
                    confirm_waves=confirm_waves,
                    life=life,
                    progress=progress,
                )
            )
        )

    def placing(
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
        """The act of placing a file; nothing is sent."""
        return self._call(
            lambda: self._fleet.placing(source, to, mode=mode, owner=owner, group=group, user=user, timeout=timeout)
        )

    def place(
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
        """Signs what `placing` gave, uploads the file and submits the job."""
        return self._made(
            self._call(
                lambda: self._fleet.place(
                    act,
                    source,
                    expression,
                    members,
                    ttl=ttl,
                    background=background,
                    plan=plan,
                    life=life,
                    progress=progress,
                )
            )
        )

    def fetch(
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
        on_job: Callable[[awaited_job.Job], None] | None = None,
    ) -> tuple[Fetched, ...]:
        """Brings a file from hosts."""
        return self._call(
            lambda: self._fleet.fetch(
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
        )

    @staticmethod
    def fetching(path: str, *, max_bytes: int = MAX_FILE, user: str | None = None, timeout: float = 600.0) -> Fetch:
        """The act of reading a file, to be signed and submitted."""
        return awaited_fleet.Fleet.fetching(path, max_bytes=max_bytes, user=user, timeout=timeout)

    def collect(self, job: str, into: Path, *, progress: Progress | None = None) -> tuple[Fetched, ...]:
        """Brings the files of a `fetch` that was begun earlier."""
        return self._call(lambda: self._fleet.collect(job, into, progress=progress))
