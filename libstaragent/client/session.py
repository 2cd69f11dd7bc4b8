"""The login: a bearer token for reads, got by signing a challenge, kept until it ends.

Not here: acts; they carry a signature of their own and need no login. A shell: it asks central and keeps a file.

Rules: the token is kept in a file of mode 0600 beside the context, or in memory only where there is no file; a file
that others could read is not used; a token that central refuses is replaced once by itself.
"""

from __future__ import annotations

__all__ = ("Login", "session_path")

import time
from collections.abc import Callable
from pathlib import Path

import anyio
import msgspec

from libstaragent.client.context import Context
from libstaragent.client.transport import Transport
from libstaragent.errors import StarAgentError
from libstaragent.model.api import LoginRequest, Session
from libstaragent.security.login import Challenge, answer
from libstaragent.security.private_file import read_private, write_private

# A token that ends within this is not begun with: the request that carries it may take that long.
MARGIN_MS = 60_000


def session_path(context_file: Path) -> Path:
    """Where the token of the fleet in `context_file` is kept."""
    return context_file.with_suffix(".session")


class _Kept(msgspec.Struct, frozen=True):
    """The file: the token, and whose and where it is valid."""

    fleet: str
    api: str
    operator: str
    token: str
    expires_ms: int


class Login:
    """One operator's login at one central; `load_seed` asks the keyring or reads the key file."""

    def __init__(
        self, context: Context, transport: Transport, *, load_seed: Callable[[], bytes], file: Path | None
    ) -> None:
        self._context = context
        self._transport = transport
        self._load_seed = load_seed
        self._file = file
        self._session: Session | None = None
        self._lock = anyio.Lock()

    async def bearer(self, again: bool) -> str:
        """The token; a new one if `again`, or if none is valid.

        :raises StarAgentError: the key is not to be had, or central refuses it.
        """
        refused = self._session
        async with self._lock:
            if again and self._session is not None and self._session is not refused:
                return self._session.token  # another task has just renewed it
            if not again and self._session is None:
                self._session = self._restored()
            if again or self._session is None or self._session.expires_ms - MARGIN_MS <= _now_ms():
                await self.renew()
            assert self._session is not None
            return self._session.token

    async def renew(self, ttl_ms: int | None = None) -> Session:
        """Logs in anew, for `ttl_ms` milliseconds (12 hours if None).

        :raises StarAgentError: as `bearer`.
        """
        seed = await anyio.to_thread.run_sync(self._load_seed)
        context = self._context
        asked = await self._transport.get("/v1/login", Challenge, login=False, operator=context.operator)
        signed = answer(asked, fleet=context.fleet, operator=context.operator, seed=seed)
        request = LoginRequest(signed) if ttl_ms is None else LoginRequest(signed, ttl_ms)
        self._session = await self._transport.post("/v1/login", msgspec.json.encode(request), Session)
        self._keep(self._session)
        return self._session

    def _restored(self) -> Session | None:
        if self._file is None:
            return None
        try:
            kept = msgspec.json.decode(read_private(self._file), type=_Kept)
        except (StarAgentError, msgspec.MsgspecError, ValueError):
            return None  # whatever is wrong with it, a new login mends it
        whose = (self._context.fleet, self._context.api, self._context.operator)
        return Session(kept.token, kept.expires_ms) if (kept.fleet, kept.api, kept.operator) == whose else None

    def _keep(self, session: Session) -> None:
        if self._file is None:
            return
        context = self._context
        kept = _Kept(context.fleet, context.api, context.operator, session.token, session.expires_ms)
        try:
            write_private(self._file, msgspec.json.encode(kept), overwrite=True)
        except StarAgentError:
            pass  # a read-only home: the next command logs in again


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
