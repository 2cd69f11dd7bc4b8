"""HTTP/1.1 on a socket: what clients may do on a connection, and what each of them may hold. The application is an
echo; the API's own limits are tested through the API.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agentd.central import http_connection, http_exchange
from agentd.central.http_connection import AHEAD_MAX, BODY_AHEAD, MAX_HEAD_BYTES, Connections
from libstaragent import codes

WITHIN_SECONDS = 20.0


async def until(holds: Callable[[], Any]) -> None:
    """Returns once that holds; it is looked at each turn of the loop."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(WITHIN_SECONDS):
        while not holds():
            turn = loop.create_future()
            loop.call_soon(turn.set_result, None)
            await turn


class Echo:
    """Answers with the method, the path, the query and the body; `/stream` in pieces, until it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.disconnected = asyncio.Event()
        self.begun: list[str] = []
        self.read = True

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        self.begun.append(scope["path"])
        if scope["path"] == "/fault":
            raise RuntimeError("a fault of ours")
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            await self.let_go.wait()
            await send({"type": "http.response.body", "body": b""})
            return
        if scope["path"] == "/endless":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while (await receive())["type"] != "http.disconnect":
                # More than the buffers of both sides hold: it waits in here.
                await send({"type": "http.response.body", "body": bytes(64 * 1024 * 1024), "more_body": True})
                await send({"type": "http.response.body", "body": b"more", "more_body": True})
            self.disconnected.set()
            return
        if scope["path"] == "/gone":
            while (await receive())["type"] != "http.disconnect":
                pass
            self.disconnected.set()
            return
        body, more = b"", scope["path"] != "/unread"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        text = b" ".join((scope["method"].encode(), scope["path"].encode(), scope["query_string"], body))
        headers = [(b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})


class Client:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def until(self, end: bytes) -> bytes:
        return await asyncio.wait_for(self._reader.readuntil(end), WITHIN_SECONDS)

    async def rest(self) -> bytes:
        """All that comes until the other side closes."""
        return await asyncio.wait_for(self._reader.read(), WITHIN_SECONDS)


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Echo, Connections, Callable[[], Any]]]:
    echo, loop = Echo(), asyncio.get_running_loop()
    connections = Connections(echo, loop)
    server = await loop.create_server(connections.made, "127.0.0.1", 0)
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(Client(*await asyncio.open_connection(*server.sockets[0].getsockname())))
        return clients[-1]

    try:
        yield echo, connections, connect
    finally:
        server.close()
        for client in clients:
            client.writer.transport.abort()
        echo.let_go.set()
        await until(lambda: not connections.tasks and not connections.open)


async def test_requests_follow_each_other_on_one_connection_however_their_bytes_are_cut() -> None:
    request = b"POST /a%20b?q=1 HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody"
    async with served() as (_, _, connect):
        client = await connect()
        for size in (len(request), 1, 7):
            for begin in range(0, len(request), size):
                client.send(request[begin : begin + size])
                await client.writer.drain()
            answer = await client.until(b"body")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"POST /a b q=1 body")
            assert b"connection: close" not in answer


async def test_requests_that_are_sent_ahead_are_answered_in_their_order_and_one_at_a_time() -> None:
    async with served() as (echo, _, connect):
        client = await connect()
        client.send(b"GET /stream HTTP/1.1\r\n\r\n" + b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % n for n in range(3)))
        assert b"transfer-encoding: chunked" in await client.until(b"3\r\none\r\n")
        assert echo.begun == ["/stream"]
        echo.let_go.set()
        await client.until(b"0\r\n\r\n")
        for number in range(3):
            await client.until(b"GET /%d  " % number)
        assert echo.begun == ["/stream", "/0", "/1", "/2"]


async def test_more_than_may_be_sent_ahead_is_not_heard_and_what_was_heard_is_answered() -> None:
    async with served() as (echo, connections, connect):
        client = await connect()
        client.send(b"GET /stream HTTP/1.1\r\n\r\n" + b"GET /next HTTP/1.1\r\n\r\n" * (3 * AHEAD_MAX))
        await client.until(b"one\r\n")
        [connection] = connections.open
        assert len(connection._waiting) == AHEAD_MAX
        echo.let_go.set()
        rest = await client.rest()
        assert rest.count(b"GET /next") == AHEAD_MAX and rest.count(b"HTTP/1.1 ") == AHEAD_MAX
        assert rest.count(b"connection: close") == 1


@pytest.mark.parametrize(
    "later",
    [b"no HTTP at all\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n"],
    ids=["no HTTP", "a head that is too large"],
)
async def test_what_is_wrong_with_a_later_request_is_not_the_answer_to_an_earlier_one(later: bytes) -> None:
    async with served() as (echo, connections, connect):
        client = await connect()
        client.send(b"GET /stream HTTP/1.1\r\n\r\n")
        await client.until(b"one\r\n")
        client.send(later)
        [connection] = connections.open
        await until(lambda: connection._deaf)
        echo.let_go.set()
        assert await client.rest() == b"0\r\n\r\n"


async def test_a_body_that_was_announced_and_does_not_come_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_exchange, "BODY_SILENCE_SECONDS", 0.01)
    async with served() as (_, _, connect):
        client = await connect()
        client.send(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n")
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 408 ") and codes.REQUEST_SLOW.code.encode() in answer


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked() -> None:
    async with served() as (_, _, connect):
        client = await connect()
        client.send(b"POST / HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"ab")
        assert (await client.until(b" ab")).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nconnection: close\r\n\r\n",
    ],
)
async def test_a_connection_is_closed_after_its_answer_if_the_client_cannot_go_on(request_: bytes) -> None:
    async with served() as (_, _, connect):
        client = await connect()
        client.send(request_)
        head, _, body = (await client.rest()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"connection: close" in head
        assert body == (b"" if request_.startswith(b"HEAD") else b"GET /  ")


async def test_a_stream_to_a_client_of_the_old_version_ends_with_its_connection() -> None:
    async with served() as (echo, _, connect):
        client = await connect()
        client.send(b"GET /stream HTTP/1.0\r\n\r\n")
        echo.let_go.set()
        head, _, body = (await client.rest()).partition(b"\r\n\r\n")
        assert body == b"one" and b"chunked" not in head and b"content-length" not in head


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nx: ",
        b"GET / HTTP/1.1\r\nx: 1\r\n\r\nGET / HTTP/1.1\r\nx: ",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ",
    ],
    ids=["a head", "the second head", "behind a body"],
)
async def test_what_stands_in_the_form_of_headers_is_bounded_also_where_it_does_not_end(head: bytes) -> None:
    async with served() as (_, connections, connect):
        client = await connect()
        client.send(head)
        piece = b"a: 1\r\n" * 500 if head.startswith(b"POST") else b"a" * 3000
        await until(lambda: connections.open)
        [connection] = connections.open
        sent = 0
        while not connection.gone:
            before = connection._grown, connection._weight
            client.send(piece)
            sent += len(piece)
            # Nothing is under way when it closes: what is unread then would cut its last word off.
            await until(lambda then=before: (connection._grown, connection._weight) != then or connection.gone)
        assert codes.HEADERS_TOO_LARGE.code.encode() in await client.rest()
        assert sent < 2 * MAX_HEAD_BYTES


async def test_what_an_application_does_not_read_is_not_read_from_the_socket() -> None:
    async with served() as (_, connections, connect):
        client = await connect()
        client.send(b"POST /gone HTTP/1.1\r\ncontent-length: 100000000\r\n\r\n")
        await until(lambda: connections.open)
        [connection] = connections.open
        await until(lambda: connection._exchange is not None)
        # Nobody asks for more from now on.
        connection._exchange._fresh = True
        for _ in range(400):
            client.send(bytes(BODY_AHEAD))
        await until(lambda: connection._reading is False)
        assert len(connection._exchange._body) < 20 * BODY_AHEAD


async def test_a_client_that_does_not_read_its_answer_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "STALL_SECONDS", 0.01)
    async with served() as (echo, connections, connect):
        client = await connect()
        client.send(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.wait_for(echo.disconnected.wait(), WITHIN_SECONDS)
        assert not connections.open


async def test_an_application_hears_that_its_client_has_gone_and_its_fault_is_told_with_a_code() -> None:
    async with served() as (echo, _, connect):
        client = await connect()
        client.send(b"GET /gone HTTP/1.1\r\n\r\n")
        await until(lambda: "/gone" in echo.begun)
        client.writer.transport.abort()
        await asyncio.wait_for(echo.disconnected.wait(), WITHIN_SECONDS)
        other = await connect()
        other.send(b"GET /fault HTTP/1.1\r\n\r\n")
        answer = await other.rest()
        assert answer.startswith(b"HTTP/1.1 500 ") and codes.CENTRAL_BUG.code.encode() in answer


async def test_an_idle_connection_is_closed_after_its_time_and_at_the_end_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with served() as (echo, connections, connect):
        client, busy = await connect(), await connect()
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        busy.send(b"GET /stream HTTP/1.1\r\n\r\n")
        await client.until(b"GET /  ")
        await busy.until(b"one")
        connections.stop()
        assert await client.rest() == b""
        echo.let_go.set()
        assert await busy.rest() == b"\r\n0\r\n\r\n"
    monkeypatch.setattr(http_connection, "KEEP_ALIVE_SECONDS", 0.01)
    monkeypatch.setattr(http_connection, "HEAD_SECONDS", 0.01)
    async with served() as (_, _, connect):
        client = await connect()
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        await client.until(b"GET /  ")
        assert await client.rest() == b""
