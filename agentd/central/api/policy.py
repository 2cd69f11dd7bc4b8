"""The roster's rules over HTTP: for a look.

Not here: taking a revision (`access`). Rules: what is said here is central's word; whoever must know reads the signed
chain from `GET /v1/trust`.
"""

from __future__ import annotations

__all__ = ("PolicyApi",)

from agentd.central.api.call import Call, Reply
from agentd.central.service import Central
from libstaragent.model.policy import OperatorView, PolicyView
from libstaragent.security.policy.writing import policy_text
from libstaragent.security.signing import fingerprint


class PolicyApi:
    """See the module."""

    def __init__(self, central: Central) -> None:
        self._central = central

    async def shown(self, call: Call) -> Reply:
        """GET /v1/policy"""
        roster = self._central.trust.newest
        operators = tuple(
            OperatorView(name=operator.name, fingerprint=fingerprint(operator.key), roles=operator.roles)
            for operator in roster.operators
        )
        return Reply(
            PolicyView(
                revision=roster.revision,
                issued_ms=roster.issued,
                valid_until_ms=roster.valid_until,
                operators=operators,
                rules=tuple(rule.name for rule in roster.rules),
                revoked=roster.revoked,
                text=policy_text(roster.rules, roster.groups, roster.labels),
            )
        )
