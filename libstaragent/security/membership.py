"""Membership: one hash over all targets of a job, and the path by which each host sees itself in it.

The tree is that of RFC 9162 (Certificate Transparency 2.0), section 2.1: leaves are hashed with the prefix 0x00 and
inner nodes with 0x01, so no node can pass for a leaf, and an odd node at the end of a level is promoted, never
doubled (doubling lets two lists have one root, CVE-2012-2459). A path is verified by its section 2.1.3.2, which fixes
the number of hashes from index and count: a path that is too short or too long fails.

Leaf i is the i-th smallest of the hashes SHA-256(0x00 ‖ agent id ‖ name ‖ room), each text preceded by its length as
u16. Sorting the hashes makes the root a function of the set of hosts, whatever order the signer listed them in.

Not here: resolving expressions. Rules: pure. At 10,000 hosts a path is 14 hashes, 448 bytes.
"""

from __future__ import annotations

__all__ = ("Member", "MembershipTree", "Proof", "proofs", "root", "verify")

import hashlib
from collections.abc import Iterable

import msgspec

from libstaragent import codes
from libstaragent.security.acts import Member

_sha256 = hashlib.sha256

HASH_BYTES = 32
LEAF = b"\x00"
NODE = b"\x01"


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a host stands among the sorted leaves, and the neighbours' hashes from there up, one after the other."""

    index: int
    path: bytes


class MembershipTree:
    """All levels of the tree over `members`; 64 bytes a host, kept while paths are being sent out."""

    def __init__(self, members: Iterable[Member]) -> None:
        """Hashes the tree.

        :raises Conflict: one agent stands in `members` twice.
        """
        listed = list(members)
        leaves = {member.agent: _leaf(member) for member in listed}
        if len(leaves) != len(listed):
            raise codes.MEMBERSHIP_DUPLICATE.error()
        self.count = len(leaves)
        ordered = sorted(leaves, key=leaves.__getitem__)
        self._index = {agent: index for index, agent in enumerate(ordered)}
        self._levels = [[leaves[agent] for agent in ordered]]
        while len(self._levels[-1]) > 1:
            self._levels.append(_level_above(self._levels[-1]))

    @property
    def root(self) -> bytes:
        """The 32 bytes that the operator signs; of no hosts at all SHA-256 of nothing, as the RFC has it."""
        return self._levels[-1][0] if self.count else _sha256().digest()

    def proof(self, agent: str) -> Proof:
        """The path of one host.

        :raises KeyError: it is not in the tree.
        """
        index = at = self._index[agent]
        path: list[bytes] = []
        for level in self._levels:
            neighbour = at ^ 1
            if neighbour < len(level):
                path.append(level[neighbour])
            at >>= 1
        return Proof(index, b"".join(path))


def root(members: Iterable[Member]) -> bytes:
    """The root over `members`.

    :raises Conflict: one agent stands in `members` twice.
    """
    listed = list(members)
    return _leaf(listed[0]) if len(listed) == 1 else MembershipTree(listed).root


def proofs(members: Iterable[Member]) -> dict[str, Proof]:
    """The path of each host, by agent id.

    :raises Conflict: one agent stands in `members` twice.
    """
    listed = list(members)
    tree = MembershipTree(listed)
    return {member.agent: tree.proof(member.agent) for member in listed}


def verify(member: Member, proof: Proof, root: bytes, count: int) -> bool:
    """Whether `member` is one of the `count` hosts under `root`, by `proof`."""
    path = proof.path
    if not 0 <= proof.index < count or len(path) % HASH_BYTES or len(path) > HASH_BYTES * (count - 1).bit_length():
        return False
    at, last, node = proof.index, count - 1, _leaf(member)
    for offset in range(0, len(path), HASH_BYTES):
        if last == 0:
            return False
        neighbour = path[offset : offset + HASH_BYTES]
        if at & 1 or at == last:
            node = _sha256(NODE + neighbour + node).digest()
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            node = _sha256(NODE + node + neighbour).digest()
        at >>= 1
        last >>= 1
    return last == 0 and node == root


def _leaf(member: Member) -> bytes:
    agent, name, place = member.agent.encode(), member.name.encode(), member.room.encode()
    return _sha256(
        LEAF
        + len(agent).to_bytes(2, "big")
        + agent
        + len(name).to_bytes(2, "big")
        + name
        + len(place).to_bytes(2, "big")
        + place
    ).digest()


def _level_above(level: list[bytes]) -> list[bytes]:
    pairs = zip(level[::2], level[1::2], strict=False)
    above = [_sha256(NODE + left + right).digest() for left, right in pairs]
    if len(level) % 2:
        above.append(level[-1])
    return above
