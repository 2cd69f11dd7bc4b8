"""Hosts sign results and are guarded against their doubles: a key and a guard of each host, a signature of each result.

Columns are added, no row is touched: what was stored before has none of them.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, LargeBinary

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("hosts", Column("result_key", LargeBinary))
    op.add_column("hosts", Column("guard", LargeBinary))
    op.add_column("targets", Column("signature", LargeBinary))
    op.add_column("amendments", Column("signature", LargeBinary))
