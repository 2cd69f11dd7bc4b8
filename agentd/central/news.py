"""What a committed decision means for those who watch, as events of the hub.

Not here: the hub's buffers. Rules: an event is built only when somebody wants it; a fleet-wide reader gets one event a
job and one a target, never output.
"""

from __future__ import annotations

__all__ = ("News",)

from collections.abc import Sequence
from typing import Any

from agentd.central.directory import Directory
from agentd.central.hub import Hub
from agentd.central.views import job_view, open_view, target_view
from libstaragent.model.api import HostChanged, JobChanged, OutputLive, TargetChanged
from libstaragent.protocol import trunk as t
from libstaragent.roles.central import CentralCore
from libstaragent.roles.central_state import Decision, Job


class News:
    """See the module."""

    def __init__(self, hub: Hub, core: CentralCore, hosts: Directory) -> None:
        self._hub = hub
        self._core = core
        self._hosts = hosts

    def tell(self, decision: Decision) -> None:
        """What a decision changed, now that it is on disk."""
        if not len(self._hub):
            return
        moved: dict[str, Job] = {job.id: job for job in decision.new_jobs}
        for job_id, agent, state in decision.progress:
            job = self._job(job_id)
            # Several words about one target may be in a batch; the last one counts, and a terminal one is below.
            if job is not None and job.states[agent] == state:
                self._hub.publish(TargetChanged(open_view(job_id, job.members[agent], state)), job_id)
                moved[job_id] = job
        for entries, amendment in ((decision.ended, False), (decision.amended, True)):
            for entry in entries:
                job = self._job(entry.job)
                if job is not None:
                    view = target_view(
                        job.members[entry.agent],
                        entry.result,
                        entry.received_ms,
                        amendment=amendment,
                        kept=entry.digest or None,
                    )
                    self._hub.publish(TargetChanged(view), entry.job)
                    moved[entry.job] = job
        for job_id, _, _ in decision.cancels:
            job = self._job(job_id)
            if job is not None:
                moved[job_id] = job
        moved.update(decision.paced)
        for job_id, job in moved.items():
            if self._hub.wanted(job_id):
                self._hub.publish(JobChanged(job_view(job)), job_id)
        if decision.hosts and self._hub.wanted():
            for agent in {report.agent: None for report in decision.hosts}:
                self.host(agent)

    def host(self, agent: str) -> None:
        """A host came, went or changed."""
        record = self._hosts.get(agent)
        if record is not None and self._hub.wanted():
            self._hub.publish(HostChanged(self._hosts.view(record)))

    def live(self, batch: Sequence[Any]) -> None:
        """Live output, to the readers of its job."""
        for chunk in batch:
            if not self._hub.watched(chunk.job):
                continue
            record = self._hosts.get(chunk.agent)
            name = "" if record is None else record.name
            if isinstance(chunk, t.LiveDropped):
                event = OutputLive(chunk.job, chunk.agent, name, 0, b"", chunk.count)
            else:
                event = OutputLive(chunk.job, chunk.agent, name, chunk.offset, chunk.data)
            self._hub.publish(event, chunk.job)

    def _job(self, job_id: str) -> Job | None:
        return self._core.jobs.get(job_id) if self._hub.wanted(job_id) else None
