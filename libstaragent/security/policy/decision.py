"""Yes or no: the rules of one roster, judged for one act. Central and agents call the same code.

    1. a deny rule that fits ends it, whatever else allows it
    2. the first allow rule, in their order, that covers the whole act lets it pass
    3. else it is refused, and the rule that came nearest is named

An allow rule covers an act when it has no objection: who, from, on, the right, as, env, input, folder, when, limits.
`on` must mean every host of the act; a deny rule fits as soon as it means one of them.

What a host is for rules: its id, name, room and addresses, the labels that the roster signs, and what it says of
itself under any other key. Labels that only central knows do not count, since nobody signed them. A host that two
values of one label fit is refused everything until the roster is mended, since either value may be the one that a deny
rule is about.

Who judges what: central everything; an agent all but `from` and the rate, about itself alone. A condition that the
judge cannot see is passed over, because the other one sees it.

Not here: the words for people (`explanation`), counting (`rates`), the host owner's veto (`agentd.agent.veto`). Rules:
pure; `now_ms` is an argument; a time zone is looked up only where a rule names one.
"""

from __future__ import annotations

__all__ = ("Asker", "Objection", "Policy", "Verdict", "here_time", "is_about")

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from libstaragent import codes
from libstaragent.errors import Code, StarAgentError
from libstaragent.model.host import HostFacts
from libstaragent.security.policy.ask import Ask
from libstaragent.security.policy.model import ANY, Hours, Rule
from libstaragent.security.policy.paths import is_plain_path, matches_path
from libstaragent.security.policy.words import matches_argv
from libstaragent.targets.expression import Expression
from libstaragent.targets.grammar import read
from libstaragent.targets.terms import All


class Verdict(Struct, frozen=True, kw_only=True):
    """How an act was judged. `rule` is the one that decided, empty where none did; `code` is None for a yes."""

    rule: str = ""
    code: Code | None = None
    detail: str = ""
    signed_results: bool = False

    def check(self) -> None:
        """Nothing for a yes.

        :raises StarAgentError: `code`, with the rule in its detail.
        """
        if self.code is not None:
            error = self.code.error(self.detail)
            # The nearest rule of several that all say nothing has not decided.
            error.rule = "" if self.code is codes.POLICY_DENIED else self.rule
            raise error


class Objection(Struct, frozen=True):
    """One condition of a rule that does not hold: `condition` as it is called in TOML, and what about it."""

    condition: str
    text: str


class Asker(Struct, frozen=True, kw_only=True):
    """Who asks, from where (None: it cannot be seen here), when, and on which hosts.

    `owner` is who began what is to be managed; None where that is not known.
    """

    name: str
    roles: tuple[str, ...]
    source: str | None
    now_ms: int
    hosts: Sequence[HostFacts]
    owner: str | None = None


class Policy:
    """The rules, labels and groups of one roster, read once."""

    def __init__(self, rules: Iterable[Rule], labels: Mapping[str, str], groups: Mapping[str, str]) -> None:
        self.rules = tuple(rules)
        self.denying = tuple(rule for rule in self.rules if rule.effect == "deny")
        self.allowing = tuple(rule for rule in self.rules if rule.effect == "allow")
        self.groups = groups
        self._labels = [(*label.partition("=")[::2], Expression(text, read(text))) for label, text in labels.items()]
        self._label_keys = {key for key, _, _ in self._labels}
        self._on: dict[str, Expression] = {}

    def judge(self, ask: Ask, asker: Asker, *, has_room: Callable[[Rule], bool] = lambda rule: True) -> Verdict:
        """Whether `asker` gets what it asks for. `has_room` says whether the rate of a rule leaves room for one more.

        Never raises for what rules or hosts say: what cannot be judged is refused.
        """
        if not ask.right:
            return Verdict()
        try:
            return self._judge(ask, asker, has_room)
        except StarAgentError as error:
            # A group or a label that cannot be read, or a host that two values of a label fit.
            return Verdict(code=codes.POLICY_UNCLEAR, detail=str(error))

    def _judge(self, ask: Ask, asker: Asker, has_room: Callable[[Rule], bool]) -> Verdict:
        seen = tuple(map(self.seen, asker.hosts)) if self._labels else asker.hosts
        asker = replace(asker, hosts=seen)
        for rule in self.denying:
            host = self.fits(rule, ask, asker)
            if host is not None:
                return Verdict(rule=rule.name, code=codes.POLICY_FORBIDDEN, detail=f"rule {rule.name}{host}")
        if ask.right == "manage" and asker.owner == asker.name:
            return Verdict()
        full: Rule | None = None
        chosen: Rule | None = None
        signed = False
        for rule in self.allowing:
            if next(self.objections(rule, ask, asker), None) is not None:
                continue
            signed = signed or rule.signed_results
            if chosen is None:
                if rule.limits.rate is None or has_room(rule):
                    chosen = rule
                else:
                    full = full or rule
        if chosen is not None:
            return Verdict(rule=chosen.name, signed_results=signed)
        if full is not None and full.limits.rate is not None:
            rate = full.limits.rate
            text = f"rule {full.name}: {rate.count} in {_span(rate.per_ms)}"
            return Verdict(rule=full.name, code=codes.POLICY_RATE, detail=text)
        return self._refusal(ask, asker)

    def _refusal(self, ask: Ask, asker: Asker) -> Verdict:
        near = self.nearest(ask, asker)
        if near is None:
            return Verdict(code=codes.POLICY_DENIED, detail=f"no rule is about {asker.name} and {ask.act}")
        rule, objections = near
        text = f"nearest is rule {rule.name}: " + "; ".join(objection.text for objection in objections)
        only_limits = all(objection.condition.startswith("limits") for objection in objections)
        return Verdict(
            rule=rule.name, code=codes.POLICY_LIMIT if only_limits else codes.POLICY_DENIED, detail=text[:1000]
        )

    def nearest(self, ask: Ask, asker: Asker) -> tuple[Rule, list[Objection]] | None:
        """The allow rule about this operator with the fewest objections, and what they are."""
        best: tuple[Rule, list[Objection]] | None = None
        for rule in self.allowing:
            if not is_about(rule.who, asker):
                continue
            objections = list(self.objections(rule, ask, asker))
            if best is None or _weight(objections) < _weight(best[1]):
                best = rule, objections
        return best

    def seen(self, host: HostFacts) -> HostFacts:
        """`host` as rules see it.

        :raises StarAgentError: a label cannot be judged, or two values of one fit.
        """
        if not self._labels:
            return replace(host, labels={}) if host.labels else host
        facts = {key: value for key, value in host.facts.items() if key not in self._label_keys}
        bare = replace(host, labels={}, facts=facts)
        labels: dict[str, str] = {}
        for key, value, expression in self._labels:
            if expression.matches(bare, self.groups) and labels.setdefault(key, value) != value:
                raise codes.POLICY_UNCLEAR.error(f"{host.name} is {key}={labels[key]} and {key}={value}")
        return replace(bare, labels=labels)

    def fits(self, rule: Rule, ask: Ask, asker: Asker) -> str | None:
        """Where the deny rule `rule` fits: words to add to its name; None where it does not."""
        if not is_about(rule.who, asker) or not _comes_from(rule, asker):
            return None
        selects = bool(rule.run or rule.shell or rule.put or rule.fetch or rule.schedule or rule.manage)
        if selects and not _is_selected(rule, ask):
            return None
        if ask.users and ANY not in rule.users and not any(user in rule.users for user in ask.users):
            return None
        if rule.hours and not any(_is_within(hours, asker.now_ms, unknown=True) for hours in rule.hours):
            return None
        expression = self._expression(rule.on)
        if type(expression.term) is All or not asker.hosts:
            return ""
        for host in asker.hosts:
            if expression.matches(host if self._labels else self.seen(host), self.groups):
                return f": on {host.name}"
        return None

    def objections(self, rule: Rule, ask: Ask, asker: Asker) -> Iterator[Objection]:
        """Each condition of the allow rule `rule` that the act does not meet, in the order of `Asker` and `Ask`."""
        if not is_about(rule.who, asker):
            yield Objection("who", f"{asker.name} is not among {', '.join(rule.who)}")
        if not _comes_from(rule, asker):
            yield Objection("from", f"{asker.source} is not within {', '.join(rule.sources)}")
        expression = self._expression(rule.on)
        if type(expression.term) is not All:
            outside = [
                host.name
                for host in asker.hosts
                if not expression.matches(host if self._labels else self.seen(host), self.groups)
            ]
            if outside:
                more = f" and {len(outside) - 3} more" if len(outside) > 3 else ""
                yield Objection("on", f"{', '.join(outside[:3])}{more} not among {rule.on}")
        yield from _rights(rule, ask)
        if rule.hours and not any(_is_within(hours, asker.now_ms, unknown=False) for hours in rule.hours):
            yield Objection("when", "not at this time")
        yield from _excess(rule, ask)

    def _expression(self, text: str) -> Expression:
        found = self._on.get(text)
        if found is None:
            found = self._on[text] = Expression(text, read(text))
        return found


def is_about(who: tuple[str, ...], asker: Asker) -> bool:
    """Whether one of `who` is the operator: by name, by a role of his, or as anybody."""
    return any(entry in (ANY, asker.name) or (entry.startswith("role:") and entry[5:] in asker.roles) for entry in who)


def _comes_from(rule: Rule, asker: Asker) -> bool:
    if not rule.sources:
        return True
    if asker.source is None:
        # An agent cannot see it: an allow rule is taken as it stands, a deny rule is central's.
        return rule.effect == "allow"
    from ipaddress import IPv6Address, ip_address, ip_network  # late: an agent never gets here

    try:
        address = ip_address(asker.source.partition("%")[0])
    except ValueError:
        return rule.effect == "deny"
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in ip_network(network) for network in rule.sources)


def _is_selected(rule: Rule, ask: Ask) -> bool:
    """Whether a deny rule that names acts names this one."""
    return (
        (rule.schedule and ask.schedule)
        or (rule.shell and ask.right == "shell")
        or (rule.manage and ask.right == "manage")
        or (ask.right in ("run", "shell") and any(matches_argv(pattern, ask.argv) for pattern in rule.run))
        # A path that is not plain may be any.
        or (ask.right == "put" and any(_may_match(pattern, ask.path) for pattern in rule.put))
        or (ask.right == "fetch" and any(_may_match(pattern, ask.path) for pattern in rule.fetch))
    )


def _may_match(pattern: str, path: str) -> bool:
    return not is_plain_path(path) or matches_path(pattern, path)


def _rights(rule: Rule, ask: Ask) -> Iterator[Objection]:
    if ask.right == "run" and not any(matches_argv(pattern, ask.argv) for pattern in rule.run):
        yield Objection("run", "the command is not among its patterns" if rule.run else "it lets no command run")
    elif ask.right == "shell" and not rule.shell:
        yield Objection("shell", "it gives no shell")
    elif ask.right in ("put", "fetch"):
        patterns = rule.put if ask.right == "put" else rule.fetch
        if not is_plain_path(ask.path):
            yield Objection(ask.right, f"the path {ask.path} is not plain (no //, /./, /../)")
        elif not any(matches_path(pattern, ask.path) for pattern in patterns):
            yield Objection(
                ask.right, f"{ask.path} is not among its paths" if patterns else f"it lets nobody {ask.right}"
            )
    elif ask.right == "manage" and not rule.manage:
        yield Objection("manage", "what others began is not managed by it")
    if ask.schedule and not rule.schedule:
        yield Objection("schedule", "it keeps no schedules")
    if ask.users and ANY not in rule.users:
        others = [user for user in ask.users if user not in rule.users]
        if others:
            yield Objection("as", f"as {', '.join(others)}, it has {', '.join(rule.users) or 'nobody'}")
    if ask.env and ANY not in rule.env:
        others = [name for name in ask.env if not any(_names(entry, name) for entry in rule.env)]
        if others:
            yield Objection("env", f"variables {', '.join(others[:3])} may not be set")
    if ask.stdin and not rule.stdin:
        yield Objection("stdin", "the command may get no input")
    if ask.cwd is not None and not any(matches_path(pattern, ask.cwd) for pattern in rule.cwd):
        yield Objection("cwd", f"not in the folder {ask.cwd}")
    if ask.set_id and not rule.set_id:
        yield Objection("set_id", "no set-user-id or set-group-id files")


def _names(entry: str, name: str) -> bool:
    """Whether `entry`, where one final * stands for any letters, is about the variable `name`."""
    return name.startswith(entry[:-1]) if entry.endswith("*") else name == entry


def _excess(rule: Rule, ask: Ask) -> Iterator[Objection]:
    if ask.right == "manage":
        return
    limits = rule.limits
    for field, most, wanted, written in (
        ("targets", limits.targets, ask.targets, str),
        ("window", limits.window, ask.window, str),
        ("timeout", limits.timeout_ms, ask.timeout_ms, _span),
        ("output", limits.output, ask.output, _size),
        ("spool", limits.spool, ask.spool, _size),
        ("file", limits.file, ask.file, _size),
        ("life", limits.life_ms, ask.life_ms, _span),
    ):
        if most is not None and wanted > most:
            yield Objection(f"limits.{field}", f"{field} {written(wanted)}, at most {written(most)}")
    if limits.waves and ask.targets > 1 and not ask.waves:
        yield Objection("limits.waves", "more than one host needs waves that wait for a confirmation")


def _weight(objections: list[Objection]) -> tuple[int, bool]:
    return len(objections), any(not objection.condition.startswith("limits") for objection in objections)


def _is_within(hours: Hours, now_ms: int, *, unknown: bool) -> bool:
    """Whether `now_ms` is in these hours; `unknown` where the zone is not known on this machine."""
    here = here_time(now_ms, hours.zone)
    if here is None:
        return unknown
    minute = here.hour * 60 + here.minute
    if hours.start < hours.end:
        return here.weekday() in hours.days and hours.start <= minute < hours.end
    # Over midnight: the evening of a day that is named, or the morning after it.
    before = (here - timedelta(days=1)).weekday()
    return (here.weekday() in hours.days and minute >= hours.start) or (before in hours.days and minute < hours.end)


def here_time(now_ms: int, zone: str) -> datetime | None:
    """The time of day in `zone`; None where the machine does not know the zone."""
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    if zone in ("UTC", "Etc/UTC"):
        return moment
    import zoneinfo  # late: only rules with hours need it

    try:
        return moment.astimezone(zoneinfo.ZoneInfo(zone))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _span(ms: int) -> str:
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if ms >= size and ms % size == 0:
            return f"{ms // size} {unit}"
    return f"{ms / 1000:g} s"


def _size(count: int) -> str:
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size and count % size == 0:
            return f"{count // size} {unit}"
    return f"{count:,} B"
