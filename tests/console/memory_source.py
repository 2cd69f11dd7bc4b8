"""A fleet in memory, behind the same protocol as the real one: for the console's tests and pictures.

It is not shipped, and starts nothing: what a command prints is given by the test.
"""

from __future__ import annotations

__all__ = ("NOW", "MemorySource", "host")

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from ClusterShell.NodeSet import NodeSet

from libstaragent.codes import HOST_UNKNOWN, NO_TARGET
from opsconsole.source import IN_FLIGHT, Event, HostRow, JobRow, OutcomeCount, OutputLines, TargetRow

NOW = 1_790_000_000.0


def host(name: str, **fields: object) -> HostRow:
    values = {"id": f"id-{name}", "room": "main", "state": "up", "since": NOW - 2, "version": "0.1.0", **fields}
    return HostRow(name=name, **values)  # type: ignore[arg-type]


class MemorySource:
    """Hosts and jobs in dicts; `emit` sends a batch to whoever listens."""

    def __init__(self, hosts: Sequence[HostRow] = (), jobs: Sequence[JobRow] = ()) -> None:
        self.host_rows = {row.id: row for row in hosts}
        self.job_rows = {row.id: row for row in jobs}
        self.target_rows: dict[tuple[str, str], TargetRow] = {}
        self.records: dict[tuple[str, str], list[OutputLines]] = {}
        self.runs: list[tuple[str, tuple[str, ...], bool]] = []
        self.cancelled: list[str] = []
        self.confirm_above = 16
        self.failure: Exception | None = None
        self.outcome_rows: list[OutcomeCount] = []
        self.listening = asyncio.Event()
        self._queues: list[asyncio.Queue[Sequence[Event]]] = []

    async def hosts(self) -> Sequence[HostRow]:
        return list(self.host_rows.values())

    async def jobs(self, limit: int) -> Sequence[JobRow]:
        return sorted(self.job_rows.values(), key=lambda row: -(row.started or 0))[:limit]

    async def targets(self, job: str) -> Sequence[TargetRow]:
        return [row for (owner, _), row in self.target_rows.items() if owner == job]

    async def output(self, job: str, host: str) -> Sequence[OutputLines]:
        return list(self.records.get((job, host), ()))

    async def outcomes(self, since: float) -> Sequence[OutcomeCount]:
        return list(self.outcome_rows)

    async def events(self) -> AsyncIterator[Sequence[Event]]:
        queue: asyncio.Queue[Sequence[Event]] = asyncio.Queue()
        self._queues.append(queue)
        try:
            yield ()
            self.listening.set()
            while True:
                batch = await queue.get()
                if self.failure is not None:
                    failure, self.failure = self.failure, None
                    raise failure
                yield batch
        finally:
            self._queues.remove(queue)

    async def preview(self, targets: str) -> Sequence[str]:
        names = sorted(row.name for row in self.host_rows.values())
        if any(sign in targets for sign in "*?"):
            found = [name for name in names if fnmatchcase(name, targets)]
        else:
            found = list(NodeSet(targets))
            for name in found:
                if name not in names:
                    raise HOST_UNKNOWN.error(name)
        if not found:
            raise NO_TARGET.error(targets)
        return found

    async def run(self, targets: str, argv: Sequence[str], *, shell: bool, timeout: float | None) -> str:
        names = await self.preview(targets)
        job = f"01K{len(self.job_rows):023d}"
        self.runs.append((targets, tuple(argv), shell))
        row = JobRow(
            id=job,
            operator="ops",
            command=" ".join(argv),
            targets=len(names),
            counts=(("queued", len(names)),),
            started=NOW,
        )
        self.emit([row, *(TargetRow(job=job, host=name, state="queued") for name in names)])
        return job

    async def cancel(self, job: str) -> None:
        self.cancelled.append(job)

    def emit(self, batch: Sequence[Event]) -> None:
        """Change the fleet, and tell."""
        for event in batch:
            match event:
                case HostRow():
                    self.host_rows[event.id] = event
                case JobRow():
                    self.job_rows[event.id] = event
                case TargetRow():
                    self.target_rows[event.job, event.host] = event
                case OutputLines():
                    self.records.setdefault((event.job, event.host), []).append(event)
                case _:
                    pass
        for queue in self._queues:
            queue.put_nowait(tuple(batch))

    def print(self, job: str, host: str, data: bytes, *, stream: str = "stdout", omitted: int = 0) -> None:
        seq = len(self.records.get((job, host), ())) + 1
        self.emit([OutputLines(job=job, host=host, stream=stream, seq=seq, data=data, omitted=omitted)])  # type: ignore[arg-type]

    def finish(self, job: str, host: str, state: str = "ok", exit_status: int | None = 0, code: str = "") -> None:
        """One target ends; the job's counts follow."""
        self.emit([TargetRow(job=job, host=host, state=state, exit_status=exit_status, code=code)])
        counts: dict[str, int] = {}
        for (owner, _), row in self.target_rows.items():
            if owner == job:
                counts[row.state] = counts.get(row.state, 0) + 1
        done = IN_FLIGHT.isdisjoint(counts)
        row = self.job_rows[job]
        self.emit(
            [
                replace(
                    row,
                    counts=tuple(counts.items()),
                    state="done" if done else "running",
                    finished=NOW + 3 if done else None,
                )
            ]
        )
