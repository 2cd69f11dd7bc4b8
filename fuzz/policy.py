"""Fuzzed: the policy file, which decides who may run what: it is read whole or refused with its line and column."""

from __future__ import annotations

__all__ = ("policy",)

from random import Random

from fuzz.mutate import text_like
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


def policy(random: Random) -> None:
    """Any text: a code with its place, or rules that are the same when they are written and read again."""
    text = text_like(random, _FILES)
    try:
        found = read_policy(text)
    except StarAgentError as error:
        assert error.code is codes.POLICY_SYNTAX, f"another code than that of a policy: {error}"
        return
    again = read_policy(policy_text(found.rules, found.groups, found.labels))
    assert (again.rules, again.groups, again.labels) == (found.rules, found.groups, found.labels), "written is not read"
