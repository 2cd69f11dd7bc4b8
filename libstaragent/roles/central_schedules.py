"""What central knows of schedules: which there are, on which hosts each is, and which firings are to be believed. Pure.

Central keeps nothing of its own about a schedule: it follows from the jobs that put it on hosts, let it rest and take
it away, and from how their targets ended. A host's state:

    waiting   the job that brings it has no end there yet
    kept      it ended `ok`
    unknown   it ended, and nobody can say whether the host keeps it: `agent_lost`, `interrupted`, a disk that failed
    refused   it ended otherwise: the host does not keep it
    paused    a pause ended `ok`, and nobody has ordered it to go on since (`schedule_rests`)
    missing   it was kept; when it was to rest or go on, the host said that it keeps no such schedule
    removed   a removal ended `ok`, or so

Orders may overtake each other: a host that says it keeps none may be about to take it. So while it waits it goes on
waiting, and what is missing may fire.

A firing is a job of the hosts that are kept, or may be, at its time. So one that is cut off is in it, and is
`agent_lost` at the deadline until it tells. What a host says of a firing is believed if the id is the one that the
schedule and the time give, if it can have fired then (`firing_claims`), and if the host is in it and has not said that
it took it away before: no host can write into other jobs, nor make jobs without end.

Not here: jobs (`central`). Times are ms since the epoch; those of pauses and removals are the hosts' own, as are those
of firings.
"""

from __future__ import annotations

__all__ = ("KeptSchedule", "ScheduleBook", "firing_job")

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.jobs.schedule import AT_GRACE_MS, check_when, firing_id
from libstaragent.jobs.states import is_terminal
from libstaragent.model.ids import is_ulid, ulid_time_ms
from libstaragent.protocol import trunk as t
from libstaragent.roles.central_state import GRACE_MS, Job
from libstaragent.roles.firing_claims import FiringClaims, is_plausible
from libstaragent.roles.schedule_rests import Rests
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
# How the job that brings a schedule may end where it may be kept all the same.
_UNKNOWN_ENDS = ("agent_lost", "interrupted")
# In which a host may fire, as far as is known; those in which it may have until it said otherwise.
_FIRING = ("waiting", "kept", "unknown", "missing")
_FIRED_BEFORE = ("paused", "removed")


class KeptSchedule:
    """One schedule. `states` has a state a host; `since` when it last changed, by the host's clock; `reasons` the code
    of what is refused or missing.
    """

    __slots__ = (
        "claims",
        "envelope",
        "id",
        "members",
        "name",
        "operator",
        "reasons",
        "rests",
        "signed",
        "since",
        "states",
    )

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
        self.reasons: dict[str, str] = {}
        self.rests: dict[str, Rests] = {}
        self.claims = FiringClaims(self.act)

    @property
    def act(self) -> Schedule:
        """What was signed."""
        assert isinstance(self.envelope.act, Schedule)
        return self.envelope.act

    def move(self, agent: str, state: str, at_ms: int, reason: str = "") -> None:
        """Put one host into another state. What is removed or refused stays so."""
        before = self.states.get(agent)
        if before is None or before == "removed" or (before == "refused" and state != "kept"):
            return
        self.states[agent], self.since[agent] = state, at_ms
        self.reasons.pop(agent, None)
        if reason:
            self.reasons[agent] = reason

    def steer(self, agent: str) -> Rests:
        """What is known of its rests on one host; `steered` is to follow."""
        return self.rests.setdefault(agent, Rests())

    def steered(self, agent: str) -> None:
        """Let the host's state follow from its rests."""
        since_ms = self.steer(agent).since_ms
        if since_ms is not None:
            self.move(agent, "paused", since_ms)
        elif self.states.get(agent) == "paused":
            self.move(agent, "kept", 0)

    def is_live(self, now_ms: int) -> bool:
        """Whether it may still fire anywhere."""
        return now_ms < self.act.until_ms and any(state not in ("removed", "refused") for state in self.states.values())

    def fires_on(self, agent: str, at_ms: int) -> bool:
        """Whether it may fire there at `at_ms`, as far as is known."""
        state = self.states.get(agent)
        return state in _FIRING or (state in _FIRED_BEFORE and at_ms < self.since[agent])

    def is_gone_from(self, agent: str, at_ms: int) -> bool:
        """Whether the host itself had said before that it is not there any more; clocks may have been set since."""
        return self.states.get(agent) == "removed" and at_ms > self.since[agent] + MAX_SKEW_MS


class ScheduleBook:
    """See the module.

    Attributes:
        refused: firings that were not believed. deferred: those that were not answered, being more than a host may
            have.
    """

    def __init__(self) -> None:
        self._schedules: dict[str, KeptSchedule] = {}
        # Firings that are on their way to the store, and who told of them first.
        self._claimed: dict[str, tuple[KeptSchedule, str]] = {}
        self.refused = 0
        self.deferred = 0

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
        self._claimed.pop(job.id, None)
        act = job.envelope.act
        if isinstance(act, Schedule):
            self._schedules.setdefault(job.id, KeptSchedule(job.envelope, job.signed, job.members))
        elif isinstance(act, PauseSchedule) and not act.paused:
            kept = self._schedules.get(act.schedule)
            for agent in job.members if kept is not None else ():
                # From now on it may fire, whether or not we have heard of it.
                kept.steer(agent).resume_ordered(job.id)  # type: ignore[union-attr]
                kept.steered(agent)  # type: ignore[union-attr]

    def undone(self, job: Job, now_ms: int) -> None:
        """A job could not be written."""
        claimed = self._claimed.pop(job.id, None)
        if claimed is not None:
            kept, agent = claimed
            kept.claims.give_back(agent, now_ms)

    def ended(self, job: Job, agent: str, state: str, at_ms: int, code: str | None = None) -> None:
        """A target of a job is in the store."""
        act = job.envelope.act
        if isinstance(act, Schedule):
            kept = self._schedules.get(job.id)
            if kept is not None and kept.states.get(agent) in ("waiting", "unknown", "refused"):
                unknown = state in _UNKNOWN_ENDS or code == codes.JOURNAL_FAILED.code
                after = "kept" if state == "ok" else "unknown" if unknown else "refused"
                kept.move(agent, after, at_ms, code or "")
        elif isinstance(act, Unschedule | PauseSchedule):
            kept = self._schedules.get(act.schedule)
            if kept is None:
                return
            if isinstance(act, PauseSchedule):
                if not act.paused:
                    unknown = state in _UNKNOWN_ENDS
                    kept.steer(agent).resume_ended(job.id, at_ms, done=state == "ok", unknown=unknown)
                elif state == "ok":
                    kept.steer(agent).paused(at_ms)
                kept.steered(agent)
            elif state == "ok":
                kept.move(agent, "removed", at_ms)
            not_kept = codes.SCHEDULE_NOT_KEPT.code
            if state != "ok" and code == not_kept and kept.states.get(agent) != "waiting":
                kept.move(agent, "removed" if isinstance(act, Unschedule) else "missing", at_ms, not_kept)

    # Firings -------------------------------------------------------------------------------------------------------

    def may_claim(self, report: t.FiringBegan, now_ms: int) -> bool:
        """Whether the host may have one more firing made a job now; where not, it is to say so again later."""
        kept = self._schedules.get(report.schedule)
        holds = kept is None or report.agent not in kept.members or kept.claims.left(report.agent, now_ms) > 0
        self.deferred += not holds
        return holds

    def believed(self, report: t.FiringBegan, now_ms: int) -> Job | None:
        """The job that a firing is, to be written; None where it is not to be believed, which is counted."""
        job = self._job_of(report, now_ms)
        self.refused += job is None
        if job is not None:
            kept = self._schedules[report.schedule]
            kept.claims.take(report.agent, now_ms)
            self._claimed[job.id] = (kept, report.agent)
        return job

    def _job_of(self, report: t.FiringBegan, now_ms: int) -> Job | None:
        kept = self._schedules.get(report.schedule)
        if kept is None or not is_ulid(report.job) or report.agent not in kept.members:
            return None
        act = kept.act
        at_boot = isinstance(act.when, AtBoot)
        if at_boot != bool(report.boot) or kept.is_gone_from(report.agent, report.at_ms):
            return None
        own = (report.agent, report.boot) if at_boot else ("", "")
        try:
            if not is_plausible(kept.envelope, report.at_ms, now_ms):
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
