"""Login: an operator proves his key once and reads with a bearer token for at most 12 hours.

    central ── Challenge ──▶ operator ── Signed(Challenge) ──▶ central ── opsbearer-ID.SECRET ──▶ operator

A bearer token only reads. Whoever steals one sees what its operator sees until it ends; no act is done without an
envelope. Central keeps SHA-256 of the secret, and asks the present roster at each use, so revocation is immediate.

Not here: HTTP, and forgetting a challenge once it was answered. Rules: pure; random bytes and now are arguments. The
signature has a domain of its own, so that a challenge can never be an envelope that somebody was made to sign.
"""

from __future__ import annotations

__all__ = ("Bearer", "Challenge", "answer", "bearer_id", "challenge", "check_answer", "check_bearer", "grant")

import hashlib
import hmac

import msgspec

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.security.roster import Operator, Roster
from libstaragent.security.signed import Signed, open_payload, seal_payload
from libstaragent.security.tokens import read_token, write_token

DOMAIN = b"opsconsole login 1\0"
BEARER_PREFIX = "opsbearer-"
NONCE_BYTES = 32
# Long enough to type a keyring's password.
CHALLENGE_LIFE_MS = 5 * 60_000
# A working day with its overtime.
MAX_BEARER_LIFE_MS = 12 * 3_600_000


class Challenge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator signs: this fleet, this name, these random bytes."""

    fleet: str
    operator: str
    nonce: bytes
    expires_ms: int


class Bearer(msgspec.Struct, frozen=True):
    """What central keeps of a bearer token."""

    id: str
    digest: bytes
    operator: str
    key: bytes
    expires_ms: int


_decoder = msgspec.msgpack.Decoder(Challenge)


def challenge(*, fleet: str, operator: str, nonce: bytes, now_ms: int) -> Challenge:
    """A challenge with 32 random bytes, to be answered within five minutes.

    :raises ValueError: the nonce has another length.
    """
    if len(nonce) != NONCE_BYTES:
        raise ValueError("a challenge has 32 random bytes")
    return Challenge(fleet, operator, nonce, now_ms + CHALLENGE_LIFE_MS)


def answer(asked: Challenge, *, fleet: str, operator: str, seed: bytes) -> Signed:
    """The signed challenge; `fleet` and `operator` are whom the operator believes to talk as and to.

    :raises IntegrityError: the challenge is for another fleet.
    :raises Denied: it is for another operator.
    """
    if asked.fleet != fleet:
        raise codes.ROSTER_OTHER_FLEET.error(f"who answers is of fleet {asked.fleet[:16]}…")
    if asked.operator != operator or len(asked.nonce) != NONCE_BYTES:
        raise codes.LOGIN_REFUSED.error("the challenge is not for this operator and fleet")
    return seal_payload(asked, domain=DOMAIN, seed=seed)


def check_answer(signed: Signed, *, asked: Challenge, roster: Roster, now_ms: int) -> Operator:
    """Who has answered `asked`, which the caller forgets now.

    :raises Denied: no operator of the roster, another challenge, or a signature that does not hold.
    :raises TimedOut: too late.
    """
    try:
        answered = open_payload(signed, domain=DOMAIN, decoder=_decoder)
    except StarAgentError as error:
        raise codes.LOGIN_REFUSED.error(str(error)) from error
    operator = roster.operator_by_key(signed.key)
    if answered != asked or asked.fleet != roster.fleet or operator is None or operator.name != asked.operator:
        raise codes.LOGIN_REFUSED.error()
    if "read" not in operator.roles:
        raise codes.SIGNER_ROLE.error(f"{operator.name} may not read")
    if now_ms >= asked.expires_ms:
        raise codes.LOGIN_EXPIRED.error()
    return operator


def grant(operator: Operator, *, token: str, secret: bytes, now_ms: int, life_ms: int) -> tuple[str, Bearer]:
    """The bearer's text to hand out once, and what to keep. `token` is a new ULID, `secret` 32 random bytes.

    :raises UsageError: it would live longer than 12 hours.
    """
    if not 1 <= life_ms <= MAX_BEARER_LIFE_MS:
        raise codes.TOKEN_TERMS.error("a login lasts at most 12 hours")
    kept = Bearer(token, hashlib.sha256(secret).digest(), operator.name, operator.key, now_ms + life_ms)
    return write_token(BEARER_PREFIX, token, secret), kept


def bearer_id(text: str) -> str:
    """The id to look the bearer up by.

    :raises Denied: this is no bearer token.
    """
    return _read(text)[0]


def check_bearer(kept: Bearer | None, text: str, *, roster: Roster, now_ms: int) -> Operator:
    """Who shows the bearer token `text`; `kept` is what was found by its id.

    :raises Denied: it is wrong, or its operator has left the roster, changed keys or may no longer read.
    :raises TimedOut: it has expired.
    """
    token, secret = _read(text)
    if kept is None or token != kept.id or not hmac.compare_digest(hashlib.sha256(secret).digest(), kept.digest):
        raise codes.BEARER_UNKNOWN.error()
    if now_ms >= kept.expires_ms:
        raise codes.LOGIN_EXPIRED.error()
    operator = roster.operator_by_key(kept.key)
    if operator is None or operator.name != kept.operator or "read" not in operator.roles:
        raise codes.BEARER_UNKNOWN.error(f"{kept.operator} is no longer in the roster")
    return operator


def _read(text: str) -> tuple[str, bytes]:
    try:
        return read_token(BEARER_PREFIX, text)
    except StarAgentError:
        raise codes.BEARER_UNKNOWN.error() from None
