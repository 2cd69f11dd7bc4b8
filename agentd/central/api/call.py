"""One request and its answer, as handlers see them: a thin view of ASGI, because Starlette's Request costs more than a
whole one-target job may.

Not here: routes, authority, errors to status (`app`, `errors`). Rules: a body is read up to a limit and within a time;
a query parameter is read once, typed, and refused with its name.
"""

from __future__ import annotations

__all__ = ("JSON", "Call", "Reply", "Stream", "read_json")

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from agentd.central.api.bodies import MAX_STRANGERS_BODY, Bodies
from agentd.central.audit import Claim
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.security.roster import Operator

JSON = b"application/json"
# A request that is not whole after this is a stuck or a hostile client.
BODY_SECONDS = 30.0
# The documented paths have at most six parameters.
MAX_QUERY_FIELDS = 16
# Queries that are remembered as read: programs ask with the same few again and again ("wait=10"). At worst 2 MB, as a
# head has at most 32 KiB.
QUERIES_KEPT = 64

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class Reply:
    """An answer in one piece; `value` is encoded as JSON unless it is bytes already."""

    __slots__ = ("body", "content_type", "status")

    def __init__(self, value: object, *, status: int = 200, content_type: bytes = JSON) -> None:
        self.status = status
        self.body = value if isinstance(value, bytes) else _encode(value)
        self.content_type = content_type


class Stream:
    """An answer in many pieces; `closed` is called once, however it ends."""

    __slots__ = ("closed", "content_type", "pieces")

    def __init__(self, pieces: AsyncIterator[bytes], *, content_type: bytes, closed: Callable[[], None]) -> None:
        self.pieces = pieces
        self.content_type = content_type
        self.closed = closed


class Call:
    """One request. `bodies` are those of all, `reader` says who sends an Authorization header."""

    __slots__ = ("_bodies", "_held", "_query", "_reader", "_receive", "claim", "operator", "scope", "unread")

    def __init__(
        self, scope: Mapping[str, Any], receive: Any, bodies: Bodies, reader: Callable[[str], Awaitable[Operator]]
    ) -> None:
        self.scope = scope
        self._receive = receive
        self._bodies = bodies
        self._reader = reader
        # Bytes held, of a stranger and of one who is known: one may become the other on the way.
        self._held = [0, 0]
        # Whether a rest of the body may still come.
        self.unread = False
        self._query: Mapping[str, str] | None = None
        # Who asks: set on paths that need a bearer token, and for large bodies.
        self.operator: Operator | None = None
        # What is asked for by proof or envelope, once it could be read: if it is refused, the audit says so.
        self.claim: Claim | None = None

    @property
    def address(self) -> str:
        """Where the request comes from, without the port."""
        client = self.scope.get("client")
        return client[0] if client else ""

    def part(self, name: str) -> str:
        """A variable part of the path."""
        return self.scope["path_params"][name]

    def header(self, name: bytes) -> str:
        """The first header of this (lower-case) name, or nothing."""
        for key, value in self.scope["headers"]:
            if key == name:
                return value.decode("latin-1")
        return ""

    def text(self, name: str, default: str = "") -> str:
        """A query parameter."""
        if self._query is None:
            query = self.scope["query_string"]
            self._query = _read_query(query) if query else {}
        return self._query.get(name, default)

    def number(self, name: str, default: int, *, low: int, high: int) -> int:
        """A query parameter that is a whole number from `low` to `high`.

        :raises UsageError: it is not.
        """
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 18 and low <= int(text) <= high):
            raise codes.REQUEST_MALFORMED.error(f"{name} is not a number from {low} to {high}")
        return int(text)

    def seconds(self, name: str, *, high: float) -> float:
        """A query parameter that is a time in seconds, 0 without it.

        :raises UsageError: it is none, or above `high`.
        """
        text = self.text(name)
        if not text:
            return 0.0
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= high:
            raise codes.REQUEST_MALFORMED.error(f"{name} is not a time from 0 to {high:.0f} seconds")
        return value

    def flag(self, name: str) -> bool:
        """A query parameter that is 1 or 0.

        :raises UsageError: it is neither.
        """
        return self.number(name, 0, low=0, high=1) == 1

    async def body(self, limit: int) -> bytes:
        """The whole body; beyond MAX_STRANGERS_BODY only of one who shows a bearer token.

        :raises ResourceShort: it is larger than `limit` bytes, or central has too much to read.
        :raises Denied: it is large, and nobody is known to send it.
        :raises TimedOut: it does not arrive.
        """
        try:
            stated = int(self.header(b"content-length") or 0)
        except ValueError:
            raise codes.REQUEST_MALFORMED.error("content-length is no number") from None
        self.unread = True
        await self._check_size(stated, limit)
        message = await self._receive()
        # Nearly every body is here whole with its head; only the others pay for a timer and are counted.
        if message.get("more_body"):
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    body = await self._gather(message["body"], limit)
            except TimeoutError:
                raise codes.REQUEST_SLOW.error(f"after {BODY_SECONDS:.0f} s") from None
        else:
            body = message.get("body", b"")
            await self._check_size(len(body), limit)
        self.unread = False
        return body

    def let_go(self) -> None:
        """What was made of the body is kept elsewhere now, or nowhere."""
        for known in (False, True):
            self._bodies.give_back(self._held[known], known=known)
            self._held[known] = 0

    async def _gather(self, piece: bytes, limit: int) -> bytes:
        if self.header(b"authorization"):
            # Strangers may have filled their part. Who is refused is one of them: most bodies need no token.
            with contextlib.suppress(StarAgentError):
                await self._identify()
        pieces: list[bytes] = []
        size = 0
        more = True
        while more:
            known = self.operator is not None
            self._bodies.take(len(piece), known=known)
            self._held[known] += len(piece)
            pieces.append(piece)
            size += len(piece)
            await self._check_size(size, limit)
            message = await self._receive()
            piece, more = message.get("body", b""), message["type"] == "http.request"
            if more and not message.get("more_body"):
                await self._check_size(size + len(piece), limit)
                pieces.append(piece)
                more = False
        return b"".join(pieces)

    async def _check_size(self, size: int, limit: int) -> None:
        if size > limit:
            raise codes.BODY_TOO_LARGE.error(f"at most {limit} bytes")
        if size > MAX_STRANGERS_BODY:
            await self._identify()

    async def _identify(self) -> None:
        if self.operator is None:
            self.operator = await self._reader(self.header(b"authorization"))

    async def value(self, decoder: msgspec.json.Decoder[T], limit: int) -> T:
        """The body as what `decoder` reads.

        :raises UsageError: it is something else.
        """
        return read_json(decoder, await self.body(limit))

    async def gone(self) -> None:
        """Returns when the client has closed the connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


@lru_cache(maxsize=QUERIES_KEPT)
def _read_query(query: bytes) -> Mapping[str, str]:
    try:
        fields = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS, errors="strict"
        )
    except ValueError as error:
        raise codes.REQUEST_MALFORMED.error(f"the query: {error}") from None
    if len({name for name, _ in fields}) != len(fields):
        raise codes.REQUEST_MALFORMED.error("the query has one parameter twice")
    return dict(fields)


def read_json(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """`data` through `decoder`, each way to fail as one code.

    :raises UsageError: it cannot be read.
    """
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise codes.REQUEST_MALFORMED.error(str(error)[:300]) from None
