"""Cases of a policy file: an act that somebody might ask for, and whether the rules should let it pass.

Not here: reading them (`reader`). Rules: pure; a case is judged by the same code as an order, on hosts that the file
describes or, where it does not, on hosts of which only the name is known.
"""

from __future__ import annotations

__all__ = ("Case", "HostSeen", "Outcome", "ask_of", "hosts_of", "judge_case")

from collections.abc import Sequence

from msgspec import Struct

from libstaragent import codes
from libstaragent.model.host import HostFacts
from libstaragent.security.acts import Act, Exec, Fetch, Put
from libstaragent.security.policy.ask import Ask, asked_of
from libstaragent.security.policy.decision import Asker, Policy, Verdict
from libstaragent.targets import parse, select
from libstaragent.targets.terms import Names, Or, Ranges, Term

# Agents that a file makes up have no ids; rules can name one by its id, cases cannot.
_NO_ID = "0" * 26
SHELL = ("/bin/sh", "-c")


class HostSeen(Struct, frozen=True, kw_only=True):
    """A host that cases name, as far as rules need to know it."""

    name: str
    room: str = "main"
    addresses: tuple[str, ...] = ()
    facts: dict[str, str] = {}

    def seen(self) -> HostFacts:
        """As rules are given it."""
        return HostFacts(id=_NO_ID, name=self.name, room=self.room, addresses=self.addresses, facts=self.facts)


class Case(Struct, frozen=True, kw_only=True):
    """See the module. `place` is where it stands in its file; one of argv, shell, put and fetch is not empty."""

    operator: str
    targets: str
    expect_allow: bool
    place: str = ""
    name: str = ""
    roles: tuple[str, ...] = ("operator",)
    source: str | None = None
    argv: tuple[str, ...] = ()
    shell: str = ""
    put: str = ""
    fetch: str = ""
    user: str | None = None
    env: tuple[str, ...] = ()
    scheduled: bool = False
    size: int = 0
    timeout_ms: int = 60_000
    window: int | None = None
    at_ms: int | None = None
    rule: str = ""


class Outcome(Struct, frozen=True, kw_only=True):
    """How a case came out; `holds` when that is what it expects."""

    case: Case
    verdict: Verdict
    holds: bool


def judge_case(policy: Policy, case: Case, hosts: Sequence[HostSeen], *, now_ms: int) -> Outcome:
    """The case under `policy`.

    :raises NotFound: its targets name a group that is not there, or no host.
    """
    found = hosts_of(policy, case.targets, hosts)
    asker = Asker(
        name=case.operator,
        roles=case.roles,
        source=case.source,
        now_ms=now_ms if case.at_ms is None else case.at_ms,
        hosts=found,
    )
    verdict = policy.judge(ask_of(case, len(found)), asker)
    holds = (verdict.code is None) == case.expect_allow and case.rule in ("", verdict.rule)
    return Outcome(case=case, verdict=verdict, holds=holds)


def ask_of(case: Case, count: int) -> Ask:
    """What the case asks for on `count` hosts."""
    act: Act
    if case.put:
        act = Put(path=case.put, size=case.size, sha256=bytes(32), user=case.user, timeout_ms=case.timeout_ms)
    elif case.fetch:
        act = Fetch(path=case.fetch, max_bytes=case.size, user=case.user, timeout_ms=case.timeout_ms)
    else:
        act = Exec(
            argv=(*SHELL, case.shell) if case.shell else case.argv,
            shell=bool(case.shell),
            user=case.user,
            env=dict.fromkeys(case.env, ""),
            timeout_ms=case.timeout_ms,
        )
    return asked_of(act, count=count, window=case.window, scheduled=case.scheduled)


def hosts_of(policy: Policy, expression: str, hosts: Sequence[HostSeen]) -> list[HostFacts]:
    """The hosts of a case: those described that it means, and those that it names.

    :raises NotFound: GROUP_UNKNOWN, or NO_TARGET where that is nobody.
    """
    read = parse(expression)
    known = {host.name: host.seen() for host in hosts}
    for name in _named(read.term):
        known.setdefault(name, HostFacts(id=_NO_ID, name=name, room="main"))
    seen = [policy.seen(host) for host in known.values()]
    if not seen:
        raise codes.NO_TARGET.error(f"{expression}: no [[host]] of the file is meant")
    return select(read, seen, policy.groups)


def _named(term: Term) -> list[str]:
    if isinstance(term, Names):
        return sorted(term.names)
    if isinstance(term, Ranges) and term.pattern.literal:
        return list(term.pattern.names())
    if isinstance(term, Or):
        return [name for inner in term.terms for name in _named(inner)]
    return []
