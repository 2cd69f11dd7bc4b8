"""The roster chain that central carries: to joining hosts, to rooms, and for its own first look at an envelope.

Not here: signing; central holds no key of the root's or of an operator's. Rules: the pin is taken from the first
revision at the first start and never changes after; a revision counts once it is on disk.
"""

from __future__ import annotations

__all__ = ("MAX_REVISIONS_TOLD", "RosterBook", "pack_signed", "unpack_signed")

import logging
from collections.abc import Callable, Iterable, Sequence

import msgspec

from libstaragent import codes
from libstaragent.model.host import HostFacts
from libstaragent.protocol import trunk as t
from libstaragent.security.acts import Member
from libstaragent.security.authority import verify_act
from libstaragent.security.clock import TimeJudge
from libstaragent.security.envelope import Envelope
from libstaragent.security.policy.permits import Permit, Permits
from libstaragent.security.policy.rates import Rates
from libstaragent.security.roster import Roster, RosterChain, open_roster
from libstaragent.security.signed import Signed

log = logging.getLogger("agentd.central.trust")

# What rooms carry for hosts that were away. A revision is some KiB, and a fleet signs a few a month: a host that missed
# more was away for decades. Where so many followed the last one that the root signed, it is said: whoever joins must
# read all of them.
MAX_REVISIONS_TOLD = 1000

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Signed)


def pack_signed(signed: Signed) -> bytes:
    """How the store keeps what somebody signed."""
    return _encode(signed)


def unpack_signed(data: bytes) -> Signed:
    """The reverse."""
    return _decoder.decode(data)


class RosterBook:
    """The revisions, oldest first, and the newest one open."""

    def __init__(self, revisions: Sequence[Signed], *, now_ms: int) -> None:
        """What the store holds, already accepted once; it may have expired since.

        :raises NotFound: STATE_MISSING, there is none.
        """
        if not revisions:
            raise codes.STATE_MISSING.error("no roster has been accepted yet")
        self.revisions = list(revisions)
        self.fleet = open_roster(revisions[0]).fleet
        self._chain = RosterChain.restored(self.fleet, revisions[-1])
        self._judge = TimeJudge()
        self._permits = Permits()
        self._rates = Rates()
        # What is known of hosts: the directory says so once there is one.
        self.facts_of: Callable[[Iterable[Member]], list[HostFacts]] = _named
        self._from_root = max(at for at, signed in enumerate(self.revisions) if self._by_root(signed))

    @property
    def newest(self) -> Roster:
        """The roster that counts."""
        assert self._chain.newest is not None
        return self._chain.newest

    def judge(self, signed: Signed, now_ms: int) -> Roster:
        """The roster that `signed` would be, if it may follow the newest; nothing is taken yet.

        :raises StarAgentError: as `RosterChain.accept`.
        """
        assert self._chain.signed is not None
        return RosterChain.restored(self.fleet, self._chain.signed).accept(signed, now_ms)

    def take(self, signed: Signed, now_ms: int) -> None:
        """`signed` is on disk."""
        if self._chain.signed is not None and signed.payload == self._chain.signed.payload:
            return
        self._chain.accept(signed, now_ms)
        self.revisions.append(signed)
        if self._by_root(signed):
            self._from_root = len(self.revisions) - 1
        followers = len(self.revisions) - 1 - self._from_root
        if followers >= MAX_REVISIONS_TOLD:
            log.warning("%d roster revisions since the root signed one; let the root sign the next", followers)

    def verify(self, signed: Signed, now_ms: int) -> Envelope:
        """What central checks of an act before it queues it.

        :raises StarAgentError: the first check that failed.
        """
        return verify_act(
            signed,
            roster=self.newest,
            fleet=self.fleet,
            me=None,
            proof=None,
            local_ms=now_ms,
            time_judge=self._judge,
            boot_nonce=None,
            evaluate=None,
        )

    def rule(self, envelope: Envelope, members: Sequence[Member], source: str, now_ms: int, owner: str | None) -> str:
        """The name of the rule that lets a verified act on `members` pass; see `permit`."""
        return self.permit(envelope, self.facts_of(members), source=source, now_ms=now_ms, owner=owner).rule

    def permit(
        self, envelope: Envelope, hosts: Sequence[HostFacts], *, source: str, now_ms: int, owner: str | None = None
    ) -> Permit:
        """What the rules say of a verified act on `hosts` from the address `source`; a use of a rate is counted.

        :param owner: who began what is to be managed.
        :raises StarAgentError: no; the detail names the rule.
        """
        roster, rates = self.newest, self._rates
        permit = self._permits.permit(
            envelope,
            roster,
            hosts=hosts,
            source=source,
            now_ms=now_ms,
            owner=owner,
            has_room=lambda rule: rates.has_room(rule, envelope.operator, envelope.id, now_ms),
        )
        used = next((rule for rule in roster.rules if rule.name == permit.rule), None)
        if used is not None:
            rates.count(used, envelope.operator, envelope.id, now_ms)
        return permit

    def order(self) -> t.RosterRevisions:
        """The chain, as rooms carry it."""
        told = self.revisions[-MAX_REVISIONS_TOLD:]
        return t.RosterRevisions(len(self.revisions) - len(told) + 1, tuple(told))

    def introduction(self) -> tuple[Signed, ...]:
        """What whoever knows only the pin must read: the newest revision that the root signed, and all after it.

        Nothing may be left out of it: the first must be the root's, and each must follow the one before.
        """
        return tuple(self.revisions[self._from_root :])

    def _by_root(self, signed: Signed) -> bool:
        return signed.key == self.newest.root


def _named(members: Iterable[Member]) -> list[HostFacts]:
    return [HostFacts(id=member.agent, name=member.name, room=member.room) for member in members]
