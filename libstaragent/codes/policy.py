"""Error codes of the rules (SA-8???), in the order of their numbers.

What a code is: `libstaragent.errors`.
"""

from __future__ import annotations

from libstaragent.errors import Code

POLICY_SYNTAX = Code(
    "SA-8001",
    "policy_syntax",
    "the policy file cannot be read; nothing was changed",
    "Mend the place that is named; docs/rules.md has the grammar.",
    scope="fleet",
)
POLICY_CASE_FAILED = Code(
    "SA-8002",
    "policy_case_failed",
    "a case of the policy file does not come out as it expects; nothing was changed",
    "See each with `opsconsole policy test FILE`; change the rules, or the case.",
    scope="fleet",
)
OPERATOR_TERMS = Code(
    "SA-8003",
    "operator_terms",
    "the roster cannot be changed so",
    "The detail says why.",
    scope="fleet",
)
OPERATOR_UNKNOWN = Code(
    "SA-8101",
    "operator_unknown",
    "there is no such operator in the roster",
    "See who there is with `opsconsole operator list`.",
    scope="fleet",
)
OPERATOR_EXISTS = Code(
    "SA-8201",
    "operator_exists",
    "the name or the key is another operator's",
    "Choose another name or make another key; to replace a key, revoke the operator first.",
    scope="fleet",
)
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
VETO_DENIED = Code(
    "SA-8304",
    "veto_denied",
    "the owner of the host does not allow this there",
    "Talk to the host's owner; the detail names the file and what in it.",
    owner="host owner",
)
POLICY_UNCLEAR = Code(
    "SA-8305",
    "policy_unclear",
    "the rules cannot be judged here, so nothing is allowed",
    "An admin mends groups and labels of the roster: `opsconsole policy check`, then `opsconsole policy apply`.",
    scope="fleet",
)
HOST_REVOKED = Code(
    "SA-8306",
    "host_revoked",
    "the host was put out of the fleet",
    "Let the machine join anew with a token, after looking why it was revoked; its name is free.",
    owner="host owner",
)
POLICY_RATE = Code(
    "SA-8501",
    "policy_rate",
    "the rule has been used as often as it allows for now",
    "Wait, then send it again; the message says how often is allowed.",
    scope="fleet",
    retryable=True,
)
VETO_BUSY = Code(
    "SA-8502",
    "veto_busy",
    "the owner of the host allows no more jobs at once",
    "Wait until some have ended, or talk to the host's owner.",
    owner="host owner",
    retryable=True,
)
VETO_BROKEN = Code(
    "SA-8801",
    "veto_broken",
    "the veto file of the host cannot be read, so nothing is done there",
    "The host's owner mends the file: its owner, its mode or the place that is named.",
    owner="host owner",
)
