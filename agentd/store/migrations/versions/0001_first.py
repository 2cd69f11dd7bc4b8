"""The first tables.

A step is history: it says what was made then and is never edited, so it repeats the columns of the schema it made.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, LargeBinary, Text, false

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "hosts",
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
    )
    op.create_table(
        "tokens",
        Column("id", Text, primary_key=True),
        Column("digest", LargeBinary, nullable=False),
        Column("room", Text, nullable=False),
        Column("name_pattern", Text, nullable=False),
        Column("networks", Text, nullable=False),
        Column("labels", Text, nullable=False),
        Column("uses_left", Integer, nullable=False),
        Column("expires_ms", BigInteger, nullable=False),
        Column("created_by", Text, nullable=False),
    )
    op.create_table(
        "sessions",
        Column("id", Text, primary_key=True),
        Column("digest", LargeBinary, nullable=False),
        Column("operator", Text, nullable=False),
        Column("key", LargeBinary, nullable=False),
        Column("expires_ms", BigInteger, nullable=False),
    )
    op.create_table(
        "rosters",
        Column("revision", BigInteger, primary_key=True, autoincrement=False),
        Column("signed", LargeBinary, nullable=False),
    )
    op.create_table(
        "jobs",
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
    )
    op.create_index("ix_jobs_operator_id", "jobs", ["operator", "id"])
    op.create_table(
        "endings",
        Column("job", Text, ForeignKey("jobs.id"), primary_key=True),
        Column("state", Text, nullable=False),
        Column("counts", Text, nullable=False),
        Column("finished_ms", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "targets",
        Column("job", Text, ForeignKey("jobs.id"), primary_key=True),
        Column("agent", Text, primary_key=True),
        *_result(),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "amendments",
        Column("job", Text, ForeignKey("jobs.id"), primary_key=True),
        Column("agent", Text, primary_key=True),
        *_result(),
        Column("seq", Integer, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outputs",
        Column("digest", LargeBinary, primary_key=True),
        Column("body", LargeBinary, nullable=False),
    )
    op.create_table(
        "cancels",
        Column("id", Text, primary_key=True),
        Column("job", Text, ForeignKey("jobs.id"), nullable=False),
        Column("operator", Text, nullable=False),
        Column("signed", LargeBinary, nullable=False),
        Column("at_ms", BigInteger, nullable=False),
    )
    op.create_index("ix_cancels_job", "cancels", ["job"])
    op.create_table(
        "meta",
        Column("key", Text, primary_key=True),
        Column("value", LargeBinary, nullable=False),
    )


def _result() -> list[Column]:
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
        Column("signal", Integer),
        Column("core_dumped", Boolean, nullable=False, server_default=false()),
        Column("errno", Integer),
        Column("code", Text),
        Column("detail", Text),
        Column("omitted", BigInteger, nullable=False, server_default="0"),
        Column("left_running", Text),
        Column("left_count", Integer, nullable=False, server_default="0"),
    ]
