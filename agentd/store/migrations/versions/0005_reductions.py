"""Parts of reductions: what rooms made of the outputs of reduced jobs."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, ForeignKey, LargeBinary, Text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "reductions",
        Column("job", Text, ForeignKey("jobs.id"), primary_key=True),
        Column("agent", Text, primary_key=True),
        Column("part", LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
