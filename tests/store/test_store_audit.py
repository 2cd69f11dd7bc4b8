"""The audit in the store: numbers and hashes in the order of commits, an entry with what it tells of or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path

import pytest

from agentd.store import Store, ops
from agentd.store.audit import FLEET_KEY
from agentd.store.audit_reader import SCAN_ROWS, AuditSought
from agentd.store.dialect import BUSY_TIMEOUT_S
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.security.audit import AuditEntry, decode_entry, entry_hash, genesis
from libstaragent.security.audit_check import AuditCheck

FLEET = "f" * 64
ANYTHING = AuditSought()


def entry(text: str = "", *, at_ms: int = 1, refused: bool = False, operator: str = "ann", subject: str = "") -> ops.Op:
    outcome = "refused" if refused else "accepted"
    return ops.InsertAudit(
        AuditEntry(act="exec", outcome=outcome, text=text, operator=operator, subject=subject), at_ms
    )


def texts(store: Store) -> list[str]:
    return [found.text for row in store.audit.after(0, 10_000).rows if (found := decode_entry(row.body)) is not None]


def verdict(store: Store) -> AuditCheck:
    check = AuditCheck(FLEET)
    check.feed((row.seq, row.at_ms, row.body, row.hash) for row in store.audit.after(0, 100_000).rows)
    return check


@pytest.fixture
def founded(store: Store) -> Store:
    store.submit([ops.SetMeta(FLEET_KEY, FLEET.encode())]).result(20)
    return store


def test_the_first_entry_is_chained_to_the_fleet_also_when_both_are_written_at_once(store: Store) -> None:
    store.submit([ops.SetMeta(FLEET_KEY, FLEET.encode()), entry("first", at_ms=7)]).result(20)
    (row,) = store.audit.after(0, 10).rows
    assert (row.seq, row.at_ms) == (1, 7)
    assert row.hash == entry_hash(genesis(FLEET), 1, 7, row.body)
    assert store.audit_end is not None and store.audit_end.hash == row.hash


def test_entries_of_many_writers_are_one_chain_in_the_order_of_commits(founded: Store) -> None:
    wait([founded.submit([entry(str(number)), entry(f"{number} end")]) for number in range(500)], 60)
    check = verdict(founded)
    assert check.holds and (check.first, check.last) == (1, 1000)
    told = texts(founded)
    assert all(told.index(str(number)) < told.index(f"{number} end") for number in range(500))


def test_a_refused_submission_leaves_no_entry_and_no_number(founded: Store, job: Callable[..., ops.InsertJob]) -> None:
    futures = [founded.submit([job(name), entry(name)]) for name in ("a", "b", "a", "c")]
    wait(futures, 60)
    assert isinstance(futures[2].exception(), StarAgentError)
    assert sorted(texts(founded)) == ["a", "b", "c"]
    assert verdict(founded).holds


def test_time_never_goes_back(founded: Store) -> None:
    for at_ms in (100, 50, 200):
        founded.submit([entry(at_ms=at_ms)]).result(20)
    assert [row.at_ms for row in founded.audit.after(0, 10).rows] == [100, 100, 200]


def test_the_chain_goes_on_where_it_ended_when_the_store_is_opened_again(path: Path) -> None:
    for start in range(3):
        with Store.open(path) as store:
            store.submit([ops.SetMeta(FLEET_KEY, FLEET.encode()), entry(str(start))]).result(20)
    with Store.open(path) as store:
        assert verdict(store).holds and texts(store) == ["0", "1", "2"]
        assert store.audit_end is not None and store.audit_end.seq == 3


def test_a_commit_that_fails_leaves_the_chain_whole(founded: Store, path: Path) -> None:
    founded.submit([entry("before")]).result(20)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        failed = founded.submit([entry("lost")])
        with pytest.raises(StarAgentError) as refused:
            failed.result(BUSY_TIMEOUT_S + 20)
        assert refused.value.code is codes.STORE_FAILED
        other.execute("ROLLBACK")
    founded.submit([entry("after")]).result(20)
    assert texts(founded) == ["before", "after"] and verdict(founded).holds


def test_another_process_that_appends_is_noticed_and_its_entries_stay(founded: Store, path: Path) -> None:
    founded.submit([entry("ours")]).result(20)
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO audit VALUES (2, 9, '', '', 0, x'80', x'00')")
    with pytest.raises(StarAgentError) as refused:
        founded.submit([entry("meets it")]).result(20)
    assert refused.value.code is codes.STORE_REFUSED
    founded.submit([entry("behind it")]).result(20)
    assert [row.seq for row in founded.audit.after(0, 10).rows] == [1, 2, 3]
    assert [(finding.kind, finding.first) for finding in verdict(founded).findings] == [("changed", 2)]


def test_what_is_sought_is_found_in_pages_the_newest_first(founded: Store) -> None:
    founded.submit(
        [
            entry(str(number), at_ms=number, refused=number % 10 == 0, operator="bob" if number % 3 == 0 else "ann")
            for number in range(1, 101)
        ]
    ).result(20)
    audit = founded.audit
    page = audit.before(None, 40, ANYTHING)
    assert [row.seq for row in page.rows] == list(range(100, 60, -1)) and page.next == 61
    assert [row.seq for row in audit.before(page.next, 40, ANYTHING).rows] == list(range(60, 20, -1))
    assert [row.seq for row in audit.before(None, 100, AuditSought(refused=True)).rows] == list(range(100, 0, -10))
    assert [row.seq for row in audit.before(None, 100, AuditSought(operator="bob")).rows] == list(range(99, 0, -3))
    assert [row.seq for row in audit.before(None, 100, AuditSought(since_ms=98)).rows] == [100, 99, 98]
    assert audit.before(None, 100, AuditSought(since_ms=98)).next is None


def test_entries_about_a_host_are_those_of_its_jobs_and_its_own(
    founded: Store, job: Callable[..., ops.InsertJob], target: Callable[..., ops.InsertTarget]
) -> None:
    founded.submit([job("J1"), target("J1", "A1"), entry("J1", subject="J1")]).result(20)
    founded.submit([job("J2"), target("J2", "A2"), entry("J2", subject="J2")]).result(20)
    founded.submit([job("J3"), entry("J3", subject="J3"), entry("enrolled", subject="A1")]).result(20)
    page = founded.audit.before(None, 10, AuditSought(agent="A1", open_jobs=("J3",)))
    found = [decoded.text for row in page.rows if (decoded := decode_entry(row.body)) is not None]
    assert found == ["enrolled", "J3", "J1"]


def test_a_look_reads_a_bounded_part_and_says_where_it_goes_on(founded: Store) -> None:
    founded.submit([entry(operator="rare")]).result(20)
    for _ in range(3):
        founded.submit([entry() for _ in range(SCAN_ROWS // 2)]).result(60)
    sought = AuditSought(operator="rare")
    page = founded.audit.before(None, 10, sought)
    assert page.rows == [] and page.next is not None
    assert [row.seq for row in founded.audit.before(page.next, 10, sought).rows] == [1]


def test_refusals_are_found_by_their_index(founded: Store, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT seq FROM audit WHERE seq < 9 AND seq >= 0 AND audit.refused ORDER BY seq DESC"
        ).fetchall()
    assert "ix_audit_refused" in str(plan)
