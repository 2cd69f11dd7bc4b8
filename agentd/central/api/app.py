"""The ASGI application, made from the table of routes: find the handler, ask who calls, answer or say why not.

Not here: what handlers do, the sockets (`central.listener`). Rules: a request costs no log line and no middleware;
every refusal is an `ErrorBody`; what a client asked for is done even if it goes away, a stream excepted.
"""

from __future__ import annotations

__all__ = ("MAX_OPEN_REQUESTS", "Application")

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from starlette.routing import compile_path

from agentd.central.api.bodies import Bodies
from agentd.central.api.call import Call, Reply, Stream
from agentd.central.api.errors import error_body, status_of, unforeseen
from agentd.central.api.routes import Route
from agentd.central.audit import unreadable
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.security.roster import Operator

# Each holds a task, a connection and a body; waiting requests of a busy fleet are some thousands.
MAX_OPEN_REQUESTS = 8192

# What comes there is an act, whether or not it can be read.
_ACTS = ("envelope", "proof")

Header = tuple[bytes, bytes]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class Application:
    """See the module. `reader` says who sends an Authorization header; `refused` is told what was asked for by proof or
    envelope and not done, and why, before that is answered; `head` gives the header with the newest entry of the audit.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        *,
        reader: Callable[[str], Awaitable[Operator]],
        refused: Callable[[Call, StarAgentError], Awaitable[None]],
        head: Callable[[], Header],
    ) -> None:
        self._refused = refused
        self._head = head
        self._reader = reader
        self._bodies = Bodies()
        self._open = 0
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[Any, dict[str, Route]]] = []
        self.paths: dict[str, dict[str, Route]] = {}
        for route in routes:
            self.paths.setdefault(route.path, {})[route.method] = route
        for path, methods in self.paths.items():
            if "{" in path:
                self._patterns.append((compile_path(path)[0], methods))
            else:
                self._exact[path] = methods

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        self._open += 1
        extra: list[Header] = []
        call = Call(scope, receive, self._bodies, self._reader)
        route: Route | None = None
        try:
            if self._open > MAX_OPEN_REQUESTS:
                raise codes.TOO_MANY_REQUESTS.error()
            methods = self._find(scope)
            route = methods.get(scope["method"])
            if route is None:
                extra.append((b"allow", ", ".join(sorted(methods)).encode()))
                raise codes.METHOD_UNKNOWN.error(f"{scope['method']} {scope['path'][:200]}")
            if route.authority == "reader":
                call.operator = await self._reader(call.header(b"authorization"))
            answer = await route.handler(call)
            if route.authority != "anybody":
                extra.append(self._head())
            if isinstance(answer, Stream):
                await _stream(answer, call, send)
                return
        except StarAgentError as error:
            if call.claim is None and route is not None and route.authority in _ACTS:
                call.claim = unreadable(f"{route.method} {scope['path']}")
            if call.claim is not None:
                await self._refused(call, error)
            answer = Reply(error_body(error), status=status_of(error))
        except Exception as error:
            coded = unforeseen(error)
            answer = Reply(error_body(coded), status=status_of(coded))
        finally:
            self._open -= 1
            call.let_go()
        await _reply(answer, send, extra, unread=call.unread)

    def _find(self, scope: dict[str, Any]) -> dict[str, Route]:
        path = scope["path"]
        methods = self._exact.get(path)
        if methods is not None:
            return methods
        for pattern, candidates in self._patterns:
            found = pattern.match(path)
            if found is not None:
                scope["path_params"] = found.groupdict()
                return candidates
        raise codes.PATH_UNKNOWN.error(path[:200])


async def _reply(answer: Reply, send: Send, extra: list[Header], *, unread: bool) -> None:
    headers = [
        (b"content-type", answer.content_type),
        (b"content-length", str(len(answer.body)).encode()),
        (b"cache-control", b"no-store"),
        *extra,
    ]
    if answer.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if unread:
        # The rest of the body is not wanted.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _stream(answer: Stream, call: Call, send: Send) -> None:
    async def pour() -> None:
        async for piece in answer.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    pouring: asyncio.Task[None] | None = None
    gone: asyncio.Task[None] | None = None
    try:
        headers = [(b"content-type", answer.content_type), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        pouring, gone = asyncio.ensure_future(pour()), asyncio.ensure_future(call.gone())
        await asyncio.wait((pouring, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        answer.closed()
        tasks = [task for task in (pouring, gone) if task is not None]
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            # The client went while it was written to: nobody is left to be told.
            if isinstance(outcome, Exception) and not isinstance(outcome, OSError):
                unforeseen(outcome)
