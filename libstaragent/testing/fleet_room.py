"""A room's thin shell in the simulator: the real `RoomCore` between agents' connections and the bus.

As in `agentd.room.server`: after every turn the reports are published, then each link that has something to say is
written, then those that end are closed. What ends a turn early here only makes it shorter.
"""

from __future__ import annotations

__all__ = ("RoomProcess", "WatchedRoom")

from collections.abc import Callable

from libstaragent import codes
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t
from libstaragent.roles.room import Link, RoomCore
from libstaragent.testing.clock import ManualClock
from libstaragent.testing.fleet_bus import SimBus, SimDelivery
from libstaragent.testing.process import SimProcess
from libstaragent.testing.referee import Referee
from libstaragent.testing.transport import MemoryTransport

TICK = 1.0
# Shorter than in production, so that a dead peer is found out within a short run.
HEARTBEAT_MS = 3_000
# What may end a connection between honest ends.
_HONEST_ENDS = ("", codes.PEER_SILENT.code, codes.REPLACED.code)


class WatchedRoom(RoomCore):
    """The room's core, with a look at what it still holds."""

    @property
    def waiting(self) -> int:
        """Targets that are not settled."""
        return sum(map(len, self._pending.values()))

    def replay(self, dispatch: t.Dispatch, agent: str) -> None:
        """Send an order that the host has had, as a forgetful room or a thief of one would."""
        link = self.links.get(agent)
        if link is not None:
            self._send(link, m.Run(dispatch.job, dispatch.signed, None, 0))


class RoomProcess(SimProcess):
    """See the module."""

    def __init__(
        self,
        clock: ManualClock,
        bus: SimBus,
        referee: Referee,
        room: str,
        make: Callable[..., WatchedRoom],
        boot: str,
        *,
        turn: float,
        wanted: Callable[[t.WantPiece, Callable[[t.BlobPiece], None]], None] | None = None,
    ) -> None:
        super().__init__(clock)
        self._turn = turn
        self._wanted = wanted
        self._scheduled = False
        self._bus = bus
        self._referee = referee
        self._room = room
        self._ends: dict[MemoryTransport, None] = {}
        self.dispatched: list[t.Dispatch] = []
        self.core = make(room=room, now=clock.now, heartbeat_ms=HEARTBEAT_MS, boot=boot)
        bus.subscribe(self, f"orders.{room}", self._ordered)
        self.later(TICK, self._tick)
        self._drain()

    def kill(self) -> None:
        """See `SimProcess`; its kernel closes its sockets."""
        super().kill()
        for end in self._ends:
            end.close()

    def accept(self, agent: str, end: MemoryTransport) -> None:
        """A connection of the agent that its certificate names."""
        link = self.core.opened(agent, now=self.clock.now)
        link.shell = end
        self._ends[end] = None
        end.on_data = lambda data: self._received(link, data)
        end.on_lost = lambda: self._lost(link, end)

    def replay(self, dispatch: t.Dispatch, agent: str) -> None:
        """See `WatchedRoom.replay`."""
        self.core.replay(dispatch, agent)
        self._drain()

    def _received(self, link: Link, data: bytes) -> None:
        if self.alive:
            self.core.received(link, data, now=self.clock.now, now_ms=self.clock.now_ms)
            self._soon()

    def _lost(self, link: Link, end: MemoryTransport) -> None:
        if self.alive:
            self._ends.pop(end, None)
            self.core.closed(link, codes.CONNECTION_LOST.code, now_ms=self.clock.now_ms)
            link.shell = None
            self._drain()

    def _ordered(self, delivery: SimDelivery) -> None:
        for order in delivery.batch:
            if isinstance(order, t.Dispatch):
                self.dispatched.append(order)
            self.core.order(order, now_ms=self.clock.now_ms)
        delivery.acknowledge()
        self._drain()

    def carry(self, wanted: Callable[[t.WantPiece, Callable[[t.BlobPiece], None]], None]) -> None:
        """Ask here for the pieces of files."""
        self._wanted = wanted

    def _came(self, piece: t.BlobPiece) -> None:
        if self.alive:
            self.core.files.came(piece)
            self._drain()

    def _tick(self) -> None:
        self.later(TICK, self._tick)
        self.core.tick(now=self.clock.now, now_ms=self.clock.now_ms)
        self._drain()

    def _soon(self) -> None:
        """What arrives in one turn is answered together."""
        if not self._turn:
            self._drain()
        elif not self._scheduled:
            self._scheduled = True
            self.later(self._turn, self._drain)

    def _drain(self) -> None:
        self._scheduled = False
        core = self.core
        taken: dict[tuple[str, str], int] = {}
        live, core.live = core.live, []
        for chunk in live:
            if isinstance(chunk, t.LiveChunk):
                taken[chunk.agent, chunk.job] = taken.get((chunk.agent, chunk.job), 0) + len(chunk.data)
        for (agent, job), count in taken.items():
            core.grant(agent, job, count)
        wanted, core.files.wanted = core.files.wanted, []
        for want in wanted if self._wanted is not None else ():
            self._wanted(want, self._came)  # type: ignore[misc]
        reports = core.take_reports()
        for report in reports:
            if isinstance(report, t.HostDown) and report.code not in (*_HONEST_ENDS, codes.CONNECTION_LOST.code):
                self._referee.breaks("honest ends understand each other", f"{report.agent}: {report.code}")
        self._bus.publish(self, "room", "reports", reports)
        dirty, core.dirty = core.dirty, {}
        for link in dirty:
            if link.shell is not None and link.connection.queued:
                link.shell.write(link.connection.take())
                core.written(link, now_ms=self.clock.now_ms)
        if not core.dirty:
            core.next_turn(now_ms=self.clock.now_ms)
        closing, core.closing = core.closing, []
        for link in closing:
            end = link.shell
            if end is not None:
                end.write(link.connection.take())
                end.close()
                self._ends.pop(end, None)
                link.shell = None
                # A core that only marked its link waits for the shell to say that it is closed.
                core.closed(link, codes.CONNECTION_LOST.code, now_ms=self.clock.now_ms)
        if core.dirty:
            # What followed on the room that was made.
            self._drain()
