"""The agent's end of the socket to its keeper. Local and small: writes wait, reads do not."""

from __future__ import annotations

__all__ = ("KeeperLink",)

import os
import socket
from pathlib import Path
from typing import Any

from libstaragent.roles.keeper_frames import FrameReader, encode_frame

# A keeper that does not read for so long is dead in all but name.
WRITE_TIMEOUT = 10.0


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
        self.socket.settimeout(WRITE_TIMEOUT)
        self._reader = FrameReader()
        self.send({"op": "hello"})

    def send(self, request: dict[str, Any]) -> None:
        """Ask the keeper. Raises OSError."""
        self.socket.sendall(encode_frame(request))

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
