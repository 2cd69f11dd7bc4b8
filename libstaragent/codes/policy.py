"""Error codes of the rules (SA-8???), in the order of their numbers.

What a code is: `libstaragent.errors`.
"""

from __future__ import annotations

from libstaragent.errors import Code

POLICY_DENIED = Code(
    "SA-8301",
    "policy_denied",
    "no rule of the roster allows this",
    "See what is missing with `opsconsole policy explain`; an admin changes the rules with `opsconsole policy apply`.",
    scope="fleet",
)
POLICY_FORBIDDEN = Code(
    "SA-8302",
    "policy_forbidden",
    "a rule of the roster forbids this",
    "A deny rule goes before every other; see it with `opsconsole policy explain` or `opsconsole policy show`.",
    scope="fleet",
)
POLICY_LIMIT = Code(
    "SA-8303",
    "policy_limit",
    "this is more than the rules of the roster allow",
    "Ask for less: fewer hosts, a shorter time, less output, as the message says; or have an admin change the rule.",
    scope="fleet",
)
POLICY_UNCLEAR = Code(
    "SA-8305",
    "policy_unclear",
    "the rules cannot be judged here, so nothing is allowed",
    "An admin mends groups and labels of the roster: `opsconsole policy check`, then `opsconsole policy apply`.",
    scope="fleet",
)
POLICY_RATE = Code(
    "SA-8501",
    "policy_rate",
    "the rule has been used as often as it allows for now",
    "Wait, then send it again; the message says how often is allowed.",
    scope="fleet",
    retryable=True,
)
