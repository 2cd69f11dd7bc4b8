"""Kept output under the digest of its bytes: equal outputs of many hosts are one body, in a message as in the store.

The body is the MessagePack of `Output`, the digest its SHA-256. Rooms make digests of the bytes that came with a
result; what an agent says about one is never asked, so no host can pass another's output off as its own.

Rules: pure and light, an agent that signs its results imports it.
"""

from __future__ import annotations

__all__ = ("output_digest", "output_of", "pack_output")

from hashlib import sha256

import msgspec

from libstaragent.model.result import Output

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Output)


def pack_output(output: Output | None) -> tuple[bytes, bytes]:
    """Digest and body; both empty where nothing was printed."""
    if output is None or not (output.head or output.tail or output.omitted):
        return b"", b""
    body = _encode(output)
    return sha256(body).digest(), body


def output_digest(body: bytes) -> bytes:
    """The digest under which `body` goes."""
    return sha256(body).digest()


def output_of(body: bytes) -> Output:
    """The output that a body holds.

    :raises msgspec.DecodeError: it is none (`msgspec.ValidationError` among them).
    """
    return _decoder.decode(body)
