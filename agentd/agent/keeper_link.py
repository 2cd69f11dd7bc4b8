"""The agent's end of the socket to its keeper.

Rules: neither reads nor writes wait. A keeper that syncs hundreds of records to a slow disk is behind, not gone, and
its agent must answer its room meanwhile; it is gone when the socket says so.
"""

from __future__ import annotations

__all__ = ("KeeperLink",)

import os
import socket
from pathlib import Path
from typing import Any

from libstaragent import codes
from libstaragent.roles.keeper_frames import FrameReader, encode_frame

# Bytes that wait for a keeper beyond which nothing more is given to it to start: some thousand ordinary commands, or a
# hundred of the largest. What ends or settles a command is small, and is always taken.
WAITING_MAX = 16 * 1024 * 1024


class KeeperLink:
    """One connection; `known` is complete when the last page of the answer to `hello` is there."""

    def __init__(self, path: Path) -> None:
        """Connect and say hello. Raises OSError."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A path of more than 107 bytes is reached by way of its directory.
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            short = f"/proc/self/fd/{directory}/{path.name}"
            self.socket.connect(short if len(os.fsencode(path)) > 100 else str(path))
        except OSError:
            self.socket.close()
            raise
        finally:
            os.close(directory)
        self.socket.setblocking(False)
        self._reader = FrameReader()
        self._waiting = bytearray()
        self.send({"op": "hello"})

    def send(self, request: dict[str, Any]) -> None:
        """Ask the keeper. Raises OSError when it is gone, AGENT_BUSY when it is too far behind to start more."""
        frame = encode_frame(request)
        if request["op"] == "spawn" and len(self._waiting) + len(frame) > WAITING_MAX:
            raise codes.AGENT_BUSY.error(f"{len(self._waiting)} bytes wait for the keeper")
        self._waiting += frame
        self.flush()

    @property
    def wants_write(self) -> bool:
        """Whether something waits: call `flush` when the socket can be written to."""
        return bool(self._waiting)

    def flush(self) -> None:
        """Write what the socket takes now. Raises OSError when the keeper is gone."""
        while self._waiting:
            try:
                del self._waiting[: self.socket.send(self._waiting)]
            except BlockingIOError:
                return

    def receive(self) -> list[dict[str, Any]] | None:
        """What it says now; None when it is gone."""
        try:
            data = self.socket.recv(256 * 1024, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError:
            return None
        return self._reader.feed(data) if data else None

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
