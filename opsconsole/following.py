"""A job on its way to its end: live output, what was not sent live fetched, each target's end told once.

Not here: who watches (lines of the CLI, panes of the console). Rules: every target's output is complete or its gaps are
named.
"""

from __future__ import annotations

__all__ = ("Ending", "Following", "Watcher")

from collections.abc import Callable, Iterable
from typing import Protocol

import anyio

from libstaragent.client.events import JobEvents
from libstaragent.client.job import Job
from libstaragent.client.output import Gap, OutputMerge, Piece
from libstaragent.errors import StarAgentError
from libstaragent.jobs.states import is_terminal
from libstaragent.model.api import (
    HostChanged,
    JobChanged,
    JobView,
    Lagged,
    OutputLive,
    OutputView,
    TargetChanged,
    TargetView,
)

# Up to so many outputs are fetched one by one; beyond, all pages are read, which is less work for everybody.
FETCH_SINGLY = 8


class Watcher(Protocol):
    """Who is told; a `plain.Sink` that also hears of targets and of the job."""

    patient: bool

    def pieces(self, host: str, pieces: Iterable[Piece | Gap]) -> None: ...

    def end(self, host: str) -> None: ...

    def target(self, target: TargetView) -> None: ...

    def job(self, job: JobView) -> None: ...


class Ending:
    """One job waited for without its output: hosts need not send any; `run` returns when it has ended."""

    def __init__(
        self,
        job: Job,
        *,
        on_target: Callable[[TargetView], None] = lambda target: None,
        on_job: Callable[[JobView], None] = lambda job: None,
        on_lost: Callable[[StarAgentError], None] | None = None,
    ) -> None:
        self.view = job.submitted
        self.ended: dict[str, TargetView] = {}
        self._job = job
        self._on_target = on_target
        self._on_job = on_job
        self._on_lost = on_lost

    async def run(self) -> None:
        events = self._job.events(output=False)
        events.on_lost = self._on_lost
        try:
            async for event in events:
                if isinstance(event, TargetChanged):
                    self._on_target(event.target)
                    if is_terminal(event.target.state) and not event.target.amendment:
                        self.ended[event.target.agent] = event.target
                elif isinstance(event, JobChanged):
                    self._on_job(event.job)
            self.view = events.job
        finally:
            with anyio.CancelScope(shield=True):
                await events.aclose()


class Following:
    """One job on its way to its end; `run` returns when the watcher was told everything."""

    def __init__(self, job: Job, watcher: Watcher, *, on_lost: Callable[[StarAgentError], None] | None = None) -> None:
        self._on_lost = on_lost
        self.view = job.submitted
        self.ended: dict[str, TargetView] = {}
        self._job = job
        self._watcher = watcher
        self._merges: dict[str, OutputMerge] = {}
        self._wanting: dict[str, TargetView] = {}

    async def run(self) -> None:
        events = self._job.events()
        events.on_lost = self._on_lost
        try:
            async for event in events:
                self._take(event)
                if self._wanting and (not events.more or len(self._wanting) > FETCH_SINGLY):
                    await self._complete(events)
            await self._complete(events)
            self.view = events.job
        finally:
            with anyio.CancelScope(shield=True):
                await events.aclose()

    def _take(self, event: OutputLive | TargetChanged | JobChanged | HostChanged | Lagged) -> None:
        match event:
            case OutputLive():
                pieces = self._merge(event.agent).live(event)
                if pieces:
                    self._watcher.pieces(event.host, pieces)
            case TargetChanged() if event.target.amendment:
                self._watcher.target(event.target)
            case TargetChanged() if is_terminal(event.target.state):
                self._end(event.target)
            case TargetChanged():
                self._watcher.target(event.target)
            case JobChanged():
                self._watcher.job(event.job)
            case _:
                pass

    def _end(self, target: TargetView) -> None:
        self.ended[target.agent] = target
        if self._merge(target.agent).whole(target.stdout_bytes + target.stderr_bytes):
            self._tell_end(target, None)
        else:
            self._wanting[target.agent] = target

    def _tell_end(self, target: TargetView, stored: OutputView | None) -> None:
        pieces = self._merge(target.agent).finish(stored)
        if pieces:
            self._watcher.pieces(target.host, pieces)
        self._watcher.end(target.host)
        self._watcher.target(target)

    async def _complete(self, events: JobEvents) -> None:
        if len(self._wanting) > FETCH_SINGLY and len(self._wanting) * 10 >= events.job.targets:
            for found in await self._job.targets(output=True):
                target = self._wanting.pop(found.agent, None) if not found.amendment else None
                if target is not None:
                    self._tell_end(target, found.output if isinstance(found.output, OutputView) else None)
        while self._wanting:
            _, target = self._wanting.popitem()
            self._tell_end(target, await self._job.stored_output(target.agent))

    def _merge(self, agent: str) -> OutputMerge:
        merge = self._merges.get(agent)
        if merge is None:
            merge = self._merges[agent] = OutputMerge(patient=self._watcher.patient)
        return merge
