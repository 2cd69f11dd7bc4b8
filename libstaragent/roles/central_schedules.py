"""What central knows of schedules: which there are, on which hosts each is, and which firings are to be believed. Pure.

Central keeps nothing of its own about a schedule: it follows from the jobs that put it on hosts, let it rest and take
it away, and from how their targets ended. A host's state:

    waiting   the job that brings it has no end there yet
    kept      it ended `ok`
    refused   it ended otherwise
    paused    a pause ended `ok`, and nobody has ordered it to go on since
    removed   a removal ended `ok`

A firing is a job of the hosts that are kept, or may be, at its time. So one that is cut off is in it, and is
`agent_lost` at the deadline until it tells. What a host says of a firing is believed if the id is the one that the
schedule and the time give, if the schedule is due then, and if the host is in it: no host can write into other jobs.

Not here: jobs (`central`). Times are ms since the epoch; those of pauses and removals are the hosts' own, as are those
of firings.
"""

from __future__ import annotations

__all__ = ("KeptSchedule", "ScheduleBook", "firing_job")

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.jobs.schedule import AT_GRACE_MS, check_when, firing_id, is_due_at
from libstaragent.jobs.states import is_terminal
from libstaragent.model.ids import is_ulid, ulid_time_ms
from libstaragent.protocol import trunk as t
from libstaragent.roles.central_state import GRACE_MS, Job
from libstaragent.security.acts import (
    Act,
    At,
    AtBoot,
    Envelope,
    Member,
    PauseSchedule,
    Schedule,
    Unschedule,
    run_span_ms,
)
from libstaragent.security.clock import MAX_SKEW_MS
from libstaragent.security.signed import Signed

# How long after its time a host may tell of a firing before it is given up: its own lateness and a reconnect.
TOLD_WITHIN_MS = 60_000


class KeptSchedule:
    """One schedule. `states` has a state a host; `since` when it last changed, by the host's clock."""

    __slots__ = ("envelope", "id", "members", "name", "operator", "signed", "since", "states")

    def __init__(self, envelope: Envelope, signed: Signed, members: Mapping[str, Member]) -> None:
        assert isinstance(envelope.act, Schedule)
        self.id = envelope.id
        self.name = envelope.act.name
        self.operator = envelope.operator
        self.envelope = envelope
        self.signed = signed
        self.members = dict(members)
        self.states: dict[str, str] = dict.fromkeys(self.members, "waiting")
        self.since: dict[str, int] = dict.fromkeys(self.members, 0)

    @property
    def act(self) -> Schedule:
        """What was signed."""
        assert isinstance(self.envelope.act, Schedule)
        return self.envelope.act

    def move(self, agent: str, state: str, at_ms: int) -> None:
        """Put one host into another state. What is removed or refused stays so."""
        before = self.states.get(agent)
        if before is None or before == "removed" or (before == "refused" and state != "kept"):
            return
        self.states[agent], self.since[agent] = state, at_ms

    def is_live(self, now_ms: int) -> bool:
        """Whether it may still fire anywhere."""
        return now_ms < self.act.until_ms and any(state not in ("removed", "refused") for state in self.states.values())

    def fires_on(self, agent: str, at_ms: int) -> bool:
        """Whether it may fire there at `at_ms`, as far as is known."""
        state = self.states.get(agent)
        return state in ("kept", "waiting") or (state in ("paused", "removed") and at_ms < self.since[agent])


class ScheduleBook:
    """See the module.

    Attributes:
        refused: firings that were not believed.
    """

    def __init__(self) -> None:
        self._schedules: dict[str, KeptSchedule] = {}
        self.refused = 0

    def get(self, schedule: str) -> KeptSchedule | None:
        """The schedule with this id."""
        return self._schedules.get(schedule)

    def named(self, name: str, now_ms: int) -> KeptSchedule | None:
        """The schedule with this id or name: the one that may still fire, or else the newest."""
        if name in self._schedules:
            return self._schedules[name]
        found = [one for one in self._schedules.values() if one.name == name]
        return max(found, key=lambda one: (one.is_live(now_ms), one.id), default=None)

    def all(self) -> Sequence[KeptSchedule]:
        """All, the oldest first."""
        return sorted(self._schedules.values(), key=lambda one: one.id)

    # Jobs ----------------------------------------------------------------------------------------------------------

    def check_act(self, act: Act, members: Sequence[Member], now_ms: int) -> str | None:
        """Whose schedule a new job is about; None for one that is about none, or brings one.

        :raises StarAgentError: there is no such schedule on these hosts, its name is taken, or its time cannot be read.
        """
        if isinstance(act, Schedule):
            check_when(act.when)
            before = self.named(act.name, now_ms)
            if before is not None and before.name == act.name and before.is_live(now_ms):
                raise codes.SCHEDULE_NAME_TAKEN.error(f"{act.name} is {before.id}")
            return None
        if isinstance(act, Unschedule | PauseSchedule):
            kept = self._schedules.get(act.schedule)
            if kept is None or not all(member.agent in kept.members for member in members):
                raise codes.SCHEDULE_UNKNOWN.error(act.schedule)
            return kept.operator
        return None

    def took(self, job: Job) -> None:
        """A job is in the store: it may bring a schedule, or let one go on."""
        act = job.envelope.act
        if isinstance(act, Schedule):
            self._schedules.setdefault(job.id, KeptSchedule(job.envelope, job.signed, job.members))
        elif isinstance(act, PauseSchedule) and not act.paused:
            kept = self._schedules.get(act.schedule)
            for agent in job.members if kept is not None else ():
                # From now on it may fire, whether or not we have heard of it.
                if kept is not None and kept.states.get(agent) == "paused":
                    kept.move(agent, "kept", 0)

    def ended(self, job: Job, agent: str, state: str, at_ms: int) -> None:
        """A target of a job is in the store."""
        act = job.envelope.act
        if isinstance(act, Schedule):
            kept = self._schedules.get(job.id)
            if kept is not None and kept.states.get(agent) in ("waiting", "refused"):
                kept.move(agent, "kept" if state == "ok" else "refused", at_ms)
        elif isinstance(act, Unschedule | PauseSchedule) and state == "ok":
            kept = self._schedules.get(act.schedule)
            if kept is None:
                return
            if isinstance(act, Unschedule):
                kept.move(agent, "removed", at_ms)
            elif act.paused:
                kept.move(agent, "paused", at_ms)

    # Firings -------------------------------------------------------------------------------------------------------

    def believed(self, report: t.FiringBegan, now_ms: int) -> Job | None:
        """The job that a firing is; None where it is not to be believed, which is counted."""
        job = self._job_of(report, now_ms)
        self.refused += job is None
        return job

    def _job_of(self, report: t.FiringBegan, now_ms: int) -> Job | None:
        kept = self._schedules.get(report.schedule)
        if kept is None or not is_ulid(report.job) or report.agent not in kept.members:
            return None
        act = kept.act
        at_boot = isinstance(act.when, AtBoot)
        if at_boot != bool(report.boot) or not 0 <= report.at_ms < min(act.until_ms, now_ms + MAX_SKEW_MS):
            return None
        own = (report.agent, report.boot) if at_boot else ("", "")
        try:
            if not is_due_at(act.when, report.at_ms):
                return None
        except StarAgentError:
            return None
        if report.job != firing_id(report.schedule, report.at_ms, *own):
            return None
        agents = [report.agent] if at_boot else [one for one in kept.members if kept.fires_on(one, report.at_ms)]
        if report.agent not in agents:
            agents.append(report.agent)
        members = [kept.members[agent] for agent in agents]
        return firing_job(kept.envelope, report.job, kept.signed, members, submitted_ms=now_ms)


def firing_job(envelope: Envelope, job: str, signed: Signed, members: Sequence[Member], *, submitted_ms: int) -> Job:
    """The job that a firing of the schedule in `envelope` is: what was signed to run, at the time that is in its id."""
    act = envelope.act
    assert isinstance(act, Schedule)
    at_ms = ulid_time_ms(job)
    within_ms = AT_GRACE_MS if isinstance(act.when, At) else TOLD_WITHIN_MS
    own = replace(envelope, id=job, act=act.run, issued=at_ms, not_before=at_ms, expires=at_ms + within_ms, plan=None)
    made = Job(own, signed, members, source="", submitted_ms=submitted_ms)
    made.schedule, made.schedule_name = envelope.id, act.name
    # One that is told long after has its time from then on.
    made.deadline_ms = max(made.deadline_ms, submitted_ms + run_span_ms(act.run) + GRACE_MS)
    for agent in made.members:
        # Nobody may say that nothing ran there.
        if not is_terminal(made.states[agent]):
            made.move(agent, "sent")
    return made
