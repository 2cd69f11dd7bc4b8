"""The agent's core where a connection has no room for what it has to say, and where its journal forgot a job."""

from __future__ import annotations

from typing import Any

from libstaragent.jobs.journal import Taken
from libstaragent.jobs.spool import STDERR, STDOUT
from libstaragent.model.ids import new_ulid
from libstaragent.model.result import Output, encode_records, records
from libstaragent.protocol import messages as m
from libstaragent.protocol.connection import ROOM, Connection
from libstaragent.protocol.limits import OUTGOING_MAX
from libstaragent.roles.agent import AgentCore
from libstaragent.roles.agent_effects import ReadSpool
from libstaragent.security.acts import Member
from libstaragent.security.clock import TimeJudge
from libstaragent.security.signed import Signed
from libstaragent.testing.trust import PlainTrust

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
UNSIGNED = Signed(b"", bytes(32), bytes(64))


def a_job(number: int) -> str:
    return new_ulid(NOW_MS, number.to_bytes(10, "big"))


def an_agent(*jobs: str) -> AgentCore:
    """An agent that starts again with these jobs taken."""
    return AgentCore(
        agent=a_job(0),
        verifier=PlainTrust().verifier(Member(a_job(0), "web01", "main")),
        state_of=lambda code: "denied",
        version="1",
        boot_nonce=bytes(16),
        hostname="web01",
        addresses=(),
        facts={},
        journal=[Taken(job, UNSIGNED, NOW_MS + DAY_MS) for job in jobs],
    )


def finished(job: str) -> dict[str, Any]:
    """What a keeper knows of a job that has ended with output."""
    names = ("signal", "errno", "code", "user_ms", "system_ms", "max_rss_kb", "stdout_sha256", "stderr_sha256")
    return {
        **dict.fromkeys(names),
        "job": job,
        "done": True,
        "state": "ok",
        "exit_status": 0,
        "core_dumped": False,
        "detail": "",
        "ran": "yes",
        "started_ms": NOW_MS,
        "finished_ms": NOW_MS,
        "stdout_bytes": 1,
        "stderr_bytes": 1,
        "left_running": [],
        "left_running_count": 0,
    }


def read_all(core: AgentCore, output: Output) -> None:
    """Answer each wish to read a spool."""
    effects, core.effects = core.effects, []
    for effect in effects:
        if isinstance(effect, ReadSpool):
            core.spool_read(effect.job, output, now=0.0)


class Room:
    """The other end of the agent's connection."""

    def __init__(self, core: AgentCore, *, now: float) -> None:
        self.core = core
        self.connection = Connection(ROOM, now=now)
        self.heard: list[Any] = []
        core.connected(connects=1, now=now, now_ms=NOW_MS)
        self.listen(now)
        self.say(
            m.Welcome(protocol=1, features=(), room="main", heartbeat_ms=15_000, clock_ms=NOW_MS),
            now=now,
        )

    def listen(self, now: float) -> None:
        assert self.core.connection is not None
        self.heard += self.connection.receive(self.core.connection.take(), now)

    def say(self, message: Any, *, now: float) -> None:
        self.connection.send(message)
        self.core.receive(self.connection.take(), now=now, now_ms=NOW_MS)

    @property
    def results(self) -> dict[str, Any]:
        return {message.result.job: message.result for message in self.heard if isinstance(message, m.Result)}


def test_output_in_pieces_of_a_byte_fits_a_frame_and_what_was_left_out_is_counted() -> None:
    pieces = [(STDOUT if number % 2 else STDERR, b"%d" % (number % 10)) for number in range(50_900)]
    whole = encode_records(pieces)
    cases = {
        "all of it is in the head": (Output(whole, 0, b""), 0),
        "the middle is missing already": (
            Output(encode_records(pieces[:17_306]), 999, encode_records(pieces[17_306:])),
            999,
        ),
        "the head alone is too long": (Output(whole, 999, b""), 999),
    }
    for case, (output, before) in cases.items():
        job = a_job(1)
        core = an_agent(job)
        core.keeper_known([finished(job)], now=0.0, now_ms=NOW_MS)
        read_all(core, output)
        room = Room(core, now=1.0)
        room.listen(1.0)
        told = room.results[job].output
        head, tail = list(records(told.head)), list(records(told.tail))
        assert told.omitted > before, case
        assert pieces[: len(head)] == head, case
        assert not tail or pieces[-len(tail) :] == tail, case
        assert len(head) + len(tail) + told.omitted == len(pieces) + before, case


def test_more_results_than_a_connection_may_queue_are_all_told_in_their_turn() -> None:
    jobs = [a_job(number) for number in range(1, 121)]
    output = Output(encode_records([(STDOUT, bytes(190 * 1024))]))
    assert len(jobs) * len(output.head) > OUTGOING_MAX
    core = an_agent(*jobs)
    core.keeper_known([finished(job) for job in jobs], now=0.0, now_ms=NOW_MS)
    read_all(core, output)
    room = Room(core, now=1.0)
    for second in range(1, 30):
        room.listen(float(second))
        core.tick(now=float(second))
    assert set(room.results) == set(jobs)


def test_a_result_that_found_no_room_joins_the_queue_while_the_room_does_not_read() -> None:
    jobs = [a_job(number) for number in range(1, 121)]
    core = an_agent(*jobs)
    room = Room(core, now=1.0)
    core.keeper_known([finished(job) for job in jobs], now=1.0, now_ms=NOW_MS)
    read_all(core, Output(encode_records([(STDOUT, bytes(190 * 1024))])))
    for second in range(1, 100):
        core.tick(now=float(second))
    for second in range(100, 130):
        room.listen(float(second))
        core.tick(now=float(second))
    assert set(room.results) == set(jobs)


def test_the_id_of_a_spool_that_the_journal_forgot_is_kept_while_its_envelope_may_live() -> None:
    job = a_job(1)
    core = an_agent()
    core.keeper_known([finished(job)], now=0.0, now_ms=NOW_MS)
    expires_ms = core.open[job].expires_ms
    judge = TimeJudge(NOW_MS + DAY_MS)
    assert not judge.may_forget(expires_ms)
