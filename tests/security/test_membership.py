"""A path proves a host's membership, and nobody else's; the tree is RFC 9162's, by a naive reading of its text."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libstaragent import codes
from libstaragent.errors import Conflict
from libstaragent.model.ids import new_ulid
from libstaragent.security.membership import Member, MembershipTree, Proof, proofs, root, verify


def members_of(count: int) -> list[Member]:
    return [Member(new_ulid(at, b"0123456789"), f"web{at:05d}", "hz1") for at in range(count)]


def naive_leaf(member: Member) -> bytes:
    texts = [text.encode() for text in (member.agent, member.name, member.room)]
    return hashlib.sha256(b"\0" + b"".join(len(text).to_bytes(2, "big") + text for text in texts)).digest()


def split_of(count: int) -> int:
    split = 1
    while split * 2 < count:
        split *= 2
    return split


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, as it is written."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = split_of(len(leaves))
    return hashlib.sha256(b"\1" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def naive_path(at: int, leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.3.1, as it is written."""
    if len(leaves) == 1:
        return b""
    split = split_of(len(leaves))
    if at < split:
        return naive_path(at, leaves[:split]) + naive_root(leaves[split:])
    return naive_path(at - split, leaves[split:]) + naive_root(leaves[:split])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 100])
def test_root_and_paths_are_those_of_the_naive_reading(count: int) -> None:
    members = members_of(count)
    leaves = sorted(naive_leaf(member) for member in members)
    assert root(members) == naive_root(leaves)
    found = proofs(members)
    for member in members:
        at = leaves.index(naive_leaf(member))
        assert found[member.agent] == Proof(at, naive_path(at, leaves))
        assert verify(member, found[member.agent], root(members), count)


def test_no_members_have_the_empty_root_and_no_paths() -> None:
    assert root([]) == hashlib.sha256(b"").digest()
    assert proofs([]) == {}


def test_the_order_of_the_members_does_not_matter() -> None:
    members = members_of(37)
    assert root(members) == root(members[::-1])
    assert proofs(members) == proofs(members[::-1])


def test_the_path_of_another_host_fails() -> None:
    members = members_of(23)
    found, top = proofs(members), root(members)
    for member in members:
        for other in members:
            assert verify(member, found[other.agent], top, 23) is (member is other)


def test_a_host_with_another_name_or_room_fails() -> None:
    members = members_of(5)
    proof, top = proofs(members)[members[0].agent], root(members)
    for change in ({"name": "db"}, {"room": "hz2"}, {"agent": members[1].agent}):
        assert not verify(msgspec.structs.replace(members[0], **change), proof, top, 5)


def test_texts_cannot_move_over_the_border_between_name_and_room() -> None:
    agent = new_ulid(1, b"0123456789")
    assert root([Member(agent, "ab", "c")]) != root([Member(agent, "a", "bc")])


@pytest.mark.parametrize("count", [0, 1, 12, 14, 26, 1_000_000])
def test_a_count_other_than_the_signed_one_fails_where_the_path_has_another_length(count: int) -> None:
    members = members_of(13)
    found, top = proofs(members), root(members)
    held = [verify(member, found[member.agent], top, count) for member in members]
    assert not all(held)


def test_a_path_longer_than_the_count_allows_is_refused_unread() -> None:
    members = members_of(13)
    proof = proofs(members)[members[0].agent]
    for path in (proof.path + b"x" * 32, proof.path[:-32], proof.path[:-1], b"x" * 32 * 1_000_000):
        assert not verify(members[0], Proof(proof.index, path), root(members), 13)


def test_an_inner_node_is_no_leaf() -> None:
    members = members_of(2)
    first, second = sorted(naive_leaf(member) for member in members)
    assert hashlib.sha256(first + second).digest() != root(members)
    assert hashlib.sha256(b"\0" + first + second).digest() != root(members)


def test_one_agent_twice_is_refused() -> None:
    members = members_of(3)
    with pytest.raises(Conflict) as caught:
        MembershipTree([*members, msgspec.structs.replace(members[0], name="again")])
    assert caught.value.code is codes.MEMBERSHIP_DUPLICATE


@given(st.integers(1, 70), st.data())
def test_any_change_to_a_path_fails(count: int, data: st.DataObject) -> None:
    members = members_of(count)
    top = root(members)
    member = data.draw(st.sampled_from(members))
    proof = proofs(members)[member.agent]
    if data.draw(st.booleans()) and proof.path:
        bit = data.draw(st.integers(0, len(proof.path) * 8 - 1))
        path = bytearray(proof.path)
        path[bit // 8] ^= 1 << bit % 8
        changed = Proof(proof.index, bytes(path))
    else:
        changed = Proof(data.draw(st.integers(-5, count + 5).filter(lambda at: at != proof.index)), proof.path)
    assert not verify(member, changed, top, count)


@settings(max_examples=200)
@given(st.integers(-(2**63), 2**64), st.binary(max_size=600), st.integers(-5, 2**64))
def test_any_proof_and_count_give_an_answer(index: int, path: bytes, count: int) -> None:
    assert not verify(members_of(1)[0], Proof(index, path), b"r" * 32, count)


def test_ten_thousand_hosts_have_paths_of_at_most_448_bytes() -> None:
    members = members_of(10_000)
    tree = MembershipTree(members)
    longest = max((tree.proof(member.agent) for member in members), key=lambda proof: len(proof.path))
    assert len(longest.path) == 448
    assert all(verify(member, tree.proof(member.agent), tree.root, 10_000) for member in members[::97])
