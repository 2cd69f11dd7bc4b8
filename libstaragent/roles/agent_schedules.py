"""The schedules that a host keeps: which there are, which is due now, when to look again. Pure.

    taken ─kept→ resting ⇄ paused
                    │ due                  one Firing for the newest time that is due and not missed
                    ├─ may run             a job that begins
                    ├─ may not             a job that ends with the reason: the operator was revoked, …
                    ├─ is in doubt         the same: the journal was damaged, and nobody has let it go on since
                    └─ is passed over      too many firings wait for central: counted, and nothing is told
    ─until is past, or it was once, or removed→ gone

Each time is fired at most once: `last_ms` is on disk before anything starts, and nothing at or before it fires. So a
clock that ran ahead and was set back lets a schedule rest until it comes there again.

Not here: running (`agent`), the disk. Rules: what was signed is verified anew at each firing, by the roster of now.
"""

from __future__ import annotations

__all__ = ("SCHEDULES_MAX", "AgentSchedules", "Firing")

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.jobs.journal import Fired, Kept, Removed, Rested, not_before, note_schedule
from libstaragent.jobs.schedule import AT_GRACE_MS, check_when, firing_id, latest_due, next_after
from libstaragent.model.result import TargetResult, failed_result
from libstaragent.security.acts import At, AtBoot, Envelope, PauseSchedule, Schedule, Unschedule, run_span_ms
from libstaragent.security.envelope import read_unverified
from libstaragent.security.signed import Signed

if TYPE_CHECKING:
    from libstaragent.errors import Code
    from libstaragent.roles.agent_effects import Verifier
    from libstaragent.security.membership import Proof

# A host's crontab has some tens of lines; each costs an envelope of memory, and a look when it is due.
SCHEDULES_MAX = 64


class Firing(Struct, frozen=True):
    """A firing: what to write down, what to run (with the firing's own id and times), and, where nothing is to run, how
    it ends.
    """

    record: Fired
    envelope: Envelope
    verdict: TargetResult | None


class _Waiting:
    """One schedule, and when it is due next."""

    __slots__ = ("due_ms", "envelope", "record")

    def __init__(self, record: Kept, envelope: Envelope) -> None:
        self.record = record
        self.envelope = envelope
        self.due_ms: int | None = None


class AgentSchedules:
    """See the module. `boot` is the host's present boot.

    Attributes:
        passed_over: firings that had no place. wake_ms: wall-clock ms at which to call `due` again; None for never.
    """

    def __init__(self, *, agent: str, boot: str, verifier: Verifier, state_of: Callable[[Code], str]) -> None:
        self._agent = agent
        self._boot = boot
        self._verifier = verifier
        self._state_of = state_of
        self._kept: dict[str, Kept] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._held: set[str] = set()
        self.passed_over = 0
        self.wake_ms: int | None = None

    def __contains__(self, schedule: str) -> bool:
        return schedule in self._kept

    def owner(self, schedule: str) -> str:
        """Who signed it. Raises KeyError."""
        return self._waiting[schedule].envelope.operator

    def is_paused(self, schedule: str) -> bool:
        """Whether it rests. Raises KeyError."""
        return self._kept[schedule].paused

    # Taking and managing -------------------------------------------------------------------------------------------

    def record_for(
        self, envelope: Envelope, signed: Signed, proof: Proof | None, now_ms: int
    ) -> Kept | Rested | Removed:
        """What to write for a verified act. Raises StarAgentError where it cannot be done."""
        act = envelope.act
        if isinstance(act, Schedule):
            if envelope.id not in self._kept and len(self._kept) >= SCHEDULES_MAX:
                raise codes.SCHEDULES_FULL.error(f"{SCHEDULES_MAX} are kept")
            check_when(act.when)
            # One that was to be once, a moment ago, is not lost on its way here.
            last_ms = min(now_ms, act.when.at_ms - 1) if isinstance(act.when, At) else now_ms
            return Kept(envelope.id, signed, proof, last_ms, False, self._boot)
        assert isinstance(act, Unschedule | PauseSchedule)
        if act.schedule not in self._kept:
            raise codes.SCHEDULE_NOT_KEPT.error(act.schedule)
        if isinstance(act, Unschedule):
            return Removed(act.schedule, now_ms)
        return Rested(act.schedule, act.paused, now_ms, self._boot)

    def hold(self, schedule: str) -> None:
        """It is to rest or to go, and that is on its way to the disk: what is due from now on waits for it, so that
        nothing fires after the time that is told of the act.
        """
        self._held.add(schedule)
        self._set_wake()

    def release(self, schedule: str) -> None:
        """That is on disk, or could not be written."""
        self._held.discard(schedule)
        self._set_wake()

    def note(self, record: Kept | Fired | Rested | Removed) -> None:
        """It is on disk."""
        note_schedule(self._kept, record)
        kept = self._kept.get(record.schedule)
        if kept is None:
            self._waiting.pop(record.schedule, None)
        else:
            self._renew(record.schedule, kept)
        self._set_wake()

    def recover(self, records: Iterable[Kept | Fired | Rested | Removed]) -> None:
        """What the journal has."""
        for record in records:
            self.note(record)

    def not_before(self, time_ms: int) -> None:
        """The journal was damaged: nothing that was due until then fires, and what is kept is in doubt: what removed or
        paused it may be lost.
        """
        not_before(self._kept, time_ms)
        for schedule, kept in self._kept.items():
            self._renew(schedule, kept)
        self._set_wake()

    # The clock -----------------------------------------------------------------------------------------------------

    def due(self, now_ms: int, *, places: int, busy: Callable[[str], bool]) -> tuple[list[Firing], list[Removed]]:
        """What fires now, of at most `places`, and which schedules are over. `busy`: whether a firing before runs."""
        fired: list[Firing] = []
        over: list[Removed] = []
        if self.wake_ms is None or now_ms < self.wake_ms:
            return fired, over
        for schedule, waiting in list(self._waiting.items()):
            if waiting.due_ms is None or waiting.due_ms > now_ms or schedule in self._held:
                continue
            act = waiting.envelope.act
            assert isinstance(act, Schedule)
            at_ms = self._fires_at(waiting, act, now_ms)
            if at_ms is not None and len(fired) >= places:
                self.passed_over += 1
                at_ms = None
            if at_ms is not None:
                fired.append(self._firing(schedule, waiting, act, at_ms, now_ms, busy))
            last_ms = max(waiting.record.last_ms, now_ms if at_ms is None else at_ms)
            boot = self._boot if isinstance(act.when, AtBoot) and not waiting.record.paused else waiting.record.boot
            self._kept[schedule] = replace(waiting.record, last_ms=last_ms, boot=boot)
            self._renew(schedule, self._kept[schedule])
            if self._is_over(act, last_ms, now_ms):
                over.append(Removed(schedule, now_ms))
        self._set_wake()
        return fired, over

    def _fires_at(self, waiting: _Waiting, act: Schedule, now_ms: int) -> int | None:
        if waiting.record.paused:
            return None
        if isinstance(act.when, AtBoot):
            return now_ms if waiting.record.boot != self._boot and now_ms < act.until_ms else None
        at_ms = latest_due(act.when, waiting.record.last_ms, now_ms)
        return at_ms if at_ms is not None and at_ms < act.until_ms else None

    def _is_over(self, act: Schedule, last_ms: int, now_ms: int) -> bool:
        if max(now_ms, self._verifier.highest_ms) >= act.until_ms:
            return True
        return isinstance(act.when, At) and last_ms >= act.when.at_ms

    def _firing(
        self, schedule: str, waiting: _Waiting, act: Schedule, at_ms: int, now_ms: int, busy: Callable[[str], bool]
    ) -> Firing:
        boot = self._boot if isinstance(act.when, AtBoot) else ""
        job = firing_id(schedule, at_ms, self._agent, boot) if boot else firing_id(schedule, at_ms)
        # How long the keeper may be away before it is too late to begin.
        expires_ms = now_ms + run_span_ms(act)
        verdict = None
        if isinstance(act.when, At) and now_ms - at_ms > AT_GRACE_MS:
            verdict = failed_result(job, "expired", codes.SCHEDULE_MISSED.code)
        elif waiting.record.doubtful:
            verdict = failed_result(job, "denied", codes.SCHEDULE_DOUBTFUL.code)
        elif busy(schedule):
            verdict = failed_result(job, "spawn_failed", codes.SCHEDULE_OVERLAP.code)
        else:
            try:
                self._verifier.verify_kept(waiting.record.signed, waiting.record.proof, now_ms)
            except StarAgentError as error:
                verdict = failed_result(job, self._state_of(error.code), error.code.code, error.detail)
        envelope = replace(waiting.envelope, id=job, act=act.run, not_before=at_ms, expires=expires_ms, plan=None)
        record = Fired(schedule, job, at_ms, expires_ms, envelope.operator, boot)
        return Firing(record, envelope, verdict)

    def _renew(self, schedule: str, kept: Kept) -> None:
        before = self._waiting.get(schedule)
        try:
            envelope = before.envelope if before is not None else read_unverified(kept.signed)
        except StarAgentError:
            # Of another version: it stays, and does not fire.
            return
        act = envelope.act
        assert isinstance(act, Schedule)
        waiting = self._waiting[schedule] = _Waiting(kept, envelope)
        if isinstance(act.when, AtBoot):
            waiting.due_ms = 0 if kept.boot != self._boot and not kept.paused else act.until_ms
            return
        try:
            due_ms = next_after(act.when, kept.last_ms)
        except StarAgentError:
            # The host's time zone data has gone since.
            due_ms = None
        waiting.due_ms = act.until_ms if due_ms is None else min(due_ms, act.until_ms)

    def _set_wake(self) -> None:
        due = (one.due_ms for name, one in self._waiting.items() if name not in self._held)
        self.wake_ms = min((due_ms for due_ms in due if due_ms is not None), default=None)
