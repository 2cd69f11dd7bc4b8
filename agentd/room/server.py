"""A machine room's shell: TLS sockets of agents on one side, the bus to central on the other, the core between.

    socket ─accept→ admission ─TLS handshake→ Peer ⇄ RoomCore ⇄ bus: orders.<room>, reports, live

Not here: any decision (`libstaragent.roles.room`).

Rules
- Many inputs, one drain: whatever arrived in one turn of the loop is given to the core, then its reports go out as one
  batch, then each link that has something to say is written once.
- Reports leave before the bytes they announce ("sent"), so a room that dies between them has only said too much.
- A socket that is not admitted is closed before any cryptography is spent on it.
- When central is behind, whoever speaks is no longer read; agents keep their results, and nothing is dropped.
"""

from __future__ import annotations

__all__ = ("Room",)

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence

from agentd.bus import LIVE, READS, REPORTS, WANTS, Bus, Delivery, orders_subject, pieces_subject
from agentd.room.peer import Peer
from agentd.room.reading import Reading
from agentd.room.tls import SHUTDOWN_TIMEOUT, TlsTransport
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.protocol import trunk as t
from libstaragent.protocol.limits import HEARTBEAT_DEFAULT_MS
from libstaragent.roles.room import Link, RoomCore
from libstaragent.security.tls import peer_certificate

log = logging.getLogger("agentd.room")

# The kernel's queue of connections not yet accepted: a fleet that comes back at once waits here.
BACKLOG = 4096
# Sockets accepted in one turn of the loop, so that a herd does not keep those who are connected waiting.
ACCEPTS_A_TURN = 64
# After the last file descriptor was taken.
ACCEPT_AGAIN_SECONDS = 0.2
# Links written in one turn; a job for ten thousand hosts must not hold up the reading of their answers.
WRITES_A_TURN = 512
# What is taken from a link at once: as much as the transport's own buffer holds.
WRITE_AT_ONCE = 64 * 1024
# Bytes of reports in one batch: central decides and writes a batch as a whole.
BATCH_BYTES = 4 * 1024 * 1024
TICK_SECONDS = 1.0


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Room:
    """See the module.

    Attributes:
        core: the decisions; `core.links` are the agents that are up.
        refused: sockets closed before TLS because too many came at once or from one address (`core.admission`).
        failed_handshakes: strangers, expired certificates, port scanners.
        bytes_in, bytes_out: of the agent protocol, without TLS.
    """

    def __init__(
        self,
        *,
        room: str,
        bus: Bus,
        ssl_context: ssl.SSLContext,
        heartbeat_ms: int = HEARTBEAT_DEFAULT_MS,
        clock: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = _wall_ms,
        boot: str = "",
    ) -> None:
        self._bus = bus
        self._tls = ssl_context
        self._clock = clock
        self._wall_ms = wall_ms
        self.core = RoomCore(room=room, now=clock(), heartbeat_ms=heartbeat_ms, boot=boot)
        self.refused = 0
        self.failed_handshakes = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self._peers: set[Peer] = set()
        # Being taken over from the kernel, and in their handshake.
        self._handshakes: set[asyncio.Task[None]] = set()
        self._shaking: set[TlsTransport] = set()
        self._scheduled = False
        self._listener: socket.socket | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._all_gone: asyncio.Event | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen, take orders; the address that was bound (port 0 picks one).

        :raises OSError: the address cannot be bound.
        """
        self._loop = asyncio.get_running_loop()
        self._reading = Reading(self._loop, self._waiting_bytes, self._peers)
        family, _, _, _, address = (
            await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        )[0]
        self._listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener.fileno(), self._accept, self._listener)
        self._bus.subscribe(orders_subject(self.core.room), self._ordered)
        self._bus.subscribe_lossy(pieces_subject(self.core.room), self._pieces_came)
        self._ticking = self._loop.call_later(TICK_SECONDS, self._tick_again)
        self._soon()
        bound = self._listener.getsockname()
        return bound[0], bound[1]

    async def stop(self) -> None:
        """Send the agents away, each to come back in its turn, and close."""
        if self._listener is None:
            return
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        self._listener = None
        if self._ticking is not None:
            self._ticking.cancel()
        for task in list(self._handshakes):
            task.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)
        for transport in list(self._shaking):
            transport.abort()
        self.core.go_away(codes.ROOM_STOPPING.code)
        while self.core.dirty:
            self._drain()
        self._all_gone = asyncio.Event()
        for peer in list(self._peers):
            if peer.transport is not None:
                peer.transport.close()
        try:
            if self._peers:
                await asyncio.wait_for(self._all_gone.wait(), 2 * SHUTDOWN_TIMEOUT)
        except TimeoutError:
            for peer in list(self._peers):
                if peer.transport is not None:
                    peer.transport.abort()
        self._drain()

    def tick(self) -> None:
        """What is due by the clock now. Called once a second; a test with its own clock calls it itself."""
        self.core.tick(now=self._clock(), now_ms=self._wall_ms())
        self._soon()

    @property
    def connections(self) -> int:
        """TLS connections that stand, whether or not they have said HELLO."""
        return len(self._peers)

    @property
    def reading_paused(self) -> int:
        """Connections that are not read because central is behind."""
        return len(self._reading)

    def _waiting_bytes(self) -> int:
        return self._bus.unacknowledged_bytes(REPORTS) + self.core.outputs.bytes

    @property
    def unfinished_bytes(self) -> int:
        """Bytes of frames that have not come whole."""
        return self._reading.unfinished

    # Connections ---------------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                connection, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                # No file descriptors left. The kernel's queue holds them; its readiness would spin the loop.
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(ACCEPT_AGAIN_SECONDS, self._listen_again)
                return
            if not self.core.admission.admit(address[0], self._clock()):
                self.refused += 1
                connection.close()
                continue
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._handshake(connection))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    def _listen_again(self) -> None:
        if self._listener is not None:
            self._loop.add_reader(self._listener.fileno(), self._accept, self._listener)

    async def _handshake(self, connection: socket.socket) -> None:
        transport = TlsTransport(self._tls, Peer(self), self._shaken_off)
        self._shaking.add(transport)
        try:
            await self._loop.connect_accepted_socket(lambda: transport, connection)
        except OSError as error:
            self._shaken_off(transport, error)
            connection.close()

    def _shaken_off(self, transport: TlsTransport, error: Exception | None) -> None:
        """A handshake has failed."""
        self._shaking.discard(transport)
        self.failed_handshakes += 1
        if isinstance(error, ssl.SSLError) and self.failed_handshakes & (self.failed_handshakes - 1) == 0:
            # The 1st, 2nd, 4th, 8th, … is told: a port scanner must not fill the log.
            log.warning("%s (%d so far)", codes.CERTIFICATE_REFUSED.error(str(error)), self.failed_handshakes)

    def opened(self, peer: Peer) -> Link | None:
        """A handshake is done."""
        assert peer.transport is not None
        self._shaking.discard(peer.transport)  # type: ignore[arg-type]
        self._peers.add(peer)
        error: StarAgentError | None = None
        agent, issued_s = "", 0
        try:
            agent, room, issued_s = peer_certificate(peer.transport.get_extra_info("ssl_object"))
            if room != self.core.room:
                error = codes.WRONG_ROOM.error(f"{room!r}, this is {self.core.room!r}")
        except StarAgentError as problem:
            error = problem
        link = self.core.opened(agent, now=self._clock(), issued_s=issued_s)
        link.shell = peer
        if error is not None:
            self.core.refuse(link, error, now_ms=self._wall_ms())
            self._soon()
        return link

    def received(self, peer: Peer, data: bytes) -> None:
        """Bytes of an agent."""
        self.bytes_in += len(data)
        assert peer.link is not None and peer.transport is not None
        self.core.received(peer.link, data, now=self._clock(), now_ms=self._wall_ms())
        self._reading.heard(peer)
        if not self._scheduled:
            self._soon()

    def writable(self, peer: Peer) -> None:
        """A peer that did not keep up can be written to again."""
        if peer.link is not None and peer.link.connection.queued:
            self.core.dirty[peer.link] = None
            self._soon()

    def lost(self, peer: Peer, error: Exception | None) -> None:
        """A connection is gone, whoever closed it."""
        self._peers.discard(peer)
        self._reading.gone(peer)
        if peer.link is not None:
            self.core.closed(peer.link, codes.CONNECTION_LOST.code, now_ms=self._wall_ms())
            peer.link.shell = None
            self._soon()
        if self._all_gone is not None and not self._peers:
            self._all_gone.set()

    # The bus and the clock -----------------------------------------------------------------------------------------

    def _ordered(self, delivery: Delivery) -> None:
        now_ms = self._wall_ms()
        for order in delivery.batch:
            self.core.order(order, now_ms=now_ms)
        # What a room holds is memory: central gives it again when the room starts anew.
        delivery.acknowledge()
        self._soon()

    def _pieces_came(self, batch: Sequence[t.BlobPiece]) -> None:
        for piece in batch:
            self.core.files.came(piece)
        self._soon()

    def _tick_again(self) -> None:
        self._ticking = self._loop.call_later(TICK_SECONDS, self._tick_again)
        self.tick()

    # The drain -----------------------------------------------------------------------------------------------------

    def _soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._scheduled = False
        core = self.core
        if core.live:
            self._show_live()
        self._hand_on_files()
        for batch, size in _batches(core.take_reports()):
            self._bus.publish(REPORTS, batch, size=size)
        dirty = core.dirty
        if len(dirty) <= WRITES_A_TURN:
            core.dirty = {}
        else:
            links = list(dirty)
            dirty = dict.fromkeys(links[:WRITES_A_TURN])
            core.dirty = dict.fromkeys(links[WRITES_A_TURN:])
            self._soon()
        now_ms = self._wall_ms()
        for link in dirty:
            peer: Peer | None = link.shell
            if peer is None or peer.blocked or peer.transport is None:
                continue
            while link.connection.queued and not peer.blocked:
                data = link.connection.take(WRITE_AT_ONCE)
                self.bytes_out += len(data)
                peer.transport.write(data)
            core.written(link, now_ms=now_ms)
        if not core.dirty:
            core.next_turn(now_ms=now_ms)
        if core.closing:
            closing, core.closing = core.closing, []
            for link in closing:
                self._close(link)
        if core.dirty or core.reports:
            # What followed on the room that was made; its reports leave first.
            self._soon()

    def _show_live(self) -> None:
        live, self.core.live = self.core.live, []
        self._bus.publish_lossy(LIVE, live)
        # Credit returns for what was handed on; a viewer that is slow loses views, not the agent its pace.
        taken: dict[tuple[str, str], int] = {}
        for chunk in live:
            if isinstance(chunk, t.LiveChunk):
                taken[chunk.agent, chunk.job] = taken.get((chunk.agent, chunk.job), 0) + len(chunk.data)
        for (agent, job), count in taken.items():
            self.core.grant(agent, job, count)

    def _hand_on_files(self) -> None:
        files = self.core.files
        if files.read:
            read, files.read = files.read, []
            self._bus.publish_lossy(READS, read)
        if files.wanted:
            wanted, files.wanted = files.wanted, []
            self._bus.publish_lossy(WANTS, wanted)

    def _close(self, link: Link) -> None:
        peer: Peer | None = link.shell
        if peer is None or peer.transport is None:
            return
        if peer.blocked or link.code == codes.PEER_SLOW.code:
            peer.transport.abort()
            return
        # A last word may still wait for its turn to be written.
        self.core.dirty.pop(link, None)
        peer.transport.write(link.connection.take())
        peer.transport.close()


def _batches(reports: list[t.Report]) -> Iterator[tuple[list[t.Report], int]]:
    """The reports in batches of about BATCH_BYTES, with the bytes of each."""
    batch: list[t.Report] = []
    size = 0
    for report in reports:
        batch.append(report)
        size += t.report_bytes(report)
        if size >= BATCH_BYTES:
            yield batch, size
            batch, size = [], 0
    if batch:
        yield batch, size
