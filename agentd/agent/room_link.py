"""The one connection to the room: non-blocking TLS on a selector. Bytes only; what they mean is the core's matter.

    resolving/connecting → handshaking → open → closed

It stands on stdlib `ssl` and not on asyncio because asyncio alone would cost the agent a tenth of its memory.
"""

from __future__ import annotations

__all__ = ("RoomLink",)

import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

# One TLS record is at most 16 KiB; more at once only costs memory.
READ_SIZE = 64 * 1024
# What is handed to the socket at once; the rest stays in the core, where control frames can still overtake it.
WRITE_SIZE = 64 * 1024
# Connecting and shaking hands must be done within this many seconds.
SETUP_TIMEOUT = 15.0


class RoomLink:
    """See the module."""

    def __init__(
        self,
        address: str,
        context: ssl.SSLContext,
        *,
        now: float,
        turn: int = 0,
        resolve: Callable[..., Sequence[Any]] = socket.getaddrinfo,
    ) -> None:
        """Begin to connect; `turn` picks one of the addresses that the name has. Raises OSError where even that is not
        possible.
        """
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        found = resolve(host, int(port), type=socket.SOCK_STREAM)
        family, kind, protocol, _, target = found[turn % len(found)]
        plain = socket.socket(family, kind, protocol)
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._context = context
        self._host = host
        self._plain = plain
        self._tls: ssl.SSLSocket | None = None
        self._unsent = b""
        self._write_blocked = False
        self.deadline = now + SETUP_TIMEOUT
        self.state = "connecting"
        try:
            plain.connect(target)
        except BlockingIOError:
            return
        except OSError:
            plain.close()
            raise

    @property
    def descriptor(self) -> int:
        """What to select on."""
        return (self._tls or self._plain).fileno()

    @property
    def wants_write(self) -> bool:
        """Whether to wait for room to write."""
        return self.state == "connecting" or self._write_blocked or (self.state == "open" and bool(self._unsent))

    @property
    def ready_to_send(self) -> bool:
        """Whether the next bytes may be taken from the core."""
        return self.state == "open" and not self._unsent

    def progress(self) -> bytes:
        """The socket is ready: go on with the set-up, or read. Raises OSError (ssl.SSLError is one) when it is over."""
        if self.state == "connecting":
            failure = self._plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failure:
                raise OSError(failure, os.strerror(failure))
            self._tls = self._context.wrap_socket(
                self._plain, server_hostname=self._host, do_handshake_on_connect=False
            )
            self.state = "handshaking"
        if self.state == "handshaking":
            return self._shake()
        self.flush()
        return self._read()

    def send(self, data: bytes) -> None:
        """Send, or keep what the socket does not take now."""
        self._unsent += data
        self.flush()

    def flush(self) -> None:
        """Send what is kept."""
        assert self._tls is not None
        self._write_blocked = False
        while self._unsent:
            try:
                sent = self._tls.send(self._unsent)
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                self._write_blocked = True
                return
            self._unsent = self._unsent[sent:]

    def close(self) -> None:
        """Close, without ceremony."""
        self.state = "closed"
        with contextlib.suppress(OSError):
            (self._tls or self._plain).close()

    def _shake(self) -> bytes:
        assert self._tls is not None
        self._write_blocked = False
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLWantWriteError:
            self._write_blocked = True
            return b""
        self.state = "open"
        return b""

    def _read(self) -> bytes:
        assert self._tls is not None
        parts: list[bytes] = []
        size = 0
        while size < READ_SIZE or self._tls.pending():
            try:
                data = self._tls.recv(READ_SIZE)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLWantWriteError:
                self._write_blocked = True
                break
            if not data:
                if not parts:
                    raise ConnectionResetError("the room closed the connection")
                break
            parts.append(data)
            size += len(data)
        return b"".join(parts)
