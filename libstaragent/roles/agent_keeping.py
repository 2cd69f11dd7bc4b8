"""The part of the agent's core that is about schedules: taking them, and letting their firings be jobs.

    act      record on its way ─persisted→ done: `ok`, reported like any job
    firing   `Fired` on its way ─persisted→ starting (or its verdict) → as any job of `agent`

Central does not know of a firing before it is told. So until it says FiringKnown nothing else of that job is said.

Not here: when something is due (`agent_schedules`), what follows once it starts (`agent`). Rules: pure; a `Fired` that
could not be written starts nothing and is not told: whether it would run after a restart nobody can say.
"""

from __future__ import annotations

__all__ = ("AgentKeeping", "counts_until")

from collections.abc import Callable

from libstaragent import codes
from libstaragent.errors import Code
from libstaragent.jobs.journal import Fired, Kept, Record, Removed, Rested, Taken
from libstaragent.jobs.schedule import FIRINGS_MAX
from libstaragent.model.result import TargetResult, failed_result
from libstaragent.protocol import messages as m
from libstaragent.roles.agent_effects import Effect, Log, Verifier
from libstaragent.roles.agent_run import LocalRun
from libstaragent.roles.agent_schedules import AgentSchedules
from libstaragent.security.acts import SCHEDULE_ACTS, PauseSchedule, Schedule, Unschedule
from libstaragent.security.envelope import Envelope

_UNDER_WAY = ("accepting", "recovered", "holding", "starting", "running", "reading")


class AgentKeeping:
    """See the module; `AgentCore` is the whole."""

    open: dict[str, LocalRun]
    effects: list[Effect]

    def __init__(self, *, agent: str, boot: str, verifier: Verifier, state_of: Callable[[Code], str]) -> None:
        self._verifier = verifier
        self.schedules = AgentSchedules(agent=agent, boot=boot, verifier=verifier, state_of=state_of)
        self._writing: dict[str, tuple[Kept | Rested | Removed, int]] = {}
        self._fired: dict[str, tuple[Fired, TargetResult | None]] = {}
        self._passed_over_said = 0

    # Acts ----------------------------------------------------------------------------------------------------------

    def _keep(self, message: m.Run, envelope: Envelope, now_ms: int, *, sign: bool) -> None:
        """Write a verified act on schedules down. Raises StarAgentError where it cannot be done."""
        act = envelope.act
        if not isinstance(act, Schedule):
            assert isinstance(act, Unschedule | PauseSchedule)
            if act.schedule in self.schedules:
                self._verifier.may_manage(envelope, self.schedules.owner(act.schedule), now_ms)
            # What was due before this act fires before it.
            self.fire(now_ms=now_ms)
        record = self.schedules.record_for(envelope, message.signed, message.proof, now_ms)
        if isinstance(record, Removed) or (isinstance(record, Rested) and record.paused):
            self.schedules.hold(record.schedule)
        run = self.open[envelope.id] = LocalRun("accepting", expires_ms=envelope.expires, envelope=envelope)
        run.sign = sign
        self._writing[envelope.id] = (record, now_ms)
        self._persist("", "beside", Taken(envelope.id, message.signed, envelope.expires), sync=True)
        self._persist(envelope.id, "kept", record, sync=True)

    def _kept(self, job: str, errno: int | None, now: float) -> None:
        record, now_ms = self._writing.pop(job)
        self.schedules.release(record.schedule)
        if job not in self.open:
            return
        if errno is not None:
            # Only this process holds the id: the next one may be given the order before this word is heard.
            failed = failed_result(job, "spawn_failed", codes.JOURNAL_FAILED.code, errno=errno, ran="maybe")
            self._finish(job, failed, now)
            return
        self.schedules.note(record)
        self._finish(job, _done(job, now_ms), now)

    def _recover_acts(self) -> None:
        """After a restart: acts on schedules that were taken are one write with what they changed, so what is there
        now says how they ended.
        """
        for job, run in self.open.items():
            act = None if run.envelope is None else run.envelope.act
            if not isinstance(act, SCHEDULE_ACTS):
                continue
            run.envelope = None
            if isinstance(act, Schedule):
                done = job in self.schedules
            elif isinstance(act, Unschedule):
                done = act.schedule not in self.schedules
            else:
                done = act.schedule in self.schedules and self.schedules.is_paused(act.schedule) == act.paused
            # What was kept may be over by now: nobody can say.
            lost = TargetResult(job=job, state="interrupted", code=codes.RESULT_GONE.code, ran="maybe")
            run.state = "reporting"
            run.result = _done(job, None) if done else lost

    # Firings -------------------------------------------------------------------------------------------------------

    def fire(self, *, now_ms: int) -> None:
        """Begin what is due. Call at `schedules.wake_ms`, and when the clock was set."""
        if self.schedules.wake_ms is None or now_ms < self.schedules.wake_ms:
            return
        places = FIRINGS_MAX - sum(run.fired is not None for run in self.open.values())
        fired, over = self.schedules.due(now_ms, places=places, busy=self._is_busy)
        for firing in fired:
            job = firing.record.job
            if job in self.open:
                continue
            run = self.open[job] = LocalRun("accepting", expires_ms=firing.record.expires_ms, envelope=firing.envelope)
            self._mark_fired(run, firing.record)
            run.sign = self._signs(firing.envelope, now_ms)
            self._fired[job] = (firing.record, firing.verdict)
            self._persist(job, "fired", firing.record, sync=True)
        for record in over:
            self.schedules.note(record)
            self._persist("", "beside", record, sync=False)
        if self.schedules.passed_over > self._passed_over_said:
            self._passed_over_said = self.schedules.passed_over
            self.effects.append(Log(codes.AGENT_BUSY, f"firings of schedules passed over: {self._passed_over_said}"))

    def _is_busy(self, schedule: str) -> bool:
        return any(
            run.fired is not None and run.fired.schedule == schedule and run.state in _UNDER_WAY
            for run in self.open.values()
        )

    def _signs(self, envelope: Envelope, now_ms: int) -> bool:
        return envelope.act.signed or self._verifier.signs_results(envelope, now_ms)  # type: ignore[union-attr]

    def _recover_fired(self, record: Fired) -> None:
        run = LocalRun("recovered", expires_ms=record.expires_ms, operator=record.operator)
        self._mark_fired(run, record)
        self.open[record.job] = run

    @staticmethod
    def _mark_fired(run: LocalRun, record: Fired) -> None:
        run.fired = m.Firing(record.job, record.schedule, record.at_ms, record.boot)
        run.told = False

    def _fired_written(self, job: str, errno: int | None, now: float) -> bool:
        """Whether the firing's command is to start."""
        record, verdict = self._fired.pop(job)
        if errno is not None:
            del self.open[job]
            self.effects.append(Log(codes.JOURNAL_FAILED, f"a firing of {record.schedule} was left out"))
            return False
        if verdict is not None:
            self._finish(job, verdict, now)
            return False
        return True

    # What the core has ---------------------------------------------------------------------------------------------

    def _persist(self, job: str, kind: str, record: Record, *, sync: bool) -> None:
        raise NotImplementedError

    def _finish(self, job: str, result: TargetResult, now: float) -> None:
        raise NotImplementedError


def _done(job: str, now_ms: int | None) -> TargetResult:
    return TargetResult(job=job, state="ok", exit_status=0, ran="yes", started_ms=now_ms, finished_ms=now_ms)


def counts_until(run: LocalRun) -> int:
    """How long the id counts after its end. A firing's is never ordered, and its time never comes again."""
    return run.expires_ms if run.fired is None else 0
