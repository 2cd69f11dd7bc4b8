"""The network between hosts and their room, so that it can fail: a port a host, bytes passed on, cut or held back.

Not here: TLS, which goes through untouched. Rules: one thread, one loop; what is held back is not read, so both ends
feel what a dead network feels like: silence.
"""

from __future__ import annotations

__all__ = ("Cutter",)

import asyncio
import threading

CHUNK = 64 * 1024


class _Line:
    """One host's port: where it leads, whether it is stalled, its open connections."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.through = asyncio.Event()
        self.through.set()
        self.open: set[asyncio.StreamWriter] = set()


class Cutter:
    """See the module."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lines: dict[str, _Line] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def listen(self, name: str, target: tuple[str, int]) -> int:
        """A port that leads to `target`."""

        async def begin() -> int:
            line = self._lines[name] = _Line(target)

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await _serve(line, reader, writer)

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            return server.sockets[0].getsockname()[1]

        return asyncio.run_coroutine_threadsafe(begin(), self._loop).result()

    def cut(self, name: str) -> bool:
        """Reset the open connections; whether there were any."""
        return self._call(self._cut, name)

    def stall(self, name: str, on: bool) -> bool:
        """Hold everything back, or reset what was held back and let new connections through."""
        return self._call(self._stall, name, on)

    def close(self) -> None:
        """Reset everything and end."""
        for name in self._lines:
            self.stall(name, False)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _call(self, function, *words):
        async def call():
            return function(*words)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def _cut(self, name: str) -> bool:
        line = self._lines[name]
        had = bool(line.open)
        for writer in line.open:
            writer.transport.abort()
        return had

    def _stall(self, name: str, on: bool) -> bool:
        line = self._lines[name]
        if on:
            if line.open:
                line.through.clear()
            return bool(line.open)
        had = self._cut(name)
        line.through.set()
        return had


async def _serve(line: _Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        there, back = await asyncio.open_connection(*line.target)
    except OSError:
        writer.transport.abort()
        return
    line.open |= {writer, back}
    try:
        await asyncio.gather(_pump(line, reader, back), _pump(line, there, writer), return_exceptions=True)
    finally:
        line.open -= {writer, back}


async def _pump(line: _Line, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(CHUNK):
            if not line.through.is_set():
                await line.through.wait()
            sink.write(data)
            await sink.drain()
    except OSError:
        sink.transport.abort()
    else:
        sink.close()
