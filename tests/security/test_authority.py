"""A signed act is done only where every check holds; each refusal has its code and its terminal state."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from libstaragent import codes
from libstaragent.errors import Code, StarAgentError
from libstaragent.model.ids import new_ulid
from libstaragent.security.acts import Every, Schedule
from libstaragent.security.authority import terminal_state, verify_act
from libstaragent.security.clock import TimeJudge
from libstaragent.security.envelope import (
    Cancel,
    Envelope,
    Exec,
    IssueToken,
    Member,
    Signed,
    TargetList,
    TargetRoot,
    sign,
)
from libstaragent.security.membership import Proof, proofs, root
from libstaragent.security.policy.model import FOUNDERS
from libstaragent.security.roster import Operator, Roster
from libstaragent.security.signing import public_key

NOW_MS = 1_760_000_000_000
HOUR_MS = 3_600_000
ROOT, ADMIN, OPERATOR, READER, STRANGER = (name.ljust(32, b".") for name in (b"root", b"adm", b"op", b"rd", b"x"))
ROSTER = Roster(
    root=public_key(ROOT),
    revision=3,
    previous=b"p" * 32,
    issued=NOW_MS - HOUR_MS,
    valid_until=NOW_MS + 24 * HOUR_MS,
    ca=(b"c" * 32,),
    operators=(
        Operator("ann", public_key(ADMIN), ("admin",)),
        Operator("lin", public_key(OPERATOR), ("operator",)),
        Operator("ray", public_key(READER), ("read",)),
    ),
    rules=(FOUNDERS,),
)
HOSTS = [Member(new_ulid(at, b"0123456789"), f"web{at:02d}", "hz1") for at in range(20)]
ME = HOSTS[7]
PROOFS = proofs(HOSTS)
MANY = TargetRoot("web[00-19]", len(HOSTS), root(HOSTS))
FEW = TargetList("web[06-08]", tuple(HOSTS[6:9]))
NONCE = b"this-boots-nonce"
ENVELOPE = Envelope(
    id=new_ulid(NOW_MS, b"job-000001"),
    fleet=ROSTER.fleet,
    operator="lin",
    act=Exec(("uptime",)),
    targets=FEW,
    issued=NOW_MS,
    not_before=NOW_MS,
    expires=NOW_MS + HOUR_MS,
    roster=3,
)
TOKEN: dict[str, Any] = {"act": IssueToken(room="hz1", uses=1, ttl_ms=HOUR_MS), "targets": None, "operator": "ann"}


def signed(seed: bytes = OPERATOR, **fields: Any) -> Signed:
    return sign(msgspec.structs.replace(ENVELOPE, **fields), seed)


def judged(act: Signed, **facts: Any) -> Envelope:
    given: dict[str, Any] = {
        "roster": ROSTER,
        "fleet": ROSTER.fleet,
        "me": ME,
        "proof": None,
        "local_ms": NOW_MS,
        "time_judge": TimeJudge(),
        "boot_nonce": NONCE,
        "evaluate": lambda expression: True,
        **facts,
    }
    return verify_act(act, **given)


def refusal(act: Signed, **facts: Any) -> Code:
    judge = facts.setdefault("time_judge", TimeJudge())
    with pytest.raises(StarAgentError) as caught:
        judged(act, **facts)
    assert judge.highest_ms == 0, "a refused act taught a time"
    return caught.value.code


def test_a_listed_host_does_it() -> None:
    judge = TimeJudge()
    assert judged(signed(), time_judge=judge) == ENVELOPE
    assert judge.highest_ms == NOW_MS


def test_a_host_under_the_root_does_it() -> None:
    assert judged(signed(targets=MANY), proof=PROOFS[ME.agent]).targets == MANY


def test_central_does_not_judge_targets() -> None:
    assert judged(signed(targets=MANY), me=None, boot_nonce=None, evaluate=None).targets == MANY
    assert judged(signed(ADMIN, **TOKEN), me=None, boot_nonce=None, evaluate=None).operator == "ann"


@pytest.mark.parametrize(
    ("proof", "me"),
    [(None, ME), (PROOFS[HOSTS[8].agent], ME), (Proof(0, b""), ME), (PROOFS[ME.agent], HOSTS[8])],
)
def test_without_its_own_path_a_host_refuses(proof: Proof | None, me: Member) -> None:
    code = refusal(signed(targets=MANY), proof=proof, me=me)
    assert code is codes.ENVELOPE_NOT_MEMBER
    assert terminal_state(code) == "denied"


@pytest.mark.parametrize(
    "me", [HOSTS[1], msgspec.structs.replace(ME, name="db"), msgspec.structs.replace(ME, room="hz2")]
)
def test_a_host_that_is_not_in_the_list_as_it_is_refuses(me: Member) -> None:
    assert refusal(signed(), me=me) is codes.ENVELOPE_NOT_MEMBER


@pytest.mark.parametrize("targets", [FEW, MANY])
def test_membership_alone_is_not_enough_the_expression_must_match_too(targets: Any) -> None:
    asked: list[str] = []
    act = signed(targets=targets)
    code = refusal(act, proof=PROOFS[ME.agent], evaluate=lambda expression: bool(asked.append(expression)))
    assert code is codes.ENVELOPE_EXPRESSION
    assert asked == [targets.expression]


def test_an_altered_envelope_ends_as_bad_signature() -> None:
    act = signed()
    code = refusal(msgspec.structs.replace(act, payload=act.payload.replace(b"uptime", b"reboot")))
    assert code is codes.SIGNATURE_INVALID
    assert terminal_state(code) == "bad_signature"


def test_a_stranger_or_the_root_or_a_wrong_name_is_no_signer() -> None:
    for act in (signed(STRANGER), signed(ROOT), signed(ADMIN), signed(operator="ann")):
        code = refusal(act)
        assert code is codes.SIGNER_UNKNOWN
        assert terminal_state(code) == "bad_signature"


def test_roles_are_separate() -> None:
    acts = (signed(READER, operator="ray"), signed(ADMIN, operator="ann"))
    for act in acts:
        assert refusal(act) is codes.SIGNER_ROLE
    token = signed(**{**TOKEN, "operator": "lin"})
    assert refusal(token, me=None, boot_nonce=None) is codes.SIGNER_ROLE


def test_a_token_act_does_nothing_on_a_host() -> None:
    assert refusal(signed(ADMIN, **TOKEN)) is codes.ENVELOPE_NOT_FOR_HOSTS


def test_a_cancel_without_targets_is_for_whoever_runs_the_job() -> None:
    assert judged(signed(act=Cancel(ENVELOPE.id), targets=None)).act == Cancel(ENVELOPE.id)


def test_another_fleet_is_refused() -> None:
    assert refusal(signed(fleet="ab" * 32)) is codes.ENVELOPE_OTHER_FLEET
    assert refusal(signed(), fleet="ab" * 32) is codes.ENVELOPE_OTHER_FLEET


def test_an_older_roster_is_good_enough_a_newer_one_must_arrive_first() -> None:
    assert judged(signed(roster=1)).roster == 1
    code = refusal(signed(roster=4))
    assert code is codes.ROSTER_BEHIND
    assert code.retryable


def test_under_an_expired_roster_nothing_is_done() -> None:
    late = ROSTER.valid_until
    act = signed(issued=late - 1, not_before=late - 1, expires=late + 1)
    assert judged(act, local_ms=late - 1)
    assert refusal(act, local_ms=late) is codes.ROSTER_EXPIRED


@pytest.mark.parametrize(
    ("local_ms", "code", "state"),
    [
        (NOW_MS + HOUR_MS, codes.ENVELOPE_EXPIRED, "expired"),
        (NOW_MS - 30_001, codes.ENVELOPE_CLOCK_SKEW, "denied"),
    ],
)
def test_age_ends_in_its_own_state(local_ms: int, code: Code, state: str) -> None:
    assert refusal(signed(), local_ms=local_ms) is code
    assert terminal_state(code) == state


def test_a_bound_envelope_reaches_a_host_whose_clock_is_in_1970_or_2100_and_no_other_boot() -> None:
    act = signed(boot_nonce=NONCE)
    assert judged(act, local_ms=0)
    assert judged(act, local_ms=NOW_MS * 3)
    assert refusal(act, boot_nonce=b"another boot's..") is codes.ENVELOPE_WRONG_BOOT
    assert refusal(signed(), local_ms=0) is codes.ENVELOPE_CLOCK_SKEW


def test_no_binding_outlives_the_roster_by_the_times_that_operators_signed() -> None:
    late = ROSTER.valid_until
    act = signed(boot_nonce=NONCE, issued=late, not_before=late, expires=late + HOUR_MS)
    assert refusal(act) is codes.ROSTER_EXPIRED
    # An earlier one is refused too, once another operator's signature has told this host how late it is.
    judge = TimeJudge(late)
    with pytest.raises(StarAgentError) as caught:
        judged(signed(boot_nonce=NONCE), time_judge=judge, local_ms=0)
    assert caught.value.code is codes.ROSTER_EXPIRED


def test_a_schedule_that_was_bound_to_a_boot_ends_with_the_roster_as_any_other() -> None:
    act = Schedule("hourly", Every(HOUR_MS, 0), Exec(("uptime",)), until_ms=NOW_MS + 300 * 24 * HOUR_MS)
    kept = signed(act=act, boot_nonce=NONCE)
    assert judged(kept, kept=True, local_ms=ROSTER.valid_until - 1)
    assert refusal(kept, kept=True, local_ms=ROSTER.valid_until) is codes.ROSTER_EXPIRED


def test_a_host_without_a_boot_nonce_is_a_misuse() -> None:
    with pytest.raises(ValueError, match="boot nonce"):
        judged(signed(), boot_nonce=None)
