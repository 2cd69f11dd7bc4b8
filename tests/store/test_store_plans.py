"""How the store finds rows: by an index or a key, whatever is asked. Read from SQLite's own plans, on the real schema.

The statements are those that were really executed, with their values: nothing is repeated here that could differ.
SQLite plans without counting rows (nobody runs ANALYZE), so a small store has the plans of a large one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from agentd.store import Store, ops
from agentd.store.audit import FLEET_KEY
from agentd.store.audit_reader import AuditSought
from libstaragent.security.audit import AuditEntry

Make = Callable[..., ops.Op]
# These grow without end, or to a million rows.
LARGE = ("jobs", "targets", "amendments", "endings", "outputs", "audit", "cancels", "schedule_jobs")


@contextmanager
def executed() -> Iterator[list[tuple[str, Any]]]:
    """The statements that are executed meanwhile, with their values."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, _context: Any, many: bool) -> None:
        if statement.startswith(("SELECT", "DELETE", "UPDATE", "WITH")):
            seen.append((statement, values[0] if many else values))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def scans(store: Store, seen: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    """What reads a large table from its beginning, and by which statement."""
    found: list[tuple[str, str]] = []
    with store.read._engine.connect() as connection:
        for statement, values in seen:
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values):
                words = row[3].split()
                if words[0] == "SCAN" and words[1] in LARGE:
                    found.append((row[3], statement))
    return found


def filled(store: Store, job: Make, target: Make) -> None:
    store.submit([ops.SetMeta(FLEET_KEY, b"0" * 64)]).result(20)
    for name in ("A", "B", "C"):
        entry = AuditEntry(act="exec", outcome="refused", operator="ann", subject=name)
        done = ops.FinishJob(job=name, state="ended", counts="{}", finished_ms=5)
        output = ops.InsertOutput(name.encode() * 32, b"text", 1)
        store.submit([job(name), target(name, "h1"), output, done, ops.InsertAudit(entry, 5)]).result(20)


def test_the_audit_is_read_by_its_numbers_and_by_its_index_of_refusals(store: Store, job: Make, target: Make) -> None:
    filled(store, job, target)
    with executed() as seen:
        store.audit.after(1, 10)
        for sought in (
            AuditSought(),
            AuditSought(since_ms=5),
            AuditSought(operator="ann"),
            AuditSought(refused=True),
            AuditSought(agent="h1", open_jobs=("C",)),
            AuditSought(refused=True, operator="ann", since_ms=1),
        ):
            assert store.audit.before(None, 10, sought).rows
    assert len(seen) > 12 and scans(store, seen) == []
    refusals = [text for text, _ in seen if "audit.refused" in text.partition("WHERE")[2] and "operator =" not in text]
    with store.read._engine.connect() as connection:
        values = next(values for statement, values in seen if statement == refusals[0])
        plan = " ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {refusals[0]}", values))
    assert "ix_audit_refused" in plan


def test_what_may_go_is_found_and_deleted_by_keys(store: Store, job: Make, target: Make) -> None:
    filled(store, job, target)
    prunable = store.prunable
    with executed() as seen:
        assert prunable.ended_jobs(now_ms=9, before_ms=None, jobs=9, targets=9)[0]
        prunable.last_of_first("A", 1)
        assert prunable.outputs(before_ms=9, most_bytes=99, limit=9, open_jobs=("B",))
        assert prunable.audit_before(9)
        prunable.audit_rows(3)
        prunable.audit_entry(2)
        store.submit([ops.DeleteTargets("A", "h1"), ops.DeleteJobs(("A", "B"))]).result(20)
        store.submit([ops.InsertCheckpoint(2, b"signed"), ops.DeleteAudit(10)]).result(20)
    assert sum(statement.startswith("DELETE") for statement, _ in seen) > 6
    # The oldest ended jobs are walked in the order of their ids, and a batch ends the walk.
    assert {plan for plan, _ in scans(store, seen)} <= {
        "SCAN endings",
        "SCAN endings USING INDEX sqlite_autoindex_endings_1",
    }


def test_how_much_there_is_is_counted_in_indexes(store: Store, job: Make, target: Make) -> None:
    filled(store, job, target)
    with executed() as seen:
        survey = store.prunable.survey()
    assert (survey.jobs, survey.audit, survey.outputs) == (3, 3, 3)
    counted = [plan for plan, _ in scans(store, seen)]
    assert counted and all("COVERING INDEX" in plan or "LIMIT" in statement for plan, statement in scans(store, seen))
