"""What changes from one set of rules to another: the rules by name, and who gains or loses what.

Rules are compared as they stand; what that means is found by trying: the cases of both files, and acts made from the
patterns of every rule (``systemctl restart *`` becomes ``systemctl restart x``) for each operator on each host. Trying
finds what the samples reach and no more, and says so by listing what it tried.

Not here: judging (`decision`), layout. Rules: pure; the number of tries is bounded, and counted when it is cut.
"""

from __future__ import annotations

__all__ = ("MAX_TRIES", "Change", "Difference", "Shift", "compare")

from collections.abc import Iterator, Sequence

from msgspec import Struct

from libstaragent.model.host import HostFacts
from libstaragent.security.acts import Act, Exec, Fetch, Put
from libstaragent.security.policy.ask import Ask, asked_of
from libstaragent.security.policy.decision import Asker, Policy, is_about
from libstaragent.security.policy.model import ANY, OWN_USER, Rule
from libstaragent.security.policy.words import sample_word

# Acts tried under both policies: some seconds.
MAX_TRIES = 50_000


class Change(Struct, frozen=True, kw_only=True):
    """One rule: `kind` is added, removed or changed, `fields` those that differ."""

    rule: str
    kind: str
    fields: tuple[str, ...] = ()


class Shift(Struct, frozen=True, kw_only=True):
    """What an operator can do on `hosts` that it could not before (`gains`), or the other way round."""

    operator: str
    act: str
    gains: bool
    hosts: tuple[str, ...]


class Difference(Struct, frozen=True, kw_only=True):
    """See the module. `untried` are acts for which there was no room. `unable` are the operators who could do nothing
    at all under the new rules on any host there is, as far as that was tried.
    """

    changes: tuple[Change, ...]
    shifts: tuple[Shift, ...]
    tried: int
    untried: int = 0
    unable: tuple[str, ...] = ()


def compare(
    old: Policy,
    new: Policy,
    *,
    operators: Sequence[tuple[str, tuple[str, ...]]],
    hosts: Sequence[HostFacts],
    now_ms: int,
) -> Difference:
    """The way from `old` to `new`, for `operators` (name, roles) on `hosts`."""
    found: dict[tuple[str, str, bool], list[str]] = {}
    able: set[str] = set()
    tried = untried = 0
    samples = tuple(_samples(old, new))
    for name, roles in operators:
        for text, ask in samples:
            for host in hosts:
                if tried >= MAX_TRIES:
                    untried += 1
                    continue
                tried += 1
                asker = Asker(name=name, roles=roles, source=None, now_ms=now_ms, hosts=(host,))
                before = old.judge(ask, asker).code is None
                after = new.judge(ask, asker).code is None
                if after:
                    able.add(name)
                if before != after:
                    found.setdefault((name, text, after), []).append(host.name)
    shifts = tuple(
        Shift(operator=name, act=text, gains=gains, hosts=tuple(names)) for (name, text, gains), names in found.items()
    )
    # Without a host, or beyond what was tried, who is named by an allow rule is taken to be able.
    whole = bool(hosts) and not untried
    unable = tuple(
        name for name, roles in operators if name not in able and not _may_be_able(new.rules, name, roles, tried=whole)
    )
    return Difference(changes=tuple(_changes(old, new)), shifts=shifts, tried=tried, untried=untried, unable=unable)


def _may_be_able(rules: Sequence[Rule], name: str, roles: tuple[str, ...], *, tried: bool) -> bool:
    """Whether a rule may allow the operator something that trying does not show: at other hours, or to manage jobs."""
    asker = Asker(name=name, roles=roles, source=None, now_ms=0, hosts=())
    about = [rule for rule in rules if rule.effect == "allow" and is_about(rule.who, asker)]
    return any(not tried or rule.hours or rule.manage for rule in about)


def _changes(old: Policy, new: Policy) -> Iterator[Change]:
    before, after = {rule.name: rule for rule in old.rules}, {rule.name: rule for rule in new.rules}
    for name, rule in before.items():
        if name not in after:
            yield Change(rule=name, kind="removed")
        elif after[name] != rule:
            fields = tuple(
                _WRITTEN.get(field, field)
                for field in rule.__struct_fields__
                if getattr(rule, field) != getattr(after[name], field)
            )
            yield Change(rule=name, kind="changed", fields=fields)
    for name in after:
        if name not in before:
            yield Change(rule=name, kind="added")


_WRITTEN = {"sources": "from", "users": "as", "hours": "when"}


def _samples(*policies: Policy) -> Iterator[tuple[str, Ask]]:
    """Acts that the rules name, each once, in words and as they are judged."""
    seen: set[str] = set()
    for policy in policies:
        for rule in policy.rules:
            for text, act in _acts(rule):
                if text not in seen:
                    seen.add(text)
                    yield text, asked_of(act, count=1)


def _acts(rule: Rule) -> Iterator[tuple[str, Act]]:
    for user in rule.users:
        login = None if user in (OWN_USER, ANY) else user
        suffix = f" as {login}" if login else ""
        for pattern in rule.run:
            argv = tuple(sample_word(word) for word in pattern if word != "**") or ("x",)
            yield f"run {' '.join(argv)}{suffix}", _exec(argv, login, shell=False)
        if rule.shell:
            yield f"shell{suffix}", _exec(("/bin/sh", "-c", "true"), login, shell=True)
        for kind, paths in (("put", rule.put), ("fetch", rule.fetch)):
            for pattern in paths:
                path = "/".join(sample_word(part) if part != "**" else "x" for part in pattern.split("/"))
                act: Act = (
                    Put(path=path, size=0, sha256=bytes(32), user=login, timeout_ms=1)
                    if kind == "put"
                    else Fetch(path=path, max_bytes=0, user=login, timeout_ms=1)
                )
                yield f"{kind} {path}{suffix}", act


def _exec(argv: tuple[str, ...], user: str | None, *, shell: bool) -> Exec:
    # As little as can be asked for: what differs is the right, not how much of it.
    return Exec(argv=argv, shell=shell, user=user, timeout_ms=1, output_head=0, output_tail=0, output_spool=0)
