"""Signed: bytes, the key that signed them and the signature; the common outside of an envelope and of a roster.

Not here: what the bytes mean. Rules: lengths are checked before any cryptography, the signature before any decoding,
and a payload must be the canonical encoding of what it decodes to, so that one act has exactly one form and one
digest.

On the wire it is MessagePack, over HTTP JSON with base64: `msgspec` writes both from this one struct.
"""

from __future__ import annotations

__all__ = (
    "MAX_PAYLOAD",
    "Signed",
    "decode_strict",
    "open_payload",
    "seal_payload",
    "signed_from_json",
    "signed_to_json",
)

from typing import TypeVar

import msgspec

from libstaragent import codes
from libstaragent.security.signing import KEY_BYTES, SIGNATURE_BYTES, public_key, sign_bytes, signature_holds

# A frame holds 256 KiB; 16 KiB of it stay free for the signature, a membership path and the frame's own fields.
MAX_PAYLOAD = 240 * 1024
# Base64 grows by a third; the rest is the three field names, the key and the signature.
MAX_JSON = MAX_PAYLOAD * 4 // 3 + 1024

T = TypeVar("T")

# Sorted keys: the same dict is the same bytes, whatever order it was filled in.
_encoder = msgspec.msgpack.Encoder(order="deterministic")


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`payload` as it was signed, the signer's 32-byte public `key`, and the 64-byte `signature`."""

    payload: bytes
    key: bytes
    signature: bytes


def seal_payload(value: msgspec.Struct, *, domain: bytes, seed: bytes) -> Signed:
    """`value` in canonical bytes, signed.

    :raises ProtocolError: it cannot be written down (a lone surrogate in a text, a number beyond 64 bits) or is too
    large.
    """
    try:
        payload = _encoder.encode(value)
    except (msgspec.MsgspecError, ValueError, OverflowError, TypeError) as error:
        raise codes.SIGNED_MALFORMED.error(str(error)) from error
    if len(payload) > MAX_PAYLOAD:
        raise codes.SIGNED_TOO_LARGE.error(f"{len(payload)} bytes, at most {MAX_PAYLOAD}")
    return Signed(payload=payload, key=public_key(seed), signature=sign_bytes(domain, payload, seed))


def open_payload(signed: Signed, *, domain: bytes, decoder: msgspec.msgpack.Decoder[T]) -> T:
    """What `signed` says, once its size, its signature and its canonical form hold.

    :raises ProtocolError: too large, or not what the decoder expects although well signed.
    :raises IntegrityError: the signature does not hold, or the bytes are not the canonical ones.
    """
    if len(signed.payload) > MAX_PAYLOAD:
        raise codes.SIGNED_TOO_LARGE.error(f"{len(signed.payload)} bytes, at most {MAX_PAYLOAD}")
    if len(signed.key) != KEY_BYTES or len(signed.signature) != SIGNATURE_BYTES:
        raise codes.SIGNATURE_INVALID.error("the key or the signature has a wrong length")
    if not signature_holds(domain, signed.payload, signed.key, signed.signature):
        raise codes.SIGNATURE_INVALID.error()
    value = decode_strict(signed.payload, decoder)
    if _encoder.encode(value) != signed.payload:
        raise codes.SIGNED_NOT_CANONICAL.error()
    return value


def decode_strict(payload: bytes, decoder: msgspec.msgpack.Decoder[T]) -> T:
    """`payload` through `decoder`, each way to fail as one code.

    :raises ProtocolError: it cannot be read.
    """
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise codes.SIGNED_MALFORMED.error(str(error)) from error


_json_decoder = msgspec.json.Decoder(Signed)


def signed_to_json(signed: Signed) -> bytes:
    """The form that `opsconsole sign` prints and the HTTP API takes."""
    return msgspec.json.encode(signed)


def signed_from_json(data: bytes) -> Signed:
    """The reverse of `signed_to_json`; nothing in it is verified yet.

    :raises ProtocolError: it is too large or no such JSON.
    """
    if len(data) > MAX_JSON:
        raise codes.SIGNED_TOO_LARGE.error(f"{len(data)} bytes of JSON, at most {MAX_JSON}")
    try:
        return _json_decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise codes.SIGNED_MALFORMED.error(str(error)) from error
