"""One commit: many submissions of ops, written in as few statements as can be.

Not here: the thread and the queue (`writer`). The order in a commit:

1. `InsertJob` of all submissions, in bulk; a job that was there already refuses its submission.
2. what updates, deletes or claims, one by one as submitted; a submission with a claim has its own savepoint.
3. everything that is only ever inserted, of the submissions that still stand, in bulk, a statement for many rows.
4. the audit's entries of these submissions, in their order.

Rules: a refusal concerns one submission and nothing of that submission stays. What the database itself refuses (no
space, a row that breaks a constraint) leaves as an exception after a rollback: `run` answers for all of it or for
none.
"""

from __future__ import annotations

__all__ = ("Submission", "Transaction")

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import astuple
from sqlalchemy import Connection, Dialect, Engine, delete, select, update

from agentd.store import ops, schema
from agentd.store.audit import AuditWriter
from agentd.store.deletion import DELETIONS
from agentd.store.dialect import insert_or_ignore, upsert
from agentd.store.statements import BulkInsert, Increment
from agentd.store.writing import Writing
from libstaragent import codes
from libstaragent.errors import StarAgentError

Submission = Sequence[ops.Op]

_BULK: dict[type, Any] = {
    ops.InsertTarget: schema.targets,
    ops.InsertAmendment: schema.amendments,
    ops.InsertOutput: schema.outputs,
    ops.InsertReduction: schema.reductions,
    ops.InsertScheduleJob: schema.schedule_jobs,
    ops.FinishJob: schema.endings,
    ops.InsertCancel: schema.cancels,
    ops.InsertPause: schema.pauses,
    ops.InsertRoster: schema.rosters,
    ops.InsertCheckpoint: schema.checkpoints,
    ops.InsertSession: schema.sessions,
}
# Rows that are not just the op's fields.
_ROW: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    ops.InsertOutput: lambda op: (op.digest, op.body, op.at_ms, len(op.body)),
}
_CLAIMS = frozenset((ops.UseToken, ops.UpsertHost))

# From this column on a target's row is usually at its defaults.
_FIRST_UNUSUAL = "signal"

# Hosts named in one statement.
_IDS_AT_ONCE = 1000


class Transaction:
    """Writes submissions to the engine it is made for; not thread-safe, the writer's thread owns it."""

    def __init__(self, engine: Engine) -> None:
        self._writing = Writing(engine)
        dialect: Dialect = engine.dialect
        self.audit = AuditWriter(dialect)
        # Jobs and bytes of outputs that were written since the start, equal ones counted each time: never too little.
        self.jobs = self.output_bytes = 0
        self._jobs = BulkInsert(dialect, schema.jobs, returning="id")
        self._outcomes = Increment(dialect, schema.outcomes, "targets")
        self._bulk = {kind: BulkInsert(dialect, table) for kind, table in _BULK.items()}
        self._bulk[ops.InsertOutput] = BulkInsert(dialect, schema.outputs, newest="last_ms")
        fields, defaults = ops.InsertTarget.__struct_fields__, ops.InsertTarget.__struct_defaults__
        self._bulk[ops.InsertTarget] = BulkInsert(
            dialect,
            schema.targets,
            usual=fields.index(_FIRST_UNUSUAL),
            defaults=defaults[fields.index(_FIRST_UNUSUAL) - len(fields) :],
        )

    def run(self, submissions: Sequence[Submission]) -> list[StarAgentError | None]:
        """Commit them; for each None, or why it was refused.

        :raises Exception: the database's own; nothing was written.
        """
        refused: list[StarAgentError | None] = [None] * len(submissions)
        jobs: dict[str, tuple[Any, ...]] = {}
        owner: dict[str, int] = {}
        bulk: dict[type, list[tuple[int, ops.Op]]] = {}
        single: dict[int, list[ops.Op]] = {}
        audited: list[tuple[int, ops.InsertAudit]] = []
        counted: list[tuple[int, ops.CountOutcomes]] = []
        for index, submission in enumerate(submissions):
            for op in submission:
                kind = type(op)
                if kind in self._bulk:
                    found = bulk.get(kind)
                    if found is None:
                        found = bulk[kind] = []
                    found.append((index, op))
                elif kind is ops.CountOutcomes:
                    counted.append((index, op))  # type: ignore[arg-type]
                elif kind is ops.InsertAudit:
                    audited.append((index, op))  # type: ignore[arg-type]
                elif isinstance(op, ops.InsertJob):
                    if op.id in jobs:
                        refused[index] = codes.JOB_REPEATED.error(op.id)
                    else:
                        jobs[op.id] = astuple(op)
                        owner[op.id] = index
                else:
                    single.setdefault(index, []).append(op)
        try:
            with self._writing.begin(lean=not single and (not audited or self.audit.is_known)) as connection:
                if jobs:
                    self._insert_jobs(connection, jobs, owner, refused)
                for index, singles in single.items():
                    if refused[index] is None:
                        refused[index] = _run_singles(connection, singles)
                clean = not any(refused)
                for kind in _BULK:
                    if (found := bulk.get(kind)) is not None:
                        row = _ROW.get(kind, astuple)
                        rows = [row(op) for index, op in found if clean or refused[index] is None]
                        self._bulk[kind](connection, rows)
                for index, op in counted:
                    if clean or refused[index] is None:
                        self._outcomes(connection, [(op.span_ms, op.start_ms, *row) for row in op.rows])
                entries = [op for index, op in audited if clean or refused[index] is None]
                if entries:
                    self.audit.append(connection, entries)
        except BaseException:
            self.audit.undone()
            raise
        self.audit.committed()
        self.jobs += len(jobs)
        self.output_bytes += sum(len(op.body) for _, op in bulk.get(ops.InsertOutput, ()))  # type: ignore[union-attr]
        return refused

    def close(self) -> None:
        """Let go of the connection."""
        self._writing.close()

    def _insert_jobs(
        self,
        connection: Connection,
        jobs: dict[str, tuple[Any, ...]],
        owner: dict[str, int],
        refused: list[StarAgentError | None],
    ) -> None:
        new = set(self._jobs(connection, list(jobs.values())))
        for job, index in owner.items():
            if job not in new:
                refused[index] = codes.JOB_REPEATED.error(job)


def _run_singles(connection: Connection, singles: Sequence[ops.Op]) -> StarAgentError | None:
    if not any(type(op) in _CLAIMS for op in singles):
        for op in singles:
            _SINGLE[type(op)](connection, op)
        return None
    try:
        with connection.begin_nested():
            for op in singles:
                _SINGLE[type(op)](connection, op)
    except StarAgentError as error:
        return error
    return None


def _upsert_host(connection: Connection, op: ops.UpsertHost) -> None:
    hosts = schema.hosts
    taken = select(hosts.c.id).where((hosts.c.name == op.name) & (hosts.c.id != op.id))
    if connection.execute(taken).first() is not None:
        raise codes.HOST_NAME_TAKEN.error(op.name)
    values = {**msgspec.structs.asdict(op), "labels": _json(op.labels), "facts": _json(op.facts)}
    connection.execute(upsert(connection.dialect, hosts, "id", values))


def _update_host(connection: Connection, op: ops.UpdateHost) -> None:
    values = {name: value for name, value in msgspec.structs.asdict(op).items() if name != "id" and value is not None}
    values.update({name: _json(values[name]) for name in ("labels", "facts") if name in values})
    if values:
        connection.execute(update(schema.hosts).where(schema.hosts.c.id == op.id).values(values))


def _replace_host(connection: Connection, op: ops.ReplaceHost) -> None:
    hosts = schema.hosts
    # No host's name has a tilde, so this one is free for ever.
    gone = hosts.c.name + "~" + hosts.c.id
    connection.execute(update(hosts).where(hosts.c.id == op.id).values(revoked=True, name=gone, guard=op.guard))


def _touch_hosts(connection: Connection, op: ops.TouchHosts) -> None:
    for start in range(0, len(op.ids), _IDS_AT_ONCE):
        some = schema.hosts.c.id.in_(op.ids[start : start + _IDS_AT_ONCE])
        connection.execute(update(schema.hosts).where(some).values(last_seen_ms=op.at_ms))


def _revoke_host(connection: Connection, op: ops.RevokeHost) -> None:
    connection.execute(update(schema.hosts).where(schema.hosts.c.id == op.id).values(revoked=True, name=op.id))


def _insert_token(connection: Connection, op: ops.InsertToken) -> None:
    values = {**msgspec.structs.asdict(op), "networks": _json(op.networks), "labels": _json(op.labels)}
    # Not an upsert: a request that comes again must not give back the uses that were made.
    connection.execute(insert_or_ignore(connection.dialect, schema.tokens, list(values)), values)


def _use_token(connection: Connection, op: ops.UseToken) -> None:
    tokens = schema.tokens
    usable = (tokens.c.id == op.id) & (tokens.c.uses_left > 0) & (tokens.c.expires_ms > op.now_ms)
    used = connection.execute(update(tokens).where(usable).values(uses_left=tokens.c.uses_left - 1))
    if used.rowcount == 1:
        return
    expires_ms = connection.execute(select(tokens.c.expires_ms).where(tokens.c.id == op.id)).scalar_one_or_none()
    if expires_ms is None:
        raise codes.TOKEN_UNKNOWN.error()
    raise (codes.TOKEN_EXPIRED if expires_ms <= op.now_ms else codes.TOKEN_USED_UP).error()


def _delete_sessions(connection: Connection, op: ops.DeleteSessions) -> None:
    sessions = schema.sessions
    if op.id is not None:
        connection.execute(delete(sessions).where(sessions.c.id == op.id))
    if op.expired_ms is not None:
        connection.execute(delete(sessions).where(sessions.c.expires_ms <= op.expired_ms))


def _set_meta(connection: Connection, op: ops.SetMeta) -> None:
    connection.execute(upsert(connection.dialect, schema.meta, "key", msgspec.structs.asdict(op)))


def _prune_outcomes(connection: Connection, op: ops.PruneOutcomes) -> None:
    columns = schema.outcomes.c
    for span, start in op.before:
        connection.execute(delete(schema.outcomes).where((columns.span_ms == span) & (columns.start_ms < start)))


_SINGLE: dict[type, Callable[[Connection, Any], None]] = {
    ops.UpsertHost: _upsert_host,
    ops.UpdateHost: _update_host,
    ops.ReplaceHost: _replace_host,
    ops.TouchHosts: _touch_hosts,
    ops.RevokeHost: _revoke_host,
    ops.InsertToken: _insert_token,
    ops.UseToken: _use_token,
    ops.DeleteSessions: _delete_sessions,
    ops.SetMeta: _set_meta,
    **DELETIONS,
    ops.PruneOutcomes: _prune_outcomes,
}


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()
