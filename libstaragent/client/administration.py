"""What admins do to a fleet, from Python: rules, operators and hosts that leave. Each is the next roster revision.

    async with Fleet.connect() as fleet:
        revision = await fleet.administration.apply_policy(Path("policy.toml").read_text())

Not here: what rules mean (`security.policy`), HTTP. Rules: a revision is made from the newest one that central has,
after its chain was verified by the pin; where somebody else was faster, central and every host refuse ours, since it
does not follow, and nothing is lost: do it again. Each revision is valid for as long as the first was.
"""

from __future__ import annotations

__all__ = ("ROSTER_LIFE_MS", "Administration", "check_cases")

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import anyio
from msgspec.structs import replace

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.model.api import RosterTaken, Trust
from libstaragent.model.host import HostFacts
from libstaragent.model.ids import is_user_name
from libstaragent.model.policy import PolicyView
from libstaragent.security.acts import Act
from libstaragent.security.authority import missing_role
from libstaragent.security.policy.ask import asked_of
from libstaragent.security.policy.cases import judge_case
from libstaragent.security.policy.decision import Asker, Policy
from libstaragent.security.policy.difference import Difference, compare
from libstaragent.security.policy.explanation import Explanation, explain
from libstaragent.security.policy.reader import PolicyFile, read_policy
from libstaragent.security.policy.writing import policy_text
from libstaragent.security.roster import Operator, Roster, RosterChain, digest, sign_roster
from libstaragent.security.signed import Signed, signed_to_json
from libstaragent.security.signing import KEY_BYTES

if TYPE_CHECKING:
    from libstaragent.client.fleet import Fleet

# A year, and the weeks in which somebody notices; `roster.MAX_VALIDITY_MS` is 400 days.
ROSTER_LIFE_MS = 395 * 24 * 3_600_000


class Administration:
    """See the module. `seed` is the root's key, where an admin's own may not sign: an expired roster."""

    def __init__(self, fleet: Fleet, *, seed: bytes | None = None) -> None:
        self._fleet = fleet
        self._seed = seed

    # Looking ----------------------------------------------------------------------------------------------------------

    async def policy(self) -> str:
        """The rules, groups and labels of the roster, as the policy file that would make them."""
        roster = (await self._newest())[0]
        return policy_text(roster.rules, roster.groups, roster.labels)

    async def overview(self) -> PolicyView:
        """What central says of the roster: for a look. `policy` and `operators` are verified here."""
        return await self._fleet.transport.get("/v1/policy", PolicyView)

    async def operators(self) -> tuple[Operator, ...]:
        """Who is in the roster."""
        return (await self._newest())[0].operators

    async def explain(self, operator: str, targets: str, act: Act, *, source: str | None = None) -> Explanation:
        """Whether `operator` may do `act` on the hosts that `targets` means now, and what each rule says to it.

        :param source: the address that it would come from; rules with networks are taken as they stand without one.
        :raises NotFound: there is no such operator, a host that is named is not there, or nothing matches.
        """
        roster, _ = await self._newest()
        known = _operator(roster, operator)
        hosts = await self.host_facts(targets)
        asker = Asker(name=known.name, roles=known.roles, source=source, now_ms=_now_ms(), hosts=hosts)
        found = explain(_policy(roster), asked_of(act, count=len(hosts)), asker)
        role = missing_role(act, known.roles)
        if not role:
            return found
        code = codes.SIGNER_ROLE
        text = f"{code.code} {code.sentence}: {known.name} has not the role {role}, whatever the rules say"
        return replace(found, allowed=False, rule="", code=code.code, text=text)

    async def compare(self, policy: PolicyFile) -> Difference:
        """Who gains and loses what if `policy` were applied, found by trying on the hosts there are."""
        roster, _ = await self._newest()
        operators = [(operator.name, operator.roles) for operator in roster.operators if "operator" in operator.roles]
        hosts = await self.host_facts(None)
        new = Policy(policy.rules, policy.labels, policy.groups)
        return compare(_policy(roster), new, operators=operators, hosts=hosts, now_ms=_now_ms())

    async def host_facts(self, targets: str | None) -> tuple[HostFacts, ...]:
        """The hosts that `targets` means now, or all, as rules are given them."""
        return tuple(
            HostFacts(id=host.id, name=host.name, room=host.room, addresses=host.addresses, facts=host.facts)
            for host in await self._fleet.hosts(targets)
        )

    # Changing ---------------------------------------------------------------------------------------------------------

    async def apply_policy(self, text: str, *, file: str = "policy") -> int:
        """Makes `text` the rules, groups and labels of the fleet; the number of the new revision.

        :raises UsageError: it cannot be read, or one of its cases does not come out as it expects.
        :raises StarAgentError: the operator is no admin, or central does not take it.
        """
        policy = read_policy(text, file=file)
        check_cases(policy, file=file, now_ms=_now_ms())
        return await self.revise(
            lambda roster: replace(roster, rules=policy.rules, groups=policy.groups, labels=policy.labels)
        )

    async def add_operator(self, name: str, key: bytes, roles: Sequence[str]) -> int:
        """Lets the holder of the 32-byte public `key` be `name`; the number of the new revision.

        :raises Conflict: the name or the key is in use.
        """
        if not is_user_name(name) or len(key) != KEY_BYTES or not all(is_user_name(role) for role in roles):
            raise codes.OPERATOR_TERMS.error("a name, a public key of 32 bytes, and roles that are names")

        def change(roster: Roster) -> Roster:
            for known in roster.operators:
                if name == known.name or key == known.key:
                    raise codes.OPERATOR_EXISTS.error(known.name)
            return replace(roster, operators=(*roster.operators, Operator(name, key, tuple(dict.fromkeys(roles)))))

        return await self.revise(change)

    async def revoke_operator(self, name: str) -> int:
        """Takes `name` out of the roster; the number of the new revision. What it signed and did not run yet is void.

        :raises NotFound: there is no such operator.
        :raises Denied: it is the last admin.
        """

        def change(roster: Roster) -> Roster:
            _operator(roster, name)
            left = tuple(operator for operator in roster.operators if operator.name != name)
            if not any("admin" in operator.roles for operator in left):
                raise codes.OPERATOR_TERMS.error(f"{name} is the last admin; add another first")
            return replace(roster, operators=left)

        return await self.revise(change)

    async def revoke_host(self, name: str) -> int:
        """Puts the host `name` (or agent id) out of the fleet for good; the number of the new revision.

        Its name is free then; the machine can only come back as another agent, with a token.

        :raises NotFound: there is no such host.
        """
        host = await self._fleet.host(name)

        def change(roster: Roster) -> Roster:
            return replace(roster, revoked=tuple(dict.fromkeys((*roster.revoked, host.id))))

        return await self.revise(change)

    async def renew(self) -> int:
        """Signs the roster anew as it is, for another 395 days; the number of the new revision."""
        return await self.revise(lambda roster: roster)

    async def revise(self, change: Callable[[Roster], Roster]) -> int:
        """Signs what `change` makes of the newest revision, and sends it; its number.

        :raises Denied: the key may not sign rosters, or the roster has expired and it is not the root's.
        :raises Conflict: ROSTER_RACED, somebody else was faster: it does not follow the newest one any more.
        """
        before, signed = await self._newest()
        seed = self._seed if self._seed is not None else await anyio.to_thread.run_sync(self._fleet.load_seed)
        now_ms = max(_now_ms(), before.issued)
        after = replace(
            change(before),
            revision=before.revision + 1,
            previous=digest(signed),
            issued=now_ms,
            valid_until=now_ms + ROSTER_LIFE_MS,
        )
        revision = sign_roster(after, seed)
        chain = RosterChain.restored(before.fleet, signed)
        # What no host would take is not sent.
        chain.accept(revision, now_ms)
        try:
            answer = await self._fleet.transport.post("/v1/rosters", signed_to_json(revision), RosterTaken)
        except StarAgentError as error:
            if error.code not in (codes.ROSTER_CHAIN, codes.ROSTER_OLD):
                raise
            # It followed what central had a moment ago.
            raise codes.ROSTER_RACED.error(f"revision {after.revision} is another's") from error
        self._fleet.forget_roster()
        return answer.revision

    async def _newest(self) -> tuple[Roster, Signed]:
        """The newest revision that central has, by the pin; also one that has expired."""
        trust = await self._fleet.transport.get("/v1/trust", Trust, login=False)
        chain = RosterChain(self._fleet.context.fleet)
        roster = chain.accept_all(trust.rosters, 0)
        assert chain.signed is not None
        return roster, chain.signed


def check_cases(policy: PolicyFile, *, file: str, now_ms: int) -> None:
    """Nothing, if each case of the file comes out as it expects.

    :raises UsageError: POLICY_CASE_FAILED; the detail names the first.
    """
    rules = Policy(policy.rules, policy.labels, policy.groups)
    for case in policy.cases:
        outcome = judge_case(rules, case, policy.hosts, now_ms=now_ms)
        if not outcome.holds:
            said = "allowed" if outcome.verdict.code is None else f"denied ({outcome.verdict.detail})"
            raise codes.POLICY_CASE_FAILED.error(f"{file}, {case.place}: {said}, by rule {outcome.verdict.rule or '-'}")


def _policy(roster: Roster) -> Policy:
    return Policy(roster.rules, roster.labels, roster.groups)


def _operator(roster: Roster, name: str) -> Operator:
    found = next((operator for operator in roster.operators if operator.name == name), None)
    if found is None:
        raise codes.OPERATOR_UNKNOWN.error(name)
    return found


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
