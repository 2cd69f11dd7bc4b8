"""Reading the store, from any thread: each call takes a connection of the pool and sees one committed state.

Not here: writing. Rules: what can be long is read in pages by key, never by offset; blobs only where they are asked
for; what was answered to a writer before a read began is seen by it.
"""

from __future__ import annotations

__all__ = ("PAGE", "Reader")

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, Select, case, func, select
from sqlalchemy.exc import DBAPIError

from agentd.store import ops, records, schema
from agentd.store.dialect import store_error

# Rows a call gives unless told: a screen of a console has some fifty, an API page a hundred.
PAGE = 1000

_Record = TypeVar("_Record")

_HEAVY = (schema.jobs.c.envelope, schema.jobs.c.members)
_ENDING = (schema.endings.c.state, schema.endings.c.counts, schema.endings.c.finished_ms)
_SUMMARY = (*(column for column in schema.jobs.columns if column not in set(_HEAVY)), *_ENDING)
_JOBS = schema.jobs.outerjoin(schema.endings, schema.endings.c.job == schema.jobs.c.id)
# Columns that hold JSON of something with structure.
_JSON = frozenset(("labels", "facts", "counts", "networks"))


class Reader:
    """Reads through `engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # jobs
    # ---------------------------------------------------------------------------------------------------------------

    def jobs(
        self, *, limit: int = PAGE, before: str | None = None, operator: str | None = None
    ) -> list[records.JobSummary]:
        """Jobs, the newest first; those older than the id `before`; those of `operator`."""
        query = select(*_SUMMARY).select_from(_JOBS).order_by(schema.jobs.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(schema.jobs.c.id < before)
        if operator is not None:
            query = query.where(schema.jobs.c.operator == operator)
        return self._all(query, records.JobSummary)

    def job(self, job: str) -> records.Job | None:
        """The job with this id."""
        return self._one(select(*_SUMMARY, *_HEAVY).select_from(_JOBS).where(schema.jobs.c.id == job), records.Job)

    def open_jobs(self) -> list[records.Job]:
        """The jobs that have not ended, the oldest first: what central picks up at its start."""
        query = select(*_SUMMARY, *_HEAVY).select_from(_JOBS)
        return self._all(query.where(schema.endings.c.job.is_(None)).order_by(schema.jobs.c.id), records.Job)

    def cancels(self, job: str) -> list[records.Cancel]:
        """The requests to cancel `job`, the oldest first."""
        query = select(schema.cancels).where(schema.cancels.c.job == job).order_by(schema.cancels.c.id)
        return self._all(query, records.Cancel)

    def cancelled(self, jobs: Sequence[str]) -> set[str]:
        """Those of these jobs that somebody asked to cancel."""
        query = select(schema.cancels.c.job).where(schema.cancels.c.job.in_(jobs)).distinct()
        with self._reading() as connection:
            return set(connection.execute(query).scalars())

    def pauses(self, job: str) -> list[records.Pause]:
        """The requests to pause `job` and to go on with it, in their order."""
        query = select(schema.pauses).where(schema.pauses.c.job == job).order_by(schema.pauses.c.seq)
        return self._all(query, records.Pause)

    # schedules
    # ----------------------------------------------------------------------------------------------------------

    def schedule_acts(self) -> list[str]:
        """The jobs that put schedules on hosts, let them rest or take them away, the oldest first."""
        columns = schema.schedule_jobs.c
        query = select(columns.job).where(columns.kind != "fire").order_by(columns.job)
        with self._reading() as connection:
            return list(connection.execute(query).scalars())

    def last_firing(self, schedule: str) -> str | None:
        """The job that is the newest firing of `schedule`."""
        columns = schema.schedule_jobs.c
        query = select(columns.job).where((columns.schedule == schedule) & (columns.kind == "fire"))
        with self._reading() as connection:
            return connection.execute(query.order_by(columns.at_ms.desc()).limit(1)).scalars().first()

    def firings(self, jobs: Sequence[str]) -> dict[str, str]:
        """Those of these jobs that are firings, with the names of their schedules."""
        columns = schema.schedule_jobs.c
        query = select(columns.job, columns.name).where(columns.job.in_(jobs) & (columns.kind == "fire"))
        with self._reading() as connection:
            return {row.job: row.name for row in connection.execute(query)}

    # targets
    # ------------------------------------------------------------------------------------------------------------

    def targets(
        self, job: str, *, state: str | None = None, limit: int = PAGE, after: str = ""
    ) -> list[ops.InsertTarget]:
        """The ended targets of `job` by agent id, beginning after the agent `after`; those in `state`."""
        columns = schema.targets.c
        query = select(schema.targets).where((columns.job == job) & (columns.agent > after))
        if state is not None:
            query = query.where(columns.state == state)
        return self._all(query.order_by(columns.agent).limit(limit), ops.InsertTarget)

    def target(self, job: str, agent: str) -> ops.InsertTarget | None:
        """One target, if it has ended."""
        columns = schema.targets.c
        return self._one(
            select(schema.targets).where((columns.job == job) & (columns.agent == agent)), ops.InsertTarget
        )

    def target_keys(self, job: str) -> set[str]:
        """The agents whose targets in `job` have ended."""
        with self._reading() as connection:
            return set(connection.execute(select(schema.targets.c.agent).where(schema.targets.c.job == job)).scalars())

    def amendments(self, job: str, *, agent: str | None = None) -> list[ops.InsertAmendment]:
        """Results that came after their targets had ended, by agent and in their order."""
        columns = schema.amendments.c
        query = select(schema.amendments).where(columns.job == job).order_by(columns.agent, columns.seq)
        if agent is not None:
            query = query.where(columns.agent == agent)
        return self._all(query, ops.InsertAmendment)

    def output(self, digest: bytes) -> bytes | None:
        """The kept output with this digest."""
        return self._value(select(schema.outputs.c.body).where(schema.outputs.c.digest == digest))

    def reductions(self, job: str, *, after: str = "", limit: int = PAGE) -> list[tuple[str, bytes]]:
        """The parts of a job's reduction, each by its first agent, beginning after the agent `after`."""
        columns = schema.reductions.c
        query = select(columns.agent, columns.part).where((columns.job == job) & (columns.agent > after))
        with self._reading() as connection:
            return [(agent, part) for agent, part in connection.execute(query.order_by(columns.agent).limit(limit))]

    # hosts, trust and the rest
    # ------------------------------------------------------------------------------------------

    def hosts(self) -> list[records.Host]:
        """Every host, by name."""
        return self._all(select(schema.hosts).order_by(schema.hosts.c.name), records.Host)

    def host(self, host: str) -> records.Host | None:
        """The host with this id."""
        return self._one(select(schema.hosts).where(schema.hosts.c.id == host), records.Host)

    def host_by_name(self, name: str) -> records.Host | None:
        """The host with this name."""
        return self._one(select(schema.hosts).where(schema.hosts.c.name == name), records.Host)

    def token(self, token: str) -> records.Token | None:
        """The enrolment token with this id."""
        return self._one(select(schema.tokens).where(schema.tokens.c.id == token), records.Token)

    def tokens(self) -> list[records.Token]:
        """Every enrolment token, the oldest first."""
        return self._all(select(schema.tokens).order_by(schema.tokens.c.id), records.Token)

    def session(self, session: str) -> records.Session | None:
        """The login with this id."""
        return self._one(select(schema.sessions).where(schema.sessions.c.id == session), records.Session)

    def roster(self, revision: int | None = None) -> tuple[int, bytes] | None:
        """A revision of the roster and its signed bytes; without a number, the newest."""
        query = select(schema.rosters.c.revision, schema.rosters.c.signed)
        if revision is not None:
            query = query.where(schema.rosters.c.revision == revision)
        with self._reading() as connection:
            row = connection.execute(query.order_by(schema.rosters.c.revision.desc()).limit(1)).first()
        return None if row is None else (row[0], row[1])

    def rosters(self, *, after: int = -1) -> list[tuple[int, bytes]]:
        """The revisions after a number, the oldest first: what brings one who has that number up to date."""
        columns = schema.rosters.c
        query = select(columns.revision, columns.signed).where(columns.revision > after).order_by(columns.revision)
        with self._reading() as connection:
            return [(revision, signed) for revision, signed in connection.execute(query)]

    def meta(self, key: str) -> bytes | None:
        """The control plane's own value under `key`."""
        return self._value(select(schema.meta.c.value).where(schema.meta.c.key == key))

    def outcomes(self, span_ms: int, since_ms: int, by: Sequence[str], *, limit: int = PAGE) -> list[records.Outcome]:
        """How targets ended in the buckets of `span_ms` that begin at `since_ms` or later, the latest first, summed up
        over what is not in `by`: columns of the table.
        """
        columns = schema.outcomes.c
        apart = [columns[name] for name in by]
        good = func.sum(case((columns.state == "ok", columns.targets), else_=0)).label("ok")
        query = (
            select(*apart, func.sum(columns.targets).label("targets"), good)
            .where((columns.span_ms == span_ms) & (columns.start_ms >= since_ms))
            .group_by(*apart)
            .order_by(*(column.desc() if column.name == "start_ms" else column for column in apart))
            .limit(limit)
        )
        return [row for row in self._all(query, records.Outcome) if row.targets]

    # how
    # ----------------------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise store_error(error) from error

    def _all(self, query: Select[Any], kind: type[_Record]) -> list[_Record]:
        with self._reading() as connection:
            result = connection.execute(query)
            names = list(result.keys())
            return [_record(kind, names, row) for row in result]

    def _one(self, query: Select[Any], kind: type[_Record]) -> _Record | None:
        found = self._all(query, kind)
        return found[0] if found else None

    def _value(self, query: Select[Any]) -> Any:
        with self._reading() as connection:
            return connection.execute(query).scalar_one_or_none()


def _record(kind: type[_Record], names: Sequence[str], row: Sequence[Any]) -> _Record:
    values = dict(zip(names, row, strict=True))
    for name in _JSON.intersection(values):
        values[name] = msgspec.json.decode(values[name]) if values[name] is not None else {}
    if "networks" in values:
        values["networks"] = tuple(values["networks"])
    return kind(**values)
