"""A reader follows the chain of rosters from the pinned root, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libstaragent import codes
from libstaragent.errors import Code, StarAgentError
from libstaragent.security.policy.model import FOUNDERS
from libstaragent.security.roster import (
    DOMAIN,
    MAX_VALIDITY_MS,
    Operator,
    Roster,
    RosterChain,
    Signed,
    digest,
    open_roster,
    sign_roster,
)
from libstaragent.security.signing import fingerprint, public_key, sign_bytes

NOW_MS = 1_760_000_000_000
DAY_MS = 24 * 3_600_000
ROOT = b"root".ljust(32, b".")
ADMIN = b"admin".ljust(32, b".")
PLAIN = b"plain".ljust(32, b".")
FLEET = fingerprint(public_key(ROOT))
LIN = Operator("lin", public_key(ADMIN), ("admin", "operator", "read"))
KIM = Operator("kim", public_key(PLAIN), ("operator", "read"))
FIRST = Roster(
    root=public_key(ROOT),
    revision=1,
    previous=b"",
    issued=NOW_MS,
    valid_until=NOW_MS + 30 * DAY_MS,
    ca=(b"c" * 32,),
    operators=(LIN, KIM),
    groups={"front": "web[01-20]"},
    rules=(FOUNDERS,),
    labels={"env=prod": "db*"},
    revoked=("01J0000000000000000000000A",),
)


def following(signed: Signed, seed: bytes, **fields: Any) -> Signed:
    before = open_roster(signed)
    changed = {"revision": before.revision + 1, "previous": digest(signed), "issued": before.issued + 1, **fields}
    return sign_roster(msgspec.structs.replace(before, **changed), seed)


FIRST_SIGNED = sign_roster(FIRST, ROOT)


def chain_at_first() -> RosterChain:
    chain = RosterChain(FLEET)
    chain.accept(FIRST_SIGNED, NOW_MS)
    return chain


def refusal(chain: RosterChain, signed: Signed, now_ms: int = NOW_MS) -> Code:
    before = chain.newest
    with pytest.raises(StarAgentError) as caught:
        chain.accept(signed, now_ms)
    assert chain.newest is before
    return caught.value.code


def test_the_first_is_taken_from_the_pinned_root() -> None:
    assert chain_at_first().newest == FIRST
    assert FIRST.fleet == FLEET


def test_another_root_is_refused() -> None:
    other = sign_roster(msgspec.structs.replace(FIRST, root=public_key(ADMIN)), ADMIN)
    assert refusal(RosterChain(FLEET), other) is codes.ROSTER_OTHER_FLEET


def test_a_first_signed_by_somebody_else_is_refused() -> None:
    assert refusal(RosterChain(FLEET), sign_roster(FIRST, ADMIN)) is codes.ROSTER_SIGNER


def test_a_late_joiner_begins_at_a_later_revision_of_the_root() -> None:
    second = following(FIRST_SIGNED, ROOT)
    third = following(second, ADMIN)
    assert RosterChain(FLEET).accept_all([second, third], NOW_MS).revision == 3
    assert refusal(RosterChain(FLEET), third) is codes.ROSTER_SIGNER


def test_root_and_admins_of_the_revision_before_may_sign_the_next() -> None:
    for seed in (ROOT, ADMIN):
        assert chain_at_first().accept(following(FIRST_SIGNED, seed), NOW_MS).revision == 2
    assert refusal(chain_at_first(), following(FIRST_SIGNED, PLAIN)) is codes.ROSTER_SIGNER


def test_nobody_makes_himself_admin() -> None:
    promoted = (LIN, msgspec.structs.replace(KIM, roles=("admin",)))
    assert refusal(chain_at_first(), following(FIRST_SIGNED, PLAIN, operators=promoted)) is codes.ROSTER_SIGNER


def test_a_revoked_admin_signs_nothing_more() -> None:
    chain = chain_at_first()
    second = following(FIRST_SIGNED, ROOT, operators=(KIM,))
    chain.accept(second, NOW_MS)
    assert refusal(chain, following(second, ADMIN)) is codes.ROSTER_SIGNER


def test_an_older_or_skipping_or_forking_revision_is_refused() -> None:
    chain = chain_at_first()
    second = following(FIRST_SIGNED, ADMIN)
    chain.accept(second, NOW_MS)
    assert refusal(chain, FIRST_SIGNED) is codes.ROSTER_OLD
    assert refusal(chain, following(following(second, ADMIN), ADMIN)) is codes.ROSTER_CHAIN
    assert refusal(chain, following(FIRST_SIGNED, ADMIN, groups={})) is codes.ROSTER_CHAIN
    assert refusal(chain, following(second, ADMIN, previous=b"x" * 32)) is codes.ROSTER_CHAIN
    assert refusal(chain, following(second, ADMIN, issued=NOW_MS)) is codes.ROSTER_CHAIN


def test_the_same_revision_again_changes_nothing() -> None:
    assert chain_at_first().accept(FIRST_SIGNED, NOW_MS) == FIRST


def test_an_expired_roster_is_refused_at_its_last_millisecond() -> None:
    assert RosterChain(FLEET).accept(FIRST_SIGNED, FIRST.valid_until - 1) == FIRST
    assert refusal(RosterChain(FLEET), FIRST_SIGNED, FIRST.valid_until) is codes.ROSTER_EXPIRED


def test_a_host_that_was_away_catches_up_through_expired_revisions() -> None:
    later = FIRST.valid_until + DAY_MS
    second = following(FIRST_SIGNED, ADMIN, issued=FIRST.valid_until - 1, valid_until=later + DAY_MS)
    assert chain_at_first().accept_all([FIRST_SIGNED, second], later).revision == 2


def test_after_expiry_only_the_root_continues() -> None:
    late = {"issued": FIRST.valid_until, "valid_until": FIRST.valid_until + DAY_MS}
    assert refusal(chain_at_first(), following(FIRST_SIGNED, ADMIN, **late), FIRST.valid_until) is codes.ROSTER_SIGNER
    assert chain_at_first().accept(following(FIRST_SIGNED, ROOT, **late), FIRST.valid_until).revision == 2


def test_a_list_is_taken_whole_or_not_at_all() -> None:
    chain = chain_at_first()
    second = following(FIRST_SIGNED, ADMIN)
    with pytest.raises(StarAgentError):
        chain.accept_all([second, following(second, PLAIN)], NOW_MS)
    assert chain.newest == FIRST
    with pytest.raises(StarAgentError):
        chain.accept_all([], NOW_MS)


def test_a_reader_restores_what_it_believed() -> None:
    second = following(FIRST_SIGNED, ADMIN)
    chain = RosterChain.restored(FLEET, second)
    assert chain.accept(following(second, ADMIN), NOW_MS).revision == 3
    with pytest.raises(StarAgentError):
        RosterChain.restored("ab" * 32, second)


BAD_FIELDS: dict[str, dict[str, Any]] = {
    "root": {"root": b""},
    "revision": {"revision": 0},
    "previous": {"previous": b"x" * 32},
    "issued": {"issued": -1},
    "valid_until": {"valid_until": NOW_MS},
    "validity": {"valid_until": NOW_MS + MAX_VALIDITY_MS + 1},
    "ca": {"ca": ()},
    "ca digest": {"ca": (b"x",)},
    "operators": {"operators": ()},
    "name": {"operators": (Operator("a b", b"k" * 32, ()),)},
    "key": {"operators": (Operator("a", b"k", ()),)},
    "role": {"operators": (Operator("a", b"k" * 32, ("a god",)),)},
    "role twice": {"operators": (Operator("a", b"k" * 32, ("read", "read")),)},
    "name twice": {"operators": (LIN, Operator("lin", b"k" * 32, ()))},
    "key twice": {"operators": (LIN, Operator("other", LIN.key, ()))},
    "group name": {"groups": {"": "a"}},
    "group": {"groups": {"a": ""}},
}


@pytest.mark.parametrize("fields", BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_a_field_out_of_bounds_is_neither_signed_nor_opened(fields: dict[str, Any]) -> None:
    bad = msgspec.structs.replace(FIRST, **fields)
    with pytest.raises(StarAgentError):
        sign_roster(bad, ROOT)
    payload = msgspec.msgpack.encode(bad, order="deterministic")
    with pytest.raises(StarAgentError) as caught:
        open_roster(Signed(payload, public_key(ROOT), sign_bytes(DOMAIN, payload, ROOT)))
    assert caught.value.code in (codes.ROSTER_FIELD, codes.SIGNED_MALFORMED)


@pytest.mark.parametrize("field", FIRST.__struct_fields__)
def test_an_altered_field_breaks_the_signature(field: str) -> None:
    plain = msgspec.msgpack.decode(FIRST_SIGNED.payload)
    value = plain[field]
    if isinstance(value, int):
        plain[field] = value + 1
    elif isinstance(value, dict):
        plain[field] = {}
    else:
        plain[field] = value + value[:1] if value else b"x" * 32
    payload = msgspec.msgpack.encode(plain)
    assert payload != FIRST_SIGNED.payload
    altered = msgspec.structs.replace(FIRST_SIGNED, payload=payload)
    assert refusal(RosterChain(FLEET), altered) is codes.SIGNATURE_INVALID


def test_a_field_of_a_newer_version_is_refused_rather_than_skipped() -> None:
    payload = msgspec.msgpack.encode({**msgspec.msgpack.decode(FIRST_SIGNED.payload), "rules": ["deny all"]})
    signed = Signed(payload, public_key(ROOT), sign_bytes(DOMAIN, payload, ROOT))
    assert refusal(RosterChain(FLEET), signed) is codes.SIGNED_MALFORMED


@given(st.binary(max_size=400))
def test_any_signed_bytes_give_a_coded_error_or_a_roster(payload: bytes) -> None:
    try:
        open_roster(Signed(payload, public_key(ROOT), sign_bytes(DOMAIN, payload, ROOT)))
    except StarAgentError:
        return


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from([ROOT, ADMIN, PLAIN]), st.booleans()), max_size=6))
def test_a_chain_holds_exactly_while_each_signer_was_granted_before(steps: list[tuple[bytes, bool]]) -> None:
    chain, signed = chain_at_first(), FIRST_SIGNED
    for seed, keeps_admin in steps:
        granted = seed == ROOT or (seed == ADMIN and LIN in open_roster(signed).operators)
        step = following(signed, seed, operators=(LIN, KIM) if keeps_admin else (KIM,))
        if not granted:
            assert refusal(chain, step) is codes.ROSTER_SIGNER
            continue
        chain.accept(step, NOW_MS)
        signed = step
    assert chain.signed == signed
