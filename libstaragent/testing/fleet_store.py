"""Central's store in the simulator: what is committed, which outlives central.

Rules: it keeps the first end of a target; whatever would replace it breaks a promise, and is said.
"""

from __future__ import annotations

__all__ = ("SimStore", "StoredJob")

from collections.abc import Callable

from libstaragent.jobs.reduce import counts
from libstaragent.model.result import TargetResult
from libstaragent.roles.central_state import Decision, Ended, Job
from libstaragent.roles.pacing import WITHOUT_TURN, Past, PauseEntry
from libstaragent.security.acts import SCHEDULE_ACTS, Envelope, Exec
from libstaragent.security.signed import Signed
from libstaragent.testing.clock import ManualClock
from libstaragent.testing.disk import DiskHealth
from libstaragent.testing.fleet_audit import SimAudit
from libstaragent.testing.referee import Referee


class StoredJob:
    """One job in the store."""

    __slots__ = (
        "amendments",
        "cancel",
        "cancelled_at",
        "deadline_ms",
        "ended",
        "envelope",
        "members",
        "parts",
        "pauses",
        "schedule",
        "signed",
        "submitted_ms",
    )

    def __init__(self, job: Job) -> None:
        self.envelope = job.envelope
        self.signed = job.signed
        self.members = tuple(job.members.values())
        self.schedule = job.schedule
        self.submitted_ms = job.submitted_ms
        self.deadline_ms = job.deadline_ms
        self.ended: dict[str, Ended] = {}
        self.parts: dict[str, bytes] = {}
        self.amendments: list[Ended] = []
        self.cancel: Signed | None = None
        self.cancelled_at = 0.0
        self.pauses: list[PauseEntry] = []

    @property
    def whole(self) -> bool:
        """Whether each target has ended."""
        return len(self.ended) == len(self.members)

    def past(self, now_ms: int) -> Past:
        """What central reads of a planned job when it picks it up."""
        return Past(
            pauses=tuple(self.pauses),
            ended_ms=max((entry.received_ms for entry in self.ended.values()), default=0),
            without_turn={
                agent: entry.result.code for agent, entry in self.ended.items() if entry.result.code in WITHOUT_TURN
            },
            now_ms=now_ms,
        )


class SimStore:
    """What is committed; it outlives central."""

    def __init__(self, clock: ManualClock, referee: Referee) -> None:
        self._clock = clock
        self._referee = referee
        self.health = DiskHealth()
        self.jobs: dict[str, StoredJob] = {}
        self.audit = SimAudit()
        self.outputs: dict[bytes, bytes] = {}
        # Hears how acts on schedules ended.
        self.on_kept: Callable[[str, Envelope, TargetResult], None] = lambda agent, act, result: None

    def commit(self, decision: Decision) -> None:
        """Write it."""
        for job in decision.new_jobs:
            if job.id not in self.jobs:
                self.jobs[job.id] = StoredJob(job)
        named = {entry.job for entry in (*decision.ended, *decision.amended, *decision.reduced)}
        unknown = (named | {job for job, _, _ in decision.cancels}) - set(self.jobs)
        if unknown:
            self._referee.breaks("nothing is written about a job that is not stored", ", ".join(sorted(unknown)))
            return
        for _id, signed, _ in decision.cancels:
            if _id not in self.jobs:
                self._referee.breaks("what is cancelled is stored", _id)
                continue
            stored = self.jobs[_id]
            if stored.cancel is None:
                stored.cancel, stored.cancelled_at = signed, self._clock.now
        for entry in (*decision.ended, *decision.amended):
            if entry.body:
                self.outputs.setdefault(entry.digest, entry.body)
        for part in decision.reduced:
            self.jobs[part.job].parts.setdefault(part.agent, part.part)
        for pause in decision.pauses:
            self._referee.note("store", f"{pause.job} {'pauses' if pause.paused else 'resumes'} after {pause.begun}")
            self.jobs[pause.job].pauses.append(pause)
        for entry in decision.ended:
            stored = self.jobs[entry.job]
            before = stored.ended.get(entry.agent)
            what = f"{entry.job} on {entry.agent} is {entry.result.state}"
            self._referee.note("store", what)
            if before is not None:
                self._referee.breaks("a terminal state never changes", f"{what}, was {before.result.state}")
            else:
                stored.ended[entry.agent] = entry
                self._referee.kept(entry.agent, entry.result, self._output(entry))
                if isinstance(stored.envelope.act, SCHEDULE_ACTS):
                    self.on_kept(entry.agent, stored.envelope, entry.result)
                else:
                    self._referee.told(entry.agent, entry.result, "the store")
        for entry in decision.amended:
            stored = self.jobs[entry.job]
            self._referee.note("store", f"{entry.job} on {entry.agent} was {entry.result.state} after all")
            if isinstance(stored.envelope.act, SCHEDULE_ACTS):
                self.on_kept(entry.agent, stored.envelope, entry.result)
            else:
                self._referee.told(entry.agent, entry.result, "an amendment")
            self._referee.kept(entry.agent, entry.result, self._output(entry))
            if entry.agent not in stored.ended:
                self._referee.breaks("an amendment stands beside an end", f"{entry.job} on {entry.agent}")
            stored.amendments.append(entry)

    def _output(self, entry: Ended) -> bytes | None:
        act = self.jobs[entry.job].envelope.act
        if not entry.digest or (isinstance(act, Exec) and act.reduce and counts(entry.result)):
            return b""
        return self.outputs.get(entry.digest)

    def knows(self, job: str, agent: str) -> bool:
        """Whether the host's own word on this target is in it."""
        stored = self.jobs.get(job)
        entry = stored.ended.get(agent) if stored is not None else None
        if stored is None or entry is None:
            return False
        if entry.result.state not in ("agent_lost", "unreachable"):
            return True
        return any(amended.agent == agent for amended in stored.amendments)
