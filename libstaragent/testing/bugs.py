"""Planted bugs: the proof that the simulator can see. Each is a core with one mistake that somebody could make.

`BUGS` is the table: name → what is wrong, and the cores of a fleet that has it. `simulate(seed,
cores=BUGS[name].cores)` must break a promise within 1,000 seeds; `scripts/simulate --bugs` searches all of them and
prints the seeds.

Not here: what the right cores do. Rules: one mistake each, as small as it can be made.
"""

from __future__ import annotations

__all__ = ("BUGS", "PlantedBug")

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from libstaragent.jobs.journal import Done, Record, Taken
from libstaragent.model.result import TargetResult
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t
from libstaragent.roles import keeper_effects as act
from libstaragent.roles.agent import AgentCore
from libstaragent.roles.agent_effects import ToKeeper
from libstaragent.roles.agent_run import keeper_spec
from libstaragent.roles.central import CentralCore
from libstaragent.roles.central_state import Decision, Ended, Job, Reduced
from libstaragent.roles.keeper import KeeperCore
from libstaragent.roles.room_outputs import RoomOutputs, Told
from libstaragent.security.acts import Exec
from libstaragent.testing.fleet import Cores
from libstaragent.testing.fleet_room import WatchedRoom
from libstaragent.testing.host_bugs import HOST_BUGS
from libstaragent.testing.planted import PlantedBug
from libstaragent.testing.schedule_bugs import SCHEDULE_BUGS


class _ReleasesBeforeStarted(KeeperCore):
    def on_forked(self, job: str, pid: int, start_time: int, boot_id: str, now_ms: int) -> list[act.Effect]:
        return [act.Release(job), *super().on_forked(job, pid, start_time, boot_id, now_ms)]

    def on_started_written(self, job: str, now: float) -> list[act.Effect]:
        return [effect for effect in super().on_started_written(job, now) if not isinstance(effect, act.Release)]


class _StartsBeforeFsync(AgentCore):
    def _persist(self, job: str, kind: str, record: Record, *, sync: bool) -> None:
        super()._persist(job, kind, record, sync=sync)
        run = self.open.get(job)
        if kind == "taken" and run is not None and run.envelope is not None and self._keeper_up:
            act = run.envelope.act
            assert isinstance(act, Exec)
            self.effects.append(ToKeeper({"op": "spawn", "job": job, "spec": keeper_spec(act, run.operator)}))


class _StartsInterruptedAgain(AgentCore):
    def keeper_known(self, jobs: Iterable[dict[str, Any]], *, now: float, now_ms: int) -> None:
        known = list(jobs)
        cut = {job["job"] for job in known if job["done"] and job["state"] == "interrupted"}
        # The second lock is the keeper's, and goes with the spool.
        self.effects.extend(ToKeeper({"op": "forget", "job": job}) for job in cut)
        super().keeper_known([job for job in known if job["job"] not in cut], now=now, now_ms=now_ms)


class _TakesStartedForUnstarted(KeeperCore):
    def on_found(
        self, job: str, started: str, record: dict[str, object], finished: dict[str, object] | None, now: float
    ) -> list[act.Effect]:
        return super().on_found(job, "blank", record, finished, now)


class _LosesIdsOnRestart(AgentCore):
    def _recover(self, journal: Iterable[Record]) -> None:
        records = list(journal)
        done = {record.job for record in records if type(record) is Done}
        super()._recover(record for record in records if type(record) is Taken and record.job not in done)


class _ForgetsSpoolBeforeDone(AgentCore):
    def _settled(self, job: str) -> None:
        super()._settled(job)
        self.effects.append(ToKeeper({"op": "forget", "job": job}))


class _StartsAgainAfterCrash(AgentCore):
    def _recover(self, journal: Iterable[Record]) -> None:
        super()._recover(record for record in journal if type(record) is not Taken)

    def keeper_known(self, jobs: Iterable[dict[str, Any]], *, now: float, now_ms: int) -> None:
        ours = [job for job in jobs if job["job"] in self.open or job["job"] in self._done]
        super().keeper_known(ours, now=now, now_ms=now_ms)


class _KnowsNoIds(AgentCore):
    def _run(self, message: m.Run, now: float, now_ms: int) -> None:
        self._done.pop(message.job, None)
        super()._run(message, now, now_ms)


class _SaysResultOnce(AgentCore):
    def _say_again(self, job: str, run: Any, now: float) -> None:
        if run.state != "reporting":
            super()._say_again(job, run, now)

    def tick(self, *, now: float, now_ms: int | None = None) -> None:
        return


class _ForgetsThatItWasAgain(WatchedRoom):
    def _dispatch(self, dispatch: t.Dispatch, now_ms: int) -> None:
        super()._dispatch(msgspec.structs.replace(dispatch, again=False), now_ms)


class _DeliversAgain(WatchedRoom):
    def _dispatch(self, dispatch: t.Dispatch, now_ms: int) -> None:
        self._seen.clear()
        super()._dispatch(dispatch, now_ms)


class _TakesOrdersOfOthers(WatchedRoom):
    def _dispatch(self, dispatch: t.Dispatch, now_ms: int) -> None:
        super()._dispatch(msgspec.structs.replace(dispatch, boot=self._boot), now_ms)


class _StartsExpired(AgentCore):
    def keeper_known(self, jobs: Iterable[dict[str, Any]], *, now: float, now_ms: int) -> None:
        super().keeper_known(jobs, now=now, now_ms=0)


class _LosesCancelOnReconnect(WatchedRoom):
    def _hello(self, link: Any, hello: m.Hello, now: float, now_ms: int) -> None:
        kept, self._cancels = self._cancels, {}
        super()._hello(link, hello, now, now_ms)
        self._cancels = kept


class _NeverLate(CentralCore):
    def tick(self, *, now_ms: int, decision: Decision) -> None:
        return


class _LastWordWins(CentralCore):
    def _one_ended(
        self,
        agent: str,
        result: TargetResult,
        now_ms: int,
        decision: Decision,
        digest: bytes = b"",
        body: bytes = b"",
        omitted: int = 0,
        *,
        in_part: bool = False,
    ) -> None:
        job = self.jobs.get(result.job)
        if job is not None and agent in job.states and not job.open:
            self._end(job, Ended(job.id, agent, result, job.states[agent], now_ms, digest, body, omitted), decision)
        else:
            super()._one_ended(agent, result, now_ms, decision, digest, body, omitted, in_part=in_part)


class _CountsDuplicates(CentralCore):
    def _one_ended(
        self,
        agent: str,
        result: TargetResult,
        now_ms: int,
        decision: Decision,
        digest: bytes = b"",
        body: bytes = b"",
        omitted: int = 0,
        *,
        in_part: bool = False,
    ) -> None:
        job = self.jobs.get(result.job)
        if job is not None and job.states.get(agent) == result.state:
            job.counts[result.state] += 1
        super()._one_ended(agent, result, now_ms, decision, digest, body, omitted, in_part=in_part)


class _ForgetsCancelOnRestart(CentralCore):
    def restore(self, job: Job, ended: Any, cancel: Any, past: Any = None) -> None:
        super().restore(job, ended, None, past)


class _BelievesInBodies(CentralCore):
    def _ask_again(self, ended: Iterable[tuple[str, TargetResult]], now_ms: int, decision: Decision) -> None:
        for agent, result in ended:
            self._one_ended(agent, result, now_ms, decision, b"a digest that central trusts")


class _SendsBodiesOnce(RoomOutputs):
    def _add(self, agent: str, told: Told, body: bytes, reduce: str, *, whole: bool) -> None:
        super()._add(agent, told, body, reduce, whole=False)

    def again(self, agent: str, told: Told, *, reduce: str) -> None:
        return


class _RoomThatSendsOnce(WatchedRoom):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.outputs = _SendsBodiesOnce()


class _OneOutputAJob(RoomOutputs):
    def __init__(self) -> None:
        super().__init__()
        self._first: dict[str, TargetResult] = {}

    def add(self, agent: str, result: TargetResult, *, reduce: str, whole: bool) -> Told:
        first = self._first.setdefault(result.job, result)
        return super().add(agent, replace(result, output=first.output), reduce=reduce, whole=whole)


class _RoomThatComparesJobs(WatchedRoom):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.outputs = _OneOutputAJob()


class _CountsPartsAgain(CentralCore):
    def _reduced(self, report: t.TargetsReduced, now_ms: int, decision: Decision) -> None:
        job = self.jobs.get(report.job)
        if job is None:
            super()._reduced(report, now_ms, decision)
            return
        still_open = [agent for agent, _, _ in report.ended if self._is_open(job, agent)]
        if still_open:
            decision.reduced.append(Reduced(job.id, still_open[0], report.part))
        for agent, result, digest in report.ended:
            self._one_ended(agent, result, now_ms, decision, digest, in_part=True)


class _RollsNothingBack(CentralCore):
    def rolled_back(self, decision: Decision) -> None:
        return


class _BeginsOnWhatWasUndone(CentralCore):
    def rolled_back(self, decision: Decision) -> None:
        super().rolled_back(decision)
        for entry in decision.ended:
            job = self.jobs.get(entry.job)
            if job is not None and job.pacing is not None:
                job.pacing.open -= 1


class _BeginsAllAfterRestart(CentralCore):
    def restore(self, job: Job, ended: Any, cancel: Any, past: Any = None) -> None:
        super().restore(job, ended, cancel, past)
        if job.pacing is not None and past is not None:
            job.pacing.begun = len(job.pacing.order)


class _ForgetsPauseOnRestart(CentralCore):
    def restore(self, job: Job, ended: Any, cancel: Any, past: Any = None) -> None:
        super().restore(job, ended, cancel, None if past is None else msgspec.structs.replace(past, pauses=()))


class _ForgetsWindowOnRestart(CentralCore):
    def restore(self, job: Job, ended: Any, cancel: Any, past: Any = None) -> None:
        pacing = job.pacing
        plan = None if pacing is None else pacing.plan
        if pacing is not None:
            pacing.plan = msgspec.structs.replace(pacing.plan, window=None)
        super().restore(job, ended, cancel, past)
        if pacing is not None and plan is not None:
            pacing.plan = plan


class _ConfirmsTooEarly(CentralCore):
    def pause(self, signed: Any, *, now_ms: int, decision: Decision, source: str = "") -> Job:
        job = super().pause(signed, now_ms=now_ms, decision=decision)
        decision.pauses = [
            entry if entry.paused else msgspec.structs.replace(entry, confirmed=entry.begun)
            for entry in decision.pauses
        ]
        return job


class _GoesOnDespiteFailures(CentralCore):
    def _end(self, job: Job, entry: Ended, decision: Decision) -> None:
        failed = None if job.pacing is None else job.pacing.failed
        super()._end(job, entry, decision)
        if job.pacing is not None and failed is not None and entry.result.state == "timeout":
            job.pacing.failed = failed


class _TakesRestartsForDoubles(CentralCore):
    def _host_up(self, report: t.HostUp, decision: Decision) -> None:
        # As if the number on the host's disk were the process's own.
        began = self._began.setdefault((report.agent, report.boot_nonce), report.connects)
        super()._host_up(msgspec.structs.replace(report, connects=report.connects - began + 1), decision)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._began: dict[tuple[str, bytes], int] = {}


BUGS: dict[str, PlantedBug] = {
    "release-before-started": PlantedBug(
        "the keeper opens the gate before `started` is on disk", Cores(keeper=_ReleasesBeforeStarted)
    ),
    "start-before-fsync": PlantedBug(
        "the agent lets the keeper start before its journal is synced", Cores(agent=_StartsBeforeFsync)
    ),
    "interrupted-starts-again": PlantedBug(
        "a restarted agent starts again what its keeper had to interrupt", Cores(agent=_StartsInterruptedAgain)
    ),
    "started-taken-for-unstarted": PlantedBug(
        "a restarted keeper gives back what it may have let through", Cores(keeper=_TakesStartedForUnstarted)
    ),
    "acknowledge-before-commit": PlantedBug(
        "central says that results are stored before they are", Cores(acknowledge_early=True)
    ),
    "audit-before-commit": PlantedBug("the audit tells of what is then not written", Cores(audit="before")),
    "audit-after-commit": PlantedBug("the audit is written when the job is on disk already", Cores(audit="after")),
    "ids-lost-on-restart": PlantedBug(
        "the agent forgets finished ids when it restarts", Cores(agent=_LosesIdsOnRestart), 15
    ),
    "no-ids": PlantedBug("an order that comes twice is taken twice", Cores(agent=_KnowsNoIds)),
    "forget-before-done": PlantedBug(
        "the keeper may delete a spool before `done` is on disk", Cores(agent=_ForgetsSpoolBeforeDone)
    ),
    "start-again-after-crash": PlantedBug(
        "a restarted agent does not know what was taken", Cores(agent=_StartsAgainAfterCrash)
    ),
    "result-said-once": PlantedBug("the agent does not repeat a result", Cores(agent=_SaysResultOnce)),
    "again-forgotten": PlantedBug(
        "the room says undelivered of what an earlier room sent", Cores(room=_ForgetsThatItWasAgain)
    ),
    "delivers-again": PlantedBug(
        "the room takes an order that the bus repeats for a new one", Cores(room=_DeliversAgain)
    ),
    "orders-of-others": PlantedBug(
        "the room takes orders that were given to an earlier room process", Cores(room=_TakesOrdersOfOthers), 15
    ),
    "starts-expired": PlantedBug(
        "the agent starts what expired while it waited for its keeper", Cores(agent=_StartsExpired)
    ),
    "cancel-lost-on-reconnect": PlantedBug(
        "the room does not repeat a cancel to a host that comes back", Cores(room=_LosesCancelOnReconnect)
    ),
    "deadline-never-fires": PlantedBug("central does not watch deadlines", Cores(central=_NeverLate)),
    "last-word-wins": PlantedBug("a later result replaces a terminal state", Cores(central=_LastWordWins)),
    "duplicates-counted": PlantedBug("a report that comes twice is counted twice", Cores(central=_CountsDuplicates)),
    "cancel-lost-on-restart": PlantedBug(
        "a restarted central does not know who was cancelled", Cores(central=_ForgetsCancelOnRestart), 101
    ),
    "believes-in-bodies": PlantedBug(
        "central writes a result whose output it does not have", Cores(central=_BelievesInBodies)
    ),
    "body-sent-once": PlantedBug(
        "the room never sends a body again, whether or not it arrived", Cores(room=_RoomThatSendsOnce)
    ),
    "one-output-a-job": PlantedBug(
        "the room takes the digest of another host's output", Cores(room=_RoomThatComparesJobs)
    ),
    "parts-counted-again": PlantedBug(
        "central takes a part of which some hosts have been counted", Cores(central=_CountsPartsAgain), 116
    ),
    "rolls-nothing-back": PlantedBug(
        "a commit that failed leaves its traces in memory", Cores(central=_RollsNothingBack)
    ),
    "undone-ends-counted": PlantedBug(
        "the next hosts of a plan are begun on though the results before were not written",
        Cores(central=_BeginsOnWhatWasUndone),
        49,
    ),
    "plan-lost-on-restart": PlantedBug(
        "a restarted central begins on all hosts of a plan", Cores(central=_BeginsAllAfterRestart)
    ),
    "pause-lost-on-restart": PlantedBug(
        "a restarted central does not know who was paused", Cores(central=_ForgetsPauseOnRestart)
    ),
    "window-lost-on-restart": PlantedBug(
        "a restarted central begins on a whole wave", Cores(central=_ForgetsWindowOnRestart)
    ),
    "confirmed-too-early": PlantedBug(
        "a resume in the midst of a wave confirms its end", Cores(central=_ConfirmsTooEarly)
    ),
    "failures-not-counted": PlantedBug(
        "a timeout is no failure to the rule that stops a plan", Cores(central=_GoesOnDespiteFailures), 233
    ),
    "restarts-are-doubles": PlantedBug(
        "a host that restarted is taken for two machines", Cores(central=_TakesRestartsForDoubles)
    ),
    **HOST_BUGS,
    **SCHEDULE_BUGS,
}
