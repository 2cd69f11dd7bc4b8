"""The rules of the present roster, for one who judges many acts: read once a revision.

Not here: the judgement itself (`decision`). Rules: pure; the caller says what it knows of hosts, source and time.
"""

from __future__ import annotations

__all__ = ("Permit", "Permits")

from collections.abc import Callable, Sequence

from msgspec import Struct

from libstaragent.model.host import HostFacts
from libstaragent.security.acts import Envelope
from libstaragent.security.policy.ask import asked
from libstaragent.security.policy.decision import Asker, Policy, Verdict
from libstaragent.security.policy.model import Rule
from libstaragent.security.roster import Roster


class Permit(Struct, frozen=True, kw_only=True):
    """An act that is allowed, and by what: `rule` is empty where no rule was needed (one's own job, a token)."""

    envelope: Envelope
    rule: str = ""
    signed_results: bool = False


class Permits:
    """See the module."""

    def __init__(self) -> None:
        self._roster: Roster | None = None
        self._policy: Policy | None = None

    def policy(self, roster: Roster) -> Policy:
        """The rules of `roster`."""
        if self._policy is None or self._roster is not roster:
            self._roster, self._policy = roster, Policy(roster.rules, roster.labels, roster.groups)
        return self._policy

    def judge(
        self,
        envelope: Envelope,
        roster: Roster,
        *,
        hosts: Sequence[HostFacts],
        source: str | None,
        now_ms: int,
        owner: str | None = None,
        has_room: Callable[[Rule], bool] = lambda rule: True,
    ) -> Verdict:
        """How the rules of `roster` judge `envelope`; its signer has been verified.

        :param hosts: those it is about, as far as the judge knows them.
        :param source: the address it came from; None where that cannot be seen.
        :param owner: who began what is to be managed; None where that is not known.
        """
        signer = next((entry for entry in roster.operators if entry.name == envelope.operator), None)
        asker = Asker(
            name=envelope.operator,
            roles=() if signer is None else signer.roles,
            source=source,
            now_ms=now_ms,
            hosts=hosts,
            owner=owner,
        )
        return self.policy(roster).judge(asked(envelope), asker, has_room=has_room)

    def permit(
        self,
        envelope: Envelope,
        roster: Roster,
        *,
        hosts: Sequence[HostFacts],
        source: str | None,
        now_ms: int,
        owner: str | None = None,
        has_room: Callable[[Rule], bool] = lambda rule: True,
    ) -> Permit:
        """As `judge`, when it is a yes.

        :raises StarAgentError: it is a no; the detail names the rule.
        """
        verdict = self.judge(
            envelope, roster, hosts=hosts, source=source, now_ms=now_ms, owner=owner, has_room=has_room
        )
        verdict.check()
        return Permit(envelope=envelope, rule=verdict.rule, signed_results=verdict.signed_results)
