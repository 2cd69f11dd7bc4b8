"""The hosts of the fleet, in memory: who is enrolled, and what a host last said of itself.

Not here: how its connection is (`CentralCore.hosts`) and the disk (`store`); this is filled from the store at start
and changed after each commit. About 2 KB a host.

Rules: ids and names are unique; a revoked host is no host here. `members` is what the core checks targets against.
"""

from __future__ import annotations

__all__ = ("Directory", "HostRecord")

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from libstaragent import codes
from libstaragent.model.api import HolderView, HostView
from libstaragent.model.host import HostFacts
from libstaragent.roles.central_state import HostState
from libstaragent.roles.guards import Guard
from libstaragent.security.acts import Member


class HostRecord:
    """One enrolled host."""

    __slots__ = (
        "addresses",
        "chosen",
        "enrolled_ms",
        "facts",
        "id",
        "labels",
        "last_seen_ms",
        "name",
        "result_key",
        "room",
    )

    def __init__(
        self,
        *,
        id: str,
        name: str,
        room: str,
        labels: Mapping[str, str],
        facts: Mapping[str, str],
        addresses: tuple[str, ...],
        enrolled_ms: int,
        last_seen_ms: int | None = None,
        result_key: bytes = b"",
    ) -> None:
        self.id = id
        self.name = name
        self.room = room
        self.labels = dict(labels)
        self.facts = dict(facts)
        self.addresses = addresses
        self.enrolled_ms = enrolled_ms
        self.last_seen_ms = last_seen_ms
        self.result_key = result_key
        # What an expression sees of it, kept until something changes.
        self.chosen: HostFacts | None = None


class Directory:
    """See the module. `states` is the core's own table of connections, `guards` that of guarded identities; read
    only.
    """

    def __init__(self, states: Mapping[str, HostState], guards: Mapping[str, Guard] = MappingProxyType({})) -> None:
        self._states = states
        self._guards = guards
        self._by_id: dict[str, HostRecord] = {}
        self._by_name: dict[str, HostRecord] = {}
        self._ordered: list[HostRecord] | None = None
        self.members: dict[str, Member] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, record: HostRecord) -> None:
        """A host that is enrolled in the store."""
        before = self._by_id.get(record.id)
        if before is not None:
            self._by_name.pop(before.name, None)
        self._by_id[record.id] = self._by_name[record.name] = record
        self.members[record.id] = Member(record.id, record.name, record.room)
        self._ordered = None

    def remove(self, agent: str) -> None:
        """A host that is none any more."""
        record = self._by_id.pop(agent, None)
        if record is not None:
            self.members.pop(agent, None)
            if self._by_name.get(record.name) is record:
                del self._by_name[record.name]
            self._ordered = None

    def get(self, agent: str) -> HostRecord | None:
        """By agent id."""
        return self._by_id.get(agent)

    def room_of(self, agent: str) -> str:
        """The room of an agent; empty where there is no such host."""
        record = self._by_id.get(agent)
        return "" if record is None else record.room

    def find(self, id_or_name: str) -> HostRecord:
        """By agent id or name.

        :raises NotFound: there is none.
        """
        record = self._by_id.get(id_or_name) or self._by_name.get(id_or_name)
        if record is None:
            raise codes.HOST_UNKNOWN.error(id_or_name[:300])
        return record

    def named(self, name: str) -> HostRecord | None:
        """By name."""
        return self._by_name.get(name)

    def ordered(self) -> list[HostRecord]:
        """All, in the order of their names."""
        if self._ordered is None:
            self._ordered = sorted(self._by_id.values(), key=lambda record: record.name)
        return self._ordered

    def changed(self, agent: str) -> None:
        """Its connection or its facts are others than before."""
        record = self._by_id.get(agent)
        if record is not None:
            record.chosen = None

    def room_changed(self, room: str) -> None:
        """The connections of all its hosts are others than before."""
        for record in self._by_id.values():
            if record.room == room:
                record.chosen = None

    def facts(self) -> list[HostFacts]:
        """All hosts as a target expression sees them, in the order of their names."""
        return [record.chosen or self._choose(record) for record in self.ordered()]

    def facts_of(self, members: Iterable[Member]) -> list[HostFacts]:
        """The same of `members`; of one that is not here any more, what its signer knew."""
        found: list[HostFacts] = []
        for member in members:
            record = self._by_id.get(member.agent)
            if record is None:
                found.append(HostFacts(id=member.agent, name=member.name, room=member.room))
            else:
                found.append(record.chosen or self._choose(record))
        return found

    def view(self, record: HostRecord) -> HostView:
        """One host as the API shows it."""
        state = self._states.get(record.id)
        return HostView(
            id=record.id,
            name=record.name,
            room=record.room,
            state=self._state(record),
            labels=record.labels,
            facts=record.facts,
            addresses=record.addresses,
            version="" if state is None else state.version,
            roster=0 if state is None else state.roster,
            clock_ahead_ms=0 if state is None else state.clock_ahead_ms,
            enrolled_ms=record.enrolled_ms,
            changed_ms=record.last_seen_ms or record.enrolled_ms if state is None else state.at_ms,
            code=self._code(record),
            holders=self._holders(record),
            boot_nonce="" if state is None else state.boot_nonce.hex(),
            result_key=record.result_key.hex(),
        )

    def views(self, records: Iterable[HostRecord]) -> tuple[HostView, ...]:
        """Several hosts as the API shows them."""
        return tuple(map(self.view, records))

    def _holders(self, record: HostRecord) -> tuple[HolderView, ...]:
        guard = self._guards.get(record.id)
        return tuple(
            HolderView(
                nonce=holder.nonce.hex(),
                connects=holder.connects,
                hostname=holder.hostname,
                addresses=holder.addresses,
                first_ms=holder.first_ms,
                last_ms=holder.last_ms,
            )
            for holder in (() if guard is None else guard.holders)
        )

    def _state(self, record: HostRecord) -> str:
        guard = self._guards.get(record.id)
        if guard is not None and guard.state == "quarantined":
            return "quarantined"
        state = self._states.get(record.id)
        if state is not None:
            return "up" if state.up else "down"
        return "never" if record.last_seen_ms is None else "down"

    def _code(self, record: HostRecord) -> str:
        guard = self._guards.get(record.id)
        if guard is not None and guard.state == "quarantined":
            return codes.HOST_QUARANTINED.code
        state = self._states.get(record.id)
        return "" if state is None or state.up else state.code

    def _choose(self, record: HostRecord) -> HostFacts:
        version = self._states[record.id].version if record.id in self._states else ""
        record.chosen = HostFacts(
            id=record.id,
            name=record.name,
            room=record.room,
            addresses=record.addresses,
            labels=record.labels,
            facts={**record.facts, "state": self._state(record), "version": version},
        )
        return record.chosen
