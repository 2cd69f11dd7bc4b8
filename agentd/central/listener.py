"""The API's sockets: where it listens, and how it ends.

Not here: a connection (`http_connection`), requests (`api`). Rules: TLS only; signals belong to the wiring page. At the
end nobody new is let in, who is being answered is answered, and nobody is waited for longer than STOP_SECONDS.
"""

from __future__ import annotations

__all__ = ("Listener",)

import asyncio
import socket
import ssl
from typing import Any

from agentd.central.http_connection import Connections
from libstaragent import codes

# Requests that still run when the process is told to stop: waiting ones are cut off, and may be asked again.
STOP_SECONDS = 5
BACKLOG = 2048


class Listener:
    """See the module."""

    def __init__(self, application: Any, context: ssl.SSLContext) -> None:
        self._application = application
        self._context = context
        self._connections: Connections | None = None
        self._server: asyncio.Server | None = None

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
        bound = listening.getsockname()
        self._connections = Connections(self._application, loop)
        self._server = await loop.create_server(
            self._connections.made, sock=listening, ssl=self._context, backlog=BACKLOG
        )
        return bound[0], bound[1]

    async def stop(self) -> None:
        """Take no more requests, let those that run end within STOP_SECONDS."""
        if self._connections is None or self._server is None:
            return
        connections = self._connections
        self._server.close()
        connections.stop()
        if connections.tasks:
            await asyncio.wait(set(connections.tasks), timeout=STOP_SECONDS)
        for task in list(connections.tasks):
            task.cancel()
        if connections.tasks:
            await asyncio.wait(set(connections.tasks))
        # A client that keeps an idle connection need not answer the end of TLS; nothing is lost by not waiting for it.
        for connection in list(connections.open):
            connection.abort()
