"""Who may read: challenges, logins and their bearer tokens.

Not here: the rules (`libstaragent.security.login`), HTTP. Rules: a login is on disk before its token is told, so that a
restart logs nobody out; at each use the present roster is asked, so that a revocation counts at once. Challenges live
in memory: a restart costs one more question.
"""

from __future__ import annotations

__all__ = ("MAX_CHALLENGES", "Access")

import asyncio
import secrets
from collections.abc import Callable

from agentd.central.service import Central
from agentd.store import records
from agentd.store.ops import DeleteSessions, InsertSession
from agentd.store.reader import Reader
from libstaragent import codes
from libstaragent.model.api import Session
from libstaragent.model.ids import ULID_RANDOM_BYTES, is_user_name, new_ulid
from libstaragent.security.login import (
    NONCE_BYTES,
    Bearer,
    Challenge,
    bearer_id,
    challenge,
    check_answer,
    check_bearer,
    grant,
)
from libstaragent.security.roster import Operator
from libstaragent.security.signed import Signed
from libstaragent.security.tokens import SECRET_BYTES

# Asked for by anybody, so the oldest goes when there are more; one lives five minutes.
MAX_CHALLENGES = 4096
# Bearers kept in memory; the store has the others.
MAX_CACHED = 4096


class Access:
    """See the module."""

    def __init__(self, central: Central, read: Reader, *, now_ms: Callable[[], int]) -> None:
        self._central = central
        self._read = read
        self._now_ms = now_ms
        self._challenges: dict[bytes, Challenge] = {}
        self._bearers: dict[str, Bearer] = {}

    def ask(self, operator: str) -> Challenge:
        """A challenge for whoever says to be `operator`; whether there is one is not told here.

        :raises UsageError: that is no name.
        """
        if not is_user_name(operator):
            raise codes.REQUEST_MALFORMED.error("operator is not a name")
        asked = challenge(
            fleet=self._central.trust.fleet,
            operator=operator,
            nonce=secrets.token_bytes(NONCE_BYTES),
            now_ms=self._now_ms(),
        )
        self._challenges[asked.nonce] = asked
        if len(self._challenges) > MAX_CHALLENGES:
            del self._challenges[next(iter(self._challenges))]
        return asked

    async def log_in(self, answer: Signed, nonce: bytes, life_ms: int) -> Session:
        """A bearer token for the one who answered the challenge with this nonce.

        :raises Denied: nobody was asked this, or the answer does not hold.
        """
        now_ms = self._now_ms()
        asked = self._challenges.pop(nonce, None)
        if asked is None:
            raise codes.LOGIN_REFUSED.error("the challenge is unknown, answered already or too old")
        operator = check_answer(answer, asked=asked, roster=self._central.trust.newest, now_ms=now_ms)
        token = new_ulid(now_ms, secrets.token_bytes(ULID_RANDOM_BYTES))
        text, kept = grant(
            operator, token=token, secret=secrets.token_bytes(SECRET_BYTES), now_ms=now_ms, life_ms=life_ms
        )
        session = InsertSession(
            id=kept.id, digest=kept.digest, operator=kept.operator, key=kept.key, expires_ms=kept.expires_ms
        )
        await self._central.write([DeleteSessions(expired_ms=now_ms), session])
        self._remember(kept)
        return Session(token=text, expires_ms=kept.expires_ms)

    async def reader(self, authorization: str) -> Operator:
        """Who sends this header.

        :raises Denied: nobody who may read.
        """
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer" or not text:
            raise codes.BEARER_MISSING.error()
        token = bearer_id(text)
        kept = self._bearers.get(token)
        if kept is None:
            row = await asyncio.to_thread(self._read.session, token)
            kept = None if row is None else _bearer(row)
        operator = check_bearer(kept, text, roster=self._central.trust.newest, now_ms=self._now_ms())
        if kept is not None and token not in self._bearers:
            self._remember(kept)
        return operator

    def _remember(self, kept: Bearer) -> None:
        self._bearers[kept.id] = kept
        if len(self._bearers) > MAX_CACHED:
            del self._bearers[next(iter(self._bearers))]


def _bearer(row: records.Session) -> Bearer:
    return Bearer(row.id, row.digest, row.operator, row.key, row.expires_ms)
