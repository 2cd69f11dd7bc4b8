"""A machine room's decisions: between central's orders and the agents' connections. Pure; the shell is agentd/room.

A room carries; it never signs, never executes, and keeps nothing on disk. Everything in it can be lost: central
gives the open dispatches again when the room says it started, and agents repeat what was not settled.

Per agent it holds what is to be delivered. An order is sent when its host is connected and again on each new connection
until its result is settled; the agent knows ids it has seen. An order that expired and was never written to a
connection is reported undelivered, the one case in which a room may say that nothing ran.

How it is driven: call an input, then for each link in `dirty` write `link.connection.take()`, close those in `closing`,
publish `reports` (in order, at least once) and hand `live` to viewers; clear all four. `now` is monotonic seconds,
`now_ms` the wall clock in ms.
"""

from __future__ import annotations

__all__ = ("Link", "RoomCore")

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.model.result import TargetResult
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t
from libstaragent.protocol.connection import ROOM, Connection
from libstaragent.protocol.limits import (
    CREDIT_INITIAL,
    FEATURES,
    HEARTBEAT_DEFAULT_MS,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
)
from libstaragent.security.membership import Proof
from libstaragent.security.signed import Signed

# New connections a second, and at once: a mutual handshake costs 2 ms of a core, so a herd is taken as fast as it
# can be served and no faster; who is turned away comes back with full jitter.
ADMIT_RATE = 400.0
ADMIT_BURST = 1000.0
# An agent that is refused for a reason that will not go away by itself comes back after this long.
REFUSED_RETRY_MS = 60_000


class Link:
    """One agent's connection."""

    __slots__ = ("agent", "connection", "host", "next_ping", "next_stream", "streams", "up")

    def __init__(self, agent: str, *, now: float, heartbeat_ms: int) -> None:
        self.agent = agent
        self.connection = Connection(ROOM, now=now, heartbeat_ms=heartbeat_ms)
        self.host = ""
        self.up = False
        self.next_ping = 0.0
        self.next_stream = 1
        self.streams: dict[int, str] = {}


class _Pending:
    """One target that is not settled."""

    __slots__ = ("order", "proof", "sent", "stream", "watch")

    def __init__(self, order: t.Dispatch, proof: Proof | None) -> None:
        self.order = order
        self.proof = proof
        self.sent = order.again
        self.watch = order.watch
        self.stream = 0


class RoomCore:
    """See the module."""

    def __init__(self, *, room: str, now: float, heartbeat_ms: int = HEARTBEAT_DEFAULT_MS) -> None:
        self.room = room
        self._heartbeat_ms = heartbeat_ms
        self.links: dict[str, Link] = {}
        self._pending: dict[str, dict[str, _Pending]] = {}
        self._cancels: dict[str, Signed] = {}
        self._first_revision = 1
        self._revisions: tuple[Signed, ...] = ()
        self._tokens = ADMIT_BURST
        self._tokens_at = now
        self.turned_away = 0
        self.live_dropped = 0
        self.dirty: dict[Link, None] = {}
        self.closing: list[Link] = []
        self.reports: list[t.Report] = [t.RoomStarted(room)]
        self.live: list[t.LiveChunk | t.LiveDropped] = []

    # Connections ---------------------------------------------------------------------------------------------------

    def admit(self, now: float) -> bool:
        """Whether one more handshake may begin now."""
        self._tokens = min(ADMIT_BURST, self._tokens + (now - self._tokens_at) * ADMIT_RATE)
        self._tokens_at = now
        if self._tokens < 1:
            self.turned_away += 1
            return False
        self._tokens -= 1
        return True

    def opened(self, agent: str, *, now: float) -> Link:
        """A TLS connection of the agent that its certificate names."""
        return Link(agent, now=now, heartbeat_ms=self._heartbeat_ms)

    def received(self, link: Link, data: bytes, *, now: float, now_ms: int) -> None:
        """Bytes of an agent. What cannot be understood closes its connection, with a code."""
        if link.connection.state == "closed":
            return
        try:
            for message in link.connection.receive(data, now):
                self._hear(link, message, now, now_ms)
        except StarAgentError as error:
            self._drop(link, error.code.code, error.detail, now_ms)

    def closed(self, link: Link, code: str, *, now_ms: int) -> None:
        """The connection is gone."""
        self.dirty.pop(link, None)
        link.connection.state = "closed"
        if self.links.get(link.agent) is link:
            del self.links[link.agent]
            for pending in self._pending.get(link.agent, {}).values():
                pending.stream = 0
            self.reports.append(t.HostDown(link.agent, self.room, code, now_ms))

    # Central -------------------------------------------------------------------------------------------------------

    def order(self, order: t.Order, *, now_ms: int) -> None:
        """An order of central."""
        match order:
            case t.Dispatch():
                self._dispatch(order, now_ms)
            case t.SettledTargets():
                self._settled(order)
            case t.CancelTargets():
                self._cancel(order)
            case t.WatchTargets():
                self._watch(order)
            case t.RosterRevisions():
                self._first_revision, self._revisions = order.first, order.revisions
                for link in self.links.values():
                    self._send(link, m.Rosters(order.revisions[-2:]))
            case t.CertificateIssued():
                link = self.links.get(order.agent)
                if link is not None:
                    self._send(link, m.Certificate(order.pem, order.code))

    def tick(self, *, now: float, now_ms: int) -> None:
        """Pings, silence, expiry. Call about once a second."""
        for link in list(self.links.values()):
            if not link.connection.alive(now):
                self._drop(link, codes.PEER_SILENT.code, "", now_ms)
            elif now >= link.next_ping:
                link.next_ping = now + self._heartbeat_ms / 1000
                self._send(link, m.Ping(now_ms))
        undelivered: dict[str, list[str]] = {}
        for agent, orders in list(self._pending.items()):
            for job, pending in list(orders.items()):
                if not pending.sent and now_ms >= pending.order.expires_ms:
                    undelivered.setdefault(job, []).append(agent)
                    del orders[job]
                elif now_ms >= pending.order.deadline_ms:
                    del orders[job]
            if not orders:
                del self._pending[agent]
        self.reports += [t.Undelivered(job, tuple(agents)) for job, agents in undelivered.items()]
        open_jobs = {job for orders in self._pending.values() for job in orders} if self._cancels else set[str]()
        for job in [job for job in self._cancels if job not in open_jobs]:
            del self._cancels[job]

    def go_away(self, code: str, *, retry_after_ms: int) -> None:
        """Tell every agent to come back later; used before a restart."""
        for link in self.links.values():
            self._send(link, m.GoAway(code, retry_after_ms))

    # Inside --------------------------------------------------------------------------------------------------------

    def _hear(self, link: Link, message: object, now: float, now_ms: int) -> None:
        agent = link.agent
        if isinstance(message, m.Result):
            self.reports.append(t.TargetEnded(agent, message.result))
        elif isinstance(message, m.Accepted):
            self.reports.append(t.TargetProgress(agent, message.job, "accepted", now_ms))
        elif isinstance(message, m.Started):
            self.reports.append(t.TargetProgress(agent, message.job, "running", message.at_ms))
        elif isinstance(message, m.LiveOutput):
            job = link.streams.get(message.stream)
            if job is not None:
                self.live.append(t.LiveChunk(agent, job, message.offset, message.data))
        elif isinstance(message, m.Hello):
            self._hello(link, message, now, now_ms)
        elif isinstance(message, m.Dropped):
            self.live.append(t.LiveDropped(agent, message.job, message.count))
        elif isinstance(message, m.RenewRequest):
            self.reports.append(t.RenewCertificate(agent, self.room, message.csr))
        elif isinstance(message, m.Bye):
            self._end(link, message.code, now_ms)

    def grant(self, agent: str, job: str, count: int) -> None:
        """A viewer has taken `count` bytes of a target's live output: more may come."""
        link = self.links.get(agent)
        pending = self._pending.get(agent, {}).get(job)
        if link is not None and pending is not None and pending.stream:
            self._send(link, m.Credit(pending.stream, min(count, CREDIT_INITIAL)))

    def _hello(self, link: Link, hello: m.Hello, now: float, now_ms: int) -> None:
        if hello.agent != link.agent:
            raise codes.IDENTITY_MISMATCH.error(f"{hello.agent!r} with the certificate of {link.agent!r}")
        protocol = min(hello.protocol_max, PROTOCOL_MAX)
        if protocol < max(hello.protocol_min, PROTOCOL_MIN):
            raise codes.VERSION_MISMATCH.error(
                f"agent speaks {hello.protocol_min} to {hello.protocol_max}, room {PROTOCOL_MIN} to {PROTOCOL_MAX}"
            )
        before = self.links.get(link.agent)
        if before is not None and before is not link:
            self._drop(before, codes.REPLACED.code, "", now_ms)
        self.links[link.agent] = link
        link.up = True
        link.host = hello.hostname
        link.next_ping = now + self._heartbeat_ms / 1000
        features = tuple(sorted(set(hello.features) & set(FEATURES)))
        self._send(
            link,
            m.Welcome(
                protocol=protocol, features=features, room=self.room, heartbeat_ms=self._heartbeat_ms, clock_ms=now_ms
            ),
        )
        self.reports.append(
            t.HostUp(
                agent=link.agent,
                room=self.room,
                version=hello.version,
                boot_nonce=hello.boot_nonce,
                hostname=hello.hostname,
                addresses=hello.addresses,
                facts=hello.facts,
                roster=hello.roster,
                clock_ahead_ms=hello.clock_ms - now_ms,
                at_ms=now_ms,
            )
        )
        news = self._revisions[max(0, hello.roster + 1 - self._first_revision) :]
        if news:
            self._send(link, m.Rosters(news))
        for job, pending in self._pending.get(link.agent, {}).items():
            # An expired order that was sent is sent again: the agent has it and says what became of it, or refuses it.
            if pending.sent or now_ms < pending.order.expires_ms:
                self._deliver(link, job, pending, now_ms)
            if job in self._cancels:
                self._send(link, m.CancelRun(self._cancels[job]))

    def _dispatch(self, order: t.Dispatch, now_ms: int) -> None:
        job = order.job
        for agent, proof in order.targets:
            orders = self._pending.get(agent)
            if orders is None:
                orders = self._pending[agent] = {}
            if job in orders:
                continue
            pending = orders[job] = _Pending(order, proof)
            link = self.links.get(agent)
            if link is not None and (pending.sent or now_ms < order.expires_ms):
                self._deliver(link, job, pending, now_ms)

    def _deliver(self, link: Link, job: str, pending: _Pending, now_ms: int) -> None:
        stream = 0
        if pending.watch:
            stream = self._new_stream(link, job, pending)
        if not pending.sent:
            # Before the bytes leave: whatever is lost after this, nobody may say that nothing ran.
            pending.sent = True
            self.reports.append(t.TargetProgress(link.agent, job, "sent", now_ms))
        self._send(link, m.Run(job, pending.order.signed, pending.proof, stream))

    def _new_stream(self, link: Link, job: str, pending: _Pending) -> int:
        if not pending.stream:
            pending.stream = link.next_stream
            link.next_stream += 1
            link.streams[pending.stream] = job
        return pending.stream

    def _settled(self, order: t.SettledTargets) -> None:
        jobs_of: dict[str, list[str]] = {}
        for agent, job in order.pairs:
            orders = self._pending.get(agent)
            if orders is not None:
                pending = orders.pop(job, None)
                if not orders:
                    del self._pending[agent]
                link = self.links.get(agent)
                if pending is not None and pending.stream and link is not None:
                    link.streams.pop(pending.stream, None)
                    link.connection.close_stream(pending.stream)
            jobs_of.setdefault(agent, []).append(job)
        for agent, jobs in jobs_of.items():
            link = self.links.get(agent)
            if link is not None:
                self._send(link, m.Settled(tuple(jobs)))

    def _cancel(self, order: t.CancelTargets) -> None:
        self._cancels[order.job] = order.signed
        for agent in order.agents:
            pending = self._pending.get(agent, {}).get(order.job)
            if pending is not None and not pending.sent:
                # It never left this room, and now it never will: the host need not be asked.
                del self._pending[agent][order.job]
                self.reports.append(t.TargetEnded(agent, TargetResult(job=order.job, state="cancelled", ran="no")))
                continue
            link = self.links.get(agent)
            if link is not None:
                self._send(link, m.CancelRun(order.signed))

    def _watch(self, order: t.WatchTargets) -> None:
        for agent in order.agents:
            pending = self._pending.get(agent, {}).get(order.job)
            if pending is None or pending.watch == order.on:
                continue
            pending.watch = order.on
            link = self.links.get(agent)
            if link is None or not pending.sent:
                continue
            if order.on:
                self._send(link, m.Watch(order.job, self._new_stream(link, order.job, pending)))
            else:
                self._send(link, m.Watch(order.job, 0))
                link.streams.pop(pending.stream, None)
                link.connection.close_stream(pending.stream)
                pending.stream = 0

    def _send(self, link: Link, message: m.RoomMessage) -> bool:
        if link.connection.state == "closed":
            return False
        try:
            link.connection.send(message)
        except StarAgentError as error:
            self._fail(link, error)
            return False
        self.dirty[link] = None
        return True

    def _fail(self, link: Link, error: StarAgentError) -> None:
        link.connection.state = "closed"
        self.closing.append(link)

    def _drop(self, link: Link, code: str, detail: str, now_ms: int) -> None:
        """Say why, then close."""
        if link.connection.state in ("opening", "waiting"):
            self._send(link, m.Refuse(code, detail, REFUSED_RETRY_MS))
        elif link.connection.state == "open":
            self._send(link, m.GoAway(code, 1000))
        self._end(link, code, now_ms)

    def _end(self, link: Link, code: str, now_ms: int) -> None:
        self.closing.append(link)
        dirty = link in self.dirty
        self.closed(link, code, now_ms=now_ms)
        if dirty:
            self.dirty[link] = None
