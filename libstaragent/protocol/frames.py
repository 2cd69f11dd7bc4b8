"""Frames: ``u32 length | u8 type | u32 stream | body``, big-endian; length counts everything after itself.

Two types. CONTROL bodies are MessagePack (`libstaragent.protocol.messages`) on stream 0. DATA bodies are live output
of the run that owns the stream: ``u64 offset`` in the run's output, then records (`libstaragent.model.result`).

Rules: a length outside 5..FRAME_MAX or an unknown type is refused when the nine header bytes are there, before a
byte of the body is kept; any split of the bytes gives the same frames.
"""

from __future__ import annotations

__all__ = ("CONTROL", "DATA", "FrameDecoder", "encode_frame")

import struct

from libstaragent import codes
from libstaragent.protocol.limits import FRAME_HEADER, FRAME_MAX

CONTROL = 1
DATA = 2

_TYPES = (CONTROL, DATA)
_HEADER = struct.Struct(">IBI")
_AFTER_LENGTH = FRAME_HEADER - 4


def encode_frame(kind: int, stream: int, body: bytes) -> bytes:
    """One frame as bytes. Raises FRAME_TOO_LARGE when the body does not fit."""
    length = _AFTER_LENGTH + len(body)
    if length > FRAME_MAX:
        raise codes.FRAME_TOO_LARGE.error(f"{length} bytes to send, {FRAME_MAX} allowed")
    return _HEADER.pack(length, kind, stream) + body


class FrameDecoder:
    """Bytes in, whole frames out. It holds at most one unfinished frame."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def pending(self) -> int:
        """Bytes of an unfinished frame held here."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """The frames completed by `data`, as (type, stream, body).

        Raises FRAME_TOO_LARGE or FRAME_MALFORMED; the connection is then of no more use.
        """
        buffer = self._buffer + data if self._buffer else data
        frames: list[tuple[int, int, bytes]] = []
        position = 0
        available = len(buffer)
        while available - position >= FRAME_HEADER:
            length, kind, stream = _HEADER.unpack_from(buffer, position)
            if length > FRAME_MAX:
                raise codes.FRAME_TOO_LARGE.error(f"{length} bytes announced, {FRAME_MAX} allowed")
            if length < _AFTER_LENGTH or kind not in _TYPES:
                raise codes.FRAME_MALFORMED.error(f"length {length}, type {kind}")
            end = position + 4 + length
            if end > available:
                break
            frames.append((kind, stream, buffer[position + FRAME_HEADER : end]))
            position = end
        self._buffer = buffer[position:] if position else buffer
        return frames
