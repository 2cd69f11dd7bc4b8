"""When an output was brought last, and its size: retention finds the oldest by one index."""

from __future__ import annotations

import time

from alembic import op
from sqlalchemy import BigInteger, Column, text

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    for name in ("last_ms", "size"):
        op.add_column("outputs", Column(name, BigInteger, nullable=False, server_default="0"))
    # What was kept before anybody counted counts from now on.
    now_ms = time.time_ns() // 1_000_000
    op.execute(text("UPDATE outputs SET last_ms = :now, size = length(body)").bindparams(now=now_ms))
    op.create_index("ix_outputs_last_ms_size", "outputs", ["last_ms", "size"])
