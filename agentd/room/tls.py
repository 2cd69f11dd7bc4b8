"""TLS for many connections that are mostly silent: a server's side over a plain transport, its buffers stay small.

    socket ⇄ plain transport ⇄ TlsTransport ⇄ Peer

Why our own: the event loop's TLS reserves 256 KiB for each connection to read into, and what its buffers grew to while
much came stays for the life of the connection: 330 KiB a host after outputs of 60 KiB, which nobody can take back.

Not here: contexts (`libstaragent.security.tls`), what is said over it (`peer`). Rules
- Bytes pass OpenSSL in pieces of PIECE both ways, so no buffer of it grows beyond a piece and a record's frame; none of
  ours is kept between two events.
- A handshake has HANDSHAKE_TIMEOUT; nothing is told of a connection whose handshake failed but to `failed`.
- The end is said (close_notify) before the socket closes, and what the other end still says meanwhile is read and
  dropped: with bytes unread the kernel would take back our last words. That lasts SHUTDOWN_TIMEOUT at most.
"""

from __future__ import annotations

__all__ = ("HANDSHAKE_TIMEOUT", "PIECE", "SHUTDOWN_TIMEOUT", "TlsTransport")

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from agentd.room.peer import Peer

# The most that one TLS record carries.
PIECE = 16 * 1024
# A peer that has connected must finish TLS in this many seconds; with HELLO_TIMEOUT it bounds what a silent stranger
# holds.
HANDSHAKE_TIMEOUT = 10.0
# And this is what a peer that does not answer the end of TLS is waited for.
SHUTDOWN_TIMEOUT = 2.0

Failed = Callable[["TlsTransport", Exception | None], None]


class TlsTransport(asyncio.Protocol):
    """See the module. `peer` is told of the connection once its handshake is done; `failed`, and nobody else, of a
    handshake that failed. Towards the peer it is a transport, as far as a peer needs one.
    """

    __slots__ = ("_closing", "_failed", "_incoming", "_lost_by", "_outgoing", "_peer", "_timer", "_tls", "_transport")

    def __init__(self, context: ssl.SSLContext, peer: Peer, failed: Failed) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._peer = peer
        # Until the handshake is done.
        self._failed: Failed | None = failed
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._closing = False
        self._lost_by: Exception | None = None

    # The plain transport's side ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT, self._too_late)

    def data_received(self, data: bytes) -> None:
        # Also while it closes: what is not read would take back what we said last.
        for begin in range(0, len(data), PIECE):
            if self._closing:
                return
            self._incoming.write(data[begin : begin + PIECE] if len(data) > PIECE else data)
            try:
                self._advance()
            except ssl.SSLError as error:
                # OpenSSL may have an alert to say.
                self._send()
                self._abort(error)
                return

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._disarm()
        failed, self._failed = self._failed, None
        if failed is not None:
            failed(self, self._lost_by or exc)
        else:
            self._peer.connection_lost(self._lost_by or exc)

    def pause_writing(self) -> None:
        self._peer.pause_writing()

    def resume_writing(self) -> None:
        self._peer.resume_writing()

    # The peer's side -----------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Encrypt and send; what the socket does not take waits in the plain transport."""
        if self._closing or not data:
            return
        try:
            for begin in range(0, len(data), PIECE):
                self._tls.write(data[begin : begin + PIECE] if len(data) > PIECE else data)
                self._send()
        except ssl.SSLError as error:
            self._abort(error)

    def close(self) -> None:
        """Say the end, then close once what was written has left and the other end has closed, or its time is over."""
        if self._closing or self._transport is None:
            return
        self._closing = True
        if self._transport.is_closing():
            return
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            # The other end has not said so yet.
            pass
        self._send()
        self._transport.resume_reading()
        try:
            self._transport.write_eof()
        except OSError:
            # The other end has reset it, and the loop did not hear of that yet.
            self._abort(None)
            return
        self._timer = asyncio.get_running_loop().call_later(SHUTDOWN_TIMEOUT, self._transport.abort)

    def abort(self) -> None:
        """Close, whatever was written."""
        self._abort(None)

    def is_closing(self) -> bool:
        """Whether it is closed, or will be."""
        return self._closing

    def pause_reading(self) -> None:
        """Read nothing more from the socket."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._transport is not None and not self._closing:
            self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int) -> None:
        """Bytes that wait for the socket before the peer is told to write no more."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=high)

    def get_extra_info(self, name: str) -> Any:
        """`ssl_object`, or what the plain transport knows."""
        return self._tls if name == "ssl_object" or self._transport is None else self._transport.get_extra_info(name)

    # Inside --------------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        if self._failed is not None:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send()
                return
            self._send()
            self._failed = None
            self._disarm()
            self._peer.connection_made(cast(asyncio.Transport, self))
        try:
            while not self._closing:
                data = self._tls.read(PIECE)
                if not data:
                    # It has said the end.
                    self.close()
                    return
                self._peer.data_received(data)
                if not self._incoming.pending and not self._tls.pending():
                    break
        except ssl.SSLWantReadError:
            pass
        if self._outgoing.pending:
            # An answer of TLS's own.
            self._send()

    def _send(self) -> None:
        if self._transport is not None and self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def _too_late(self) -> None:
        self._abort(TimeoutError(f"no handshake after {HANDSHAKE_TIMEOUT:.0f} s"))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abort(self, error: Exception | None) -> None:
        self._closing = True
        self._lost_by = self._lost_by or error
        self._disarm()
        if self._transport is None:
            return
        if self._failed is not None and isinstance(error, ssl.SSLError):
            # The alert that says why is on its way.
            self._transport.close()
        else:
            self._transport.abort()
