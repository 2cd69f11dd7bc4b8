"""The limit beside which one-target jobs over HTTP stand: the same requests over the same TLS, answered after one
durable commit of their bytes, and nothing else. No envelope, no room, no agent, no second commit.

    bench/api_limit.py STATE FOLDER      `agentd all`'s certificate from STATE; prints {"api": …}; ends with its stdin

It is what uvicorn gives with an application of six lines, and the store as it is shipped.
"""

from __future__ import annotations

__all__ = ("main",)

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path

import uvloop

from agentd.central.listener import Listener
from agentd.store.ops import InsertOutput
from agentd.store.store import Store
from libstaragent.security.tls import api_context

ANSWER = b'{"stored":true}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]


async def serve(state: Path, folder: Path) -> None:
    """Serves until stdin ends."""
    loop = asyncio.get_running_loop()
    store = Store.open(folder / "limit.db")
    lane = store.lane(loop.call_soon_threadsafe)

    async def application(scope, receive, send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        stored: asyncio.Future[None] = loop.create_future()
        lane.submit([InsertOutput(hashlib.sha256(body).digest(), body)], lambda error: stored.set_result(None))
        await stored
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": ANSWER})

    pem = state / "api.pem"
    listener = Listener(application, api_context(certificate=pem, key=pem))
    host, port = await listener.start("127.0.0.1", 0)
    sys.stdout.write(json.dumps({"api": f"{host}:{port}"}) + "\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    loop.add_reader(0, lambda: os.read(0, 4096) or ended.set())
    await ended.wait()
    await listener.stop()
    store.close()


def main(state: Path, folder: Path) -> None:
    """See the module."""
    uvloop.run(serve(state, folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
