"""Tokens with which a host joins anew under the name that it has."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, false

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("tokens", Column("replaces", Boolean, nullable=False, server_default=false()))
