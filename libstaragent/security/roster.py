"""The roster: who the operators are and which CA is the fleet's, as a chain of signed revisions.

    pin (SHA-256 of the root's key) ─▶ revision n, signed by the root ─▶ n+1, signed by the root or an admin of n ─▶ …

Control-plane processes only carry it. A reader holds the newest revision and takes only the next one: its number is
one higher, it holds the digest of the payload before, and its signer is the root or an operator to whom the revision
*before* grants `admin`. So a thief of the control plane can withhold a revision, which `valid_until` bounds, but not
make one. The first revision that a reader takes must be signed by the root itself, because nothing else is pinned.

A reader that was away may find its own revision expired; it still follows the chain, but a revision that an operator
signed must claim to be issued while its predecessor was valid. (A revoked admin who also owns the control plane can
lie about that time towards a host that was cut off; the host's last valid revision is what bounds it. SECURITY.md
names this.)

Not here: what an operator may do (`authority`), what the rules in it mean (`policy`). Rules: pure; now is an argument,
in ms since the epoch; a reader that does not know a field refuses the revision rather than skip a rule.
"""

from __future__ import annotations

__all__ = (
    "BUILT_IN_ROLES",
    "Operator",
    "Roster",
    "RosterChain",
    "Signed",
    "digest",
    "open_roster",
    "revoked_in",
    "sign_roster",
)

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.model import ids
from libstaragent.security.policy.model import Rule, check_labels, check_rules
from libstaragent.security.signed import Signed, decode_strict, open_payload, seal_payload
from libstaragent.security.signing import KEY_BYTES, fingerprint

DOMAIN = b"opsconsole roster 1\0"

# A fleet whose operators sign no revision for a year has lost its operators.
MAX_VALIDITY_MS = 400 * 24 * 3_600_000
# More people than this need a directory in front, and the revision must fit one frame.
MAX_OPERATORS = 512
MAX_GROUPS = 512
# The CA in use, the next one, and a few for a migration.
MAX_CAS = 8
MAX_EXPRESSION_BYTES = 4096
DIGEST_BYTES = 32
MAX_INTEGER = (1 << 53) - 1

# Roles that mean something by themselves; all others are names for rules (``role:NAME``).
BUILT_IN_ROLES = ("admin", "operator", "read")
# Built-in and others of one operator.
MAX_ROLES = 16
# Hosts that left with their keys and could come back; a certificate ends within a week, a name is free at once.
MAX_REVOKED = 4096


# Each act is judged with it; a process knows one fleet, a test some.
_fingerprint = lru_cache(16)(fingerprint)


class Operator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person: the name that envelopes carry, the 32-byte public key, and what it may do at all.

    `admin` signs rosters and issues tokens, `operator` acts on hosts as far as the rules allow, `read` logs in. None
    implies another. Any other role is a name that rules use.
    """

    name: str
    key: bytes
    roles: tuple[str, ...]


class Roster(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One revision.

    Attributes:
        root: the fleet root's 32-byte public key; its SHA-256 in hex is the fleet's fingerprint.
        revision: 1, 2, 3, …
        previous: SHA-256 of the payload before; empty in revision 1.
        issued, valid_until: milliseconds since the epoch.
        ca: SHA-256 of each DER certificate that is a CA of this fleet.
        operators: names and keys are unique.
        groups: name to target expression, for ``@name``.
        rules: who may do what; nothing is allowed without one.
        labels: ``key=value`` to the target expression of the hosts that rules see it on.
        revoked: agents that no room and no client takes any more, whatever certificate they show.
    """

    root: bytes
    revision: int
    previous: bytes
    issued: int
    valid_until: int
    ca: tuple[bytes, ...]
    operators: tuple[Operator, ...]
    groups: dict[str, str] = {}
    rules: tuple[Rule, ...] = ()
    labels: dict[str, str] = {}
    revoked: tuple[str, ...] = ()

    @property
    def fleet(self) -> str:
        """The fingerprint of the fleet."""
        return _fingerprint(self.root)

    def operator_by_key(self, key: bytes) -> Operator | None:
        """Who signs with `key`; None if nobody here does."""
        return next((operator for operator in self.operators if operator.key == key), None)


_decoder = msgspec.msgpack.Decoder(Roster)


def digest(signed: Signed) -> bytes:
    """What the next revision carries as `previous`."""
    return hashlib.sha256(signed.payload).digest()


def sign_roster(roster: Roster, seed: bytes) -> Signed:
    """`roster` signed with the root's or an admin's seed; what no host would open is not signed.

    :raises ProtocolError: a field is out of its bounds or of another type.
    """
    signed = seal_payload(roster, domain=DOMAIN, seed=seed)
    _check(decode_strict(signed.payload, _decoder))
    return signed


def open_roster(signed: Signed) -> Roster:
    """The revision in `signed`, whose key has signed it; `RosterChain` judges whether that key counts.

    :raises IntegrityError: the signature does not hold, or the payload is not canonical.
    :raises ProtocolError: it is too large, cannot be read, or a field is out of its bounds.
    """
    roster = open_payload(signed, domain=DOMAIN, decoder=_decoder)
    _check(roster)
    return roster


def revoked_in(chain: Sequence[Signed]) -> frozenset[str]:
    """The agents that the newest revision of `chain` revokes; none where it cannot be read. For who only carries it."""
    if not chain:
        return frozenset()
    try:
        return frozenset(open_roster(chain[-1]).revoked)
    except StarAgentError:
        return frozenset()


class RosterChain:
    """The newest revision that this reader believes, and the one rule for the next."""

    def __init__(self, fleet: str) -> None:
        """A reader that knows only the pin: `fleet`, the root's fingerprint in hex."""
        self.fleet = fleet
        self.newest: Roster | None = None
        self.signed: Signed | None = None

    @classmethod
    def restored(cls, fleet: str, signed: Signed) -> RosterChain:
        """A reader that believed `signed` before and kept it in its own store: the signer was judged then.

        :raises IntegrityError: it is damaged, or of another fleet.
        """
        chain = cls(fleet)
        roster = open_roster(signed)
        if roster.fleet != fleet:
            raise codes.ROSTER_OTHER_FLEET.error()
        chain.newest, chain.signed = roster, signed
        return chain

    def accept(self, signed: Signed, now_ms: int) -> Roster:
        """The newest revision after taking `signed`, which may also be the newest itself, sent again.

        :raises IntegrityError: the signature, the fleet, or the chain does not hold.
        :raises Denied: the signer may not sign it, or it has expired.
        :raises Conflict: this reader has a newer one.
        """
        return self.accept_all((signed,), now_ms)

    def accept_all(self, chain: Iterable[Signed], now_ms: int) -> Roster:
        """Takes consecutive revisions, all or none. Those older than the newest are passed over; only the last must be
        valid now.

        :raises StarAgentError: as `accept`; nothing was taken then.
        """
        newest, newest_signed = self.newest, self.signed
        held = 0 if newest is None else newest.revision
        roster: Roster | None = None
        for signed in chain:
            roster = open_roster(signed)
            if roster.fleet != self.fleet:
                raise codes.ROSTER_OTHER_FLEET.error()
            if roster.revision < held:
                continue
            if newest is None or newest_signed is None:
                _judge_first(roster, signed)
            elif roster.revision == newest.revision:
                if signed.payload != newest_signed.payload:
                    raise codes.ROSTER_CHAIN.error(f"two different revisions {roster.revision}")
                continue
            else:
                _judge_next(roster, signed, newest, newest_signed)
            newest, newest_signed = roster, signed
        if newest is None or roster is None:
            raise codes.ROSTER_OLD.error("no revision was given")
        if roster.revision < held:
            raise codes.ROSTER_OLD.error(f"revision {roster.revision}, {held} is known")
        if now_ms >= newest.valid_until:
            raise codes.ROSTER_EXPIRED.error(f"revision {newest.revision}")
        self.newest, self.signed = newest, newest_signed
        return newest


def _judge_first(roster: Roster, signed: Signed) -> None:
    if signed.key != roster.root:
        raise codes.ROSTER_SIGNER.error("the first revision to be taken must be signed by the root")


def _judge_next(roster: Roster, signed: Signed, before: Roster, before_signed: Signed) -> None:
    if roster.revision != before.revision + 1:
        raise codes.ROSTER_CHAIN.error(f"revision {roster.revision} does not follow {before.revision}")
    if roster.previous != digest(before_signed):
        raise codes.ROSTER_CHAIN.error(f"revision {roster.revision} follows another revision {before.revision}")
    if roster.issued < before.issued:
        raise codes.ROSTER_CHAIN.error(f"revision {roster.revision} was issued before revision {before.revision}")
    if signed.key == roster.root:
        return
    signer = before.operator_by_key(signed.key)
    if signer is None or "admin" not in signer.roles:
        raise codes.ROSTER_SIGNER.error(f"revision {roster.revision}")
    if roster.issued >= before.valid_until:
        raise codes.ROSTER_SIGNER.error(f"revision {before.revision} had expired; only the root can sign the next")


def _check(roster: Roster) -> None:
    _need(len(roster.root) == KEY_BYTES, "root is not a key")
    _need(1 <= roster.revision <= MAX_INTEGER, "revision is not a positive number")
    _need(len(roster.previous) == (0 if roster.revision == 1 else DIGEST_BYTES), "previous is not a digest")
    _need(0 <= roster.issued <= MAX_INTEGER, "issued is not a time")
    _need(0 < roster.valid_until - roster.issued <= MAX_VALIDITY_MS, "valid_until is not within 400 days of issued")
    _need(1 <= len(roster.ca) <= MAX_CAS, "ca is not 1 to 8 digests")
    _need(all(len(entry) == DIGEST_BYTES for entry in roster.ca), "ca holds what is no digest")
    _need(1 <= len(roster.operators) <= MAX_OPERATORS, "operators are not 1 to 512")
    for operator in roster.operators:
        _need(ids.is_user_name(operator.name), "an operator's name is not a name")
        _need(len(operator.key) == KEY_BYTES, "an operator's key is not a key")
        _need(len(operator.roles) <= MAX_ROLES, "an operator has more than 16 roles")
        _need(all(ids.is_user_name(role) for role in operator.roles), "a role is not a name")
        _need(len(set(operator.roles)) == len(operator.roles), "an operator has a role twice")
    _need(len({operator.name for operator in roster.operators}) == len(roster.operators), "one name is given twice")
    _need(len({operator.key for operator in roster.operators}) == len(roster.operators), "one key is given twice")
    _need(len(roster.groups) <= MAX_GROUPS, "groups are more than 512")
    for name, expression in roster.groups.items():
        _need(ids.is_room_name(name), "a group's name is not a name")
        _need(0 < len(expression.encode()) <= MAX_EXPRESSION_BYTES, "a group's expression is empty or too long")
    check_rules(roster.rules)
    check_labels(roster.labels)
    _need(len(roster.revoked) <= MAX_REVOKED, "revoked hosts are more than 4,096")
    _need(len(set(roster.revoked)) == len(roster.revoked), "a host is revoked twice")
    _need(all(ids.is_agent_id(agent) for agent in roster.revoked), "revoked holds what is no agent's id")


def _need(holds: bool, detail: str) -> None:
    if not holds:
        raise codes.ROSTER_FIELD.error(detail)
