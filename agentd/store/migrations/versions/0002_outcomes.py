"""How targets ended, counted by time, room, version, state and code."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "outcomes",
        Column("span_ms", BigInteger, primary_key=True, autoincrement=False),
        Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
        Column("room", Text, primary_key=True),
        Column("version", Text, primary_key=True),
        Column("state", Text, primary_key=True),
        Column("code", Text, primary_key=True),
        Column("targets", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
