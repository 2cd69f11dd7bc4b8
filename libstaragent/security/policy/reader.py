"""A policy file, as a person writes it, read into rules; or a complaint with line, column and the nearest valid key.

    [groups]                         [labels]
    front = "web[01-20]"             "env=prod" = "db*"

    [[rule]]                         [[case]]
    name = "restart"                 operator = "ann"
    effect = "allow"                 targets = "web01"
    who = ["role:web"]               argv = ["systemctl", "restart", "nginx"]
    on = "@front"                    expect = "allow"
    run = ["systemctl restart {nginx,app-*}"]
    limits = { targets = 5, timeout = "60s" }

Not here: what rules mean (`decision`), the cases' run (`cases`), TOML out (`writing`). Rules: pure, and only clients
load it; a file that has anything in it that is not understood gives no rules at all. What a rule leaves out is filled
in here, narrow where it allows and wide where it denies, so that the signed rule says all of it. One class,
because each key complains at its own place: that is its length.
"""

from __future__ import annotations

__all__ = ("MAX_FILE", "PolicyFile", "read_policy")

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NoReturn, cast

from msgspec import Struct

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.model import ids
from libstaragent.security.policy.cases import Case, HostSeen
from libstaragent.security.policy.groups import undecidable
from libstaragent.security.policy.locating import Places, half_character
from libstaragent.security.policy.model import ANY, OWN_USER, Hours, Limits, Rule, check_labels, check_rules, is_who
from libstaragent.security.policy.paths import check_path_pattern
from libstaragent.security.policy.units import days_of, hours_of, ms_of, rate_of, size_of
from libstaragent.security.policy.words import ArgvPattern, check_argv_pattern, split_words
from libstaragent.targets.grammar import read

# The roster that comes of it must fit one frame; comments and cases are on top.
MAX_FILE = 1024 * 1024

_TOP = ("groups", "labels", "rule", "host", "case")
_RULE = (
    "name", "effect", "who", "from", "on", "run", "shell", "put", "fetch", "schedule", "manage", "as", "env", "stdin",
    "cwd", "set_id", "limits", "when", "signed_results",
)  # fmt: skip
_ONLY_ALLOW = ("env", "stdin", "cwd", "set_id", "limits", "signed_results")
_LIMITS = ("targets", "window", "timeout", "rate", "output", "spool", "file", "life", "waves")
_WHEN = ("days", "hours", "zone")
_HOST = ("name", "room", "addresses", "facts")
_CASE = (
    "name", "operator", "roles", "from", "targets", "argv", "shell", "put", "fetch", "as", "env", "schedule", "size",
    "timeout", "window", "at", "expect", "rule",
)  # fmt: skip


class PolicyFile(Struct, frozen=True, kw_only=True):
    """What a policy file says. `hosts` and `cases` are for trying it, and are not signed."""

    rules: tuple[Rule, ...]
    groups: dict[str, str]
    labels: dict[str, str]
    hosts: tuple[HostSeen, ...] = ()
    cases: tuple[Case, ...] = ()


def read_policy(text: str, *, file: str = "policy") -> PolicyFile:
    """What `text` says; `file` is how complaints call it.

    :raises UsageError: POLICY_SYNTAX, with line and column.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_FILE:
        raise codes.POLICY_SYNTAX.error(f"{file} is larger than 1 MiB")
    if place := half_character(text):
        raise codes.POLICY_SYNTAX.error(f"{file}, {place}: not Unicode text")
    try:
        # tomllib refuses a bare CR as it must; a file of another system has it before each LF.
        said = tomllib.loads(text.replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise codes.POLICY_SYNTAX.error(f"{file}: {error}") from None
    return _Reader(text.replace("\r\n", "\n"), file).read(said)


class _Reader:
    def __init__(self, text: str, file: str) -> None:
        self.places = Places(text)
        self.file = file

    def fail(self, what: str, table: str = "", index: int = 0, key: str = "", value: str = "") -> NoReturn:
        raise codes.POLICY_SYNTAX.error(f"{self.file}, {self.places.of(table, index, key, value)}: {what}")

    def read(self, said: Mapping[str, Any]) -> PolicyFile:
        self.keys(said, _TOP, "", 0)
        groups = self.expressions(said, "groups")
        labels = self.expressions(said, "labels")
        for label in labels:
            key, sign, value = label.partition("=")
            if not (ids.is_room_name(key) and sign and ids.is_room_name(value)):
                self.fail(f'label {label!r} is not "key=value"', "labels", 0, label)
        rules = tuple(self.rule(table, index) for index, table in enumerate(self.tables(said, "rule")))
        names: set[str] = set()
        for index, rule in enumerate(rules):
            if rule.name in names:
                self.fail(f"there is another rule {rule.name}", "rule", index, "name")
            names.add(rule.name)
            self.decidable(rule.on, groups, "rule", index, "on")
        for table, entries in (("groups", groups), ("labels", labels)):
            for name, text in entries.items():
                self.decidable(text, groups, table, 0, name)
        try:
            check_rules(rules)
            check_labels(labels)
        except StarAgentError as error:
            self.fail(error.detail)
        return PolicyFile(
            rules=rules,
            groups=groups,
            labels=labels,
            hosts=tuple(self.host(table, index) for index, table in enumerate(self.tables(said, "host"))),
            cases=tuple(self.case(table, index) for index, table in enumerate(self.tables(said, "case"))),
        )

    # Tables -----------------------------------------------------------------------------------------------------------

    def rule(self, said: Mapping[str, Any], index: int) -> Rule:
        self.keys(said, _RULE, "rule", index)
        name = self.word(said, "rule", index, "name")
        if not ids.is_room_name(name):
            self.fail(f"name {name!r} is not made of ASCII letters, digits and ._-{_odd(name)}", "rule", index, "name")
        effect = self.word(said, "rule", index, "effect", default="allow")
        if effect not in ("allow", "deny"):
            self.fail(f"effect is allow or deny, not {effect!r}", "rule", index, "effect")
        allows = effect == "allow"
        for key in () if allows else _ONLY_ALLOW:
            if key in said:
                self.fail(f"{key} belongs to rules that allow; this one denies", "rule", index, key)
        who = self.words(said, "rule", index, "who", default=() if allows else (ANY,))
        for entry in who:
            if not is_who(entry):
                self.fail(f"{entry!r} is no operator's name, role:NAME or *{_odd(entry)}", "rule", index, "who", entry)
        if not who:
            self.fail(f"rule {name} does not say who: names, role:NAME or *", "rule", index, "who")
        sources = self.words(said, "rule", index, "from")
        for entry in sources:
            self.network(entry, index)
        on = self.word(said, "rule", index, "on", default="all")
        self.expression(on, "rule", index, "on")
        rule = Rule(
            name=name,
            effect="allow" if allows else "deny",
            who=who,
            sources=sources,
            on=on,
            run=self.patterns(said, index),
            shell=self.flag(said, "rule", index, "shell"),
            put=self.paths(said, index, "put"),
            fetch=self.paths(said, index, "fetch"),
            schedule=self.flag(said, "rule", index, "schedule"),
            manage=self.flag(said, "rule", index, "manage"),
            users=self.words(said, "rule", index, "as", default=(OWN_USER,) if allows else (ANY,)),
            env=self.words(said, "rule", index, "env"),
            stdin=self.flag(said, "rule", index, "stdin"),
            cwd=self.paths(said, index, "cwd"),
            set_id=self.flag(said, "rule", index, "set_id"),
            limits=self.limits(said, index),
            hours=self.hours(said, index),
            signed_results=self.flag(said, "rule", index, "signed_results"),
        )
        if allows and not (rule.run or rule.shell or rule.put or rule.fetch or rule.manage):
            self.fail(f"rule {name} allows nothing: it has no run, shell, put, fetch or manage", "rule", index)
        return rule

    def limits(self, said: Mapping[str, Any], index: int) -> Limits:
        table = self.table(said, "rule", index, "limits")
        self.keys(table, _LIMITS, "rule.limits", index, nearby=("rule", index, "limits"))

        def amount(key: str, read: Any) -> Any:
            if key not in table:
                return None
            return self.reading(read, self.word(table, "rule.limits", index, key), index, key)

        return Limits(
            targets=self.number(table, index, "targets"),
            window=self.number(table, index, "window"),
            timeout_ms=amount("timeout", ms_of),
            rate=amount("rate", rate_of),
            output=amount("output", size_of),
            spool=amount("spool", size_of),
            file=amount("file", size_of),
            life_ms=amount("life", ms_of),
            waves=self.flag(table, "rule.limits", index, "waves"),
        )

    def hours(self, said: Mapping[str, Any], index: int) -> tuple[Hours, ...]:
        given = said.get("when", [])
        entries = cast("list[Any]", given if isinstance(given, list) else [given])
        found: list[Hours] = []
        for entry in entries:
            if not isinstance(entry, dict):
                self.fail("when is a table: days, hours, zone", "rule", index, "when")
            table = cast("dict[str, Any]", entry)
            self.keys(table, _WHEN, "rule.when", index, nearby=("rule", index, "when"))
            days: dict[int, None] = {}
            for text in self.words(table, "rule.when", index, "days", default=("mon-sun",)):
                days.update(dict.fromkeys(self.reading(days_of, text, index, "days")))
            hours = self.word(table, "rule.when", index, "hours", default="00:00-24:00")
            start, end = self.reading(hours_of, hours, index, "hours")
            zone = self.word(table, "rule.when", index, "zone", default="UTC")
            if not _is_known_zone(zone):
                self.fail(f"{zone!r} is no time zone that this machine knows", "rule.when", index, "zone")
            found.append(Hours(days=tuple(sorted(days)), start=start, end=end, zone=zone))
        return tuple(found)

    def host(self, said: Mapping[str, Any], index: int) -> HostSeen:
        self.keys(said, _HOST, "host", index)
        name = self.word(said, "host", index, "name")
        if not ids.is_host_name(name):
            self.fail(f"{name!r} is no host's name", "host", index, "name")
        facts = self.table(said, "host", index, "facts")
        return HostSeen(
            name=name,
            room=self.word(said, "host", index, "room", default="main"),
            addresses=self.words(said, "host", index, "addresses"),
            facts={key: str(value) for key, value in facts.items()},
        )

    def case(self, said: Mapping[str, Any], index: int) -> Case:
        self.keys(said, _CASE, "case", index)
        expect = self.word(said, "case", index, "expect")
        if expect not in ("allow", "deny"):
            self.fail(f"expect is allow or deny, not {expect!r}", "case", index, "expect")
        does = [key for key in ("argv", "shell", "put", "fetch") if key in said]
        if len(does) != 1:
            self.fail("a case has one of argv, shell, put and fetch", "case", index)
        targets = ",".join(self.words(said, "case", index, "targets"))
        self.expression(targets, "case", index, "targets")
        argv = self.words(said, "case", index, "argv")
        if any("\0" in word for word in argv):
            self.fail("no word of an argv can hold NUL", "case", index, "argv")
        at = said.get("at")
        if at is not None and not (hasattr(at, "timestamp") and at.tzinfo is not None):
            self.fail("at is a date with time and zone: 2026-11-25T08:00:00Z", "case", index, "at")
        return Case(
            place=str(self.places.of("case", index)),
            name=self.word(said, "case", index, "name", default=""),
            operator=self.word(said, "case", index, "operator"),
            roles=self.words(said, "case", index, "roles", default=("operator",)),
            source=self.word(said, "case", index, "from", default="") or None,
            targets=targets,
            argv=argv,
            shell=self.word(said, "case", index, "shell", default=""),
            put=self.word(said, "case", index, "put", default=""),
            fetch=self.word(said, "case", index, "fetch", default=""),
            user=self.word(said, "case", index, "as", default="") or None,
            env=self.words(said, "case", index, "env"),
            scheduled=self.flag(said, "case", index, "schedule"),
            size=self.reading(size_of, self.word(said, "case", index, "size", default="0B"), index, "size", "case"),
            timeout_ms=self.reading(
                ms_of, self.word(said, "case", index, "timeout", default="60s"), index, "timeout", "case"
            ),
            window=self.number(said, index, "window", table="case"),
            at_ms=None if at is None else int(at.timestamp() * 1000),
            expect_allow=expect == "allow",
            rule=self.word(said, "case", index, "rule", default=""),
        )

    # Values -----------------------------------------------------------------------------------------------------------

    def keys(
        self,
        said: Mapping[str, Any],
        valid: tuple[str, ...],
        table: str,
        index: int,
        *,
        nearby: tuple[str, int, str] | None = None,
    ) -> None:
        for key in said:
            if key not in valid:
                near = get_close_matches(key, valid, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(valid)}"
                # An inline table stands at its key, not under a heading of its own.
                if nearby is not None:
                    self.fail(f"unknown key {key!r}{hint}", *nearby, key)
                self.fail(f"unknown key {key!r}{hint}", table, index, key)

    def tables(self, said: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
        given = said.get(key, [])
        entries = cast("list[Any]", given) if isinstance(given, list) else None
        if entries is None or not all(isinstance(entry, dict) for entry in entries):
            self.fail(f"write [[{key}]] before each {key}", key, 0)
        return cast("list[Mapping[str, Any]]", entries)

    def table(self, said: Mapping[str, Any], table: str, index: int, key: str) -> Mapping[str, Any]:
        given = said.get(key, {})
        if not isinstance(given, dict):
            self.fail(f"{key} is a table", table, index, key)
        return cast("Mapping[str, Any]", given)

    def word(self, said: Mapping[str, Any], table: str, index: int, key: str, default: str | None = None) -> str:
        given = said.get(key, default)
        if given is None:
            self.fail(f"{table} has no {key}", table, index)
        if not isinstance(given, str):
            self.fail(f"{key} is a text in quotes", table, index, key)
        return given

    def words(
        self, said: Mapping[str, Any], table: str, index: int, key: str, default: tuple[str, ...] = ()
    ) -> tuple[str, ...]:
        if key not in said:
            return default
        given = said[key]
        if isinstance(given, str):
            return (given,)
        entries = cast("list[Any]", given) if isinstance(given, list) else None
        if entries is None or not all(isinstance(entry, str) for entry in entries):
            self.fail(f"{key} is a text, or a list of texts", table, index, key)
        return tuple(cast("list[str]", entries))

    def flag(self, said: Mapping[str, Any], table: str, index: int, key: str) -> bool:
        given = said.get(key, False)
        if not isinstance(given, bool):
            self.fail(f"{key} is true or false", table, index, key)
        return given

    def number(self, said: Mapping[str, Any], index: int, key: str, table: str = "rule.limits") -> int | None:
        given = said.get(key)
        if given is not None and (not isinstance(given, int) or isinstance(given, bool) or not 1 <= given < 1 << 53):
            self.fail(f"{key} is a whole number from 1", table, index, key)
        return given

    def reading(self, read: Any, text: str, index: int, key: str, table: str = "rule") -> Any:
        try:
            return read(text)
        except ValueError as error:
            self.fail(f"{key}: {error}", table, index, key, text)

    def patterns(self, said: Mapping[str, Any], index: int) -> tuple[ArgvPattern, ...]:
        given = said.get("run", [])
        found: list[ArgvPattern] = []
        for entry in cast("list[Any]", given if isinstance(given, list) else [given]):
            if isinstance(entry, str):
                pattern, shown = split_words(entry), entry
            elif isinstance(entry, list) and all(isinstance(word, str) for word in cast("list[Any]", entry)):
                pattern = tuple(cast("list[str]", entry))
                shown = pattern[0] if pattern else ""
            else:
                self.fail("run is a list of commands; each a text, or a list of its words", "rule", index, "run")
            try:
                check_argv_pattern(pattern)
            except ValueError as error:
                self.fail(f"run: {error}", "rule", index, "run", shown.partition("\n")[0])
            found.append(pattern)
        return tuple(found)

    def paths(self, said: Mapping[str, Any], index: int, key: str) -> tuple[str, ...]:
        found = self.words(said, "rule", index, key)
        for path in found:
            try:
                check_path_pattern(path)
            except ValueError as error:
                self.fail(f"{key}: {error}", "rule", index, key, path)
        return found

    def expressions(self, said: Mapping[str, Any], key: str) -> dict[str, str]:
        table = self.table(said, "", 0, key)
        found: dict[str, str] = {}
        for name, text in table.items():
            if not isinstance(text, str):
                self.fail(f"{name} is a target expression in quotes", key, 0, name)
            if key == "groups" and not ids.is_room_name(name):
                self.fail(f"group {name!r} is not made of ASCII letters, digits and ._-", key, 0, name)
            self.expression(text, key, 0, name)
            found[name] = text
        return found

    def expression(self, text: str, table: str, index: int, key: str) -> None:
        try:
            read(text)
        except StarAgentError as error:
            self.fail(f"{key}: {error.detail}", table, index, key)

    def decidable(self, text: str, groups: Mapping[str, str], table: str, index: int, key: str) -> None:
        if why := undecidable(text, groups):
            self.fail(f"{key}: {why}", table, index, key)

    def network(self, text: str, index: int) -> None:
        from ipaddress import ip_network

        try:
            ip_network(text)
        except ValueError as error:
            self.fail(f"from: {error}", "rule", index, "from", text)


def _odd(text: str) -> str:
    """Names the letter that only looks like one of ours."""
    odd = next((symbol for symbol in text if not symbol.isascii()), "")
    return f"; U+{ord(odd):04X} is not ASCII" if odd else ""


def _is_known_zone(zone: str) -> bool:
    from libstaragent.security.policy.decision import here_time

    return ids.is_time_zone(zone) and here_time(0, zone) is not None
