"""A read target expression, and its judgement of one host.

Not here: choosing among many hosts (`libstaragent.targets.choose` does it by sets). Rules: no library but msgspec,
since the agent judges itself by this on each envelope; a group is judged once a host, however often it is named, so
that groups of groups cannot multiply.

Two questions are asked. `matches`: do I know this host to be meant? What a host does not carry (a label, a fact)
does not equal anything. `may_match`: could it be meant, for one who does not know all labels? Three-valued logic
(Kleene): a comparison with what is not carried is undecided, and only a decided *no* refuses. The agent asks the
second, since labels that only central knows rest on the list of hosts that the operator signed.
"""

from __future__ import annotations

__all__ = ("Expression", "carried", "group_term", "in_network")

from collections.abc import Mapping

from msgspec import Struct

from libstaragent import codes
from libstaragent.model.host import HostFacts
from libstaragent.targets import limits
from libstaragent.targets.grammar import read
from libstaragent.targets.terms import All, And, Fact, Group, Names, Network, Not, Or, Ranges, Term


class Expression(Struct, frozen=True):
    """A target expression: `text` as it was written, `term` as it was read."""

    text: str
    term: Term

    def matches(self, host: HostFacts, groups: Mapping[str, str]) -> bool:
        """Whether `host` is meant; `groups` maps a group's name to its own expression.

        :raises NotFound: GROUP_UNKNOWN.
        :raises UsageError: a group's expression cannot be read, or groups name each other in a circle.
        """
        return _Judge(host, groups, undecided=False).of(self.term) is True

    def may_match(self, host: HostFacts, groups: Mapping[str, str]) -> bool:
        """Whether `host` may be meant: False only if what is known of it says that it is not.

        :raises: as `matches`.
        """
        return _Judge(host, groups, undecided=None).of(self.term) is not False


class _Judge:
    """One judgement: a host, and the groups decided so far. `undecided` is what a comparison with nothing gives."""

    def __init__(self, host: HostFacts, groups: Mapping[str, str], *, undecided: bool | None) -> None:
        self.host = host
        self.groups = groups
        self.undecided = undecided
        self.decided: dict[str, bool | None] = {}
        self.open: list[str] = []

    def of(self, term: Term) -> bool | None:
        match term:
            case All():
                return True
            case Names():
                return self.host.name in term.names
            case Ranges():
                return term.pattern.matches(self.host.name)
            case Fact():
                value = carried(self.host, term.key)
                return self.undecided if value is None else term.value.matches(value)
            case Network():
                return in_network(self.host, term)
            case Group():
                return self.group(term)
            case Not():
                inner = self.of(term.term)
                return None if inner is None else not inner
            case And():
                answers = [self.of(inner) for inner in term.terms]
                return False if False in answers else None if None in answers else True
            case Or():
                answers = [self.of(inner) for inner in term.terms]
                return True if True in answers else None if None in answers else False

    def group(self, group: Group) -> bool | None:
        if group.name not in self.decided:
            inner = group_term(group.name, self.groups, self.open)
            self.open.append(group.name)
            self.decided[group.name] = self.of(inner)
            self.open.pop()
        return self.decided[group.name]


def group_term(name: str, groups: Mapping[str, str], inside: list[str]) -> Term:
    """The tree of group `name`, reached through the groups `inside`.

    :raises NotFound: GROUP_UNKNOWN.
    :raises UsageError: TARGET_SYNTAX, or GROUP_CIRCLE for a circle or too many levels.
    """
    if name not in groups:
        raise codes.GROUP_UNKNOWN.error(f"@{name}")
    if name in inside or len(inside) >= limits.MAX_GROUP_DEPTH:
        raise codes.GROUP_CIRCLE.error(" → ".join(f"@{each}" for each in (*inside, name)))
    return read(groups[name])


def carried(host: HostFacts, key: str) -> str | None:
    """What `host` carries under `key`: its name, id or room, else the label, else the fact, else None."""
    match key:
        case "name":
            return host.name
        case "id":
            return host.id
        case "room":
            return host.room
        case _:
            return host.labels.get(key, host.facts.get(key))


def in_network(host: HostFacts, term: Network) -> bool:
    """Whether an address of `host` is in the network; a zone (``fe80::1%eth0``) is of no account."""
    from ipaddress import ip_address  # late, as in the grammar

    for written in host.addresses:
        try:
            if ip_address(written.partition("%")[0]) in term.network:
                return True
        except ValueError:
            continue  # a host says of itself what it likes: what is no address is in no network
    return False
