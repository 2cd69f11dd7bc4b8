"""What is known of a host when targets are chosen: its names, its place, what was written on it and what it says of
itself.

Not here: how it is doing (connections, health); that reaches an expression as a fact, such as ``state``.
Rules: a frozen value; who filled it is the caller's matter, and a fact is only as true as the host that reported it.
"""

from __future__ import annotations

__all__ = ("HostFacts",)

from msgspec import Struct


class HostFacts(Struct, frozen=True, kw_only=True):
    """One host, as a target expression sees it.

    Attributes:
        id: the agent's id, a ULID.
        name: what operators call it, unique in the fleet.
        room: the machine room it belongs to.
        addresses: its IP addresses as text; one that cannot be read matches no network.
        labels: what operators wrote on it.
        facts: what it says of itself (``os``, ``arch``, …) or what central knows of it (``state``).
    """

    id: str
    name: str
    room: str = ""
    addresses: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    facts: dict[str, str] = {}
