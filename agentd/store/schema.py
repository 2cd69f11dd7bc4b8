"""The store's tables, as SQLAlchemy Core. What is on disk is made by `migrations/`; a test holds the two together.

Not here: SQL (`statements`, `reader`), connections (`dialect`). Rules: what a fleet makes by the thousand is inserted
once and never updated, so a row that is there is final and a repeated insert is ignored: a target without a row is
open, and a job without a row in `endings` is open. Types are those that SQLite and PostgreSQL share; times are ms
since the epoch; structured values are JSON or msgpack text of their owner, opaque here.
"""

from __future__ import annotations

__all__ = (
    "amendments",
    "audit",
    "cancels",
    "checkpoints",
    "endings",
    "hosts",
    "jobs",
    "meta",
    "metadata",
    "outcomes",
    "outputs",
    "pauses",
    "reductions",
    "rosters",
    "schedule_jobs",
    "sessions",
    "targets",
    "tokens",
)

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

hosts = Table(
    "hosts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("room", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("certificate_serial", Text),
    Column("certificate_not_after_ms", BigInteger),
    Column("enrolled_ms", BigInteger, nullable=False),
    Column("last_seen_ms", BigInteger),
    Column("revoked", Boolean, nullable=False),
    Column("result_key", LargeBinary),
    Column("guard", LargeBinary),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("room", Text, nullable=False),
    Column("name_pattern", Text, nullable=False),
    Column("networks", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("uses_left", Integer, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("replaces", Boolean, nullable=False, server_default=false()),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("operator", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
)

rosters = Table(
    "rosters",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("signed", LargeBinary, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("operator", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("submitted_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("deadline_ms", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("members", LargeBinary, nullable=False),
    Index(None, "operator", "id"),
)

endings = Table(
    "endings",
    metadata,
    Column("job", Text, ForeignKey("jobs.id"), primary_key=True),
    Column("state", Text, nullable=False),
    Column("counts", Text, nullable=False),
    Column("finished_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)


def _result_columns() -> list[Column]:
    return [
        Column("state", Text, nullable=False),
        Column("exit_status", Integer),
        Column("ran", Text, nullable=False),
        Column("started_ms", BigInteger),
        Column("finished_ms", BigInteger),
        Column("user_ms", BigInteger, nullable=False),
        Column("system_ms", BigInteger, nullable=False),
        Column("max_rss_kb", BigInteger, nullable=False),
        Column("stdout_bytes", BigInteger, nullable=False),
        Column("stderr_bytes", BigInteger, nullable=False),
        Column("stdout_sha256", LargeBinary),
        Column("stderr_sha256", LargeBinary),
        Column("output_digest", LargeBinary),
        Column("received_ms", BigInteger, nullable=False),
        # What most results leave as it is comes last, so that one comparison tells a usual row.
        Column("signal", Integer),
        Column("core_dumped", Boolean, nullable=False, server_default=false()),
        Column("errno", Integer),
        Column("code", Text),
        Column("detail", Text),
        Column("omitted", BigInteger, nullable=False, server_default="0"),
        Column("left_running", Text),
        Column("left_count", Integer, nullable=False, server_default="0"),
        Column("signature", LargeBinary),
    ]


# No rowid: the key is the row's place, so a job's targets lie together and there is one tree to write, not two.
targets = Table(
    "targets",
    metadata,
    Column("job", Text, ForeignKey("jobs.id"), primary_key=True),
    Column("agent", Text, primary_key=True),
    *_result_columns(),
    sqlite_with_rowid=False,
)

amendments = Table(
    "amendments",
    metadata,
    Column("job", Text, ForeignKey("jobs.id"), primary_key=True),
    Column("agent", Text, primary_key=True),
    *_result_columns(),
    Column("seq", Integer, primary_key=True),
    sqlite_with_rowid=False,
)

outputs = Table(
    "outputs",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    # When somebody brought it last, and how long it is: what retention looks for is all in one index.
    Column("last_ms", BigInteger, nullable=False, server_default="0"),
    Column("size", BigInteger, nullable=False, server_default="0"),
    Index(None, "last_ms", "size"),
)

# Parts of the reductions of jobs; merged by whoever reads them.
reductions = Table(
    "reductions",
    metadata,
    Column("job", Text, ForeignKey("jobs.id"), primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("part", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

cancels = Table(
    "cancels",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job", Text, ForeignKey("jobs.id"), nullable=False, index=True),
    Column("operator", Text, nullable=False),
    Column("signed", LargeBinary, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("span_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("room", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("code", Text, primary_key=True),
    Column("targets", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# By number, which is the rowid on SQLite: an entry is appended at the end of one tree. Only refusals have an index; the
# rest is found by reading, which is bounded (`audit`).
audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("operator", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("refused", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)
Index("ix_audit_refused", audit.c.seq, sqlite_where=audit.c.refused, postgresql_where=audit.c.refused)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("upto", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("signed", LargeBinary, nullable=False),
)

pauses = Table(
    "pauses",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job", Text, ForeignKey("jobs.id"), nullable=False, index=True),
    Column("seq", Integer, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("begun", Integer, nullable=False),
    Column("confirmed", Integer, nullable=False),
    Column("operator", Text, nullable=False),
    Column("signed", LargeBinary, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

# What jobs are to schedules; all that is known of a schedule follows from these jobs.
schedule_jobs = Table(
    "schedule_jobs",
    metadata,
    Column("job", Text, ForeignKey("jobs.id"), primary_key=True),
    Column("schedule", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Index(None, "schedule", "kind", "at_ms"),
)

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
