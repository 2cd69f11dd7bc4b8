"""The frames between an agent and its keeper: ``u32 length | JSON``, on a unix socket of the same host.

Not the fleet's wire protocol: no version, no streams, no credits; both ends are of one installation. JSON because the
keeper loads nothing but the standard library. A string that was no UTF-8 on the host travels as lone surrogates.

Rules: at most 1 MiB, refused from its length alone; after one wrong frame the connection is worth nothing.
"""

from __future__ import annotations

import json

from libstaragent.codes import KEEPER_FRAME
from libstaragent.jobs.shapes import is_object

__all__ = ("FRAME_MAX", "FrameReader", "encode_frame")

# The largest true frame is a spawn: 64 KiB of stdin in base64, and argv and environment within the kernel's own limits.
FRAME_MAX = 1024 * 1024


def encode_frame(message: dict[str, object]) -> bytes:
    """One message as bytes; SA-6601 where it is longer than `FRAME_MAX`."""
    body = json.dumps(message, separators=(",", ":")).encode("utf-8", "surrogatepass")
    if len(body) > FRAME_MAX:
        raise KEEPER_FRAME.error(f"{len(body)} bytes in one frame, {FRAME_MAX} allowed")
    return len(body).to_bytes(4, "big") + body


class FrameReader:
    """Bytes in, messages out, however the bytes were split."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, object]]:
        """The messages that `data` completes; SA-6601 at the first frame that is too long or no JSON object."""
        self._buffer += data
        messages: list[dict[str, object]] = []
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if length > FRAME_MAX:
                raise KEEPER_FRAME.error(f"a frame of {length} bytes, {FRAME_MAX} allowed")
            if len(self._buffer) < 4 + length:
                break
            body = bytes(self._buffer[4 : 4 + length])
            del self._buffer[: 4 + length]
            try:
                message = json.loads(body.decode("utf-8", "surrogatepass"))
            except (ValueError, RecursionError) as problem:
                raise KEEPER_FRAME.error("a frame that is no JSON") from problem
            if not is_object(message):
                raise KEEPER_FRAME.error("a frame that is no JSON object")
            messages.append(message)
        return messages
