"""Reading the store for central: jobs back into memory, and pages of jobs and targets for the API.

Not here: SQL (`store.reader`). Rules: blocking, so it is called in threads, except at start; an open job's states come
from memory, its results from the store.
"""

from __future__ import annotations

__all__ = ("History",)

from collections.abc import Callable, Container, Mapping, Sequence

import msgspec

from agentd.central.directory import Directory, HostRecord
from agentd.central.trust import unpack_signed
from agentd.central.views import open_view, target_view
from agentd.central.writes import ADDRESSES
from agentd.store import records
from agentd.store.ops import InsertTarget
from agentd.store.reader import Reader
from agentd.store.results import result_of
from libstaragent.jobs.kept_output import output_of
from libstaragent.model.api import JobView, TargetPage, TargetView
from libstaragent.roles.central_schedules import firing_job
from libstaragent.roles.central_state import Job
from libstaragent.roles.guards import Guard, read_guard
from libstaragent.roles.pacing import WITHOUT_TURN, Past, PauseEntry
from libstaragent.security.acts import Member
from libstaragent.security.envelope import open_signed
from libstaragent.security.signed import Signed

# A day more than an agent's certificate lives.
REPLACED_KEPT_MS = 8 * 24 * 3_600_000
# Ended targets read at once when a job comes back into memory.
RESTORE_PAGE = 10_000

_members = msgspec.msgpack.Decoder(tuple[tuple[str, str, str], ...])

Restored = tuple[Job, dict[str, str], Signed | None, Past | None]


class History:
    """See the module."""

    def __init__(self, read: Reader, hosts: Directory, now_ms: Callable[[], int]) -> None:
        self._read = read
        self._now_ms = now_ms
        self._hosts = hosts

    def enrolled(self) -> list[tuple[HostRecord, Guard | None]]:
        """Every host that may connect, and how it is guarded."""
        rows = [row for row in self._read.hosts() if not row.revoked]
        return [(_host(row), None if row.guard is None else read_guard(row.guard)) for row in rows]

    def replaced(self, now_ms: int) -> list[tuple[str, Guard]]:
        """Identities that hosts had before they joined anew, while a certificate of theirs may still be valid."""
        rows = [row for row in self._read.hosts() if row.revoked and row.guard is not None]
        guards = [(row.id, read_guard(row.guard)) for row in rows if row.guard is not None]
        return [
            (agent, guard)
            for agent, guard in guards
            if guard.state == "replaced" and now_ms - guard.since_ms < REPLACED_KEPT_MS
        ]

    def open_jobs(self) -> list[Restored]:
        """What was running when this process ended."""
        return [self._restored(row) for row in self._read.open_jobs()]

    def job(self, job_id: str) -> Restored | None:
        """A job of the store, with the states of its ended targets, its cancel, and of a planned one how far it was."""
        row = self._read.job(job_id)
        return None if row is None else self._restored(row)

    def job_views(self, *, limit: int, before: str | None, operator: str | None) -> list[JobView]:
        """Ended jobs, and open ones as far as the store knows; the newest first."""
        rows = self._read.jobs(limit=limit, before=before, operator=operator)
        ids = [row.id for row in rows]
        cancelled, firings = self._read.cancelled(ids), self._read.firings(ids)
        return [_view(row, cancelled, firings) for row in rows]

    def members(self, job_id: str) -> dict[str, Member] | None:
        """The hosts of a job; None where there is no such job."""
        row = self._read.job(job_id)
        return None if row is None else _read_members(row.members)

    def job_view(self, job_id: str) -> JobView | None:
        """One job."""
        row = self._read.job(job_id)
        if row is None:
            return None
        view = _view(row, self._read.cancelled([job_id]), self._read.firings([job_id]))
        plan = open_signed(unpack_signed(row.envelope)).plan
        return msgspec.structs.replace(view, targets=len(_read_members(row.members)), plan=plan)

    def targets(
        self,
        job_id: str,
        members: dict[str, Member],
        open_states: dict[str, str],
        *,
        state: str | None,
        after: str,
        limit: int,
        output: bool,
    ) -> TargetPage:
        """A page of targets: ended ones from the store, the rest as `open_states` says."""
        rows = {row.agent: row for row in self._read.targets(job_id, state=state, after=after, limit=limit)}
        views: dict[str, TargetView] = {
            agent: self._target(members[agent], row, output=output) for agent, row in rows.items() if agent in members
        }
        for agent, now in open_states.items():
            if agent > after and agent not in views and (state is None or state == now):
                views[agent] = open_view(job_id, members[agent], now)
        chosen = sorted(views)[:limit]
        page: list[TargetView] = []
        amended = self._amended(job_id)
        for agent in chosen:
            page.append(views[agent])
            page.extend(
                self._target(members[agent], row, output=output, amendment=True) for row in amended.get(agent, ())
            )
        more = len(views) > limit or len(rows) == limit
        return TargetPage(targets=tuple(page), next=chosen[-1] if more and chosen else None)

    def target(self, job_id: str, member: Member) -> TargetView | None:
        """One ended target with its output: the amendment, if there is one."""
        amended = self._read.amendments(job_id, agent=member.agent)
        if amended:
            return self._target(member, amended[-1], output=True, amendment=True)
        row = self._read.target(job_id, member.agent)
        return None if row is None else self._target(member, row, output=True)

    def schedule_acts(self) -> list[str]:
        """The jobs from which all schedules follow, the oldest first."""
        return self._read.schedule_acts()

    def last_firing(self, schedule: str) -> str | None:
        """The newest firing's job."""
        return self._read.last_firing(schedule)

    def endings(self, job_id: str) -> list[tuple[str, str, int, str | None]]:
        """How the targets of a job ended, amendments last: agent, state, when by the host's clock, and the code."""
        rows: list[InsertTarget] = []
        while page := self._read.targets(job_id, limit=RESTORE_PAGE, after=rows[-1].agent if rows else ""):
            rows.extend(page)
        rows.extend(self._read.amendments(job_id))
        return [(row.agent, row.state, row.finished_ms or row.received_ms, row.code) for row in rows]

    def _amended(self, job_id: str) -> dict[str, list[InsertTarget]]:
        found: dict[str, list[InsertTarget]] = {}
        for row in self._read.amendments(job_id):
            found.setdefault(row.agent, []).append(row)
        return found

    def _target(
        self, member: Member, row: InsertTarget, *, output: bool = False, amendment: bool = False
    ) -> TargetView:
        kept = None
        if output and row.output_digest is not None:
            body = self._read.output(row.output_digest)
            kept = None if body is None else output_of(body)
        return target_view(
            member,
            result_of(row, kept),
            row.received_ms,
            amendment=amendment,
            output=output,
            kept=row.output_digest,
            pruned=output and row.output_digest is not None and kept is None,
        )

    def _restored(self, row: records.Job) -> Restored:
        signed = unpack_signed(row.envelope)
        members: Sequence[Member] = tuple(_read_members(row.members).values())
        envelope = open_signed(signed)
        if envelope.id == row.id:
            job = Job(envelope, signed, members, source=row.source, submitted_ms=row.submitted_ms)
        else:
            job = firing_job(envelope, row.id, signed, members, submitted_ms=row.submitted_ms)
        job.ended_at = row.finished_ms
        ended: dict[str, str] = {}
        without_turn: dict[str, str] = {}
        ended_ms = 0
        after = ""
        while page := self._read.targets(row.id, limit=RESTORE_PAGE, after=after):
            ended.update((target.agent, target.state) for target in page)
            if job.pacing is not None:
                ended_ms = max(ended_ms, *(target.received_ms for target in page))
                without_turn.update((target.agent, target.code) for target in page if target.code in WITHOUT_TURN)
            after = page[-1].agent
        cancels = self._read.cancels(row.id)
        past = None
        if job.pacing is not None:
            pauses = tuple(_pause_entry(pause) for pause in self._read.pauses(row.id))
            past = Past(pauses=pauses, ended_ms=ended_ms, without_turn=without_turn, now_ms=self._now_ms())
        return job, ended, unpack_signed(cancels[-1].signed) if cancels else None, past


def _read_members(data: bytes) -> dict[str, Member]:
    return {agent: Member(agent, name, room) for agent, name, room in _members.decode(data)}


def _pause_entry(row: records.Pause) -> PauseEntry:
    return PauseEntry(
        id=row.id,
        job=row.job,
        seq=row.seq,
        paused=row.paused,
        begun=row.begun,
        confirmed=row.confirmed,
        signed=unpack_signed(row.signed),
        at_ms=row.at_ms,
    )


def _view(row: records.JobSummary, cancelled: Container[str], firings: Mapping[str, str]) -> JobView:
    command, _, expression = row.title.rpartition("\n")
    return JobView(
        id=row.id,
        operator=row.operator,
        command=command,
        expression=expression,
        targets=sum(row.counts.values()),
        counts=row.counts,
        submitted_ms=row.submitted_ms,
        expires_ms=row.expires_ms,
        deadline_ms=row.deadline_ms,
        finished_ms=row.finished_ms,
        cancelled=row.id in cancelled,
        source=row.source,
        stopped=row.state == "stopped",
        schedule=firings.get(row.id, ""),
    )


def _host(row: records.Host) -> HostRecord:
    facts = dict(row.facts)
    addresses = tuple(facts.pop(ADDRESSES, "").split())
    return HostRecord(
        id=row.id,
        name=row.name,
        room=row.room,
        labels=row.labels,
        facts=facts,
        addresses=addresses,
        enrolled_ms=row.enrolled_ms,
        last_seen_ms=row.last_seen_ms,
        result_key=row.result_key or b"",
    )
