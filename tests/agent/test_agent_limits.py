"""An agent with as many open commands as it takes: the next one is refused, on disk first, and can never run later."""

from __future__ import annotations

from typing import Any

from agentd.agent.rare_log import QUIET, RareLog
from libstaragent import codes
from libstaragent.jobs.journal import Done, Refused, Taken
from libstaragent.model.ids import new_ulid
from libstaragent.model.result import Output, encode_records
from libstaragent.protocol import messages as m
from libstaragent.protocol.connection import ROOM, Connection
from libstaragent.roles.agent import OPEN_MAX, AgentCore
from libstaragent.roles.agent_effects import Log, Persist, ToKeeper, Verifier
from libstaragent.roles.agent_run import keeper_spec, result_of
from libstaragent.roles.keeper_spec import JobSpec
from libstaragent.roles.refusals import REFUSALS_MAX
from libstaragent.security.act_limits import MAX_OUTPUT
from libstaragent.security.acts import Envelope, Exec, Member, TargetList
from libstaragent.security.signed import Signed
from libstaragent.testing.trust import FLEET, OPERATOR, PlainTrust

NOW_MS = 1_700_000_000_000
LATER_MS = NOW_MS + 60_000


def a_job(number: int) -> str:
    return new_ulid(NOW_MS, number.to_bytes(10, "big"))


def test_a_command_beyond_the_limit_is_refused_after_its_id_is_on_disk() -> None:
    member = Member(a_job(0), "web01", "main")
    trust = PlainTrust()
    core = AgentCore(
        agent=member.agent,
        verifier=trust.verifier(member),
        state_of=lambda code: "denied",
        version="1",
        boot_nonce=bytes(16),
        hostname="web01",
        addresses=(),
        facts={},
        journal=[
            Taken(a_job(number), Signed(b"", bytes(32), bytes(64)), LATER_MS) for number in range(1, OPEN_MAX + 1)
        ],
    )
    assert len(core.open) == OPEN_MAX
    room = Connection(ROOM, now=0.0)
    core.connected(connects=1, now=0.0, now_ms=NOW_MS)
    assert core.connection is not None
    room.receive(core.connection.take(), 0.0)
    room.send(m.Welcome(protocol=1, features=(), room="main", heartbeat_ms=15_000, clock_ms=NOW_MS))
    job = a_job(OPEN_MAX + 1)
    envelope = Envelope(
        id=job,
        fleet=FLEET,
        operator=OPERATOR,
        act=Exec(argv=("true",)),
        targets=TargetList("web01", (member,)),
        issued=NOW_MS,
        not_before=NOW_MS,
        expires=LATER_MS,
        roster=1,
    )
    room.send(m.Run(job, trust.sign(envelope), None, 0))
    core.receive(room.take(), now=0.0, now_ms=NOW_MS)
    written = [effect for effect in core.effects if isinstance(effect, Persist)]
    assert [effect.record for effect in written] == [
        Refused(job, LATER_MS, "spawn_failed", codes.AGENT_BUSY.code)
    ] and written[0].sync
    assert not [effect for effect in core.effects if isinstance(effect, ToKeeper)]

    def told() -> list[Any]:
        assert core.connection is not None
        heard = room.receive(core.connection.take(), 0.0)
        return [message.result for message in heard if isinstance(message, m.Result)]

    assert told() == []
    core.persisted(written[0].token, None, now=0.0)
    (result,) = told()
    assert (result.job, result.state, result.code) == (job, "spawn_failed", codes.AGENT_BUSY.code)
    assert job not in core.open


def a_full_host() -> tuple[AgentCore, PlainTrust, Member]:
    member = Member(a_job(0), "web01", "main")
    trust = PlainTrust()
    core = AgentCore(
        agent=member.agent,
        verifier=trust.verifier(member),
        state_of=lambda code: "denied",
        version="1",
        boot_nonce=bytes(16),
        hostname="web01",
        addresses=(),
        facts={},
        journal=[
            Taken(a_job(number), Signed(b"", bytes(32), bytes(64)), LATER_MS) for number in range(1, OPEN_MAX + 1)
        ],
    )
    return core, trust, member


class Line:
    """A connection of the core to a room, of which there may be one after another."""

    def __init__(self, core: AgentCore) -> None:
        self.core = core
        core.connected(connects=1, now=0.0, now_ms=NOW_MS)
        self.room = Connection(ROOM, now=0.0)
        self.told()
        self.say(m.Welcome(protocol=1, features=(), room="main", heartbeat_ms=15_000, clock_ms=NOW_MS))

    def say(self, message: Any) -> None:
        self.room.send(message)
        self.core.receive(self.room.take(), now=0.0, now_ms=NOW_MS)

    def told(self) -> list[Any]:
        assert self.core.connection is not None
        heard = self.room.receive(self.core.connection.take(), 0.0)
        return [message.result for message in heard if isinstance(message, m.Result)]


def an_order(trust: PlainTrust, member: Member, number: int, act: Any = None) -> m.Run:
    envelope = Envelope(
        id=a_job(number),
        fleet=FLEET,
        operator=OPERATOR,
        act=act or Exec(argv=("true",)),
        targets=TargetList("web01", (member,)),
        issued=NOW_MS,
        not_before=NOW_MS,
        expires=LATER_MS,
        roster=1,
    )
    return m.Run(envelope.id, trust.sign(envelope), None, 0)


def persist_all(core: AgentCore) -> None:
    effects, core.effects = core.effects, []
    for effect in effects:
        if isinstance(effect, Persist):
            core.persisted(effect.token, None, now=0.0)


def test_a_refusal_whose_word_was_lost_is_said_again_as_it_was_until_it_is_settled() -> None:
    core, trust, member = a_full_host()
    order = an_order(trust, member, OPEN_MAX + 1)
    line = Line(core)
    line.say(order)
    line.say(order)
    assert line.told() == [], "its id is not on disk yet"
    core.disconnected()
    persist_all(core)
    line = Line(core)
    line.say(order)
    (result,) = {result.job: result for result in line.told() if result.job == order.job}.values()
    assert (result.state, result.code, result.ran) == ("spawn_failed", codes.AGENT_BUSY.code, "no")
    line.say(m.Settled((order.job,)))
    line.say(order)
    (result,) = line.told()
    assert (result.state, result.code, result.ran) == ("interrupted", codes.RESULT_GONE.code, "maybe")


def test_refusals_are_kept_up_to_a_number_and_the_oldest_go_first() -> None:
    core, trust, member = a_full_host()
    line = Line(core)
    for number in range(1, REFUSALS_MAX + 3):
        line.say(an_order(trust, member, OPEN_MAX + number))
        persist_all(core)
        assert len(line.told()) == 1
    line.say(an_order(trust, member, OPEN_MAX + 1))
    line.say(an_order(trust, member, OPEN_MAX + REFUSALS_MAX + 2))
    assert [result.code for result in line.told()] == [codes.RESULT_GONE.code, codes.AGENT_BUSY.code]


class CountingVerifier(Verifier):
    """Says that everything up to a time may be forgotten, and counts how often it is asked."""

    highest_ms = 0
    roster_revision = 1

    def __init__(self) -> None:
        self.asked = 0

    def may_forget(self, expires_ms: int) -> bool:
        self.asked += 1
        return expires_ms <= self.highest_ms

    def verify(self, signed: Signed, proof: Any, now_ms: int) -> Envelope:
        raise codes.SIGNATURE_INVALID.error("a stranger's")

    def take_rosters(self, revisions: tuple[Signed, ...], now_ms: int) -> Signed | None:
        raise codes.ROSTER_CHAIN.error("it is no successor")


def a_host_that_remembers(verifier: Verifier, count: int) -> AgentCore:
    return AgentCore(
        agent=a_job(0),
        verifier=verifier,
        state_of=lambda code: "denied",
        version="1",
        boot_nonce=bytes(16),
        hostname="web01",
        addresses=(),
        facts={},
        # The later ids expire first.
        journal=[Done(a_job(number), count - number) for number in range(count)],
    )


def test_old_ids_are_not_all_looked_at_each_second() -> None:
    verifier = CountingVerifier()
    core = a_host_that_remembers(verifier, 10_000)
    verifier.asked = 0
    core.tick(now=1.0)
    assert verifier.asked == 1
    verifier.highest_ms = 4_000
    core.tick(now=2.0)
    assert verifier.asked == 4_002
    line = Line(core)
    for number in (5_999, 6_000):
        line.say(m.Run(a_job(number), Signed(b"", bytes(32), bytes(64)), None, 0))
    assert [result.code for result in line.told()] == [codes.RESULT_GONE.code, codes.SIGNATURE_INVALID.code]


def test_a_roster_and_a_cancel_that_do_not_hold_are_said_on_the_host() -> None:
    core = a_host_that_remembers(CountingVerifier(), 0)
    line = Line(core)
    line.say(m.Rosters((Signed(b"", bytes(32), bytes(64)),)))
    line.say(m.CancelRun(Signed(b"", bytes(32), bytes(64))))
    said = [(effect.code, effect.detail) for effect in core.effects if isinstance(effect, Log)]
    assert said == [(codes.ROSTER_CHAIN, "it is no successor"), (codes.SIGNATURE_INVALID, "a stranger's")]


def test_as_much_output_is_kept_as_was_signed_for() -> None:
    for head, tail in ((MAX_OUTPUT, 0), (0, MAX_OUTPUT), (64 * 1024, 128 * 1024)):
        act = Exec(argv=("true",), output_head=head, output_tail=tail)
        spec = JobSpec(keeper_spec(act))
        assert (spec.output_head, spec.output_tail) == (head, tail)
    kept = Output(b"".join([encode_records([(1, bytes(4000))])] * 49), 0, b"")
    assert len(kept.head) > MAX_OUTPUT - 4096
    assert result_of(a_job(1), SUMMARY, kept).output == kept


SUMMARY: dict[str, Any] = {
    **dict.fromkeys(("exit_status", "signal", "errno", "code", "started_ms", "finished_ms", "user_ms", "system_ms")),
    **dict.fromkeys(("max_rss_kb", "stdout_bytes", "stderr_bytes", "stdout_sha256", "stderr_sha256")),
    "state": "ok",
    "core_dumped": False,
    "detail": "",
    "ran": "yes",
    "left_running": [],
    "left_running_count": 0,
}


def test_what_is_dropped_again_and_again_is_one_line_a_minute_with_a_count() -> None:
    said: list[str] = []
    log = RareLog(said.append)
    for _ in range(100):
        log.say(codes.ROSTER_CHAIN, "it is no successor", 5.0)
    log.say(codes.SIGNATURE_INVALID, "", 6.0)
    assert len(said) == 2 and codes.ROSTER_CHAIN.code in said[0] and "it is no successor" in said[0]
    log.say(codes.ROSTER_CHAIN, "again", 5.0 + QUIET)
    assert len(said) == 3 and "99 more" in said[2]
