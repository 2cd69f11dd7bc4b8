"""Reading the audit: pages of entries, and the checkpoints. Like `reader`, from any thread.

Not here: what an entry says. Rules: entries are read as they are stored and their bodies are not opened; a page that
looks for something reads at most SCAN_ROWS rows, and says where the next one goes on.
"""

from __future__ import annotations

__all__ = ("SCAN_ROWS", "AuditPageRows", "AuditReader", "AuditSought", "StoredEntry")

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Engine, func, or_, select, text
from sqlalchemy.exc import DBAPIError

from agentd.store import schema
from agentd.store.dialect import store_error
from libstaragent.security.signed import Signed

# Rows that one look for something may read: some 10 MB, a tenth of a second.
SCAN_ROWS = 20_000
# Open jobs named in a statement, well below what databases take; a host is in no more of them at once (OPEN_MAX).
MAX_JOBS_NAMED = 1000

_signed = msgspec.msgpack.Decoder(Signed)


class StoredEntry(Struct, frozen=True):
    """One row: what is hashed, the hash, and the columns by which rows are found."""

    seq: int
    at_ms: int
    body: bytes
    hash: bytes
    operator: str
    subject: str
    refused: bool


class AuditSought(Struct, frozen=True, kw_only=True):
    """What is looked for: entries from a time on, of an operator, refused ones, about a host (its agent id, with the
    jobs on it that have not ended there).
    """

    since_ms: int = 0
    operator: str = ""
    refused: bool = False
    agent: str = ""
    open_jobs: Sequence[str] = ()


class AuditPageRows(Struct, frozen=True):
    """Some rows; `next` is where to go on, None when there are no more."""

    rows: list[StoredEntry]
    next: int | None


_ROW = tuple(schema.audit.c[name] for name in StoredEntry.__struct_fields__)


class AuditReader:
    """Reads through `engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def after(self, seq: int, limit: int) -> AuditPageRows:
        """The entries after number `seq`, the oldest first; those that a checkpoint stands for are left out."""
        column = schema.audit.c.seq
        with self._reading() as connection:
            pruned = connection.execute(select(func.max(schema.checkpoints.c.upto))).scalar_one() or 0
            query = select(*_ROW).where(column > max(seq, pruned)).order_by(column).limit(limit)
            rows = [StoredEntry(*row) for row in connection.execute(query)]
        return AuditPageRows(rows, rows[-1].seq if len(rows) == limit else None)

    def before(self, seq: int | None, limit: int, sought: AuditSought) -> AuditPageRows:
        """The entries before number `seq` (None: the newest) that are sought, the newest first."""
        columns = schema.audit.c
        with self._reading() as connection:
            begin = seq or (connection.execute(select(func.max(columns.seq))).scalar_one() or 0) + 1
            # Refusals are found by their index; anything else by looking, a part at a time.
            floor = 0 if sought.refused and not sought.agent else max(0, begin - SCAN_ROWS)
            query = select(*_ROW).where((columns.seq < begin) & (columns.seq >= floor))
            if sought.since_ms:
                query = query.where(columns.at_ms >= sought.since_ms)
            if sought.operator:
                query = query.where(columns.operator == sought.operator)
            if sought.refused:
                query = query.where(text("audit.refused"))
            if sought.agent:
                targets = schema.targets.c
                ended = select(1).where((targets.job == columns.subject) & (targets.agent == sought.agent)).exists()
                jobs = list(sought.open_jobs)[:MAX_JOBS_NAMED]
                query = query.where(or_(columns.subject == sought.agent, ended, columns.subject.in_(jobs)))
            rows = [StoredEntry(*row) for row in connection.execute(query.order_by(columns.seq.desc()).limit(limit))]
            if len(rows) == limit:
                return AuditPageRows(rows, rows[-1].seq)
            return AuditPageRows(rows, floor if self._is_more(connection, floor, sought.since_ms) else None)

    def checkpoints(self) -> tuple[Signed, ...]:
        """All of them, the oldest first."""
        query = select(schema.checkpoints.c.signed).order_by(schema.checkpoints.c.upto)
        with self._reading() as connection:
            return tuple(_signed.decode(signed) for signed in connection.execute(query).scalars())

    def _is_more(self, connection: Connection, floor: int, since_ms: int) -> bool:
        """Whether an entry before number `floor` may be sought: times never go back."""
        columns = schema.audit.c
        query = select(columns.at_ms).where(columns.seq < floor).order_by(columns.seq.desc()).limit(1)
        at_ms = connection.execute(query).scalar_one_or_none()
        return at_ms is not None and at_ms >= since_ms

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise store_error(error) from error
