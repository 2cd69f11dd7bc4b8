"""What the store may let go of: how much there is, and which rows are the oldest.

Not here: how much is kept and when it is looked at (`central.retention`), deleting (`deletion`). Rules: read in
threads, beside the writer and never in its way; a job is offered only when it has ended and its envelope has expired,
so that the same envelope cannot become a job again; an output is offered by when it was last brought by anybody.
"""

from __future__ import annotations

__all__ = ("Prunable", "PrunableOutput", "Survey")

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from msgspec import Struct
from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.exc import DBAPIError

from agentd.store import schema
from agentd.store.audit import ChainEnd
from agentd.store.dialect import store_error

# Open jobs named in one statement.
JOBS_NAMED = 500


class Survey(Struct, frozen=True, kw_only=True):
    """How much there is. `store_bytes` are pages in use, without those that wait to be used again; the oldest are times
    in ms, 0 where there is none.
    """

    jobs: int = 0
    outputs: int = 0
    output_bytes: int = 0
    audit: int = 0
    store_bytes: int = 0
    oldest_job_ms: int = 0
    oldest_output_ms: int = 0
    oldest_audit_ms: int = 0


class PrunableOutput(Struct, frozen=True):
    """An output and when it was last brought: it is deleted only if that is still so."""

    digest: bytes
    last_ms: int
    size: int


class Prunable:
    """Reads through `engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def survey(self) -> Survey:
        """How much there is. Reads indexes only; with a million rows of each it takes a tenth of a second."""
        jobs, outputs, audit = schema.jobs.c, schema.outputs.c, schema.audit.c
        with self._reading() as connection:
            count, size, oldest = connection.execute(
                select(func.count(), func.coalesce(func.sum(outputs.size), 0), func.min(outputs.last_ms))
            ).one()
            # By the smallest id, which is that of the oldest; the first of all is not worth an index.
            job_ms = connection.execute(select(jobs.submitted_ms).order_by(jobs.id).limit(1)).scalar()
            first = connection.execute(select(audit.seq, audit.at_ms).order_by(audit.seq).limit(1)).first()
            last = connection.execute(select(func.max(audit.seq))).scalar() or 0
            return Survey(
                jobs=connection.execute(select(func.count()).select_from(schema.jobs)).scalar_one(),
                outputs=count,
                output_bytes=int(size),
                audit=last - first[0] + 1 if first is not None else 0,
                store_bytes=_store_bytes(connection),
                oldest_job_ms=job_ms or 0,
                oldest_output_ms=oldest or 0,
                oldest_audit_ms=first[1] if first is not None else 0,
            )

    def ended_jobs(self, *, now_ms: int, before_ms: int | None, jobs: int, targets: int) -> tuple[list[str], bool]:
        """Jobs that ended before a time (None: at any), whose envelopes have expired, the oldest ids first: so many
        that they have at most `targets` targets together; and whether it is one that has more by itself.
        """
        endings = schema.endings.c
        query = select(endings.job).join(schema.jobs, schema.jobs.c.id == endings.job)
        # From what brought, paused or removed a schedule all that is known of it follows; its firings go as jobs do.
        about = schema.schedule_jobs.c
        kept = select(about.job).where((about.job == endings.job) & (about.kind != "fire")).exists()
        query = query.where((schema.jobs.c.expires_ms < now_ms) & ~kept).order_by(endings.job).limit(jobs)
        if before_ms is not None:
            query = query.where(endings.finished_ms < before_ms)
        found: list[str] = []
        with self._reading() as connection:
            for job in connection.execute(query).scalars().all():
                some = select(schema.targets.c.agent).where(schema.targets.c.job == job).limit(targets + 1).subquery()
                count = connection.execute(select(func.count()).select_from(some)).scalar_one()
                if found and count > targets:
                    break
                found.append(job)
                targets -= count
                if targets < 0:
                    return found, True
        return found, False

    def last_of_first(self, job: str, count: int) -> str | None:
        """The agent of the `count`-th target of a job, if there are more: so much of it goes first."""
        targets = schema.targets.c
        query = select(targets.agent).where(targets.job == job).order_by(targets.agent).offset(count - 1).limit(2)
        with self._reading() as connection:
            found = list(connection.execute(query).scalars())
        return found[0] if len(found) == 2 else None

    def outputs(
        self, *, before_ms: int | None, most_bytes: int, limit: int, open_jobs: Iterable[str] = ()
    ) -> list[PrunableOutput]:
        """Outputs that nobody brought since a time (None: at any), the oldest first, until `most_bytes` are together;
        none of a target of these open jobs.
        """
        columns = schema.outputs.c
        query = select(columns.digest, columns.last_ms, columns.size).order_by(columns.last_ms).limit(limit)
        if before_ms is not None:
            query = query.where(columns.last_ms < before_ms)
        found: list[PrunableOutput] = []
        with self._reading() as connection:
            kept = self._digests(connection, list(open_jobs))
            for row in connection.execute(query):
                if most_bytes <= 0:
                    break
                if row[0] not in kept:
                    found.append(PrunableOutput(*row))
                    most_bytes -= row[2]
        return found

    def audit_before(self, at_ms: int) -> int:
        """The number of the last entry that was written before a time, 0 if there is none."""
        columns = schema.audit.c
        with self._reading() as connection:
            low = connection.execute(select(func.min(columns.seq))).scalar()
            high = connection.execute(select(func.max(columns.seq))).scalar()
            if low is None or high is None:
                return 0
            # Times never go back: halve.
            low -= 1
            while low < high:
                middle = (low + high + 1) // 2
                query = select(columns.at_ms).where(columns.seq >= middle).order_by(columns.seq).limit(1)
                found = connection.execute(query).scalar()
                low, high = (middle, high) if found is not None and found < at_ms else (low, middle - 1)
            return low

    def audit_entry(self, seq: int) -> ChainEnd | None:
        """Number, time and hash of an entry."""
        columns = schema.audit.c
        with self._reading() as connection:
            query = select(columns.seq, columns.at_ms, columns.hash).where(columns.seq == seq)
            row = connection.execute(query).first()
            return None if row is None else ChainEnd(*row)

    def audit_rows(self, upto: int) -> int:
        """How many numbers from the first entry that is there to `upto`."""
        with self._reading() as connection:
            first = connection.execute(select(func.min(schema.audit.c.seq))).scalar()
            return max(0, upto - first + 1) if first is not None else 0

    @staticmethod
    def _digests(connection: Connection, jobs: list[str]) -> set[bytes]:
        found: set[bytes] = set()
        for start in range(0, len(jobs), JOBS_NAMED):
            for table in (schema.targets, schema.amendments):
                columns = table.c
                query = select(columns.output_digest).where(columns.job.in_(jobs[start : start + JOBS_NAMED]))
                found.update(connection.execute(query.where(columns.output_digest.is_not(None))).scalars())
        return found

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise store_error(error) from error


def _store_bytes(connection: Connection) -> int:
    if connection.dialect.name != "sqlite":
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
    pages, free, size = (
        int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
