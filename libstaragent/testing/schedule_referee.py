"""What must hold of schedules in a simulated fleet, judged by what stands on hosts' disks and what really started.

- of one schedule, host and due time (of at-boot: boot) at most one command starts, by the commands' own record
- none starts whose firing is not on disk, that is not due, that was missed, or whose signer the host knows as gone
- what rests or was taken away on disk does not fire; what is said to be kept, rested or gone is so on disk
- what ran is a job in the store, of which its host is a member; what is kept goes on firing, whatever happened

Not here: that each member of a firing ends, once, in time, and that the counts add up: firings are jobs
(`fleet_checks`). Rules: it folds the records itself, and forgets none that it has seen: a journal that loses some is
found out.
"""

from __future__ import annotations

__all__ = ("ScheduleReferee",)

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from libstaragent.jobs.journal import Fired, Kept, Record, Removed, Rested
from libstaragent.jobs.schedule import LATE_MS
from libstaragent.model.ids import ulid_time_ms
from libstaragent.model.result import TargetResult
from libstaragent.security.acts import At, AtBoot, Envelope, Every, PauseSchedule, Schedule, Unschedule
from libstaragent.testing.clock import ManualClock
from libstaragent.testing.fleet_agent import RecordWatch
from libstaragent.testing.fleet_keeper import Machine
from libstaragent.testing.referee import Referee
from libstaragent.testing.weather import FAULTS_END

if TYPE_CHECKING:
    from libstaragent.testing.fleet import Fleet

# Where a firing's command has the name of its schedule.
NAME = 7


class _Known:
    """One schedule on one host, as its disk has had it."""

    __slots__ = ("fired", "gone", "paused", "rested", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.paused = False
        self.rested = False
        self.gone = False
        self.fired: set[int] = set()


class ScheduleReferee(RecordWatch):
    """See the module.

    Attributes:
        fired: firings that went to a disk. ran: those whose command started.
    """

    def __init__(self, clock: ManualClock, referee: Referee, machines: Mapping[str, Machine]) -> None:
        self._clock = clock
        self._referee = referee
        self._machines = machines
        self._signed: dict[str, Envelope] = {}
        self._known: dict[tuple[str, str], _Known] = {}
        self._rested: set[tuple[str, str, bool, int]] = set()
        self._on_disk: set[tuple[str, str]] = set()
        self._revoked: set[tuple[str, str]] = set()
        self._ran: dict[tuple[str, str, int], str] = {}
        # Hosts whose clock was set, or whose disk failed: what they leave out is no fault of ours.
        self.excused: set[str] = set()
        self.clocks_set: set[str] = set()
        self.fired = 0

    @property
    def ran(self) -> int:
        """Firings whose command started."""
        return len(self._ran)

    def signed(self, envelope: Envelope) -> None:
        """An operator signed a schedule."""
        self._signed[envelope.id] = envelope

    # Disks ---------------------------------------------------------------------------------------------------------

    def found(self, agent: str, records: Iterable[Record]) -> None:
        """See `RecordWatch`."""
        for record in records:
            # One that was heard of before says nothing new, and stands out of its order.
            if type(record) is not Rested or (agent, record.schedule, record.paused, record.at_ms) not in self._rested:
                self.written(agent, record)

    def written(self, agent: str, record: Record) -> None:
        """See `RecordWatch`."""
        if type(record) is Kept:
            self._known.setdefault((agent, record.schedule), _Known(self._clock.now))
        elif type(record) is Fired:
            self._on_disk.add((agent, record.job))
            known = self._known.get((agent, record.schedule))
            if known is not None:
                known.fired.add(record.at_ms)
        elif type(record) is Rested or type(record) is Removed:
            self._managed(agent, record)

    def _managed(self, agent: str, record: Rested | Removed) -> None:
        known = self._known.get((agent, record.schedule))
        if known is None:
            self._breaks("only what is kept is managed", f"{record.schedule} on {agent}")
        elif isinstance(record, Removed):
            known.gone = True
        else:
            self._rested.add((agent, record.schedule, record.paused, record.at_ms))
            known.paused, known.rested = record.paused, True

    def writing(self, agent: str, record: Record) -> None:
        """See `RecordWatch`."""
        if type(record) is not Fired:
            return
        self.fired += 1
        what = f"{record.schedule} on {agent} at {record.at_ms}"
        known = self._known.get((agent, record.schedule))
        envelope = self._signed[record.schedule]
        act = envelope.act
        assert isinstance(act, Schedule)
        now_ms = self._clock.now_ms + self._machines[agent].ahead_ms
        if known is None or known.gone or known.paused:
            self._breaks("what rests or is gone does not fire", what)
        if not _is_due(act, record.at_ms) or record.at_ms > now_ms or record.at_ms >= act.until_ms:
            self._breaks("nothing fires but when it is due", what)
        if isinstance(act.when, Every) and now_ms - record.at_ms > LATE_MS:
            self._breaks("what was missed is passed over", f"{what}, {now_ms - record.at_ms} ms late")
        if envelope.operator in self._machines[agent].revoked:
            self._revoked.add((agent, record.job))

    # Commands ------------------------------------------------------------------------------------------------------

    def started(self, job: str, agent: str, argv: tuple[str, ...]) -> None:
        """A command passed its gate; is it a firing's?"""
        if len(argv) <= NAME:
            return
        envelope = next(one for one in self._signed.values() if _name(one) == argv[NAME])
        act = envelope.act
        assert isinstance(act, Schedule)
        due_ms = ulid_time_ms(job)
        when = self._machines[agent].boots if isinstance(act.when, AtBoot) else due_ms
        key = (argv[NAME], agent, when)
        what = f"{argv[NAME]} on {agent}, due at {due_ms}, as {job}"
        if key in self._ran:
            self._breaks("a firing runs once", f"{what} and as {self._ran[key]}")
        self._ran[key] = job
        if not _is_due(act, due_ms):
            self._breaks("nothing fires but when it is due", what)
        if (agent, job) not in self._on_disk:
            self._breaks("a firing is on disk before it starts", what)
        if (agent, job) in self._revoked:
            self._breaks("a firing is judged by the rules of its time", f"{what}, signed by {envelope.operator}")

    def kept(self, agent: str, envelope: Envelope, result: TargetResult) -> None:
        """The store has how an act on a schedule ended."""
        if result.state != "ok":
            return
        act = envelope.act
        if isinstance(act, Schedule):
            holds = (agent, envelope.id) in self._known
        elif isinstance(act, Unschedule):
            known = self._known.get((agent, act.schedule))
            holds = known is not None and known.gone
        else:
            assert isinstance(act, PauseSchedule)
            holds = any(key[:3] == (agent, act.schedule, act.paused) for key in self._rested)
        if not holds:
            self._breaks("what is said of a schedule is so on disk", f"{envelope.id} on {agent}")

    # The end -------------------------------------------------------------------------------------------------------

    def check_end(self, fleet: Fleet) -> None:
        """Whether what ran is in the store, and what is kept still fired when all was well."""
        lost = {host.machine.name for host in fleet.hosts if host.lost}
        for (name, agent, _), job in self._ran.items():
            stored = fleet.store.jobs.get(job)
            if agent not in lost and (stored is None or agent not in {member.agent for member in stored.members}):
                self._breaks("no firing is lost", f"{name} on {agent}: {job}")
        for (agent, schedule), known in self._known.items():
            envelope = self._signed[schedule]
            act = envelope.act
            if agent in lost or agent in self.excused or not isinstance(act, Schedule):
                continue
            healthy_ms = self._clock.now_ms - int((self._clock.now - FAULTS_END) * 1000)
            if isinstance(act.when, Every) and not known.paused and not self._was_removed(fleet, agent, schedule):
                # From a second after the faults on, an agent has started.
                holds = any(at_ms > healthy_ms + 1000 for at_ms in known.fired)
            elif isinstance(act.when, At) and not known.rested and not self._was_removed(fleet, agent, schedule):
                holds = bool(known.fired) or act.when.at_ms >= act.until_ms
            else:
                continue
            if known.since < FAULTS_END and not holds:
                self._breaks("what is kept fires", f"{_name(envelope)} on {agent}, last {max(known.fired, default=0)}")

    @staticmethod
    def _was_removed(fleet: Fleet, agent: str, schedule: str) -> bool:
        """Whether somebody took it away there, whatever was heard of it."""
        return any(
            isinstance(stored.envelope.act, Unschedule)
            and stored.envelope.act.schedule == schedule
            and any(member.agent == agent for member in stored.members)
            for stored in fleet.store.jobs.values()
        )

    def _breaks(self, promise: str, what: str) -> None:
        self._referee.breaks(promise, what)


def _is_due(act: Schedule, at_ms: int) -> bool:
    """Said in another way than the core says it."""
    when = act.when
    if isinstance(when, Every):
        return at_ms >= when.start_ms and ((at_ms - when.start_ms) / when.every_ms).is_integer()
    return not isinstance(when, At) or at_ms == when.at_ms


def _name(envelope: Envelope) -> str:
    return envelope.act.name if isinstance(envelope.act, Schedule) else ""
