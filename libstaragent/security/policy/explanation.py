"""Why an act is allowed or not: the verdict, and each rule with what it says to it.

Not here: the judgement (`decision`), which this asks again, rule by rule. Rules: pure; values, no layout.
"""

from __future__ import annotations

__all__ = ("Explanation", "Opinion", "explain")

from msgspec import Struct
from msgspec.structs import replace

from libstaragent.errors import StarAgentError
from libstaragent.security.policy.ask import Ask
from libstaragent.security.policy.decision import Asker, Policy


class Opinion(Struct, frozen=True, kw_only=True):
    """One rule about one act: `covers` an allow rule without objection, `fits` a deny rule that forbids it."""

    rule: str
    effect: str
    applies: bool
    objections: tuple[str, ...] = ()


class Explanation(Struct, frozen=True, kw_only=True):
    """See the module. `rule` decided, empty where none did; `code` is empty for a yes."""

    allowed: bool
    rule: str
    code: str
    text: str
    opinions: tuple[Opinion, ...]


def explain(policy: Policy, ask: Ask, asker: Asker) -> Explanation:
    """What the rules of `policy` say of it."""
    verdict = policy.judge(ask, asker)
    opinions: list[Opinion] = []
    try:
        seen = replace(asker, hosts=tuple(map(policy.seen, asker.hosts)))
        for rule in policy.rules:
            if rule.effect == "deny":
                opinions.append(
                    Opinion(rule=rule.name, effect="deny", applies=policy.fits(rule, ask, seen) is not None)
                )
            else:
                found = tuple(f"{entry.condition}: {entry.text}" for entry in policy.objections(rule, ask, seen))
                opinions.append(Opinion(rule=rule.name, effect="allow", applies=not found, objections=found))
    except StarAgentError:
        # The verdict says why nothing can be judged.
        opinions = []
    return Explanation(
        allowed=verdict.code is None,
        rule=verdict.rule,
        code="" if verdict.code is None else verdict.code.code,
        text=verdict.detail,
        opinions=tuple(opinions),
    )
