"""One request over HTTP/1.1 and its answer, as ASGI's receive and send.

Not here: the bytes of requests (`http_connection`). Rules: the head of an answer is kept until the first of its body
comes, so that both leave as one write; headers are written as the application gave them, none of them comes from a
client.
"""

from __future__ import annotations

__all__ = ("STATUS_LINES", "Exchange", "Wire")

import asyncio
import http
from collections.abc import Mapping
from typing import Any, Protocol

from libstaragent import codes

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}
# A client that has announced a body and sends nothing of it for so long is stuck or hostile.
BODY_SILENCE_SECONDS = 30.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_DISCONNECT = {"type": "http.disconnect"}


class Wire(Protocol):
    """What an exchange needs of its connection; see `HttpConnection`."""

    loop: asyncio.AbstractEventLoop
    gone: bool
    write_paused: bool

    @property
    def stopping(self) -> bool: ...

    def write(self, data: bytes) -> None: ...

    async def drained(self) -> None: ...

    def read_on(self) -> None: ...

    def answered(self, exchange: Exchange) -> None: ...


class Exchange:
    """One request and its answer, as ASGI's receive and send."""

    __slots__ = (
        "_answered",
        "_awaited",
        "_begun",
        "_body",
        "_chunked",
        "_connection",
        "_expects",
        "_fresh",
        "_head",
        "_left",
        "_more",
        "_plain",
        "_silent",
        "keep_alive",
        "scope",
    )

    def __init__(self, connection: Wire, scope: dict[str, Any], *, keep_alive: bool, plain: bool) -> None:
        self._connection = connection
        self.scope = scope
        self.keep_alive = keep_alive
        # A client of HTTP/1.0 does not know chunks: an answer of unknown length ends with its connection.
        self._plain = plain
        self._expects = False
        # Whether the body has been waited for in vain.
        self._silent = False
        self._body: bytes | bytearray = b""
        self._more = True
        # Something that `receive` has not told yet.
        self._fresh = False
        self._awaited: asyncio.Future[None] | None = None
        self._head: bytes | None = None
        self._chunked = False
        self._left = 0
        self._begun = False
        self._answered = False

    @property
    def answered(self) -> bool:
        """Whether its answer is whole."""
        return self._answered

    @property
    def begun(self) -> bool:
        """Whether some of its answer has left."""
        return self._begun

    @property
    def unfinished(self) -> bool:
        """Whether a part of its body has not come."""
        return self._more

    def expect_continue(self) -> None:
        """The client waits to be asked for the body."""
        self._expects = True

    def body_came(self, data: bytes) -> int:
        """More of the body; how much lies here."""
        if self._body:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += data
        else:
            self._body = data
        self._tell()
        return len(self._body)

    def body_ended(self) -> None:
        """The body is whole."""
        self._more = False
        self._tell()

    def wake(self) -> None:
        """The connection is gone: whoever waits is told."""
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    def _give_up(self) -> None:
        self._silent = True
        self.wake()

    def _tell(self) -> None:
        self._fresh = True
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    async def receive(self) -> Mapping[str, Any]:
        """The next part of the body, or that the client is gone or answered.

        :raises TimedOut: nothing of the body comes.
        """
        connection = self._connection
        if self._expects:
            self._expects = False
            connection.write(_CONTINUE)
        while not self._fresh and not self._answered and not connection.gone:
            connection.read_on()
            self._awaited = connection.loop.create_future()
            patience = connection.loop.call_later(BODY_SILENCE_SECONDS, self._give_up) if self._more else None
            try:
                await self._awaited
            finally:
                self._awaited = None
                if patience is not None:
                    patience.cancel()
            if self._silent:
                raise codes.REQUEST_SLOW.error(f"nothing of its body for {BODY_SILENCE_SECONDS:.0f} s")
        if self._answered or connection.gone:
            return _DISCONNECT
        self._fresh = False
        body, self._body = bytes(self._body), b""
        return {"type": "http.request", "body": body, "more_body": self._more}

    async def send(self, message: Mapping[str, Any]) -> None:
        """A part of the answer: its head, which is kept until the first of its body comes."""
        connection = self._connection
        if connection.write_paused:
            await connection.drained()
        if connection.gone:
            return
        if message["type"] == "http.response.start":
            self._head = self._headed(message["status"], message["headers"])
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self.scope["method"] == "HEAD":
            body = b""
            self._left = 0
        elif self._chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                body += b"0\r\n\r\n"
        elif not self._plain:
            self._left -= len(body)
        head, self._head = self._head, None
        if self._left < 0 or (self._left and not more):
            raise ValueError("an answer of another length than its head says")
        if head is not None:
            self._begun = True
            body = head + body
        if body:
            connection.write(body)
        if not more:
            self._answered = True
            self._expects = False
            self.wake()
            connection.answered(self)

    def _headed(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        parts = [STATUS_LINES[status]]
        counted = False
        for name, value in headers:
            if name == b"content-length":
                counted = True
                self._left = int(value)
            elif name == b"connection":
                self.keep_alive = False
                continue
            parts += (name, b": ", value, b"\r\n")
        if counted:
            self._plain = False
        elif self._plain:
            self.keep_alive = False
        else:
            self._chunked = True
            parts.append(b"transfer-encoding: chunked\r\n")
        if self._connection.stopping:
            self.keep_alive = False
        parts.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        return b"".join(parts)
