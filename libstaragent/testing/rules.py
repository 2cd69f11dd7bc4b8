"""The rules of every simulated roster, judged by the real policy: whatever would run as FORBIDDEN_USER is denied.

Not here: who tries (`trespassers`).
"""

from __future__ import annotations

__all__ = ("FORBIDDEN_USER", "judge")

from libstaragent.model.host import HostFacts
from libstaragent.security.acts import Envelope, Member
from libstaragent.security.policy.ask import asked
from libstaragent.security.policy.decision import Asker, Policy
from libstaragent.security.policy.model import FOUNDERS, Rule

FORBIDDEN_USER = "root"
_RULES = (
    FOUNDERS,
    Rule(name="not-root", effect="deny", who=("*",), users=(FORBIDDEN_USER,), run=(("**",),)),
)
_POLICY = Policy(_RULES, {}, {})


def judge(envelope: Envelope, member: Member, now_ms: int) -> None:
    """What a host makes of a verified act, by the real rules. Raises StarAgentError where they say no."""
    host = HostFacts(id=member.agent, name=member.name, room=member.room)
    asker = Asker(
        name=envelope.operator, roles=("operator",), source=None, now_ms=now_ms, hosts=(host,), owner=envelope.operator
    )
    _POLICY.judge(asked(envelope), asker).check()
