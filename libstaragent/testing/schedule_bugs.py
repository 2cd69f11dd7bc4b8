"""Planted bugs of schedules: see `bugs`, whose table they are part of."""

from __future__ import annotations

__all__ = ("SCHEDULE_BUGS",)

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from libstaragent import codes
from libstaragent.jobs.journal import Fired, Kept, Record, Removed, Rested, compacted
from libstaragent.protocol import messages as m
from libstaragent.roles.agent import AgentCore
from libstaragent.roles.agent_effects import ToKeeper
from libstaragent.roles.agent_run import LocalRun, keeper_spec
from libstaragent.roles.agent_schedules import AgentSchedules, Firing
from libstaragent.roles.central import CentralCore
from libstaragent.roles.central_schedules import ScheduleBook
from libstaragent.roles.central_state import Job
from libstaragent.security.acts import Exec, PauseSchedule
from libstaragent.testing.fleet import Cores
from libstaragent.testing.planted import PlantedBug

Compact = Callable[[Iterable[Record]], list[Record]]


def _without(kind: type, *, of: Callable[[Any], bool] = lambda record: True) -> Compact:
    """A journal that does not take these records into account when it is made shorter."""

    def compact(found: Iterable[Record]) -> list[Record]:
        return compacted(record for record in found if type(record) is not kind or not of(record))

    return compact


def _forgets_when_it_fired(found: Iterable[Record]) -> list[Record]:
    records = list(found)
    first = {record.schedule: record for record in reversed(records) if type(record) is Kept}
    return [
        replace(record, last_ms=first[record.schedule].last_ms) if type(record) is Kept else record
        for record in compacted(records)
    ]


class _TellsBeforeItIsKnown(AgentCore):
    @staticmethod
    def _mark_fired(run: LocalRun, record: Fired) -> None:
        run.fired = m.Firing(record.job, record.schedule, record.at_ms, record.boot)
        run.told = True


class _StartsFiringsBeforeFsync(AgentCore):
    def _persist(self, job: str, kind: str, record: Record, *, sync: bool) -> None:
        super()._persist(job, kind, record, sync=sync)
        run = self.open.get(job)
        if type(record) is not Fired or run is None or run.envelope is None or self._fired[job][1] is not None:
            return
        act = run.envelope.act
        if isinstance(act, Exec) and self._keeper_up:
            self.effects.append(ToKeeper({"op": "spawn", "job": job, "spec": keeper_spec(act, run.operator)}))


class _Credulous(AgentSchedules):
    def due(self, now_ms: int, **options: Any) -> tuple[list[Firing], list[Removed]]:
        fired, over = super().due(now_ms, **options)
        unknown = codes.SIGNER_UNKNOWN.code
        believed = [
            replace(firing, verdict=None) if firing.verdict is not None and firing.verdict.code == unknown else firing
            for firing in fired
        ]
        return believed, over


class _JudgesOnce(AgentCore):
    def _recover(self, journal: Iterable[Record]) -> None:
        self.schedules.__class__ = _Credulous
        super()._recover(journal)


class _BookThatHearsInOrder(ScheduleBook):
    def took(self, job: Job) -> None:
        # As if no resume were under way: a host rests until it says otherwise.
        act = job.envelope.act
        if not isinstance(act, PauseSchedule) or act.paused:
            super().took(job)


class _WaitsForResumes(CentralCore):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.schedules = _BookThatHearsInOrder()


SCHEDULE_BUGS: dict[str, PlantedBug] = {
    "fires-again-after-crash": PlantedBug(
        "the journal, made shorter, does not say when a schedule fired last", Cores(compact=_forgets_when_it_fired), 241
    ),
    "schedule-lost-in-compaction": PlantedBug(
        "the journal, made shorter, has no schedules", Cores(compact=_without(Kept)), 69
    ),
    "rest-lost-in-compaction": PlantedBug(
        "the journal, made shorter, does not say which schedules rest",
        Cores(compact=_without(Rested, of=lambda record: record.paused)),
        5,
    ),
    "removal-lost-in-compaction": PlantedBug(
        "the journal, made shorter, has schedules that were removed", Cores(compact=_without(Removed)), 721
    ),
    "fires-before-fsync": PlantedBug("a firing starts before it is on disk", Cores(agent=_StartsFiringsBeforeFsync), 5),
    "firing-told-too-early": PlantedBug(
        "the agent says how a firing went before central knows of it", Cores(agent=_TellsBeforeItIsKnown), 5
    ),
    "schedule-judged-once": PlantedBug(
        "a schedule fires though its operator was struck from the roster", Cores(agent=_JudgesOnce), 25
    ),
    "resume-not-expected": PlantedBug(
        "central keeps a host out of firings until it has heard that it went on", Cores(central=_WaitsForResumes), 77
    ),
}
