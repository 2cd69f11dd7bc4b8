"""The console's `FleetSource` on a real fleet: the client library's values turned into the console's rows.

One subscription to the fleet's events (hosts and jobs); a job that is looked at is followed besides, so that its
targets and output come from the same `Following` that the command line uses: complete, or with its gaps named.

Not here: what is shown and how. Rules: what a view may ask for again (a followed job's output so far) is kept within
KEPT_BYTES a host; the oldest followed job is let go when there are more than FOLLOWED_JOBS.
"""

from __future__ import annotations

__all__ = (
    "LiveSource",
    "host_row",
    "job_row",
    "target_row",
)

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace

from libstaragent import codes
from libstaragent.client.fleet import Fleet
from libstaragent.client.job import Job
from libstaragent.client.output import STDERR, Gap, Piece
from libstaragent.errors import StarAgentError
from libstaragent.model.api import Event as FleetEvent
from libstaragent.model.api import HostChanged, HostView, JobChanged, JobView, TargetView
from opsconsole.feed import as_coded
from opsconsole.following import Following
from opsconsole.source import Event, HostRow, HostState, JobRow, JobState, OutcomeCount, OutputLines, TargetRow

# Jobs whose live output is asked for at once: what somebody looked at last.
FOLLOWED_JOBS = 4
# Of one host's output in a followed job; what is older can be read from the store when the job has ended.
KEPT_BYTES = 256 * 1024
# Events that wait for the console's next look; it looks ten times a second.
QUEUED_BATCHES = 1024


class LiveSource:
    """See the module. Asyncio only: the console runs on it."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._queue: asyncio.Queue[list[Event] | StarAgentError] = asyncio.Queue(QUEUED_BATCHES)
        self._followed: dict[str, _Followed] = {}

    @property
    def confirm_above(self) -> int:
        """See `FleetSource`."""
        return self._fleet.context.confirm_above

    async def hosts(self) -> Sequence[HostRow]:
        """See `FleetSource`."""
        return [host_row(host) for host in await self._fleet.hosts()]

    async def jobs(self, limit: int) -> Sequence[JobRow]:
        """See `FleetSource`."""
        return [job_row(job) for job in await self._fleet.jobs(limit)]

    async def targets(self, job: str) -> Sequence[TargetRow]:
        """See `FleetSource`. Whoever asks looks at the job: a running one is followed from now on."""
        found = await self._fleet.job(job)
        view = await found.view()
        if view.finished_ms is None:
            self._follow(found)
        rows = [target_row(target) for target in await found.targets() if not target.amendment]
        return rows

    async def output(self, job: str, host: str) -> Sequence[OutputLines]:
        """See `FleetSource`."""
        followed = self._followed.get(job)
        if followed is not None and host in followed.kept:
            return list(followed.kept[host])
        found = await self._fleet.job(job)
        try:
            output = await found.output(host)
        except StarAgentError as error:
            if error.code is codes.TARGET_OPEN:
                return []
            raise
        return _Numbered(job).lines(host, output.pieces)

    async def outcomes(self, since: float) -> Sequence[OutcomeCount]:
        """See `FleetSource`."""
        found = await self._fleet.outcomes(since=since, by=("state", "code", "room", "version"))
        total = sum(row.targets for row in found.rows)
        return [
            OutcomeCount(
                state=row.state or "",
                code=row.code or "",
                room=row.room or "",
                version=row.version or "",
                targets=row.targets,
                total=total,
            )
            for row in found.rows
        ]

    async def events(self) -> AsyncIterator[Sequence[Event]]:
        """See `FleetSource`."""
        self._queue = asyncio.Queue(QUEUED_BATCHES)
        reading = asyncio.create_task(self._read_fleet())
        try:
            while True:
                batch = await self._queue.get()
                if isinstance(batch, StarAgentError):
                    raise batch
                yield batch
        finally:
            reading.cancel()
            for followed in self._followed.values():
                followed.task.cancel()
            self._followed.clear()

    async def preview(self, targets: str) -> Sequence[str]:
        """See `FleetSource`."""
        return [member.name for member in await self._fleet.resolve(targets)]

    async def run(self, targets: str, argv: Sequence[str], *, shell: bool, timeout: float | None) -> str:
        """See `FleetSource`."""
        job = await self._fleet.run(targets, argv, shell=shell, timeout=timeout)
        self._follow(job)
        return job.id

    async def cancel(self, job: str) -> None:
        """See `FleetSource`."""
        await self._fleet.cancel_job(job)

    async def _read_fleet(self) -> None:
        try:
            async with contextlib.aclosing(self._fleet.events()) as batches:
                async for batch in batches:
                    await self._queue.put([row for event in batch for row in _row_of(event)])
        except Exception as error:
            # Whatever it is, the view must hear that it stands still: it says so, and asks again.
            await self._queue.put(as_coded(error))

    def _follow(self, job: Job) -> None:
        if job.id in self._followed:
            return
        while len(self._followed) >= FOLLOWED_JOBS:
            self._followed.pop(next(iter(self._followed))).task.cancel()
        self._followed[job.id] = _Followed(job, self._queue)


class _Numbered:
    """Gives a target's records their growing numbers."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._last: dict[str, int] = {}

    def lines(self, host: str, pieces: Iterable[Piece | Gap]) -> list[OutputLines]:
        found: list[OutputLines] = []
        lost = 0
        for piece in pieces:
            if isinstance(piece, Gap):
                lost += piece.size
                continue
            number = self._last[host] = self._last.get(host, 0) + 1
            stream = "stderr" if piece.stream == STDERR else "stdout"
            found.append(
                OutputLines(job=self._job, host=host, stream=stream, seq=number, data=piece.data, omitted=lost)
            )
            lost = 0
        if lost:
            number = self._last[host] = self._last.get(host, 0) + 1
            found.append(OutputLines(job=self._job, host=host, stream="stdout", seq=number, data=b"", omitted=lost))
        return found


class _Followed:
    """A job that is looked at; a `Watcher` of its `Following`."""

    patient = False

    def __init__(self, job: Job, queue: asyncio.Queue[list[Event] | StarAgentError]) -> None:
        self.kept: dict[str, deque[OutputLines]] = {}
        self._sizes: dict[str, int] = {}
        self._lost: dict[str, int] = {}
        self._queue = queue
        self._numbered = _Numbered(job.id)
        self.task = asyncio.create_task(self._run(job))

    async def _run(self, job: Job) -> None:
        try:
            await Following(job, self).run()
        except Exception as error:
            await self._queue.put(as_coded(error))

    def pieces(self, host: str, pieces: Iterable[Piece | Gap]) -> None:
        """See `Watcher`."""
        lines = self._numbered.lines(host, pieces)
        kept = self.kept.setdefault(host, deque())
        size = self._sizes.get(host, 0)
        for line in lines:
            kept.append(line)
            size += len(line.data)
        while size > KEPT_BYTES and len(kept) > 1:
            size -= len(kept.popleft().data)
        self._sizes[host] = size
        if self._lost.get(host) and lines:
            lines[0] = replace(lines[0], omitted=lines[0].omitted + self._lost.pop(host))
        if not self._tell(*lines):
            self._lost[host] = self._lost.get(host, 0) + sum(len(line.data) + line.omitted for line in lines)

    def end(self, host: str) -> None:
        """See `Watcher`; the target's own row says it."""

    def target(self, target: TargetView) -> None:
        """See `Watcher`."""
        if not target.amendment:
            self._tell(target_row(target))

    def job(self, job: JobView) -> None:
        """See `Watcher`."""
        self._tell(job_row(job))

    def _tell(self, *events: Event) -> bool:
        """Whether the console has room for it; rows come again by the lists, output is counted as omitted."""
        try:
            self._queue.put_nowait(list(events))
        except asyncio.QueueFull:
            return False
        return True


def host_row(host: HostView) -> HostRow:
    """A host as the console shows it."""
    known: dict[str, HostState] = {"up": "up", "never": "never", "quarantined": "quarantined"}
    state = known.get(host.state, "down")
    return HostRow(
        id=host.id,
        name=host.name,
        room=host.room,
        state=state,
        labels=tuple(sorted(host.labels.items())),
        os=host.facts.get("os", ""),
        address=host.addresses[0] if host.addresses else "",
        version=host.version,
        since=host.changed_ms / 1000 if host.changed_ms else None,
    )


def job_row(job: JobView) -> JobRow:
    """A job as the console shows it."""
    return JobRow(
        id=job.id,
        operator=job.operator,
        command=job.command,
        targets=job.targets,
        counts=tuple(sorted(job.counts.items())),
        state=_job_state(job),
        started=job.submitted_ms / 1000,
        finished=None if job.finished_ms is None else job.finished_ms / 1000,
    )


def _job_state(job: JobView) -> JobState:
    if job.finished_ms is None:
        return "paused" if job.paused else "held" if job.waits else "running"
    return "cancelled" if job.cancelled else "stopped" if job.stopped else "done"


def target_row(target: TargetView) -> TargetRow:
    """A target as the console shows it."""
    return TargetRow(
        job=target.job,
        host=target.host,
        state=target.state,
        exit_status=target.exit_status,
        code=target.code or "",
    )


def _row_of(event: FleetEvent) -> list[Event]:
    match event:
        case HostChanged():
            return [host_row(event.host)]
        case JobChanged():
            return [job_row(event.job)]
        case _:
            return []
