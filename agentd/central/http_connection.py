"""One connection of the API: HTTP/1.1 between a TLS transport and an ASGI application, parsed by httptools.

    bytes ─▶ parser ─▶ Exchange ─▶ application ─▶ one write an answer

Not here: sockets and the end of the process (`listener`), answers (`http_exchange`), what requests mean (`api`). Why it
is our own: docs/decisions/0013-own-http-connection.md.

Rules
- A head has at most MAX_HEAD_BYTES and MAX_HEADERS, and is whole HEAD_SECONDS after it began (or after TLS), also for
  one who sends a byte a second. A head that comes whole costs no timer.
- A connection has one exchange at a time. What a client sends ahead waits, AHEAD_MAX requests at most, and its socket
  is not read meanwhile.
- Answers leave in the order of their requests. What is wrong with a later one is not said in the place of an earlier
  one's answer: the connection ends after that.
- Of a body at most BODY_AHEAD bytes and one read lie here; then the client waits for the application to take them.
- Answers leave as one write: one TLS record and one system call. Who does not read them is let go.
"""

from __future__ import annotations

__all__ = ("HEAD_SECONDS", "KEEP_ALIVE_SECONDS", "MAX_HEADERS", "MAX_HEAD_BYTES", "Connections", "HttpConnection")

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import unquote

import httptools
import msgspec

from agentd.central.api.errors import error_body, status_of, unforeseen
from agentd.central.http_exchange import STATUS_LINES, Exchange
from libstaragent import codes
from libstaragent.errors import StarAgentError

# A bearer token, a path and what proxies add.
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
# From the first byte (or the end of TLS) to the end of the head.
HEAD_SECONDS = 10.0
# A console polls and streams over few connections; idle ones cost 50 KB each.
KEEP_ALIVE_SECONDS = 75.0
# A client that takes nothing of its answer for so long is stuck or hostile, and may hold a read of a host, one of few.
STALL_SECONDS = 60.0
# Most bodies are smaller and come with their head.
BODY_AHEAD = 64 * 1024
# Requests that wait behind the one that is answered. One read holds ten thousand of the shortest, each 2 KB as objects.
AHEAD_MAX = 64

_VERSION = {"version": "3.0", "spec_version": "2.3"}

Header = tuple[bytes, bytes]
Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class Connections:
    """All connections of a listener, and the tasks that answer on them."""

    def __init__(self, application: Application, loop: asyncio.AbstractEventLoop) -> None:
        self.application = application
        self.loop = loop
        self.open: set[HttpConnection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        # No more requests on any connection: those that run are answered, with the word that it closes.
        self.stopping = False

    def made(self) -> HttpConnection:
        """The protocol for one more connection."""
        return HttpConnection(self)

    def stop(self) -> None:
        """Close those that idle; the others after what they answer now."""
        self.stopping = True
        for connection in list(self.open):
            connection.stop()


class HttpConnection(asyncio.Protocol):
    """See the module.

    Attributes:
        gone: it is closed, or will be once what was written has left. write_paused: the client reads slowly.
    """

    __slots__ = (
        "_all",
        "_began",
        "_client",
        "_deaf",
        "_drained",
        "_exchange",
        "_grown",
        "_headers",
        "_idle",
        "_idle_due",
        "_in_head",
        "_late",
        "_parser",
        "_reading",
        "_server",
        "_transport",
        "_url",
        "_waiting",
        "_weight",
        "gone",
        "loop",
        "write_paused",
    )

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self.loop = connections.loop
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._url = b""
        self._headers: list[Header] = []
        # Bytes of its head that were told of, and those that were read since its first.
        self._weight = self._grown = 0
        # Whether a head has begun and is not whole; whether it began in what is being read.
        self._in_head = self._began = False
        self._late: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._idle_due = 0.0
        self._reading = True
        # Whether nothing more is heard: it closes after what is being answered, and what waits.
        self._deaf = False
        self._drained: asyncio.Future[None] | None = None
        self.gone = False
        self.write_paused = False

    @property
    def stopping(self) -> bool:
        """Whether its listener takes no more requests."""
        return self._all.stopping

    # The transport -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._client = transport.get_extra_info("peername")
        self._server = transport.get_extra_info("sockname")
        self._all.open.add(self)
        self._late = self.loop.call_later(HEAD_SECONDS, self._too_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._all.open.discard(self)
        self._disarm()
        if self._idle is not None:
            self._idle.cancel()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._exchange is not None:
            self._exchange.wake()
        self._waiting.clear()
        # It points back to this.
        self._parser = None

    def eof_received(self) -> None:
        return None

    def data_received(self, data: bytes) -> None:
        if self.gone or self._deaf:
            return
        growing, self._began = self._in_head, False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # It is answered as if it had not asked; what follows is no HTTP of ours.
            last = self._waiting[-1] if self._waiting else self._exchange
            if last is not None:
                last.keep_alive = False
            return
        except httptools.HttpParserError:
            self._refuse_next(codes.REQUEST_MALFORMED.error("it is not HTTP"))
            return
        if not self._in_head or self.gone or self._deaf:
            return
        if growing and not self._began:
            # All of it is of one head; the parser tells of a header only once that is whole.
            self._grown += len(data)
            if self._grown > MAX_HEAD_BYTES:
                self._refuse_next(codes.HEADERS_TOO_LARGE.error())
                return
        if self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self._too_late)

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # The parser ----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._headers = []
        self._weight = self._grown = 0
        self._in_head = self._began = True

    def on_url(self, url: bytes) -> None:
        """Some of its target."""
        self._url += url
        self._weigh(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or what stands in its form behind a body, and is not looked at."""
        if self._in_head:
            self._headers.append((name.lower(), value))
        self._weigh(len(name) + len(value) + len(": \r\n"))

    def _weigh(self, size: int) -> None:
        self._weight += size
        if self._weight > MAX_HEAD_BYTES or len(self._headers) > MAX_HEADERS:
            self._refuse_next(codes.HEADERS_TOO_LARGE.error())

    def on_headers_complete(self) -> None:
        """Its head is whole: what it asks for can begin."""
        self._in_head = False
        self._disarm()
        if self.gone or self._deaf:
            return
        if len(self._waiting) >= AHEAD_MAX:
            self._refuse_next(codes.TOO_MANY_REQUESTS.error())
            return
        headers, url, parser = self._headers, self._url, self._parser
        if url.startswith(b"/") and b"#" not in url:
            raw_path, _, query = url.partition(b"?")
        else:
            parsed = httptools.parse_url(url)
            raw_path, query = parsed.path or b"", parsed.query or b""
        path = raw_path.decode("ascii")
        version = parser.get_http_version()
        scope = {
            "type": "http",
            "asgi": _VERSION,
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "scheme": "https",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": self._client,
            "server": self._server,
        }
        old = version == "1.0"
        exchange = Exchange(self, scope, keep_alive=not old and parser.should_keep_alive(), plain=old)
        if any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers):
            exchange.expect_continue()
        if self._exchange is None:
            self._begin(exchange)
        else:
            self._waiting.append(exchange)
            self._stop_reading()

    def on_body(self, body: bytes) -> None:
        """Some of the body of the request that was heard last."""
        exchange = self._waiting[-1] if self._waiting else self._exchange
        if exchange is not None and not self.gone and not self._deaf and exchange.body_came(body) > BODY_AHEAD:
            self._stop_reading()

    def on_message_complete(self) -> None:
        """That request is whole."""
        exchange = self._waiting[-1] if self._waiting else self._exchange
        if exchange is not None and not self._deaf:
            exchange.body_ended()

    # The exchange --------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """To the client."""
        if not self.gone:
            self._transport.write(data)

    async def drained(self) -> None:
        """Returns when the client has read enough, or is gone; or has read nothing for STALL_SECONDS, and is let go."""
        while self.write_paused and not self.gone:
            if self._drained is None or self._drained.done():
                self._drained = self.loop.create_future()
            patience = self.loop.call_later(STALL_SECONDS, self.abort)
            try:
                await asyncio.shield(self._drained)
            finally:
                patience.cancel()

    def read_on(self) -> None:
        """The application wants more of the body."""
        if not self._reading and not self._waiting and not self.gone:
            self._reading = True
            self._transport.resume_reading()

    def answered(self, exchange: Exchange) -> None:
        """Its answer is written; the next may begin."""
        self._exchange = None
        if not exchange.keep_alive:
            self._close()
        elif self._waiting:
            self._begin(self._waiting.popleft())
        elif self.stopping:
            self._close()
        else:
            self.read_on()
            # One timer for the life of a connection, and not one for each request.
            self._idle_due = self.loop.time() + KEEP_ALIVE_SECONDS
            if self._idle is None:
                self._idle = self.loop.call_later(KEEP_ALIVE_SECONDS, self._idled)

    def stop(self) -> None:
        """No more requests; see `Connections.stop`."""
        if self._exchange is None and not self.gone:
            self._close()

    def abort(self) -> None:
        """Close, whatever is under way."""
        self._transport.abort()

    def _begin(self, exchange: Exchange) -> None:
        self._exchange = exchange
        task = self.loop.create_task(self._answer(exchange))
        tasks = self._all.tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await self._all.application(exchange.scope, exchange.receive, exchange.send)
        except Exception as error:
            coded = error if isinstance(error, StarAgentError) else unforeseen(error)
            if not self.gone and not exchange.begun:
                self._refuse(coded)
        if not exchange.answered:
            self._close()

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _close(self) -> None:
        if not self.gone:
            self.gone = True
            self._transport.close()

    # Time ----------------------------------------------------------------------------------------------------------

    def _disarm(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self._late = None
        if not self.gone:
            self._refuse_next(codes.REQUEST_SLOW.error(f"no whole head after {HEAD_SECONDS:.0f} s"))

    def _idled(self) -> None:
        self._idle = None
        left = self._idle_due - self.loop.time()
        if self._exchange is not None:
            # It begins anew when that is answered.
            return
        if left > 0 or self._in_head:
            self._idle = self.loop.call_later(max(left, HEAD_SECONDS), self._idled)
        else:
            self._close()

    def _refuse_next(self, error: StarAgentError) -> None:
        """Say what is wrong with what came last, if no answer is owed before that; close, after what is owed."""
        if self.gone or self._deaf:
            return
        self._disarm()
        last = self._waiting[-1] if self._waiting else self._exchange
        if last is None or (last is self._exchange and last.unfinished and not last.begun):
            self._refuse(error)
        elif last.unfinished:
            # Its body will never be whole: nobody can answer it.
            self._close()
        else:
            self._deaf = True
            last.keep_alive = False

    def _refuse(self, error: StarAgentError) -> None:
        """Say what is wrong, as the answer that is due now, and close."""
        self._disarm()
        body = msgspec.json.encode(error_body(error))
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._transport.write(STATUS_LINES[status_of(error)] + head + body)
        self._close()
