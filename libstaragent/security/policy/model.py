"""What a rule says, as it stands in the roster; and the bounds of its fields.

Not here: how it is written by a person (`reader`), what it means for an act (`decision`). Rules: every field is always
written, and a reader refuses one that it does not know, so no version of us skips a condition. A condition that is
empty never matches in an allow rule; the reader writes the wide ones (``*``) out for deny rules, so what is signed is
what is judged. Times are ms, sizes bytes.
"""

from __future__ import annotations

__all__ = (
    "ANY",
    "FOUNDERS",
    "MAX_LABELS",
    "MAX_RULES",
    "OWN_USER",
    "Hours",
    "Limits",
    "Rate",
    "Rule",
    "check_labels",
    "check_rules",
    "is_who",
)

from typing import Literal

import msgspec

from libstaragent import codes
from libstaragent.model import ids
from libstaragent.security.policy.paths import PathPattern, check_path_pattern
from libstaragent.security.policy.words import ArgvPattern, check_argv_pattern

# More rules than this are a programme: nobody can say any more what they allow. And each may be tried for each act.
MAX_RULES = 256
# Names, patterns, networks of one rule.
MAX_ENTRIES = 64
# "key=value" pairs that are signed: environments, tiers, sites.
MAX_LABELS = 512
MAX_EXPRESSION_BYTES = 4096
MAX_INTEGER = (1 << 53) - 1
# Jobs that a rate counts in its period: that many times are remembered for each operator and rule.
MAX_RATE = 10_000
MAX_RATE_MS = 24 * 3_600_000
MAX_HOURS = 16
DAY_MINUTES = 24 * 60

ANY = "*"
# The user that the agent itself is: what runs when nobody is named. No login may be called so.
OWN_USER = "@agent"


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At most `count` jobs in any `per_ms`, for each operator."""

    count: int
    per_ms: int


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an act may ask for at most; None for as much as an envelope can say.

    Attributes:
        targets: hosts of one act.
        window: hosts at once.
        timeout_ms: of the command.
        rate: how often; central alone counts.
        output: bytes that travel with the result (head and tail together).
        spool: bytes that the host keeps for later.
        file: bytes of a file.
        life_ms: from now to the end of a schedule.
        waves: whether more than one host needs waves with a stop after each.
    """

    targets: int | None = None
    window: int | None = None
    timeout_ms: int | None = None
    rate: Rate | None = None
    output: int | None = None
    spool: int | None = None
    file: int | None = None
    life_ms: int | None = None
    waves: bool = False


class Hours(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A time of the week: `days` are 0 (Monday) to 6, `start` and `end` minutes of the day in `zone`.

    Where `end` is not after `start` it is on the day after: 22:00–06:00 of Friday ends on Saturday.
    """

    days: tuple[int, ...]
    start: int
    end: int
    zone: str


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule. All of its conditions must hold.

    Attributes:
        name: unique; refusals and the audit log name it.
        effect: allow or deny.
        who: operators' names, ``role:NAME``, or ``*``.
        sources: networks that the request comes from (central alone can tell); none is any.
        on: target expression; ``key=value`` means a label of the roster first, then what the host says of itself.
        run: commands, a pattern each.
        shell: lines for the shell.
        put, fetch: files, a path pattern each.
        schedule: to keep on the hosts what it lets run.
        manage: to cancel, pause, resume, read the kept output and remove the schedules of others; one's own is
            always allowed.
        users: as whom; ``@agent`` for the agent's own user, ``*`` for anybody.
        env: names of variables that may be set, ``*`` standing for any letters.
        stdin: whether the command may get input.
        cwd: folders, a path pattern each; where nothing is asked for, nothing is needed.
        set_id: whether a placed file may have the set-user-id or set-group-id bit.
        limits: how much.
        hours: when; none is always.
        signed_results: agents sign what they report.

    A deny rule with none of run, shell, put, fetch, schedule and manage is about every act.
    """

    name: str
    effect: Literal["allow", "deny"]
    who: tuple[str, ...]
    sources: tuple[str, ...] = ()
    on: str = "all"
    run: tuple[ArgvPattern, ...] = ()
    shell: bool = False
    put: tuple[PathPattern, ...] = ()
    fetch: tuple[PathPattern, ...] = ()
    schedule: bool = False
    manage: bool = False
    users: tuple[str, ...] = (OWN_USER,)
    env: tuple[str, ...] = ()
    stdin: bool = False
    cwd: tuple[PathPattern, ...] = ()
    set_id: bool = False
    limits: Limits = Limits()
    hours: tuple[Hours, ...] = ()
    signed_results: bool = False


# Written into the first roster of every fleet: its admins and operators may do everything. An explicit rule, to be
# replaced by narrower ones; nothing is allowed without one.
FOUNDERS = Rule(
    name="founders",
    effect="allow",
    who=("role:admin", "role:operator"),
    run=(("**",),),
    shell=True,
    put=("/**",),
    fetch=("/**",),
    schedule=True,
    manage=True,
    users=(ANY,),
    env=(ANY,),
    stdin=True,
    cwd=("/**",),
    set_id=True,
)


def check_rules(rules: tuple[Rule, ...]) -> None:
    """Nothing, if every field of each rule is within its bounds.

    :raises ProtocolError: ROSTER_FIELD, one is not; the detail names rule and field.
    """
    _need(len(rules) <= MAX_RULES, f"rules are more than {MAX_RULES}")
    _need(len({rule.name for rule in rules}) == len(rules), "two rules have one name")
    for rule in rules:
        _need(ids.is_room_name(rule.name), "a rule's name is not a name")
        try:
            _check_rule(rule)
        except ValueError as error:
            raise codes.ROSTER_FIELD.error(f"rule {rule.name}: {error}") from None


def check_labels(labels: dict[str, str]) -> None:
    """Nothing, if each is ``key=value`` to a target expression.

    :raises ProtocolError: ROSTER_FIELD, one is not.
    """
    _need(len(labels) <= MAX_LABELS, f"labels are more than {MAX_LABELS}")
    for label, expression in labels.items():
        key, sign, value = label.partition("=")
        _need(ids.is_room_name(key) and sign == "=" and ids.is_room_name(value), f"label {label!r} is not key=value")
        _check_expression(expression, f"label {label}")


def is_who(text: str) -> bool:
    """Whether `text` may stand in `who`."""
    return text == ANY or ids.is_user_name(text.removeprefix("role:"))


def _check_rule(rule: Rule) -> None:
    lists = ("who", "sources", "run", "put", "fetch", "users", "env", "cwd")
    for field in lists:
        _value(len(getattr(rule, field)) <= MAX_ENTRIES, f"{field} has more than {MAX_ENTRIES} entries")
    _value(len(rule.who) > 0 and all(is_who(who) for who in rule.who), "who is not names, role:NAME or *")
    for network in rule.sources:
        _network(network)
    _check_expression(rule.on, f"rule {rule.name}: on")
    for pattern in rule.run:
        check_argv_pattern(pattern)
    for path in (*rule.put, *rule.fetch, *rule.cwd):
        check_path_pattern(path)
    _value(all(0 < len(user) <= 256 and "\0" not in user for user in rule.users), "as holds what is no login")
    _value(all(0 < len(name) <= 256 and "\0" not in name and "=" not in name for name in rule.env), "env is no name")
    limits = rule.limits
    for field in ("targets", "window", "timeout_ms", "life_ms"):
        value = getattr(limits, field)
        _value(value is None or 1 <= value <= MAX_INTEGER, f"limits.{field} is not from 1")
    for field in ("output", "spool", "file"):
        value = getattr(limits, field)
        _value(value is None or 0 <= value <= MAX_INTEGER, f"limits.{field} is not from 0")
    if limits.rate is not None:
        _value(1 <= limits.rate.count <= MAX_RATE, f"limits.rate is not 1 to {MAX_RATE}")
        _value(1 <= limits.rate.per_ms <= MAX_RATE_MS, "limits.rate is not within a day")
    _value(len(rule.hours) <= MAX_HOURS, f"when has more than {MAX_HOURS} entries")
    for hours in rule.hours:
        _value(0 < len(hours.days) <= 7 and all(0 <= day <= 6 for day in hours.days), "when.days are not days")
        _value(0 <= hours.start < DAY_MINUTES and 0 <= hours.end <= DAY_MINUTES, "when.hours are not times of a day")
        _value(ids.is_time_zone(hours.zone), "when.zone is no time zone")


def _network(text: str) -> None:
    from ipaddress import ip_network  # late: an agent never asks where a request came from

    ip_network(text)


def _check_expression(text: str, where: str) -> None:
    _need(0 < len(text.encode("utf-8", "surrogatepass")) <= MAX_EXPRESSION_BYTES, f"{where} is empty or too long")


def _value(holds: bool, detail: str) -> None:
    if not holds:
        raise ValueError(detail)


def _need(holds: bool, detail: str) -> None:
    if not holds:
        raise codes.ROSTER_FIELD.error(detail)
