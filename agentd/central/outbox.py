"""What central says to the rooms, after the commit that allows it.

Not here: what is said (`CentralCore`). Rules: one batch a room and a round; a room that is heard of for the first time,
or anew, gets the roster and the guards before anything else, and a guard goes out before the orders of its round.
"""

from __future__ import annotations

__all__ = ("Outbox",)

from collections.abc import Sequence

from agentd.bus import Bus, orders_subject
from agentd.central.directory import Directory
from agentd.central.trust import RosterBook
from agentd.store.audit import ChainEnd
from libstaragent.protocol import trunk as t
from libstaragent.roles.central_state import Decision
from libstaragent.roles.guards import Change, GuardBook

# Guards in one order: about 100 bytes each, a frame of the bus holds some thousand.
GUARDS_AT_ONCE = 1000

# Rooms pass it on with their pings, which are far rarer.
AUDIT_EVERY_MS = 5000


class Outbox:
    """See the module."""

    def __init__(self, bus: Bus, trust: RosterBook, guards: GuardBook, hosts: Directory) -> None:
        self._bus = bus
        self._trust = trust
        self._guards = guards
        self._hosts = hosts
        self._rooms: set[str] = set()
        self._audit: t.AuditHead | None = None

    def meet(self, room: str) -> None:
        """A room that has hosts; told the roster if it is new here."""
        if room not in self._rooms:
            self.greet(room)

    def greet(self, room: str) -> None:
        """A room that has just started."""
        self._rooms.add(room)
        self.say(room, self._trust.order())
        orders = self._guards.orders(lambda agent: self._hosts.room_of(agent) in (room, ""))
        for start in range(0, len(orders), GUARDS_AT_ONCE):
            self.say(room, t.GuardHosts(orders[start : start + GUARDS_AT_ONCE]))
        if self._audit is not None:
            self.say(room, self._audit)

    def tell_audit(self, end: ChainEnd | None, now_ms: int) -> None:
        """The audit's newest entry, to all rooms, if it is another than before and that was told long enough ago."""
        before = self._audit
        if end is None or not end.seq:
            return
        if before is not None and (before.hash == end.hash or now_ms - before.at_ms < AUDIT_EVERY_MS):
            return
        self._audit = t.AuditHead(end.seq, end.hash, now_ms)
        for room in self._rooms:
            self.say(room, self._audit)

    def guard(self, changed: Change) -> None:
        """An agent is guarded in another way than before."""
        room = self._hosts.room_of(changed.agent)
        # One that is no host any more may knock anywhere.
        for each in (room,) if room else tuple(self._rooms):
            self.say(each, t.GuardHosts((changed.order,)))

    def tell_roster(self) -> None:
        """The roster has a new revision."""
        for room in self._rooms:
            self.say(room, self._trust.order())

    def say(self, room: str, order: t.Order) -> None:
        """One order."""
        self._bus.publish(orders_subject(room), [order])

    def carry_out(self, decisions: Sequence[Decision]) -> None:
        """The orders of decisions that are on disk, and which results are."""
        rooms: dict[str, list[t.Order]] = {}
        settled: dict[str, list[tuple[str, str]]] = {}
        for decision in decisions:
            for room, order in decision.orders:
                rooms.setdefault(room, []).append(order)
            for changed in decision.guards:
                self.guard(changed)
            for room, agent, job in decision.settle:
                settled.setdefault(room, []).append((agent, job))
        for room, pairs in settled.items():
            rooms.setdefault(room, []).append(t.SettledTargets(tuple(pairs)))
        for room, orders in rooms.items():
            self._bus.publish(orders_subject(room), orders)
