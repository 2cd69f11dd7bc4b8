"""Choosing hosts of an inventory by an expression, by sets: what an operator's client does once for each job.

The same meaning as `Expression.matches` (a property test holds them together), in time that follows the names
written and the hosts there are, not their product: a name is looked up, and only globs, facts and networks look at
each host.

Rules: a name that stands for one host must exist, wherever in the expression it stands (also after ``!``): a
misspelt exclusion is the dangerous one. Names inside groups need not: a roster outlives its hosts.
"""

from __future__ import annotations

__all__ = ("select",)

from collections.abc import Iterator, Mapping, Sequence

from libstaragent import codes
from libstaragent.model.host import HostFacts
from libstaragent.targets.expression import Expression, carried, group_term, in_network
from libstaragent.targets.fold import fold
from libstaragent.targets.terms import All, And, Fact, Group, Names, Network, Not, Or, Ranges, Term

# Unknown names that get a "did you mean", and nearest names for each: a typo is one or two, a wrong fleet is thousands.
_SUGGESTED = 3
_NEAREST = 2


def select(expression: Expression, hosts: Sequence[HostFacts], groups: Mapping[str, str]) -> list[HostFacts]:
    """The hosts that `expression` means, in the order of `hosts`; `groups` maps a group's name to its expression.

    :raises NotFound: HOST_UNKNOWN for names not among `hosts`, GROUP_UNKNOWN, NO_TARGET where nobody is left.
    :raises UsageError: a group's expression cannot be read, or groups name each other in a circle.
    """
    inventory = _Inventory(hosts, groups)
    unknown = {name for name in _named(expression.term) if name not in inventory.by_name}
    if unknown:
        raise codes.HOST_UNKNOWN.error(_unknown_text(unknown, list(inventory.by_name)))
    chosen = inventory.of(expression.term)
    if not chosen:
        raise codes.NO_TARGET.error(expression.text if len(expression.text) <= 200 else expression.text[:200] + "…")
    return [hosts[index] for index in sorted(chosen)]


class _Inventory:
    def __init__(self, hosts: Sequence[HostFacts], groups: Mapping[str, str]) -> None:
        self.hosts = hosts
        self.groups = groups
        self.everyone = frozenset(range(len(hosts)))
        self.by_name: dict[str, int] = {host.name: index for index, host in enumerate(hosts)}
        self.decided: dict[str, frozenset[int]] = {}
        self.open: list[str] = []

    def of(self, term: Term) -> frozenset[int]:
        match term:
            case All():
                return self.everyone
            case Names():
                return self._looked_up(iter(term.names))
            case Ranges() if term.pattern.literal:
                return self._looked_up(term.pattern.names())
            case Ranges():
                return frozenset(i for i, host in enumerate(self.hosts) if term.pattern.matches(host.name))
            case Fact():
                values = ((index, carried(host, term.key)) for index, host in enumerate(self.hosts))
                return frozenset(i for i, value in values if value is not None and term.value.matches(value))
            case Network():
                return frozenset(index for index, host in enumerate(self.hosts) if in_network(host, term))
            case Group():
                return self._group(term.name)
            case Not():
                return self.everyone - self.of(term.term)
            case And():
                return frozenset[int].intersection(*(self.of(inner) for inner in term.terms))
            case Or():
                return frozenset[int]().union(*(self.of(inner) for inner in term.terms))

    def _looked_up(self, names: Iterator[str]) -> frozenset[int]:
        return frozenset(self.by_name[name] for name in names if name in self.by_name)

    def _group(self, name: str) -> frozenset[int]:
        if name not in self.decided:
            inner = group_term(name, self.groups, self.open)
            self.open.append(name)
            self.decided[name] = self.of(inner)
            self.open.pop()
        return self.decided[name]


def _named(term: Term) -> Iterator[str]:
    match term:
        case Names():
            yield from term.names
        case Ranges() if term.pattern.literal:
            yield from term.pattern.names()
        case Not():
            yield from _named(term.term)
        case And() | Or():
            for inner in term.terms:
                yield from _named(inner)
        case _:
            return


def _unknown_text(unknown: set[str], known: list[str]) -> str:
    from difflib import get_close_matches  # late: only a misspelling needs it

    text = fold(unknown)
    if len(text) > 500:
        text = f"{text[:500]}… ({len(unknown)} names)"
    for name in sorted(unknown)[:_SUGGESTED]:
        near = get_close_matches(name, known, n=_NEAREST)
        if near:
            text += f"; for {name} did you mean {' or '.join(near)}?"
    return text
