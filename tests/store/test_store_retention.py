"""Letting go of rows: by key, in small batches, never what is open, changed or shared."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import ForeignKey, func, select

from agentd.store import Store, ops, schema
from agentd.store.audit import FLEET_KEY
from agentd.store.deletion import _OF_A_JOB

LATER = 10_000
Make = Callable[..., ops.Op]


def ended(job: str, at_ms: int = 5) -> ops.FinishJob:
    return ops.FinishJob(job=job, state="ended", counts="{}", finished_ms=at_ms)


def ready(store: Store, *, before_ms: int | None = None, jobs: int = 99, targets: int = 99) -> list[str]:
    return store.prunable.ended_jobs(now_ms=LATER, before_ms=before_ms, jobs=jobs, targets=targets)[0]


def rows(store: Store, table: str) -> int:
    with store.read._engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(schema.metadata.tables[table])).scalar_one()


def test_a_job_is_offered_when_it_has_ended_and_its_envelope_cannot_come_again(store: Store, job: Make) -> None:
    store.submit([job("A"), job("B"), job("C")]).result(20)
    assert ready(store) == []
    store.submit([ended("C", 50), ended("A", 10)]).result(20)
    assert ready(store) == ["A", "C"]
    assert ready(store, before_ms=20) == ["A"]
    assert store.prunable.ended_jobs(now_ms=2, before_ms=None, jobs=9, targets=9) == ([], False)


def test_every_table_that_belongs_to_a_job_is_known(store: Store) -> None:
    belong = {
        name
        for name, table in schema.metadata.tables.items()
        if any(isinstance(key, ForeignKey) and key.column is schema.jobs.c.id for key in table.foreign_keys)
    }
    assert {table.name for table in _OF_A_JOB} == belong >= {"targets", "amendments", "endings", "cancels"}


def test_a_job_goes_with_all_that_belongs_to_it_and_others_stay(store: Store, job: Make, target: Make) -> None:
    for name in ("A", "B"):
        store.submit(
            [
                job(name),
                target(name, "h1"),
                target(name, "h2"),
                ops.InsertAmendment(job=name, agent="h1", state="ok", received_ms=5, seq=1),
                ops.InsertCancel(id=f"c{name}", job=name, operator="ann", signed=b"", at_ms=1),
                ended(name),
            ]
        ).result(20)
    store.submit([ops.DeleteJobs(("A",))]).result(20)
    assert store.read.job("A") is None and store.read.job("B") is not None
    left = {table: rows(store, table) for table in ("jobs", "targets", "amendments", "cancels", "endings")}
    assert left == {"jobs": 1, "targets": 2, "amendments": 1, "cancels": 1, "endings": 1}


def test_a_large_job_goes_in_parts(store: Store, job: Make, target: Make) -> None:
    store.submit([job("A"), *(target("A", f"h{number:04d}") for number in range(250)), ended("A")]).result(20)
    assert store.prunable.ended_jobs(now_ms=LATER, before_ms=None, jobs=9, targets=100) == (["A"], True)
    parts = 0
    while (upto := store.prunable.last_of_first("A", 100)) is not None:
        store.submit([ops.DeleteTargets("A", upto)]).result(20)
        parts += 1
    assert parts == 2 and rows(store, "targets") == 50
    assert store.prunable.ended_jobs(now_ms=LATER, before_ms=None, jobs=9, targets=100) == (["A"], False)


def test_a_batch_has_jobs_with_no_more_targets_than_asked_for(store: Store, job: Make, target: Make) -> None:
    for name in ("A", "B", "C"):
        store.submit([job(name), *(target(name, f"h{number}") for number in range(40)), ended(name)]).result(20)
    assert store.prunable.ended_jobs(now_ms=LATER, before_ms=None, jobs=9, targets=100) == (["A", "B"], False)


def test_outputs_go_by_when_they_were_brought_last_and_one_that_was_brought_again_stays(store: Store) -> None:
    store.submit([ops.InsertOutput(b"a", b"x" * 10, 100), ops.InsertOutput(b"b", b"y" * 20, 200)]).result(20)
    chosen = store.prunable.outputs(before_ms=None, most_bytes=1, limit=9)
    assert [(output.digest, output.size) for output in chosen] == [(b"a", 10)]
    store.submit([ops.InsertOutput(b"a", b"x" * 10, 300)]).result(20)
    store.submit([ops.DeleteOutputs(tuple((output.digest, output.last_ms) for output in chosen))]).result(20)
    assert store.read.output(b"a") == b"x" * 10
    chosen = store.prunable.outputs(before_ms=250, most_bytes=99, limit=9)
    assert [output.digest for output in chosen] == [b"b"]
    store.submit([ops.DeleteOutputs(tuple((output.digest, output.last_ms) for output in chosen))]).result(20)
    assert store.read.output(b"b") is None


def test_an_output_that_is_deleted_and_brought_in_one_commit_is_there(store: Store) -> None:
    store.submit([ops.InsertOutput(b"a", b"x", 100)]).result(20)
    store.submit([ops.InsertOutput(b"a", b"x", 300), ops.DeleteOutputs(((b"a", 100),))]).result(20)
    assert store.read.output(b"a") == b"x"


def test_an_output_of_an_open_job_is_not_offered(store: Store, job: Make) -> None:
    row = ops.InsertTarget(job="A", agent="h1", state="ok", output_digest=b"a", received_ms=1)
    store.submit([job("A"), ops.InsertOutput(b"a", b"x", 1), ops.InsertOutput(b"b", b"x", 2), row]).result(20)
    chosen = store.prunable.outputs(before_ms=None, most_bytes=99, limit=9, open_jobs=["A"])
    assert [output.digest for output in chosen] == [b"b"]


def test_a_survey_counts_rows_bytes_and_the_oldest(store: Store, job: Make) -> None:
    assert store.prunable.survey().jobs == 0
    store.submit([job("A"), ops.InsertOutput(b"a", b"x" * 10, 7), ops.InsertOutput(b"b", b"y" * 5, 9)]).result(20)
    survey = store.prunable.survey()
    assert (survey.jobs, survey.outputs, survey.output_bytes) == (1, 2, 15)
    assert (survey.oldest_output_ms, survey.oldest_job_ms) == (7, 1)
    assert survey.store_bytes > 0


@pytest.mark.parametrize("boundary", range(12))
def test_the_last_entry_before_a_time_is_found_by_halving(store: Store, boundary: int) -> None:
    from libstaragent.security.audit import AuditEntry

    entries = [ops.InsertAudit(AuditEntry(act="exec", outcome="accepted"), at_ms) for at_ms in (2, 2, 5, 5, 9)]
    store.submit([ops.SetMeta(FLEET_KEY, b"f"), *entries]).result(20)
    expected = sum(at_ms < boundary for at_ms in (2, 2, 5, 5, 9))
    assert store.prunable.audit_before(boundary) == expected


def test_expired_tokens_go(store: Store) -> None:
    for name, expires in (("old", 10), ("new", 99)):
        token = ops.InsertToken(id=name, digest=b"", room="r", uses_left=1, expires_ms=expires, created_by="ann")
        store.submit([token]).result(20)
    store.submit([ops.DeleteTokens(50)]).result(20)
    assert [token.id for token in store.read.tokens()] == ["new"]
