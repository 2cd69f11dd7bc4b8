"""Schedules: a row for each job that puts one on hosts, lets it rest, takes it away, or is a firing of it.

A table is added, no row is touched: what was stored before had no schedule.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Text

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "schedule_jobs",
        Column("job", Text, ForeignKey("jobs.id"), primary_key=True),
        Column("schedule", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("at_ms", BigInteger, nullable=False),
    )
    op.create_index("ix_schedule_jobs_schedule_kind_at_ms", "schedule_jobs", ["schedule", "kind", "at_ms"])
