"""A login is proven by a key of the roster, reads for a while, and ends with the roster's grant."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libstaragent import codes
from libstaragent.errors import Code, StarAgentError, UsageError
from libstaragent.model.ids import new_ulid
from libstaragent.security import login
from libstaragent.security.login import (
    Bearer,
    Challenge,
    answer,
    bearer_id,
    challenge,
    check_answer,
    check_bearer,
    grant,
)
from libstaragent.security.roster import Operator, Roster
from libstaragent.security.signed import Signed
from libstaragent.security.signing import public_key, sign_bytes

NOW_MS = 1_760_000_000_000
HOUR_MS = 3_600_000
SEED, OTHER, MUTE = (name.ljust(32, b".") for name in (b"lin", b"kim", b"mute"))
LIN = Operator("lin", public_key(SEED), ("read",))
ROSTER = Roster(
    root=b"r" * 32,
    revision=1,
    previous=b"",
    issued=NOW_MS,
    valid_until=NOW_MS + HOUR_MS,
    ca=(b"c" * 32,),
    operators=(
        LIN,
        Operator("kim", public_key(OTHER), ("read",)),
        Operator("mute", public_key(MUTE), ("operator",)),
    ),
)
ASKED = challenge(fleet=ROSTER.fleet, operator="lin", nonce=b"n" * 32, now_ms=NOW_MS)
ID = new_ulid(NOW_MS, b"bearer-001")
TEXT, KEPT = grant(LIN, token=ID, secret=b"s" * 32, now_ms=NOW_MS, life_ms=HOUR_MS)


def answered(asked: Challenge = ASKED, seed: bytes = SEED) -> Signed:
    return answer(asked, fleet=ROSTER.fleet, operator=asked.operator, seed=seed)


def refusal(signed: Signed, asked: Challenge = ASKED, **facts: Any) -> Code:
    with pytest.raises(StarAgentError) as caught:
        check_answer(signed, **{"asked": asked, "roster": ROSTER, "now_ms": NOW_MS, **facts})
    return caught.value.code


def bearer_refusal(kept: Bearer | None, text: str, **facts: Any) -> Code:
    with pytest.raises(StarAgentError) as caught:
        check_bearer(kept, text, **{"roster": ROSTER, "now_ms": NOW_MS, **facts})
    return caught.value.code


def test_an_operator_who_signs_the_challenge_is_in() -> None:
    assert check_answer(answered(), asked=ASKED, roster=ROSTER, now_ms=ASKED.expires_ms - 1) == LIN


def test_a_late_answer_is_refused() -> None:
    assert refusal(answered(), now_ms=ASKED.expires_ms) is codes.LOGIN_EXPIRED


def test_another_key_another_challenge_or_another_signature_is_refused() -> None:
    other = challenge(fleet=ROSTER.fleet, operator="lin", nonce=b"m" * 32, now_ms=NOW_MS)
    payload = answered().payload
    forged = Signed(payload, LIN.key, sign_bytes(b"opsconsole envelope 1\0", payload, SEED))
    for signed in (answered(seed=OTHER), answered(seed=b"x" * 32), answered(other), forged):
        assert refusal(signed) is codes.LOGIN_REFUSED
    assert refusal(answered(), roster=msgspec.structs.replace(ROSTER, root=b"o" * 32)) is codes.LOGIN_REFUSED


def test_who_may_not_read_does_not_log_in() -> None:
    asked = msgspec.structs.replace(ASKED, operator="mute")
    assert refusal(answered(asked, MUTE), asked) is codes.SIGNER_ROLE


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"fleet": "ab" * 32}, codes.ROSTER_OTHER_FLEET),
        ({"operator": "kim"}, codes.LOGIN_REFUSED),
        ({"nonce": b"short"}, codes.LOGIN_REFUSED),
    ],
    ids=["fleet", "operator", "nonce"],
)
def test_an_operator_signs_only_a_challenge_to_himself(change: dict[str, Any], code: Code) -> None:
    with pytest.raises(StarAgentError, match=code.code):
        answer(msgspec.structs.replace(ASKED, **change), fleet=ROSTER.fleet, operator="lin", seed=SEED)


def test_a_challenge_without_its_random_bytes_is_a_misuse() -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        challenge(fleet=ROSTER.fleet, operator="lin", nonce=b"", now_ms=NOW_MS)


@given(st.binary(max_size=200))
def test_any_signed_bytes_are_a_refused_login(payload: bytes) -> None:
    assert refusal(Signed(payload, LIN.key, sign_bytes(login.DOMAIN, payload, SEED))) is codes.LOGIN_REFUSED


def test_a_bearer_reads_until_its_last_millisecond() -> None:
    assert bearer_id(TEXT) == ID
    assert check_bearer(KEPT, TEXT, roster=ROSTER, now_ms=NOW_MS + HOUR_MS - 1) == LIN
    assert bearer_refusal(KEPT, TEXT, now_ms=NOW_MS + HOUR_MS) is codes.LOGIN_EXPIRED


def test_a_bearer_ends_when_its_operator_leaves_the_roster_or_changes_keys() -> None:
    gone = ROSTER.operators[1:]
    changed = (msgspec.structs.replace(LIN, key=b"k" * 32), *gone)
    renamed = (msgspec.structs.replace(LIN, name="lina"), *gone)
    silenced = (msgspec.structs.replace(LIN, roles=("operator",)), *gone)
    for operators in (gone, changed, renamed, silenced):
        roster = msgspec.structs.replace(ROSTER, operators=operators)
        assert bearer_refusal(KEPT, TEXT, roster=roster) is codes.BEARER_UNKNOWN


def test_a_wrong_bearer_is_unknown() -> None:
    wrong = grant(LIN, token=ID, secret=b"t" * 32, now_ms=NOW_MS, life_ms=HOUR_MS)[0]
    assert bearer_refusal(KEPT, wrong, now_ms=NOW_MS * 2) is codes.BEARER_UNKNOWN
    assert bearer_refusal(None, TEXT) is codes.BEARER_UNKNOWN
    assert bearer_refusal(KEPT, TEXT.replace("opsbearer-", "opsenrol-")) is codes.BEARER_UNKNOWN


@pytest.mark.parametrize("life_ms", [0, 12 * HOUR_MS + 1])
def test_a_login_lasts_at_most_twelve_hours(life_ms: int) -> None:
    with pytest.raises(UsageError):
        grant(LIN, token=ID, secret=b"s" * 32, now_ms=NOW_MS, life_ms=life_ms)
