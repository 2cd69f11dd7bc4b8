"""What an id looks like: job and agent ids (ULID), fleet fingerprints, names of hosts, rooms, operators, time zones.

Not here: who hands ids out, and whether one is taken. Rules: pure (time and random bytes are arguments), no `re` and no
library, because each frame that names a job passes through here.

A ULID (https://github.com/ulid/spec) is 48 bits of milliseconds and 80 random bits in Crockford's base 32: ids sort
by the time they were made, and need no coordination. Only the canonical upper-case form is one here, so that one job
has one id.
"""

from __future__ import annotations

__all__ = (
    "SHORT_NAME_TERMS",
    "ULID_RANDOM_BYTES",
    "is_agent_id",
    "is_fingerprint",
    "is_host_name",
    "is_room_name",
    "is_time_zone",
    "is_ulid",
    "is_user_name",
    "new_ulid",
    "ulid_time_ms",
)

ULID_LENGTH = 26
ULID_RANDOM_BYTES = 10
# 48 bits: the format's own end, in the year 10889.
MAX_ULID_MS = (1 << 48) - 1

# A host name is a DNS name at most (RFC 1035, 253 octets); the other names stand in tables and file names.
MAX_HOST_NAME = 253
MAX_SHORT_NAME = 63
SHORT_NAME_TERMS = "1 to 63 letters, digits, dots, dashes and underscores, the first a letter or digit"
# The longest of the time zone database has 32.
MAX_ZONE_NAME = 64

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUE = {symbol: value for value, symbol in enumerate(_CROCKFORD)}
_HEX = "0123456789abcdef"
_ALPHANUMERIC = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_NAME_SYMBOLS = _ALPHANUMERIC + "._-"
_ZONE_SYMBOLS = _ALPHANUMERIC + "_+-"


def new_ulid(now_ms: int, random: bytes) -> str:
    """The ULID of `now_ms` (milliseconds since the epoch) and 10 random bytes.

    :raises ValueError: the time does not fit 48 bits or `random` is not 10 bytes.
    """
    if not 0 <= now_ms <= MAX_ULID_MS or len(random) != ULID_RANDOM_BYTES:
        raise ValueError("a ULID is made of 48 bits of milliseconds and 10 random bytes")
    number = now_ms << 80 | int.from_bytes(random, "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def is_ulid(text: str) -> bool:
    """Whether `text` is a ULID in canonical form; the first symbol carries only 3 bits."""
    return len(text) == ULID_LENGTH and text[0] <= "7" and _only(text, _CROCKFORD)


def ulid_time_ms(ulid: str) -> int:
    """When `ulid` was made, in milliseconds since the epoch.

    :raises ValueError: it is not a ULID.
    """
    if not is_ulid(ulid):
        raise ValueError("not a ULID")
    number = 0
    for symbol in ulid[:10]:
        number = number << 5 | _VALUE[symbol]
    return number


def is_agent_id(text: str) -> bool:
    """Whether `text` can be an agent's id: the ULID that central gave it at enrolment. It outlives keys and names."""
    return is_ulid(text)


def is_fingerprint(text: str) -> bool:
    """Whether `text` is a SHA-256 in lower-case hex: how a fleet (its root's public key) is written."""
    return len(text) == 64 and _only(text, _HEX)


def is_host_name(text: str) -> bool:
    """Whether a host may be called `text`: letters, digits, ``._-``, beginning with a letter or digit."""
    return _is_name(text, MAX_HOST_NAME)


def is_room_name(text: str) -> bool:
    """Whether a room may be called `text`."""
    return _is_name(text, MAX_SHORT_NAME)


def is_user_name(text: str) -> bool:
    """Whether an operator may be called `text`."""
    return _is_name(text, MAX_SHORT_NAME)


def is_time_zone(text: str) -> bool:
    """Whether `text` looks like a name of the time zone database. To be asked before one is looked up: there it becomes
    a path and a chain of imports, one for each dot.
    """
    return 0 < len(text) <= MAX_ZONE_NAME and all(part and _only(part, _ZONE_SYMBOLS) for part in text.split("/"))


def _is_name(text: str, longest: int) -> bool:
    return 0 < len(text) <= longest and text[0] in _ALPHANUMERIC and _only(text, _NAME_SYMBOLS)


def _only(text: str, symbols: str) -> bool:
    # Strips from both ends what is in `symbols`, and stops at what is not; in C, without a set a call.
    return not text.strip(symbols)
