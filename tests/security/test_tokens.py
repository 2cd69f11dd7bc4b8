"""An enrolment token admits the host it was issued for, as often and as long as it was issued for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libstaragent import codes
from libstaragent.errors import Code, Denied, StarAgentError, UsageError
from libstaragent.model.ids import new_ulid
from libstaragent.security.envelope import IssueToken
from libstaragent.security.tokens import EnrolToken, issue, redeem, token_id

NOW_MS = 1_760_000_000_000
HOUR_MS = 3_600_000
ID = new_ulid(NOW_MS, b"token-0001")
SECRET = bytes(range(32))
TERMS = IssueToken(
    room="hz1", uses=2, ttl_ms=HOUR_MS, name_pattern="web*", networks=("10.0.0.0/8", "2001:db8::/32"), labels={"a": "b"}
)
TEXT, KEPT = issue(TERMS, token=ID, secret=SECRET, now_ms=NOW_MS)


def used(kept: EnrolToken | None = KEPT, text: str = TEXT, **facts: Any) -> EnrolToken:
    return redeem(kept, text, **{"name": "web01", "room": "hz1", "address": "10.1.2.3", "now_ms": NOW_MS, **facts})


def refusal(*given: Any, **facts: Any) -> Code:
    with pytest.raises(StarAgentError) as caught:
        used(*given, **facts)
    return caught.value.code


def test_the_text_names_its_id_and_only_a_digest_is_kept() -> None:
    assert token_id(TEXT) == token_id(f"  {TEXT}\n") == ID
    assert SECRET not in msgspec.msgpack.encode(KEPT)
    assert TEXT.rpartition(".")[2] not in repr(KEPT)


def test_each_use_takes_one_off_until_none_is_left() -> None:
    once = used()
    assert once.uses_left == 1
    twice = used(once)
    assert twice.uses_left == 0
    assert refusal(twice) is codes.TOKEN_USED_UP


def test_a_token_ends_with_its_last_millisecond() -> None:
    assert used(now_ms=NOW_MS + HOUR_MS - 1)
    assert refusal(now_ms=NOW_MS + HOUR_MS) is codes.TOKEN_EXPIRED


def test_a_wrong_secret_learns_nothing_of_expiry_or_scope() -> None:
    wrong = issue(TERMS, token=ID, secret=bytes(32), now_ms=NOW_MS)[0]
    assert refusal(KEPT, wrong, now_ms=NOW_MS * 2, room="other") is codes.TOKEN_UNKNOWN


def test_an_unknown_token_and_one_looked_up_under_another_id_are_wrong() -> None:
    assert refusal(None) is codes.TOKEN_UNKNOWN
    other = issue(TERMS, token=new_ulid(0, bytes(10)), secret=SECRET, now_ms=NOW_MS)[0]
    assert refusal(KEPT, other) is codes.TOKEN_UNKNOWN


@pytest.mark.parametrize(
    "facts",
    [
        {"room": "hz2"},
        {"name": "db01"},
        {"name": "WEB01"},
        {"address": "192.0.2.1"},
        {"address": "::1"},
        {"address": "?"},
    ],
)
def test_another_room_name_or_network_is_out_of_scope(facts: dict[str, str]) -> None:
    assert refusal(**facts) is codes.TOKEN_SCOPE


@pytest.mark.parametrize("address", ["10.255.255.255", "::ffff:10.1.2.3", "2001:db8::7"])
def test_addresses_within_its_networks_are_in_scope(address: str) -> None:
    assert used(address=address)


def test_without_networks_any_address_will_do() -> None:
    assert used(msgspec.structs.replace(KEPT, networks=()), address="192.0.2.1")


@pytest.mark.parametrize(
    "terms", [{"uses": 0}, {"ttl_ms": 24 * HOUR_MS + 1}, {"ttl_ms": 0}, {"networks": ("10.0.0.1/8",)}]
)
def test_impossible_terms_are_refused_at_issue(terms: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        issue(msgspec.structs.replace(TERMS, **terms), token=ID, secret=SECRET, now_ms=NOW_MS)
    assert caught.value.code is codes.TOKEN_TERMS


def test_a_short_secret_is_a_misuse() -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        issue(TERMS, token=ID, secret=b"short", now_ms=NOW_MS)


@given(st.text() | st.binary(max_size=60).map(lambda data: "opsenrol-" + ID + "." + data.hex()[:43]))
def test_any_other_text_is_an_unknown_token(text: str) -> None:
    for act in (lambda: token_id(text) and used(KEPT, text), lambda: used(KEPT, text)):
        with pytest.raises(Denied) as caught:
            act()
        assert caught.value.code is codes.TOKEN_UNKNOWN


def test_the_spare_bits_of_the_last_symbol_are_not_free() -> None:
    assert TEXT.endswith("8")
    assert refusal(KEPT, TEXT[:-1] + "9") is codes.TOKEN_UNKNOWN


@given(st.integers(0, len(TEXT) - 1), st.characters())
def test_any_changed_symbol_is_an_unknown_token(at: int, symbol: str) -> None:
    changed = TEXT[:at] + symbol + TEXT[at + 1 :]
    if changed == TEXT:
        return
    assert refusal(KEPT, changed) is codes.TOKEN_UNKNOWN
