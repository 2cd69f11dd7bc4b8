"""What keeps the fleet view up to date: one subscription, and the questions whose answers go into the view.

It is not a client: it drives a `FleetSource`. It is the console's shell towards the fleet; the screens only read the
view.

Rules: subscribe first, list then, so that nothing falls between; a lost link is said and sought again with growing
pauses; an error is reported with its code and never ends the console.
"""

from __future__ import annotations

__all__ = (
    "HISTORY_HOSTS",
    "Feed",
    "as_coded",
)

import asyncio
from collections.abc import AsyncGenerator, Callable

from libstaragent.codes import CONSOLE_FAULT
from libstaragent.errors import StarAgentError
from opsconsole.fleet_view import LISTED_JOBS, FleetView
from opsconsole.job_view import JobView
from opsconsole.source import FleetSource, LinkChanged, OutputLines

# Hosts whose earlier output is read when a job is opened; the others' is read when one goes to the host.
HISTORY_HOSTS = 64
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 15.0

Report = Callable[[StarAgentError], None]


def as_coded(error: Exception) -> StarAgentError:
    """The error itself if it has a code; anything else is a fault of the console."""
    return error if isinstance(error, StarAgentError) else CONSOLE_FAULT.error(f"{type(error).__name__}: {error}")


class Feed:
    """Fills a view from a source."""

    def __init__(self, source: FleetSource, fleet: FleetView, *, report: Report) -> None:
        self._source = source
        self._fleet = fleet
        self._report = report

    async def follow(self) -> None:
        """Keep the view up to date until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            stream = self._source.events()
            try:
                async for batch in stream:
                    if not self._fleet.link.live:
                        await self._load()
                        pause = _FIRST_PAUSE
                    self._fleet.apply(batch)
                detail = "reconnecting"
            except Exception as error:
                detail = "no link"
                # Said once for each time the link goes: the top line shows that it is still being sought.
                if self._fleet.link.live or self._fleet.link.detail == "connecting":
                    self._report(as_coded(error))
            finally:
                # Left in the middle, a generator would hold its connection until somebody collects it.
                if isinstance(stream, AsyncGenerator):
                    await stream.aclose()
            self._fleet.apply([LinkChanged(live=False, detail=detail)])
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _load(self) -> None:
        self._fleet.load_hosts(await self._source.hosts())
        self._fleet.load_jobs(await self._source.jobs(LISTED_JOBS))
        self._fleet.apply([LinkChanged(live=True)])

    async def open_job(self, view: JobView) -> int:
        """Bring a job's targets and earlier output into its view.

        Returns:
            How many hosts' earlier output was left for when one goes to them.
        """
        targets = await self._source.targets(view.id)
        history: list[OutputLines] = []
        left_out = 0
        # A source may send the output of a job only while somebody looks at it: an empty log is no proof of silence.
        if view.waiting or not view.merged.ring.end:
            begun = [row.host for row in targets if row.state != "queued"]
            left_out = max(0, len(begun) - HISTORY_HOSTS)
            for host in begun[:HISTORY_HOSTS]:
                history.extend(await self._source.output(view.id, host))
        view.load(targets, history)
        return left_out

    async def open_host(self, view: JobView, host: str) -> None:
        """Bring one host's output into a job's view."""
        view.load_single(host, await self._source.output(view.id, host))
