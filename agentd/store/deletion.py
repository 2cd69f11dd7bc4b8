"""Deleting what is not kept any longer, a small batch at a time, in the writer's transactions.

Not here: what is chosen (`retention`, `central.retention`). Rules: every op names its rows by key and is small: the
writer that carries it out keeps nobody waiting; what has changed since it was chosen stays.
"""

from __future__ import annotations

__all__ = ("DELETIONS",)

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Table, delete, select

from agentd.store import ops, schema

# Every table whose rows belong to a job, whoever made it.
_OF_A_JOB: tuple[Table, ...] = tuple(
    table
    for table in reversed(schema.metadata.sorted_tables)
    if any(key.column is schema.jobs.c.id for key in table.foreign_keys)
)
# Those of them that have a row a target.
_OF_A_TARGET: tuple[Table, ...] = tuple(table for table in _OF_A_JOB if "agent" in table.c and "job" in table.c)


def _delete_targets(connection: Connection, op: ops.DeleteTargets) -> None:
    for table in _OF_A_TARGET:
        connection.execute(delete(table).where((table.c.job == op.job) & (table.c.agent <= op.upto)))


def _delete_jobs(connection: Connection, op: ops.DeleteJobs) -> None:
    for table in _OF_A_JOB:
        column = next(key.parent for key in table.foreign_keys if key.column is schema.jobs.c.id)
        connection.execute(delete(table).where(column.in_(op.ids)))
    connection.execute(delete(schema.jobs).where(schema.jobs.c.id.in_(op.ids)))


def _delete_outputs(connection: Connection, op: ops.DeleteOutputs) -> None:
    cursor = connection.connection.cursor()
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    try:
        cursor.executemany(f"DELETE FROM outputs WHERE digest = {mark} AND last_ms <= {mark}", list(op.rows))
    finally:
        cursor.close()


def _delete_audit(connection: Connection, op: ops.DeleteAudit) -> None:
    audit = schema.audit
    pruned = select(schema.checkpoints.c.upto).order_by(schema.checkpoints.c.upto.desc()).limit(1).scalar_subquery()
    some = select(audit.c.seq).where(audit.c.seq <= pruned).order_by(audit.c.seq).limit(op.limit)
    connection.execute(delete(audit).where(audit.c.seq.in_(some)))


def _delete_tokens(connection: Connection, op: ops.DeleteTokens) -> None:
    connection.execute(delete(schema.tokens).where(schema.tokens.c.expires_ms <= op.expired_ms))


DELETIONS: dict[type, Callable[[Connection, Any], None]] = {
    ops.DeleteTargets: _delete_targets,
    ops.DeleteJobs: _delete_jobs,
    ops.DeleteOutputs: _delete_outputs,
    ops.DeleteAudit: _delete_audit,
    ops.DeleteTokens: _delete_tokens,
}
