"""The API's sockets: uvicorn on our loop, with limits that it does not have.

Not here: requests (`api`). Rules: TLS only; a head of at most 32 KiB that must be whole in ten seconds, also for one
who sends a byte a second; signals belong to the wiring page.
"""

from __future__ import annotations

__all__ = ("Listener",)

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any, cast

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from agentd.central.api.errors import error_body, status_of
from libstaragent import codes
from libstaragent.errors import StarAgentError

# A bearer token, a path and what proxies add.
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
# From the first byte (or the end of TLS) to the end of the head.
HEAD_SECONDS = 10.0
# A console polls and streams over few connections; idle ones cost 50 KB each.
KEEP_ALIVE_SECONDS = 75
# Requests that still run when the process is told to stop: waiting ones are cut off, and may be asked again.
STOP_SECONDS = 5
BACKLOG = 2048


class _Joined:
    """A transport that keeps a response's head until its body comes: one TLS record and one system call instead of
    two, a tenth of what a one-target job costs.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, or keep what begins a response."""
        if self._head:
            self._head, data = b"", self._head + data
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100"):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Write what is kept: there is no body."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._transport.close()


class _Protocol(HttpToolsProtocol):
    """One connection; counts its head and watches its time."""

    _head = 0
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._joined = _Joined(transport)
        self.transport = cast(asyncio.Transport, self._joined)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        if self._late is None:
            self._arm()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._weigh(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._weigh(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._disarm()
        if not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.transport.is_closing():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._joined.flush()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(codes.REQUEST_MALFORMED.error("it is not HTTP"))

    def _weigh(self, size: int) -> None:
        self._head += size
        if (self._head > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS) and not self.transport.is_closing():
            self._refuse(codes.HEADERS_TOO_LARGE.error())

    def _arm(self) -> None:
        self._late = self.loop.call_later(HEAD_SECONDS, self._too_late)

    def _disarm(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self._refuse(codes.REQUEST_SLOW.error(f"no whole head after {HEAD_SECONDS:.0f} s"))

    def _refuse(self, error: StarAgentError) -> None:
        self._disarm()
        body = msgspec.json.encode(error_body(error))
        self._joined.flush()
        self.transport.write(
            b"".join(
                (
                    STATUS_LINE[status_of(error)],
                    b"content-type: application/json\r\nconnection: close\r\ncontent-length: ",
                    str(len(body)).encode(),
                    b"\r\n\r\n",
                    body,
                )
            )
        )
        self.transport.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Listener:
    """See the module."""

    def __init__(self, application: Any, context: ssl.SSLContext) -> None:
        self._config = uvicorn.Config(
            application,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            ssl_context_factory=lambda config, default: context,
        )
        self._server = _Server(self._config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; the address that was bound (port 0 picks one).

        :raises DependencyFailed: LISTEN_FAILED.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = found[0]
            listening = socket.create_server(address[:2], family=family, backlog=BACKLOG)
        except OSError as error:
            raise codes.LISTEN_FAILED.error(f"{host}:{port}: {error.strerror}", errno=error.errno) from error
        listening.setblocking(False)
        self._serving = loop.create_task(self._server.serve(sockets=[listening]))
        await self._server.serving.wait()
        bound = listening.getsockname()
        return bound[0], bound[1]

    async def stop(self) -> None:
        """Take no more requests, let those that run end within STOP_SECONDS."""
        if self._serving is None:
            return
        state = self._server.server_state
        self._server.should_exit = True
        for server in self._server.servers:
            server.close()
        if state.tasks:
            await asyncio.wait(set(state.tasks), timeout=STOP_SECONDS)
        # A client that keeps an idle connection need not answer the end of TLS; nothing is lost by not waiting for it.
        for connection in list(state.connections):
            connection.transport.abort()
        await self._serving
