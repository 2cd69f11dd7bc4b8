"""Who signs and who verifies in a simulated fleet.

By default nobody does: signatures are not what the simulator searches, and Ed25519 would be most of its time. The
structs are real, the key and the signature are zeros, and only an envelope's age is judged. A test may put real keys
in by overriding the three methods.
"""

from __future__ import annotations

__all__ = ("PlainTrust",)

from collections.abc import Collection

import msgspec

from libstaragent import codes
from libstaragent.roles.agent_effects import Verifier
from libstaragent.security.acts import Envelope, Exec, Member, Schedule
from libstaragent.security.membership import Proof
from libstaragent.security.signed import Signed
from libstaragent.testing.rules import judge

# What envelopes name where nobody checks it.
FLEET = "0" * 64
OPERATOR = "ann"

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


class PlainTrust:
    """See the module."""

    fleet = FLEET

    def sign(self, envelope: Envelope) -> Signed:
        """An operator signs."""
        return Signed(payload=_encoder.encode(envelope), key=bytes(32), signature=bytes(64))

    def verify(self, signed: Signed, now_ms: int) -> Envelope:
        """Central looks at what it is given. Raises StarAgentError."""
        envelope = _decoder.decode(signed.payload)
        if now_ms >= envelope.expires:
            raise codes.ENVELOPE_EXPIRED.error()
        return envelope

    def verifier(self, member: Member, revoked: Collection[str] = ()) -> Verifier:
        """What a host's agent verifies with, from its start on; it knows that `revoked` are operators no more."""
        return _PlainVerifier(self, member, revoked)


class _PlainVerifier(Verifier):
    """Believes what its trust believes."""

    def __init__(self, trust: PlainTrust, member: Member, revoked: Collection[str]) -> None:
        self._trust = trust
        self._member = member
        self._revoked = revoked

    def verify(self, signed: Signed, proof: Proof | None, now_ms: int) -> Envelope:
        """See `Verifier`."""
        envelope = self._trust.verify(signed, now_ms)
        self._check_signer(envelope)
        self.check_rules(envelope, now_ms)
        return envelope

    def check_rules(self, envelope: Envelope, now_ms: int) -> None:
        """By the rules of every simulated roster. Raises StarAgentError."""
        if isinstance(envelope.act, Exec) and envelope.act.user is not None:
            # Nobody else is asked about: it would be half of the simulator's time.
            judge(envelope, self._member, now_ms)

    def _check_signer(self, envelope: Envelope) -> None:
        if envelope.operator in self._revoked:
            raise codes.SIGNER_UNKNOWN.error(envelope.operator)

    def verify_kept(self, signed: Signed, proof: Proof | None, now_ms: int) -> Envelope:
        """See `Verifier`."""
        envelope = _decoder.decode(signed.payload)
        if isinstance(envelope.act, Schedule) and now_ms >= envelope.act.until_ms:
            raise codes.ENVELOPE_EXPIRED.error()
        self._check_signer(envelope)
        return envelope

    def may_manage(self, envelope: Envelope, owner: str | None, now_ms: int) -> None:
        """See `Verifier`."""

    def signs_results(self, envelope: Envelope, now_ms: int) -> bool:
        """See `Verifier`."""
        return False

    def take_rosters(self, revisions: tuple[Signed, ...], now_ms: int) -> Signed | None:
        """See `Verifier`."""
        return None

    @property
    def roster_revision(self) -> int:
        """See `Verifier`."""
        return 1

    @property
    def highest_ms(self) -> int:
        """See `Verifier`."""
        return 0

    def may_forget(self, expires_ms: int) -> bool:
        """See `Verifier`."""
        return False
