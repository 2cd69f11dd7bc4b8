"""What the HTTP API says of the roster: for a look. Values; what counts is the signed chain (`GET /v1/trust`)."""

from __future__ import annotations

__all__ = ("OperatorView", "PolicyView")

from msgspec import Struct


class OperatorView(Struct, frozen=True, kw_only=True):
    """An operator; `fingerprint` is SHA-256 of the public key in hex."""

    name: str
    fingerprint: str
    roles: tuple[str, ...]


class PolicyView(Struct, frozen=True, kw_only=True):
    """The newest roster that central carries. Not verified by whoever only reads this: `GET /v1/trust` has the chain.

    `text` is the policy file that would make its rules, groups and labels.
    """

    revision: int
    issued_ms: int
    valid_until_ms: int
    operators: tuple[OperatorView, ...]
    rules: tuple[str, ...]
    revoked: tuple[str, ...]
    text: str
