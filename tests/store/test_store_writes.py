"""What is written, what is refused, and that a submission is whole or not at all."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentd.store import Store, ops
from agentd.store.statements import LADDER
from libstaragent import codes
from libstaragent.errors import StarAgentError

DEADLINE = 20


def code_of(future) -> codes.Code | None:
    error = future.exception(DEADLINE)
    return error.code if isinstance(error, StarAgentError) else error


def test_a_job_and_its_targets_are_read_back_as_they_were_written(store: Store, job, target) -> None:
    written = ops.InsertTarget(
        job="J1",
        agent="A1",
        state="signalled",
        exit_status=None,
        signal=9,
        core_dumped=True,
        errno=5,
        code="SA-6701",
        detail="[/x]\x1b",
        ran="maybe",
        started_ms=1,
        finished_ms=2**40,
        user_ms=3,
        system_ms=4,
        max_rss_kb=5,
        stdout_bytes=2**40,
        stderr_bytes=7,
        stdout_sha256=bytes(32),
        stderr_sha256=b"\xff" * 32,
        omitted=8,
        left_running='[[1,"x"]]',
        left_count=1,
        output_digest=b"d" * 32,
        received_ms=9,
    )
    late = ops.InsertAmendment(job="J1", agent="A1", state="ok", received_ms=10, seq=1)
    store.submit([job("J1", envelope=b"\0\xff"), written, late, ops.InsertOutput(b"d" * 32, b"\0out")]).result(DEADLINE)

    assert store.read.targets("J1") == [written]
    assert store.read.target("J1", "A1") == written
    assert store.read.amendments("J1") == [late]
    assert store.read.output(b"d" * 32) == b"\0out"
    found = store.read.job("J1")
    assert found is not None
    assert (found.envelope, found.members, found.state, found.counts) == (b"\0\xff", b"\x90", None, {})
    assert [each.id for each in store.read.open_jobs()] == ["J1"]

    store.submit([ops.FinishJob(job="J1", state="done", counts='{"signalled":1}', finished_ms=11)]).result(DEADLINE)
    found = store.read.job("J1")
    assert found is not None
    assert (found.state, found.counts, found.finished_ms) == ("done", {"signalled": 1}, 11)
    assert store.read.open_jobs() == []


def test_the_first_result_and_the_first_ending_stay(store: Store, job, target) -> None:
    store.submit([job("J1"), target("J1", "A1", state="ok")]).result(DEADLINE)
    store.submit([target("J1", "A1", state="timeout")]).result(DEADLINE)
    for state in ("done", "cancelled"):
        store.submit([ops.FinishJob(job="J1", state=state, counts="{}", finished_ms=1)]).result(DEADLINE)
    assert [row.state for row in store.read.targets("J1")] == ["ok"]
    assert store.read.jobs()[0].state == "done"


def test_the_first_of_two_results_in_one_commit_stays_whatever_they_hold(store: Store, job) -> None:
    def row(agent: str, state: str, **fields) -> ops.InsertTarget:
        return ops.InsertTarget(job="J1", agent=agent, state=state, received_ms=1, **fields)

    rows = [
        row("A2", "signalled", signal=9),
        row("A2", "ok"),
        row("A1", "ok", exit_status=0),
        row("A1", "denied", code="SA-4328", detail="no"),
        row("A3", "ok"),
    ]
    store.submit([job("J1"), *rows]).result(DEADLINE)
    assert store.read.targets("J1") == [rows[2], rows[0], rows[4]]


def test_a_repeated_job_is_refused_with_all_that_came_with_it(store: Store, job, target) -> None:
    answers = [
        store.submit([job("J1"), target("J1", "A1")]),
        store.submit([job("J1", operator="eve"), target("J1", "A2")]),
    ]
    assert [code_of(answer) for answer in answers] == [None, codes.JOB_REPEATED]
    assert code_of(store.submit([job("J1"), target("J1", "A3")])) is codes.JOB_REPEATED
    assert store.read.target_keys("J1") == {"A1"}
    assert store.read.jobs()[0].operator == "ann"


@pytest.mark.parametrize("count", [1, 3, 4, 15, LADDER[0] - 1, LADDER[0], 2 * LADDER[0] + 341])
def test_any_number_of_rows_is_written(store: Store, job, target, count: int) -> None:
    store.submit([job("J1"), *(target("J1", f"A{number}") for number in range(count))]).result(DEADLINE)
    assert store.read.target_keys("J1") == {f"A{number}" for number in range(count)}


def test_a_row_that_the_database_refuses_takes_no_other_submission_down(store: Store, path: Path, job, target) -> None:
    store.submit([job("J1")]).result(DEADLINE)
    with Locked(path):
        held = store.submit([ops.SetMeta("held", b"")])
        good = [store.submit([target("J1", f"A{number}")]) for number in range(20)]
        orphan = store.submit([target("J1", "A98"), target("no such job", "A99")])
        unwritable = store.submit([target("J1", object())])  # type: ignore[arg-type]
        unknown = store.submit([("no", "op")])  # type: ignore[list-item]
        more = [store.submit([target("J1", f"B{number}")]) for number in range(20)]
    assert [code_of(answer) for answer in (held, *good, *more)] == [None] * 41
    assert {code_of(answer) for answer in (orphan, unwritable, unknown)} == {codes.STORE_REFUSED}
    assert len(store.read.target_keys("J1")) == 40


def test_a_token_is_used_as_often_as_it_may_be_by_many_at_once(store: Store) -> None:
    token = ops.InsertToken(id="T1", digest=b"x", room="hz", uses_left=7, expires_ms=100, created_by="ann")
    store.submit([token]).result(DEADLINE)
    gate = threading.Barrier(8)

    def use(caller: int) -> list[codes.Code | None]:
        gate.wait(DEADLINE)
        name = f"u{caller}"
        return [
            code_of(store.submit([ops.SetMeta(f"{name}-{each}", b""), ops.UseToken("T1", 50)])) for each in range(4)
        ]

    with ThreadPoolExecutor(8) as pool:
        answers = [answer for several in pool.map(use, range(8)) for answer in several]
    assert sorted(answer.symbol for answer in answers if answer) == ["token_used_up"] * 25
    store.submit([token]).result(DEADLINE)
    left = store.read.token("T1")
    assert left is not None
    assert left.uses_left == 0, "the token came again and got its uses back"
    kept = [store.read.meta(f"u{caller}-{each}") for caller in range(8) for each in range(4)]
    assert kept.count(b"") == 7, "what came with a refused use must not stay"
    assert code_of(store.submit([ops.UseToken("T1", 100)])) is codes.TOKEN_EXPIRED
    assert code_of(store.submit([ops.UseToken("T2", 50)])) is codes.TOKEN_UNKNOWN


def test_a_host_is_enrolled_renamed_seen_and_revoked(store: Store, host) -> None:
    store.submit([host("H1", "web01")]).result(DEADLINE)
    store.submit([ops.TouchHosts(("H1", "H9"), 77)]).result(DEADLINE)
    store.submit([host("H1", "web02")]).result(DEADLINE)
    store.submit([ops.UpdateHost(id="H1", facts={"os": "macos"}, certificate_serial="ab")]).result(DEADLINE)
    store.submit([ops.RevokeHost("H1")]).result(DEADLINE)
    assert store.read.host_by_name("web02") is None, "its name is free"
    found = store.read.host_by_name("H1")
    assert found is not None
    assert (found.id, found.last_seen_ms, found.labels, found.facts) == ("H1", 77, {"tier": "web"}, {"os": "macos"})
    assert (found.certificate_serial, found.revoked) == ("ab", True)
    assert store.read.host_by_name("web01") is None


def test_a_taken_name_refuses_the_host_and_gives_the_token_its_use_back(store: Store, host) -> None:
    token = ops.InsertToken(id="T1", digest=b"x", room="hz", uses_left=2, expires_ms=100, created_by="ann")
    store.submit([token, host("H1", "web01")]).result(DEADLINE)
    assert code_of(store.submit([ops.UseToken("T1", 1), host("H2", "web01")])) is codes.HOST_NAME_TAKEN
    left = store.read.token("T1")
    assert left is not None
    assert left.uses_left == 2
    assert [each.id for each in store.read.hosts()] == ["H1"]


def test_sessions_rosters_cancels_and_meta_are_kept(store: Store, job) -> None:
    sessions = [
        ops.InsertSession(id=f"S{end}", digest=b"h", operator="ann", key=b"k", expires_ms=end) for end in (1, 2, 3)
    ]
    cancel = ops.InsertCancel(id="C1", job="J1", operator="ann", signed=b"s", at_ms=5)
    rosters = [ops.InsertRoster(2, b"two"), ops.InsertRoster(1, b"one"), ops.InsertRoster(2, b"forged")]
    store.submit([job("J1"), *sessions, cancel, *rosters, ops.SetMeta("a", b"1"), ops.SetMeta("a", b"2")]).result(
        DEADLINE
    )
    store.submit([ops.DeleteSessions(expired_ms=1), ops.DeleteSessions(id="S3")]).result(DEADLINE)
    assert [bool(store.read.session(f"S{end}")) for end in (1, 2, 3)] == [False, True, False]
    assert [each.signed for each in store.read.cancels("J1")] == [b"s"]
    assert store.read.roster() == (2, b"two")
    assert store.read.rosters(after=1) == [(2, b"two")]
    assert store.read.meta("a") == b"2"
    assert store.read.meta("b") is None


def test_jobs_and_targets_come_in_pages(store: Store, job, target) -> None:
    jobs = [job(f"J{number}", operator="bob" if number % 2 else "ann") for number in range(10)]
    store.submit([*jobs, *(target("J1", f"A{number}", state="ok" if number else "oom") for number in range(9))]).result(
        DEADLINE
    )
    assert [each.id for each in store.read.jobs(limit=3)] == ["J9", "J8", "J7"]
    assert [each.id for each in store.read.jobs(limit=3, before="J7", operator="bob")] == ["J5", "J3", "J1"]
    assert [each.agent for each in store.read.targets("J1", limit=2, after="A3")] == ["A4", "A5"]
    assert [each.agent for each in store.read.targets("J1", state="oom")] == ["A0"]


class Locked:
    """Holds the database's write lock from a connection of its own, as another process would."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self._connection.execute("ROLLBACK")
        self._connection.close()


def test_a_full_queue_refuses_at_once_and_what_was_taken_is_written(path: Path, job, target) -> None:
    with Store.open(path, max_queued_ops=10, max_queued_bytes=1000) as store:
        store.submit([job("J1")]).result(DEADLINE)
        taken = []
        refused = None
        with Locked(path):
            for number in range(100):
                try:
                    taken.append(store.submit([target("J1", f"A{number:02d}")]))
                except StarAgentError as error:
                    refused = error.code
                    break
            assert store.queued[0] <= 10
        assert refused is codes.STORE_BUSY
        assert refused.retryable
        for answer in taken:
            answer.result(DEADLINE)
        assert len(store.read.target_keys("J1")) == len(taken)
        with pytest.raises(StarAgentError) as raised:
            store.submit([ops.InsertOutput(b"d", bytes(1001))])
        assert raised.value.code is codes.STORE_BUSY


def test_what_came_during_a_commit_is_one_commit_and_one_wake_up_of_the_loop(
    store: Store, path: Path, job, target
) -> None:
    answers: list[StarAgentError | None] = []
    wake_ups: list[int] = []
    everyone = threading.Event()

    def post(deliver, batch) -> None:
        deliver(batch)
        wake_ups.append(len(batch))
        if len(answers) == 102:
            everyone.set()

    lane = store.lane(post)
    with Locked(path):
        lane.submit([job("J1")], answers.append)
        for number in range(100):
            lane.submit([target("J1", f"A{number}")], answers.append)
        lane.submit([job("J1")], answers.append)
    assert everyone.wait(DEADLINE)
    assert len(wake_ups) <= 2, wake_ups
    assert [error.code for error in answers if error] == [codes.JOB_REPEATED]
    assert len(store.read.target_keys("J1")) == 100


async def test_an_event_loop_is_answered_in_its_own_thread(store: Store, job, anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        pytest.skip("the roles run on asyncio")
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[tuple[int, StarAgentError | None]] = loop.create_future()
    lane = store.lane(loop.call_soon_threadsafe)
    lane.submit([job("J1")], lambda error: answered.set_result((threading.get_ident(), error)))
    assert await asyncio.wait_for(answered, DEADLINE) == (threading.get_ident(), None)
    assert store.read.job("J1") is not None


def test_a_closed_loop_does_not_stop_the_writer(store: Store) -> None:
    def closed(*_: object) -> None:
        raise RuntimeError("Event loop is closed")

    store.lane(closed).submit([ops.SetMeta("a", b"1")], lambda _: None)
    store.submit([ops.SetMeta("b", b"2")]).result(DEADLINE)
    assert store.read.meta("a") == b"1"


def test_closing_writes_what_is_queued_and_then_takes_nothing(path: Path, job, target) -> None:
    store = Store.open(path)
    answers = [store.submit([job(f"J{number}"), target(f"J{number}", "A")]) for number in range(200)]
    store.close()
    assert all(answer.done() and answer.exception() is None for answer in answers)
    with pytest.raises(StarAgentError) as raised:
        store.submit([job("J")])
    assert raised.value.code is codes.STORE_CLOSED
    store.close()
    with Store.open(path) as again:
        assert len(again.read.open_jobs()) == 200


def test_readers_see_committed_states_while_the_writer_works(store: Store, job, target) -> None:
    store.submit([job("J1")]).result(DEADLINE)
    writing = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not writing.is_set():
            seen.append(len(store.read.target_keys("J1")))

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        for batch in range(20):
            store.submit([target("J1", f"A{batch}-{number}") for number in range(50)]).result(DEADLINE)
        writing.set()
        for reader in readers:
            reader.result(DEADLINE)
    assert {count % 50 for count in seen} == {0}
