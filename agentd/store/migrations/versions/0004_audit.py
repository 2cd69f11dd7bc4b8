"""The audit and its checkpoints."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, Text, text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "audit",
        Column("seq", _number(), primary_key=True, autoincrement=False),
        Column("at_ms", BigInteger, nullable=False),
        Column("operator", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("refused", Boolean, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("hash", LargeBinary, nullable=False),
    )
    refused = text("refused")
    op.create_index("ix_audit_refused", "audit", ["seq"], sqlite_where=refused, postgresql_where=refused)
    op.create_table(
        "checkpoints",
        Column("upto", _number(), primary_key=True, autoincrement=False),
        Column("signed", LargeBinary, nullable=False),
    )


def _number() -> BigInteger:
    return BigInteger().with_variant(Integer, "sqlite")
