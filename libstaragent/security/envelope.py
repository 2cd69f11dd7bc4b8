"""The envelope: one act of an operator in canonical bytes, signed once, verified by each host it is meant for.

    Envelope --sign(seed)--> Signed{payload, key, signature} --open_signed--> Envelope

What the signature covers is ``b"opsconsole envelope 1\\0"`` and the payload *as received*: nothing is decoded before
the signature holds, and nothing is re-encoded to check it. The payload is MessagePack with sorted keys; bytes that
decode to the same envelope but are not its canonical encoding are refused, so an envelope has one digest for audit
and replay.

Not here: whether the signer may do it, whether it is in time and for this host: `authority`. The values: `acts`; their
bounds: `act_limits`. Rules: pure; no randomness (Ed25519 needs none), no clock.
"""

from __future__ import annotations

__all__ = (
    "Act",
    "Cancel",
    "Envelope",
    "Exec",
    "IssueToken",
    "Member",
    "Signed",
    "TargetList",
    "TargetRoot",
    "Targets",
    "open_signed",
    "read_unverified",
    "sign",
    "signed_from_json",
    "signed_to_json",
)

import msgspec

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.security.act_limits import check_envelope
from libstaragent.security.acts import (
    Act,
    Cancel,
    Envelope,
    Exec,
    IssueToken,
    Member,
    TargetList,
    TargetRoot,
    Targets,
)
from libstaragent.security.signed import (
    Signed,
    decode_strict,
    open_payload,
    seal_payload,
    signed_from_json,
    signed_to_json,
)

DOMAIN = b"opsconsole envelope 1\0"

_decoder = msgspec.msgpack.Decoder(Envelope)


def sign(envelope: Envelope, seed: bytes) -> Signed:
    """`envelope` signed with an operator's 32-byte Ed25519 seed; what no host would open is not signed.

    :raises ProtocolError: a field is out of its bounds or of another type, or the whole is too large.
    """
    try:
        signed = seal_payload(envelope, domain=DOMAIN, seed=seed)
    except StarAgentError as error:
        if isinstance(error.__cause__, UnicodeEncodeError):
            # What the shell gave us of a name that is not UTF-8.
            raise codes.ENVELOPE_FIELD.error("a text holds bytes that are not UTF-8") from error
        raise
    check_envelope(decode_strict(signed.payload, _decoder))
    return signed


def open_signed(signed: Signed) -> Envelope:
    """The envelope in `signed`, whose key has signed it; whose key that is, `authority` judges.

    :raises IntegrityError: the signature does not hold, or the payload is not canonical.
    :raises ProtocolError: it is too large, cannot be read, or a field is out of its bounds.
    """
    envelope = open_payload(signed, domain=DOMAIN, decoder=_decoder)
    check_envelope(envelope)
    return envelope


def read_unverified(signed: Signed) -> Envelope:
    """What `signed` would say if it held: to know what is being refused, and for nothing else.

    :raises ProtocolError: it cannot be read.
    """
    return decode_strict(signed.payload, _decoder)
