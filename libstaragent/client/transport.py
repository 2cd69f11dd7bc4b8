"""HTTP to central: one client, pinned on the fleet's CA, whose every failure has a code.

Not here: which routes there are (`fleet`, `job`), logging in (`session`). A shell: it opens sockets.

Rules: only https, only the fleet's CA, no proxy and no redirect (both could take a token elsewhere); nothing is sent
twice by itself except after a renewed login, where nothing was done before; bodies are bounded.
"""

from __future__ import annotations

__all__ = ("Bearer", "Transport", "coded")

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

import httpx

from libstaragent import codes
from libstaragent.client.answers import decode_answer, raised_at_central
from libstaragent.errors import StarAgentError
from libstaragent.model.api import AUDIT_HEAD_HEADER
from libstaragent.security.tls import client_context, is_clock_failure

T = TypeVar("T")

# A machine on the same network answers in a millisecond; a far one with a handshake in a second.
CONNECT_SECONDS = 5.0
# Above central's own longest work for a plain read: resolving an expression over a whole fleet.
READ_SECONDS = 30.0
# The server says something at least every 15 s on an event stream; after this it is dead.
STREAM_SECONDS = 40.0
# 10,000 targets with their whole output would be 2 GB: that is what paging is for.
MAX_ANSWER_BYTES = 256 * 1024 * 1024

# Central takes a small body of anybody, at once. A larger one it has to gather: for those who are known it keeps room,
# and of nobody else it takes more than 512 KiB.
SMALL_BODY = 16 * 1024

# Gives a bearer token; with True it must be a new one, because central refused the last.
Bearer = Callable[[bool], Awaitable[str]]

_EVENTS = {"accept": "text/event-stream"}

_LOGIN_AGAIN = frozenset({codes.BEARER_UNKNOWN.code, codes.LOGIN_EXPIRED.code})


class Transport:
    """Requests to one central; `bearer` gives the token of reads."""

    def __init__(
        self, api: str, ca: str, *, bearer: Bearer | None = None, on_head: Callable[[str], None] | None = None
    ) -> None:
        """A client that connects on its first request. `on_head` is told the audit's head of each answer that has it.

        :raises ProtocolError: the CA cannot be read.
        """
        self._bearer = bearer
        self._on_head = on_head
        self._client = httpx.AsyncClient(
            base_url=api,
            verify=client_context(ca),
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            trust_env=False,
            follow_redirects=False,
            headers={"accept": "application/json"},
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def get(self, path: str, kind: type[T], *, login: bool = True, **parameters: object) -> T:
        """What `path` answers, as a `kind`.

        :raises StarAgentError: what central refused, or why it cannot be asked.
        """
        return decode_answer(await self._read(path, login=login, parameters=parameters), kind)

    async def post(
        self, path: str, body: bytes, kind: type[T], *, seconds: float = READ_SECONDS, **parameters: object
    ) -> T:
        """What `path` answers to `body`, JSON, within `seconds`.

        :raises StarAgentError: as `get`.
        """
        again = False
        while True:
            headers = await self._known(again) if len(body) > SMALL_BODY else {}
            try:
                answer = await self._send(
                    "POST",
                    path,
                    {"content-type": "application/json", **headers},
                    parameters,
                    content=body,
                    timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
                )
            except StarAgentError as error:
                if again or not headers or error.code.code not in _LOGIN_AGAIN:
                    raise
                again = True
                continue
            return decode_answer(answer, kind)

    async def put(self, path: str, body: bytes, kind: type[T], **parameters: object) -> T:
        """What `path` answers to these bytes of a file.

        :raises StarAgentError: as `get`.
        """
        content = {"content-type": "application/octet-stream"}
        try:
            headers = await self._authorised(False) | content
            return decode_answer(await self._send("PUT", path, headers, parameters, content=body), kind)
        except StarAgentError as error:
            if error.code.code not in _LOGIN_AGAIN:
                raise
        headers = await self._authorised(True) | content
        return decode_answer(await self._send("PUT", path, headers, parameters, content=body), kind)

    async def open_answer(self, path: str, body: bytes, **parameters: object) -> httpx.Response:
        """A long answer to `body`, JSON, opened; the caller reads it within `coded` and closes it.

        :raises StarAgentError: as `get`.
        """
        headers = {"content-type": "application/json", "accept": "*/*"}
        return await self._open(path, headers, parameters, method="POST", content=body)

    async def open_stream(self, path: str, **parameters: object) -> httpx.Response:
        """An event stream, opened; the caller reads it within `coded` and closes it.

        :raises StarAgentError: as `get`.
        """
        try:
            return await self._open(path, await self._authorised(False) | _EVENTS, parameters)
        except StarAgentError as error:
            if error.code.code not in _LOGIN_AGAIN:
                raise
        return await self._open(path, await self._authorised(True) | _EVENTS, parameters)

    async def _open(
        self,
        path: str,
        headers: dict[str, str],
        parameters: Mapping[str, object],
        *,
        method: str = "GET",
        content: bytes | None = None,
    ) -> httpx.Response:
        with coded():
            request = self._client.build_request(
                method,
                path,
                params=_query(parameters),
                headers=headers,
                content=content,
                timeout=httpx.Timeout(STREAM_SECONDS, connect=CONNECT_SECONDS),
            )
            response = await self._client.send(request, stream=True)
            if response.is_success:
                return response
            try:
                error = raised_at_central(response.status_code, await _bounded(response))
            finally:
                await response.aclose()
        raise error

    async def _read(self, path: str, *, login: bool, parameters: Mapping[str, object]) -> bytes:
        if not login:
            return await self._send("GET", path, {}, parameters)
        try:
            return await self._send("GET", path, await self._authorised(False), parameters)
        except StarAgentError as error:
            if error.code.code not in _LOGIN_AGAIN:
                raise
        return await self._send("GET", path, await self._authorised(True), parameters)

    async def _authorised(self, again: bool) -> dict[str, str]:
        if self._bearer is None:
            return {}
        return {"authorization": f"Bearer {await self._bearer(again)}"}

    async def _known(self, again: bool) -> dict[str, str]:
        try:
            return await self._authorised(again)
        except StarAgentError:
            # Who may not read may act all the same.
            return {}

    async def _send(
        self, method: str, path: str, headers: dict[str, str], parameters: Mapping[str, object], **more: Any
    ) -> bytes:
        with coded():
            async with self._client.stream(
                method, path, headers=headers, params=_query(parameters), **more
            ) as response:
                body = await _bounded(response)
        head = response.headers.get(AUDIT_HEAD_HEADER)
        if head is not None and self._on_head is not None:
            self._on_head(head)
        if not response.is_success:
            raise raised_at_central(response.status_code, body)
        return body


def _query(parameters: Mapping[str, object]) -> dict[str, str]:
    """The query of those parameters that are given."""
    return {name: str(value) for name, value in parameters.items() if value is not None}


async def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise codes.CENTRAL_ANSWER.error("the answer is larger than 256 MiB")
    return bytes(body)


class coded:
    """Gives httpx's failures their codes; others pass."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            raise codes.CENTRAL_SILENT.error() from error
        if isinstance(error, (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)):
            raise _of_network(error) from error


def _of_network(error: Exception) -> StarAgentError:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            if is_clock_failure(cause):
                return codes.CLOCKS_APART.error(f"by it, central's certificate is not of now: {cause.verify_message}")
            return codes.CENTRAL_CERTIFICATE.error(cause.verify_message)
        if isinstance(cause, socket.gaierror) and isinstance(error, httpx.RequestError):
            return codes.CENTRAL_UNREACHABLE.error(f"{error.request.url.host}: {cause.strerror}")
        if isinstance(cause, OSError) and cause.errno and not isinstance(cause, ssl.SSLError):
            return codes.CENTRAL_UNREACHABLE.error(cause.strerror or str(cause), errno=cause.errno)
    if isinstance(error, (httpx.DecodingError, httpx.TooManyRedirects, httpx.InvalidURL)):
        return codes.CENTRAL_ANSWER.error(str(error))
    return codes.CENTRAL_UNREACHABLE.error(str(error) or type(error).__name__)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and what led to it; where several addresses were tried at once, each of their failures."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            for inner in cast("BaseExceptionGroup[BaseException]", cause).exceptions:
                yield from _causes(inner)
        cause = cause.__cause__ or cause.__context__
