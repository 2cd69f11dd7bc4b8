"""What this host believes: its roster chain, its clock's judge, itself. The one place where an envelope becomes an
act.
"""

from __future__ import annotations

__all__ = ("HostVerifier",)

from collections.abc import Iterable

from agentd.agent.state import Identity
from agentd.agent.veto import Vetoes
from libstaragent import codes
from libstaragent.jobs.journal import Learned, Record
from libstaragent.model.host import HostFacts
from libstaragent.roles.agent_effects import Verifier
from libstaragent.security.authority import verify_act
from libstaragent.security.clock import TimeJudge
from libstaragent.security.envelope import Envelope
from libstaragent.security.membership import Proof
from libstaragent.security.policy.ask import MANAGING
from libstaragent.security.policy.decision import Verdict
from libstaragent.security.policy.permits import Permits
from libstaragent.security.roster import Roster, RosterChain
from libstaragent.security.signed import Signed
from libstaragent.targets import parse


class HostVerifier(Verifier):
    """See the module. Raises StarAgentError where the roster on disk is not of this fleet."""

    def __init__(
        self,
        identity: Identity,
        roster: Signed,
        *,
        facts: HostFacts,
        boot_nonce: bytes,
        journal: Iterable[Record],
        veto: Vetoes | None = None,
    ) -> None:
        self._identity = identity
        self._facts = facts
        self._boot_nonce = boot_nonce
        self._permits = Permits()
        self._veto = veto
        self._chain = RosterChain.restored(identity.fleet, roster)
        self._judge = TimeJudge(max((record.time_ms for record in journal if isinstance(record, Learned)), default=0))

    def verify(self, signed: Signed, proof: Proof | None, now_ms: int) -> Envelope:
        """See `Verifier`."""
        return self._verified(signed, proof, now_ms, kept=False)

    def verify_kept(self, signed: Signed, proof: Proof | None, now_ms: int) -> Envelope:
        """See `Verifier`."""
        return self._verified(signed, proof, now_ms, kept=True)

    def _verified(self, signed: Signed, proof: Proof | None, now_ms: int, *, kept: bool) -> Envelope:
        return verify_act(
            signed,
            roster=self._roster,
            fleet=self._identity.fleet,
            me=self._identity.member,
            proof=proof,
            local_ms=now_ms,
            time_judge=self._judge,
            boot_nonce=self._boot_nonce,
            evaluate=self._matches,
            permit=lambda envelope: self._permit(envelope, now_ms),
            kept=kept,
        )

    def may_manage(self, envelope: Envelope, owner: str | None, now_ms: int) -> None:
        """See `Verifier`."""
        self._judged(envelope, owner, now_ms)

    def signs_results(self, envelope: Envelope, now_ms: int) -> bool:
        """See `Verifier`."""
        return self._judge_rules(envelope, None, now_ms).signed_results

    def take_rosters(self, revisions: tuple[Signed, ...], now_ms: int) -> Signed | None:
        """See `Verifier`."""
        before = self.roster_revision
        self._chain.accept_all(revisions, self._judge.now(now_ms))
        return self._chain.signed if self.roster_revision > before else None

    @property
    def roster_revision(self) -> int:
        """See `Verifier`."""
        return self._roster.revision

    @property
    def highest_ms(self) -> int:
        """See `Verifier`."""
        return self._judge.highest_ms

    def may_forget(self, expires_ms: int) -> bool:
        """See `Verifier`."""
        return self._judge.may_forget(expires_ms)

    @property
    def _roster(self) -> Roster:
        assert self._chain.newest is not None
        return self._chain.newest

    def _permit(self, envelope: Envelope, now_ms: int) -> None:
        # Whose it is that is managed is known to the one who keeps it: `may_manage` is asked there.
        if self._identity.agent in self._roster.revoked:
            raise codes.HOST_REVOKED.error()
        owner = envelope.operator if isinstance(envelope.act, MANAGING) else None
        self._judged(envelope, owner, now_ms)
        if self._veto is not None:
            self._veto.check(envelope)

    def _judged(self, envelope: Envelope, owner: str | None, now_ms: int) -> None:
        self._judge_rules(envelope, owner, now_ms).check()

    def _judge_rules(self, envelope: Envelope, owner: str | None, now_ms: int) -> Verdict:
        return self._permits.judge(
            envelope, self._roster, hosts=(self._facts,), source=None, now_ms=self._judge.now(now_ms), owner=owner
        )

    def _matches(self, expression: str) -> bool:
        return parse(expression).may_match(self._facts, self._roster.groups)
