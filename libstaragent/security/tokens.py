"""Enrolment tokens: what a host shows once to get its first certificate.

    text = opsenrol-ID.SECRET      ID a ULID, SECRET 32 random bytes in base64url

Central keeps only SHA-256 of the secret: 256 random bits need no slow hash. A token ends with its time (at most a day)
or its uses, and may be bound to a room, to names and to networks. It admits a host into the fleet; it never lets
anyone act.

Not here: who may issue one (an admin's `IssueToken`), the store that takes one use off atomically. Rules: pure; random
bytes and now are arguments. The secret is compared first and in constant time, so that expiry or scope tell nothing to
one who does not have it.
"""

from __future__ import annotations

__all__ = ("SECRET_BYTES", "EnrolToken", "issue", "read_token", "redeem", "token_id", "write_token")

import base64
import binascii
import fnmatch
import hashlib
import hmac
import ipaddress

import msgspec

from libstaragent import codes
from libstaragent.model import ids
from libstaragent.security.act_limits import MAX_TOKEN_TTL_MS, MAX_TOKEN_USES
from libstaragent.security.acts import IssueToken

SECRET_BYTES = 32
_ENCODED_SECRET = 43
ENROL_PREFIX = "opsenrol-"


class EnrolToken(msgspec.Struct, frozen=True):
    """What central keeps of a token. `name_pattern` is a shell pattern, `networks` CIDRs, none meaning any."""

    id: str
    digest: bytes
    expires_ms: int
    uses_left: int
    room: str
    name_pattern: str = "*"
    networks: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    replaces: bool = False


def issue(act: IssueToken, *, token: str, secret: bytes, now_ms: int) -> tuple[str, EnrolToken]:
    """The text to hand out once, and what to keep. `token` is a new ULID, `secret` 32 random bytes.

    :raises UsageError: the terms are out of bounds.
    """
    if not 1 <= act.uses <= MAX_TOKEN_USES or not 1 <= act.ttl_ms <= MAX_TOKEN_TTL_MS:
        raise codes.TOKEN_TERMS.error("1 to 10,000 uses, at most 24 hours")
    for network in act.networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise codes.TOKEN_TERMS.error(str(error)) from error
    kept = EnrolToken(
        id=token,
        digest=hashlib.sha256(secret).digest(),
        expires_ms=now_ms + act.ttl_ms,
        uses_left=act.uses,
        room=act.room,
        name_pattern=act.name_pattern,
        networks=act.networks,
        labels=act.labels,
        replaces=act.replaces,
    )
    return write_token(ENROL_PREFIX, token, secret), kept


def token_id(text: str) -> str:
    """The id to look the token up by.

    :raises Denied: this is no enrolment token.
    """
    return read_token(ENROL_PREFIX, text)[0]


def redeem(kept: EnrolToken | None, text: str, *, name: str, room: str, address: str, now_ms: int) -> EnrolToken:
    """What to keep after the host `name` at `address` has used the token for `room`.

    `kept` is what was found by the token's id.

    :raises Denied: it is wrong, used up, or not for this host.
    :raises TimedOut: it has expired.
    """
    token, secret = read_token(ENROL_PREFIX, text)
    if kept is None or token != kept.id or not hmac.compare_digest(hashlib.sha256(secret).digest(), kept.digest):
        raise codes.TOKEN_UNKNOWN.error()
    if now_ms >= kept.expires_ms:
        raise codes.TOKEN_EXPIRED.error()
    if kept.uses_left < 1:
        raise codes.TOKEN_USED_UP.error()
    if room != kept.room:
        raise codes.TOKEN_SCOPE.error(f"it is for room {kept.room}")
    if not fnmatch.fnmatchcase(name, kept.name_pattern):
        raise codes.TOKEN_SCOPE.error(f"it is for hosts called {kept.name_pattern}")
    if kept.networks and not _is_within(address, kept.networks):
        raise codes.TOKEN_SCOPE.error(f"it is not for the address {address}")
    return msgspec.structs.replace(kept, uses_left=kept.uses_left - 1)


def write_token(prefix: str, token: str, secret: bytes) -> str:
    """The text form of any token of ours.

    :raises ValueError: `secret` is not 32 bytes or `token` no ULID.
    """
    if len(secret) != SECRET_BYTES or not ids.is_ulid(token):
        raise ValueError("a token is a ULID and 32 random bytes")
    return f"{prefix}{token}.{base64.urlsafe_b64encode(secret).decode().rstrip('=')}"


def read_token(prefix: str, text: str) -> tuple[str, bytes]:
    """Id and secret of a token; space around it, as pasting leaves it, is ignored.

    :raises Denied: it is no such token.
    """
    body = text.strip().removeprefix(prefix)
    token, _, encoded = body.partition(".")
    if not text.strip().startswith(prefix) or not ids.is_ulid(token) or len(encoded) != _ENCODED_SECRET:
        raise codes.TOKEN_UNKNOWN.error("it is incomplete")
    try:
        secret = base64.b64decode(encoded + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise codes.TOKEN_UNKNOWN.error("it is incomplete") from None
    if write_token(prefix, token, secret) != text.strip():
        # The last symbol has two bits to spare: one secret, one text.
        raise codes.TOKEN_UNKNOWN.error("it is incomplete")
    return token, secret


def _is_within(address: str, networks: tuple[str, ...]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    # A dual-stack listener shows IPv4 peers as ::ffff:a.b.c.d; rules are written for a.b.c.d.
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return any((mapped or found) in ipaddress.ip_network(network) for network in networks)
