"""`libstaragent.client.administration` without ``async``; `libstaragent.sync` gives it out.

Rules: those of `libstaragent.sync`: nothing is decided here, and a test holds the two surfaces together.
"""

from __future__ import annotations

__all__ = ("Administration",)

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from libstaragent.client import administration as awaited_administration
from libstaragent.model.host import HostFacts
from libstaragent.model.policy import PolicyView
from libstaragent.security.acts import Act
from libstaragent.security.policy.difference import Difference
from libstaragent.security.policy.explanation import Explanation
from libstaragent.security.policy.reader import PolicyFile
from libstaragent.security.roster import Operator, Roster

T = TypeVar("T")


class _Caller(Protocol):
    """Runs an asynchronous call and waits for it."""

    def __call__(self, function: Callable[[], Awaitable[T]]) -> T: ...


class Administration:
    """What admins do: rules, operators and hosts that leave."""

    def __init__(self, call: _Caller, administration: awaited_administration.Administration) -> None:
        self._call = call
        self._administration = administration

    def policy(self) -> str:
        """The rules, groups and labels of the roster, as the policy file that would make them."""
        return self._call(self._administration.policy)

    def overview(self) -> PolicyView:
        """What central says of the roster: for a look."""
        return self._call(self._administration.overview)

    def operators(self) -> tuple[Operator, ...]:
        """Who is in the roster."""
        return self._call(self._administration.operators)

    def explain(self, operator: str, targets: str, act: Act, *, source: str | None = None) -> Explanation:
        """Whether `operator` may do `act` on the hosts that `targets` means now, and what each rule says to it."""
        return self._call(lambda: self._administration.explain(operator, targets, act, source=source))

    def compare(self, policy: PolicyFile) -> Difference:
        """Who gains and loses what if `policy` were applied, found by trying on the hosts there are."""
        return self._call(lambda: self._administration.compare(policy))

    def host_facts(self, targets: str | None) -> tuple[HostFacts, ...]:
        """The hosts that `targets` means now, or all, as rules are given them."""
        return self._call(lambda: self._administration.host_facts(targets))

    def apply_policy(self, text: str, *, file: str = "policy") -> int:
        """Makes `text` the rules, groups and labels of the fleet; the number of the new revision."""
        return self._call(lambda: self._administration.apply_policy(text, file=file))

    def add_operator(self, name: str, key: bytes, roles: Sequence[str]) -> int:
        """Lets the holder of the 32-byte public `key` be `name`; the number of the new revision."""
        return self._call(lambda: self._administration.add_operator(name, key, roles))

    def revoke_operator(self, name: str) -> int:
        """Takes `name` out of the roster; the number of the new revision."""
        return self._call(lambda: self._administration.revoke_operator(name))

    def revoke_host(self, name: str) -> int:
        """Puts the host `name` (or agent id) out of the fleet for good; the number of the new revision."""
        return self._call(lambda: self._administration.revoke_host(name))

    def renew(self) -> int:
        """Signs the roster anew as it is, for another 395 days; the number of the new revision."""
        return self._call(self._administration.renew)

    def revise(self, change: Callable[[Roster], Roster]) -> int:
        """Signs what `change` makes of the newest revision, and sends it; its number."""
        return self._call(lambda: self._administration.revise(change))
