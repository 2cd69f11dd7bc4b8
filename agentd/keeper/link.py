"""The keeper's end of the socket to its agent: one connection, checked, buffered, replaceable.

Rules: only root and our own user may speak; a peer that does not read is cut off, for it learns everything again with
`hello`; a frame that is none ends the connection.
"""

from __future__ import annotations

import os
import socket
import struct

from libstaragent.roles.keeper_frames import FrameReader, encode_frame

__all__ = ("AgentLink", "listen", "peer_allowed")

# A few of the largest answers to `hello`; an agent that is further behind is better off asking again.
UNSENT_MAX = 8 * 1024 * 1024
_READ_SIZE = 65536


def listen(path: str) -> socket.socket:
    """Bind the socket. A file that a dead keeper left there is replaced; the caller holds the lock."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # A path of more than 107 bytes is bound by way of its directory.
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        short = f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        listener.bind(short if len(os.fsencode(path)) > 100 else path)
    finally:
        os.close(directory)
    os.chmod(path, 0o600)
    listener.listen(8)
    listener.setblocking(False)
    return listener


def peer_allowed(connection: socket.socket) -> bool:
    """Whether the other end is root or runs as our own user."""
    if not hasattr(socket, "SO_PEERCRED"):
        # The directory's mode 0700 has decided already.
        return True
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    user = struct.unpack("3i", credentials)[1]
    return user in (0, os.geteuid())


class AgentLink:
    """One accepted connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self._reader = FrameReader()
        self._unsent = bytearray()

    def receive(self) -> list[dict[str, object]] | None:
        """The messages that have arrived; None when the agent has gone. Raises SA-6601 on bytes that are no frames."""
        try:
            data = self.socket.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            return None
        return self._reader.feed(data) if data else None

    def add(self, event: dict[str, object]) -> bool:
        """Put an event behind what waits for `flush`. False where too much waits, so that the agent is cut off."""
        self._unsent += encode_frame(event)
        return len(self._unsent) <= UNSENT_MAX or (self.flush() and len(self._unsent) <= UNSENT_MAX)

    def flush(self) -> bool:
        """Send on. False where the connection is broken."""
        while self._unsent:
            try:
                sent = self.socket.send(self._unsent)
            except (BlockingIOError, InterruptedError):
                return True
            except OSError:
                return False
            del self._unsent[:sent]
        return True

    @property
    def waiting(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._unsent)

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()
