"""The control plane's store: SQLAlchemy Core on SQLite, later PostgreSQL; one writer with group commit, many readers.

`Store` (wired in `store`) writes `ops` and reads `records`; `results` turns a target's result into ops and back.
Inside: `schema` (the tables), `migrations` and `migrate`, `dialect` (all that differs between databases),
`statements` (bulk inserts), `transaction` (one commit), `writer` (thread, queue, backpressure), `reader`.
"""

from __future__ import annotations

__all__ = ("Lane", "Store")

from agentd.store.store import Store
from agentd.store.writer import Lane
