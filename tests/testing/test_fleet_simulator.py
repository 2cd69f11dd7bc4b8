"""The simulated fleet keeps its promises, and the simulator sees when it does not.

Searches begin at seed 0, so that what is proven is what `scripts/simulate` shows.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Collection

import pytest

from libstaragent.roles.agent_effects import Verifier
from libstaragent.security.acts import Envelope, Member
from libstaragent.security.authority import verify_act
from libstaragent.security.clock import TimeJudge
from libstaragent.security.envelope import sign
from libstaragent.security.membership import Proof
from libstaragent.security.policy.model import FOUNDERS
from libstaragent.security.roster import Operator, Roster
from libstaragent.security.signed import Signed
from libstaragent.security.signing import public_key
from libstaragent.testing import BUGS, Outcome, PlainTrust, simulate
from libstaragent.testing.clock import EPOCH_MS
from libstaragent.testing.rules import judge
from libstaragent.testing.schedulers import KEEPING_KINDS
from libstaragent.testing.trust import OPERATOR
from libstaragent.testing.weather import KINDS

SEEDS = 300
BUG_SEEDS = 1000


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return [simulate(seed) for seed in range(SEEDS)]


def test_the_fleet_keeps_its_promises(outcomes: list[Outcome]) -> None:
    assert {outcome.seed: outcome.broken for outcome in outcomes if outcome.broken} == {}


def test_the_faults_really_happen_and_the_fleet_really_works(outcomes: list[Outcome]) -> None:
    happened = Counter(event for outcome in outcomes for event in outcome.events)
    assert {*KINDS, *KEEPING_KINDS, "host lost"} == set(happened)
    assert min(happened.values()) >= 10
    assert sum(outcome.jobs for outcome in outcomes) > 5 * SEEDS
    assert sum(outcome.ran for outcome in outcomes) > 5 * SEEDS
    assert sum(outcome.turns for outcome in outcomes) > SEEDS
    assert sum(outcome.later_turns for outcome in outcomes) > SEEDS / 2
    assert sum(outcome.placed for outcome in outcomes) > SEEDS / 4
    assert sum(outcome.fired for outcome in outcomes) > sum(outcome.firings_ran for outcome in outcomes) > 2 * SEEDS


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str) -> None:
    # All of the seeds, those first at which it was seen before.
    first = BUGS[name].shows_at
    for seed in (*range(first, BUG_SEEDS), *range(first)):
        outcome = simulate(seed, cores=BUGS[name].cores)
        if outcome.broken:
            sys.stdout.write(f"{name}: seed {seed}: {outcome.broken[0]}\n")
            return
    pytest.fail(f"{name} survived {BUG_SEEDS} seeds")


def test_a_run_is_a_function_of_its_seed() -> None:
    assert simulate(3, tracing=True) == simulate(3, tracing=True)


def test_the_trace_shows_faults_commands_and_ends() -> None:
    trace = "\n".join(simulate(3, tracing=True).trace)
    for what in ("weather", "submits", "starts", "store"):
        assert what in trace


def test_the_command_prints_the_seed_that_breaks_a_promise() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "libstaragent.testing", "--seeds", "3", "--bug", "last-word-wins"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 1
    assert "BROKEN" in told.stdout and "seeds/s" in told.stdout


KEY = b"operator".ljust(32, b".")
ROSTER = Roster(
    root=public_key(b"root".ljust(32, b".")),
    revision=1,
    previous=bytes(32),
    issued=EPOCH_MS,
    valid_until=EPOCH_MS + 3_600_000,
    ca=(b"c" * 32,),
    operators=(Operator(OPERATOR, public_key(KEY), ("operator",)),),
    rules=(FOUNDERS,),
)


class RealTrust(PlainTrust):
    fleet = ROSTER.fleet

    def __init__(self) -> None:
        self.verified_by_hosts = 0

    def sign(self, envelope: Envelope) -> Signed:
        return sign(envelope, KEY)

    def verify(self, signed: Signed, now_ms: int) -> Envelope:
        return self.judge(signed, None, None, now_ms, TimeJudge())

    def verifier(self, member: Member, revoked: Collection[str] = ()) -> Verifier:
        return RealVerifier(self, member)

    def judge(
        self,
        signed: Signed,
        me: Member | None,
        proof: Proof | None,
        now_ms: int,
        time_judge: TimeJudge,
        *,
        kept: bool = False,
    ) -> Envelope:
        return verify_act(
            signed,
            roster=ROSTER,
            fleet=ROSTER.fleet,
            me=me,
            proof=proof,
            local_ms=now_ms,
            time_judge=time_judge,
            boot_nonce=b"boot",
            evaluate=None,
            kept=kept,
            permit=None if me is None else lambda envelope: judge(envelope, me, now_ms),
        )


class RealVerifier(Verifier):
    roster_revision = 1
    highest_ms = 0

    def __init__(self, trust: RealTrust, member: Member) -> None:
        self._trust = trust
        self._member = member
        self._judge = TimeJudge()

    def verify(self, signed: Signed, proof: Proof | None, now_ms: int) -> Envelope:
        envelope = self._trust.judge(signed, self._member, proof, now_ms, self._judge)
        self._trust.verified_by_hosts += 1
        return envelope

    def verify_kept(self, signed: Signed, proof: Proof | None, now_ms: int) -> Envelope:
        return self._trust.judge(signed, self._member, proof, now_ms, self._judge, kept=True)

    def may_forget(self, expires_ms: int) -> bool:
        return self._judge.may_forget(expires_ms)

    def may_manage(self, envelope: Envelope, owner: str | None, now_ms: int) -> None:
        assert envelope.operator == owner

    def signs_results(self, envelope: Envelope, now_ms: int) -> bool:
        return False


def test_the_fleet_keeps_its_promises_with_real_signatures() -> None:
    trust = RealTrust()
    outcomes = [simulate(seed, trust=trust) for seed in range(20)]
    assert {outcome.seed: outcome.broken for outcome in outcomes if outcome.broken} == {}
    assert sum(outcome.ran for outcome in outcomes) > 100
    assert trust.verified_by_hosts >= sum(outcome.ran for outcome in outcomes)
