"""Planned jobs are paused and resumed: a row for each signed request, with how far the job had come.

A table is added, no row is touched: what was stored before had no plan.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, LargeBinary, Text

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "pauses",
        Column("id", Text, primary_key=True),
        Column("job", Text, ForeignKey("jobs.id"), nullable=False),
        Column("seq", Integer, nullable=False),
        Column("paused", Boolean, nullable=False),
        Column("begun", Integer, nullable=False),
        Column("confirmed", Integer, nullable=False),
        Column("operator", Text, nullable=False),
        Column("signed", LargeBinary, nullable=False),
        Column("at_ms", BigInteger, nullable=False),
    )
    op.create_index("ix_pauses_job", "pauses", ["job"])
