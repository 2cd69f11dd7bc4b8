"""The room's TLS over a plain transport, on both loops that it runs on: bytes in pieces, the end, who never begins."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from agentd.room import tls
from agentd.room.tls import PIECE, TlsTransport

WITHIN = 20.0
AGENT = "01J000000000000000000000AA"
LARGE = bytes(range(256)) * 2000

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


class Heard:
    """Where a Peer would be: keeps what it is told."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.data = b""
        self.largest = 0
        self.paused = 0
        self.made = asyncio.Event()
        self.lost = asyncio.Event()
        self.failed: list[Exception | None] = []
        self.on_data: Callable[[], None] = lambda: None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=4 * PIECE)
        self.made.set()

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.largest = max(self.largest, len(data))
        self.on_data()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def pause_writing(self) -> None:
        self.paused += 1

    def resume_writing(self) -> None: ...


def run(
    loop: Callable[[], asyncio.AbstractEventLoop],
    pki: Any,
    what: Callable[[Heard, tuple[str, int]], Awaitable[None]],
) -> None:
    async def served() -> None:
        heard = Heard()

        def failed(_: TlsTransport, error: Exception | None) -> None:
            heard.failed.append(error)
            heard.lost.set()

        server = await asyncio.get_running_loop().create_server(
            lambda: TlsTransport(pki.room_context(), heard, failed),  # type: ignore[arg-type]
            "127.0.0.1",
            0,
        )
        async with asyncio.timeout(WITHIN):
            await what(heard, server.sockets[0].getsockname())
            await heard.lost.wait()
        server.close()
        await server.wait_closed()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(served())


@LOOPS
def test_what_is_larger_than_a_record_arrives_whole_both_ways_in_pieces(loop: Any, pki: Any) -> None:
    async def what(heard: Heard, address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address, ssl=pki.agent_context(AGENT))
        whole = asyncio.Event()
        heard.on_data = lambda: whole.set() if len(heard.data) >= len(LARGE) else None
        writer.write(LARGE)
        await whole.wait()
        assert heard.data == LARGE and heard.largest <= PIECE
        heard.transport.write(LARGE * 10)
        assert heard.paused, "the socket cannot have taken 5 MB"
        assert await reader.readexactly(len(LARGE) * 10) == LARGE * 10
        writer.close()
        await writer.wait_closed()

    run(loop, pki, what)


@LOOPS
def test_the_last_words_arrive_although_the_other_end_still_talks(loop: Any, pki: Any) -> None:
    async def what(heard: Heard, address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address, ssl=pki.agent_context(AGENT))

        def end() -> None:
            if not heard.transport.is_closing():
                heard.transport.write(b"the last words")
                heard.transport.close()

        heard.on_data = end
        writer.write(LARGE * 4)
        assert await reader.read(-1) == b"the last words"
        writer.transport.abort()

    run(loop, pki, what)


@LOOPS
def test_who_does_not_answer_the_end_is_not_waited_for(loop: Any, pki: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "SHUTDOWN_TIMEOUT", 0.01)

    async def what(heard: Heard, address: tuple[str, int]) -> None:
        _, writer = await asyncio.open_connection(*address, ssl=pki.agent_context(AGENT))
        await heard.made.wait()
        writer.transport.pause_reading()
        heard.transport.close()
        await heard.lost.wait()
        writer.transport.abort()

    run(loop, pki, what)


@LOOPS
def test_an_end_that_is_reset_by_our_last_words_closes_as_any_other(loop: Any, pki: Any) -> None:
    def connected(address: tuple[str, int]) -> ssl.SSLSocket:
        return pki.agent_context(AGENT).wrap_socket(
            socket.create_connection(address, WITHIN), server_hostname=address[0]
        )

    async def what(heard: Heard, address: tuple[str, int]) -> None:
        client = await asyncio.to_thread(connected, address)
        await heard.made.wait()
        heard.transport.write(b"x")
        assert await asyncio.to_thread(client.recv, 1) == b"x"
        # It has read all, so it says the end, and answers our last words with a reset; the loop has no turn in between.
        client.close()
        heard.transport.close()

    run(loop, pki, what)


@LOOPS
@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n"], ids=["nothing", "no TLS"])
def test_who_does_not_shake_hands_is_told_of_as_a_failure_and_closed(
    loop: Any, pki: Any, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT", 0.01)

    async def what(heard: Heard, address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(said)
        await heard.lost.wait()
        [error] = heard.failed
        assert isinstance(error, ssl.SSLError if said else TimeoutError)
        assert not heard.made.is_set()
        try:
            await reader.read(-1)
        except ConnectionResetError:
            pass
        writer.transport.abort()

    run(loop, pki, what)
