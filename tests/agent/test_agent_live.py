"""Live output between an agent's and a room's core: it goes on where the connection changes, and no stream is left."""

from __future__ import annotations

import os
from typing import Any

from libstaragent.jobs.journal import Floor, Record
from libstaragent.model.ids import new_ulid
from libstaragent.model.result import TargetResult, records
from libstaragent.protocol import trunk as t
from libstaragent.protocol.limits import DATA_CHUNK, STREAMS_MAX
from libstaragent.roles.agent import AgentCore
from libstaragent.roles.agent_effects import Follow, Persist, ToKeeper
from libstaragent.roles.room import Link, RoomCore
from libstaragent.security.acts import Act, At, Cancel, Envelope, Exec, Member, Schedule, TargetList
from libstaragent.testing.told_results import ToldResults
from libstaragent.testing.trust import OPERATOR, PlainTrust

NOW_MS = 1_700_000_000_000
LATER_MS = NOW_MS + 3_600_000
OUTPUT = os.urandom(8 * DATA_CHUNK)


class Pair:
    """An agent that runs what it is told, with a keeper and a disk that answer at once, and its room."""

    def __init__(self, journal: tuple[Record, ...] = ()) -> None:
        self.trust = PlainTrust()
        self.member = Member(self.name(), "web01", "main")
        self.core = AgentCore(
            agent=self.member.agent,
            verifier=self.trust.verifier(self.member),
            state_of=lambda code: "denied",
            version="1",
            boot_nonce=bytes(16),
            hostname="web01",
            addresses=(),
            facts={},
            journal=journal,
        )
        self.core.keeper_known([], now=0.0, now_ms=NOW_MS)
        self.room = RoomCore(room="main", now=0.0)
        self.asked: list[dict[str, Any]] = []
        self.seen = b""
        self.connect()

    @staticmethod
    def name() -> str:
        return new_ulid(NOW_MS, os.urandom(10))

    def connect(self) -> None:
        self.core.disconnected()
        self.link: Link = self.room.opened(self.member.agent, now=0.0)
        self.core.connected(connects=1, now=0.0, now_ms=NOW_MS)
        self.settle_down()

    def settle_down(self) -> None:
        """Everybody says what it has to say, until nobody has."""
        while self._turn():
            pass

    def _turn(self) -> bool:
        connection = self.core.connection
        assert connection is not None
        busy = bool(self.core.effects or connection.queued or self.link.connection.queued)
        effects, self.core.effects = self.core.effects, []
        for effect in effects:
            if isinstance(effect, Persist):
                self.core.persisted(effect.token, None, now=0.0)
            elif isinstance(effect, ToKeeper):
                self._keeper(effect.request)
            elif isinstance(effect, Follow):
                data = OUTPUT[effect.offset : effect.offset + effect.limit - 5]
                self.core.followed(effect.job, [(1, data)], next_offset=effect.offset + len(data), missed=0)
        self.room.received(self.link, connection.take(), now=0.0, now_ms=NOW_MS)
        for chunk in self.room.live:
            assert isinstance(chunk, t.LiveChunk)
            self.seen += b"".join(data for _, data in records(chunk.data))
            self.room.grant(chunk.agent, chunk.job, len(chunk.data))
        self.room.live = []
        self.core.receive(self.link.connection.take(), now=0.0, now_ms=NOW_MS)
        assert self.link.connection.state == "open"
        return busy

    def _keeper(self, request: dict[str, Any]) -> None:
        self.asked.append(request)
        if request["op"] == "spawn":
            self.core.keeper_says({"ev": "started", "job": request["job"], "at_ms": NOW_MS}, now=0.0)

    def run(self, act: Act, *, watch: bool = True, boot_nonce: bytes | None = None) -> str:
        envelope = Envelope(
            id=self.name(),
            fleet=self.trust.fleet,
            operator=OPERATOR,
            act=act,
            targets=TargetList("web01", (self.member,)),
            issued=NOW_MS,
            not_before=NOW_MS,
            expires=LATER_MS,
            roster=1,
            boot_nonce=boot_nonce,
        )
        order = t.Dispatch(
            envelope.id, self.trust.sign(envelope), LATER_MS, LATER_MS, ((self.member.agent, None),), watch, False
        )
        self.room.order(order, now_ms=NOW_MS)
        self.settle_down()
        return envelope.id

    def prints(self, job: str, upto: int) -> None:
        self.core.keeper_says({"ev": "output", "job": job, "end": upto}, now=0.0)
        self.settle_down()

    def order(self, order: t.Order) -> None:
        self.room.order(order, now_ms=NOW_MS)
        self.settle_down()

    def result(self, job: str) -> TargetResult:
        """How it ended, and that is settled."""
        told = ToldResults().one_by_one(self.room.take_reports())
        self.order(t.SettledTargets(((self.member.agent, job),)))
        return next(one.result for one in told if isinstance(one, t.TargetEnded) and one.result.job == job)


def test_who_watches_goes_on_seeing_output_after_a_new_connection() -> None:
    pair = Pair()
    job = pair.run(Exec(argv=("print",)))
    pair.prints(job, 2 * DATA_CHUNK)
    assert pair.seen
    pair.room.closed(pair.link, "", now_ms=NOW_MS)
    pair.connect()
    pair.prints(job, len(OUTPUT))
    # What waits for credit of a whole piece may be left; the result has it.
    assert len(OUTPUT) - DATA_CHUNK < len(pair.seen)
    assert OUTPUT.startswith(pair.seen)


def test_no_stream_is_left_of_what_is_refused_or_watched_no_more() -> None:
    pair = Pair()
    job = pair.run(Exec(argv=("print",)), watch=False)
    for _ in range(STREAMS_MAX + 1):
        pair.order(t.WatchTargets(job, (pair.member.agent,), True))
        pair.order(t.WatchTargets(job, (pair.member.agent,), False))
        refused = pair.run(Cancel(job=job))
        assert pair.result(refused).state == "denied"
    late = pair.run(Exec(argv=("print",)))
    pair.prints(late, DATA_CHUNK)
    assert pair.seen


def test_a_schedule_for_this_boot_is_kept_where_older_ids_are_lost() -> None:
    pair = Pair((Floor(NOW_MS + 1),))
    at = Schedule("once", At(LATER_MS), Exec(argv=("true",)), LATER_MS + 1000)
    assert pair.result(pair.run(at)).state == "interrupted"
    assert pair.result(pair.run(at, boot_nonce=bytes(16))).state == "ok"
