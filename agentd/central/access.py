"""Who may read: challenges, logins and their bearer tokens.

Not here: the rules (`libstaragent.security.login`), HTTP. Rules: a login is on disk before its token is told, so that a
restart logs nobody out; at each use the present roster is asked, so that a revocation counts at once. A challenge is
remembered by nobody until it is answered: anybody may ask for one, and would push out those of others. It carries our
seal instead, with a key of this process: a restart costs one more question.
"""

from __future__ import annotations

__all__ = ("Access",)

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable

import msgspec

from agentd.central.audit import login_entry
from agentd.central.service import Central
from agentd.store import records
from agentd.store.ops import DeleteSessions, InsertAudit, InsertSession
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

# Half of a challenge's random bytes are the seal over the rest of it: 128 bits each.
SEAL_BYTES = NONCE_BYTES // 2
# Answered well, by operators, within the five minutes of a challenge; remembered so that none is answered twice.
MAX_ANSWERED = 4096
# Bearers kept in memory; the store has the others.
MAX_CACHED = 4096

_pack = msgspec.msgpack.Encoder().encode


class Access:
    """See the module."""

    def __init__(self, central: Central, read: Reader, *, now_ms: Callable[[], int]) -> None:
        self._central = central
        self._read = read
        self._now_ms = now_ms
        self._key = secrets.token_bytes(NONCE_BYTES)
        self._answered: dict[bytes, int] = {}
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
        begin = asked.nonce[:-SEAL_BYTES]
        return msgspec.structs.replace(asked, nonce=begin + self._seal(asked, begin))

    async def log_in(self, answer: Signed, asked: Challenge, life_ms: int, *, source: str = "") -> Session:
        """A bearer token for the one who answered `asked`, which is what the answer itself says.

        :raises Denied: nobody was asked this, or the answer does not hold.
        """
        now_ms = self._now_ms()
        begin, seal = asked.nonce[:-SEAL_BYTES], asked.nonce[-SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(asked, begin)) or asked.nonce in self._answered:
            raise codes.LOGIN_REFUSED.error("the challenge is unknown, answered already or too old")
        operator = check_answer(answer, asked=asked, roster=self._central.trust.newest, now_ms=now_ms)
        self._answer(asked, now_ms)
        token = new_ulid(now_ms, secrets.token_bytes(ULID_RANDOM_BYTES))
        text, kept = grant(
            operator, token=token, secret=secrets.token_bytes(SECRET_BYTES), now_ms=now_ms, life_ms=life_ms
        )
        session = InsertSession(
            id=kept.id, digest=kept.digest, operator=kept.operator, key=kept.key, expires_ms=kept.expires_ms
        )
        audited = InsertAudit(login_entry(operator, answer, source=source), now_ms)
        await self._central.write([DeleteSessions(expired_ms=now_ms), session, audited])
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

    def _seal(self, asked: Challenge, begin: bytes) -> bytes:
        said = _pack((asked.fleet, asked.operator, asked.expires_ms, begin))
        return hmac.digest(self._key, said, hashlib.sha256)[:SEAL_BYTES]

    def _answer(self, asked: Challenge, now_ms: int) -> None:
        if len(self._answered) >= MAX_ANSWERED:
            self._answered = {nonce: until for nonce, until in self._answered.items() if until > now_ms}
        if len(self._answered) >= MAX_ANSWERED:
            raise codes.TOO_MANY_REQUESTS.error(f"{MAX_ANSWERED} logins in five minutes")
        self._answered[asked.nonce] = asked.expires_ms

    def _remember(self, kept: Bearer) -> None:
        self._bearers[kept.id] = kept
        if len(self._bearers) > MAX_CACHED:
            del self._bearers[next(iter(self._bearers))]


def _bearer(row: records.Session) -> Bearer:
    return Bearer(row.id, row.digest, row.operator, row.key, row.expires_ms)
