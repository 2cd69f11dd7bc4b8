"""Ed25519 signatures over (domain, payload): the one place that touches the signature primitive.

Not here: who may sign what (`roster`, `authority`) and where a seed is kept (`secrets`).

Rules: a signature is always over a domain string and the bytes exactly as they were received; a domain is never a
prefix of another, so what was signed as one thing cannot be shown as another. Only `nacl.bindings` is imported:
`nacl.signing` and `cryptography` cost the agent megabytes. libsodium refuses small-order keys and signatures that are
not canonical.
"""

from __future__ import annotations

__all__ = (
    "KEY_BYTES",
    "SEED_BYTES",
    "SIGNATURE_BYTES",
    "fingerprint",
    "public_key",
    "sign_bytes",
    "signature_holds",
)

import hashlib

from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import CryptoError

SEED_BYTES = 32
KEY_BYTES = 32
SIGNATURE_BYTES = 64


def public_key(seed: bytes) -> bytes:
    """The 32-byte public key of a 32-byte seed."""
    return crypto_sign_seed_keypair(seed)[0]


def fingerprint(key: bytes) -> str:
    """SHA-256 of a public key in hex: what a person compares, and, of the root's key, what a fleet is called."""
    return hashlib.sha256(key).hexdigest()


def sign_bytes(domain: bytes, payload: bytes, seed: bytes) -> bytes:
    """The 64-byte signature of `payload` as a thing of the kind `domain`."""
    secret = crypto_sign_seed_keypair(seed)[1]
    return crypto_sign(domain + payload, secret)[:SIGNATURE_BYTES]


def signature_holds(domain: bytes, payload: bytes, key: bytes, signature: bytes) -> bool:
    """Whether `key` signed `payload` as a thing of the kind `domain`; wrong lengths are a plain no."""
    if len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + domain + payload, key)
    except CryptoError:
        return False
    return True
