"""Fuzzed: the policy file, which decides who may run what: it is read whole or refused with its line and column.

Half of the inputs are real files, altered anywhere: they try the reader's TOML and its places. Altered so, few are read
to their end; the other half is made by the grammar, from values of which some are none, and tries what rules may say.
"""

from __future__ import annotations

__all__ = ("policy",)

import json
import re
from random import Random

from fuzz.mutate import TEXT_ALPHABET, text_like
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.security.policy.reader import read_policy
from libstaragent.security.policy.writing import policy_text

_FILES = [
    """[groups]
front = "web[01-20]"

[labels]
"env=prod" = "db*,web01"

[[rule]]
name = "restart"
who = ["role:web"]
from = ["10.0.0.0/8", "2001:db8::/32"]
on = "@front"
run = ["systemctl restart {nginx,app-*}", "journalctl -u nginx **"]
as = ["@agent", "deploy"]
limits = { targets = 2, window = 1, timeout = "5min" }
""",
    """[[rule]]
name = "work-hours"
who = ["eve"]
run = ["uptime"]
shell = true
put = ["/srv/app/**"]
signed_results = true
when = { days = ["mon-fri"], hours = "08:00-18:00", zone = "Europe/Berlin" }

[[rule]]
name = "freeze"
effect = "deny"
who = ["bob"]
on = "env=prod"
run = ["rm **", "dd **"]
""",
]

_PLACE = re.compile(
    r"policy(, line [1-9]\d*, column [1-9]\d*)?: |policy: .*\(at (line \d+, column \d+|end of document)\)"
)
_WORDS = (
    "uptime", "systemctl restart {nginx,app-*}", "journalctl -u nginx **", "rm **", "a ** b", "*", "**", "", "{a",
    "{a,}", "{}", "\\*", "\\u{43e}", "\\u{}", "\\u{110000}", "a\tb", "a|b", "^a$", "а", "{a,{b}}", "\\", "a\nb",
)  # fmt: skip
_PATHS = (
    "/srv/app/**",
    "/etc/*",
    "/",
    "",
    "etc",
    "/a/../b",
    "/a//b",
    "/./a",
    "/**",
    "/a/**/b",
    "/{a,b}",
    "/\\u{2e}\\u{2e}/a",
)
_NAMES = ("ann", "role:web", "*", "role:", "role:*", "", "Ann", "аnn", "a b", "a" * 65, "-", "bob")
_EXPRESSIONS = (
    "all", "web[01-20]", "@front", "@nobody", "env=prod & !db*", "10.0.0.0/8", "(a|b)", "", "!", "web[20-01]",
    "((((a))))", "a,b,,c", "web[1-99999]", "@@a", "a=b=c", "*&*", "!" * 40 + "a", "2001:db8::/32",
)  # fmt: skip
_NETWORKS = ("10.0.0.0/8", "::/0", "0.0.0.0/0", "10.0.0.1/8", "1.2.3.4", "", "a", "10.0.0.0/33")
_AMOUNTS = (
    "5min",
    "60s",
    "0s",
    "-1s",
    "1e3s",
    "5",
    "10/min",
    "0/min",
    "64KiB",
    "1MB",
    "9" * 30 + "s",
    "5 min",
    "",
    "1.5h",
)
_RULE: dict[str, tuple[str, ...]] = {
    "who": _NAMES, "from": _NETWORKS, "on": _EXPRESSIONS, "run": _WORDS, "put": _PATHS, "fetch": _PATHS, "cwd": _PATHS,
    "as": ("@agent", "*", "deploy", "", "@root"), "env": ("LANG", "LC_*", "A_B", "*", "", "A=B", "*X"),
    "effect": ("allow", "deny", "allow", "", "Allow"), "name": ("a", "b", "R.1", "", "а", "n" * 65),
}  # fmt: skip
_GROUPS = ("front", "a.b", "db", "", "x y")
_LABELS = ("env=prod", "a=b", "a=c", "a=", "=b", "x")
_FLAGS = ("shell", "schedule", "manage", "stdin", "set_id", "signed_results")
_LIMITS = ("targets", "timeout", "rate", "window", "output", "spool", "file", "life", "waves", "tragets")
_HOURS = ("08:00-18:00", "22:00-06:00", "00:00-24:00", "24:00-00:00", "8-9", "", "25:00-26:00")
_DAYS = ("mon-fri", "sun-mon", "mon", "", "day", "fri-fri")
_ZONES = ("UTC", "Europe/Berlin", "Asia/Tokyo", "", "../etc/passwd", "Mars/Base", "/etc/localtime", "A" * 300)
_SHAPES = ("true", "false", "0", "-1", "1", "9007199254740992", "1.5", "[]", "{}", "[[]]", '""', "nan", "2026-01-01")


def policy(random: Random) -> None:
    """Any text: a code with its place, or rules that are the same when they are written and read again."""
    text = text_like(random, _FILES) if random.random() < 0.5 else _made(random)
    try:
        found = read_policy(text)
    except StarAgentError as error:
        assert error.code is codes.POLICY_SYNTAX, f"another code than that of a policy: {error}"
        assert _PLACE.match(error.detail), f"no place: {error.detail[:100]}"
        return
    again = read_policy(policy_text(found.rules, found.groups, found.labels))
    assert (again.rules, again.groups, again.labels) == (found.rules, found.groups, found.labels), "written is not read"


def _made(random: Random) -> str:
    lines: list[str] = []
    for table, names in (("groups", _GROUPS), ("labels", _LABELS)):
        if random.random() < 0.3:
            lines.append(f"[{table}]")
            chosen = dict.fromkeys(_draw(random, names) for _ in range(random.choice((1, 1, 2))))
            lines += [f"{json.dumps(name)} = {_text(random, _EXPRESSIONS)}" for name in chosen]
    for number in range(random.choice((0, 1, 1, 1, 2, 3))):
        said = {"name": f'"r{number}"', "who": '["ann"]', "run": '["uptime"]'}
        keys = random.sample(sorted(_RULE), random.choice((0, 1, 2, 4))) + random.sample(_FLAGS, random.choice((0, 1)))
        said |= {key: _value(random, key) for key in keys}
        if random.random() < 0.3:
            chosen = (_draw(random, _LIMITS) for _ in range(random.choice((1, 2, 3))))
            said["limits"] = f"{{ {', '.join(f'{key} = {_limit(random, key)}' for key in dict.fromkeys(chosen))} }}"
        if random.random() < 0.2:
            days, hours, zone = (_text(random, known) for known in (_DAYS, _HOURS, _ZONES))
            when = f"{{ days = [{days}], hours = {hours}, zone = {zone} }}"
            said["when"] = when if random.random() < 0.7 else f"[{when}, {when}]"
        if random.random() < 0.05:
            del said[random.choice(list(said))]
        lines += ["[[rule]]", *(f"{key} = {value}" for key, value in said.items())]
    return "\n".join(lines)


def _value(random: Random, key: str) -> str:
    if random.random() < 0.03:
        return random.choice(_SHAPES)
    if key in _FLAGS:
        return random.choice(("true", "false"))
    texts = [_text(random, _RULE[key]) for _ in range(random.choice((1, 1, 2, 3)))]
    return texts[0] if key in ("on", "name", "effect") or random.random() < 0.2 else f"[{', '.join(texts)}]"


def _limit(random: Random, key: str) -> str:
    if key in ("targets", "window") or random.random() < 0.05:
        return _draw(random, ("1", "5", "1000", *_SHAPES))
    if key == "waves":
        return "true"
    known = {"rate": ("10/min", "1/s", "5/h"), "timeout": ("5min", "60s", "2h"), "life": ("1d", "5min", "30d")}
    return _text(random, (*known.get(key, ("64KiB", "1MB", "100B")), *_AMOUNTS))


def _text(random: Random, known: tuple[str, ...]) -> str:
    """One of `known` as a TOML string, now and then with a letter that does not belong there."""
    text = _draw(random, known)
    if random.random() < 0.02:
        at = random.randrange(len(text) + 1)
        text = text[:at] + random.choice(TEXT_ALPHABET) + text[at:]
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _draw(random: Random, known: tuple[str, ...]) -> str:
    """Mostly one of the first three, which are good: a file with one fault tries more than one that is all faults."""
    return random.choice(known[:3] if random.random() < 0.9 else known)
