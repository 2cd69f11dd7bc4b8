"""The tree that a target expression is read into. Values only; what they mean for hosts is in `expression` and
`choose`."""

from __future__ import annotations

__all__ = ("All", "And", "Fact", "Group", "Names", "Network", "Not", "Or", "Ranges", "Term")

from typing import TYPE_CHECKING, Union

from msgspec import Struct

from libstaragent.targets.pattern import Pattern

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network


class All(Struct, frozen=True):
    """Every host."""


class Names(Struct, frozen=True):
    """Hosts by name: the plain names of one `or`, together, so that a list of thousands costs one look-up."""

    names: frozenset[str]


class Ranges(Struct, frozen=True):
    """Names with ranges or wildcards in them."""

    pattern: Pattern


class Fact(Struct, frozen=True):
    """``key=value``; the value may hold wildcards."""

    key: str
    value: Pattern


class Network(Struct, frozen=True):
    """Hosts with an address in it; a single address is a network of one."""

    network: IPv4Network | IPv6Network


class Group(Struct, frozen=True):
    """``@name``; `at` is where it stands in the text."""

    name: str
    at: int


class Not(Struct, frozen=True):
    """Every host but."""

    term: Term


class And(Struct, frozen=True):
    """Hosts that all of them mean."""

    terms: tuple[Term, ...]


class Or(Struct, frozen=True):
    """Hosts that any of them means."""

    terms: tuple[Term, ...]


Term = Union[All, Names, Ranges, Fact, Network, Group, Not, And, Or]  # noqa: UP007  a runtime value: the names are forward
