"""A machine room's decisions: between central's orders and the agents' connections. Pure; the shell is agentd/room.

A room carries; it never signs, never executes, and keeps nothing on disk. Everything in it can be lost: central
gives the open dispatches again when the room says it started, and agents repeat what was not settled.

Per agent it holds what is to be delivered. An order is sent when its host is connected and again on each new connection
until its result is settled; the agent knows ids it has seen. An order that expired and was never written to a
connection is reported undelivered, the one case in which a room may say that nothing ran.

The file is long because both sides, central's orders and the agents' connections, work on one table of what is pending.
A host may have more waiting than a connection may hold (OUTGOING_MAX), in orders or in roster revisions. So no more
is put on a link than LINK_QUEUED_MAX; the rest follows as bytes leave, and counts as unsent until then.

How it is driven: call an input, then publish `take_reports()` (in order, at least once) and hand `live` to viewers;
for each link in `dirty` write `link.connection.take()` and say so with `written`, and close those in `closing`; clear
these three. Once all that was dirty is written, `next_turn`: more may follow (`room_turns`).
`now` is monotonic seconds, `now_ms` the wall clock in ms. Nothing here walks all links or all orders: what waits for a
time is on a wheel.
"""

from __future__ import annotations

__all__ = ("Link", "RoomCore")

from collections import OrderedDict

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.model.result import TargetResult
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t
from libstaragent.protocol.limits import (
    CREDIT_INITIAL,
    FEATURES,
    HEARTBEAT_DEFAULT_MS,
)
from libstaragent.roles.admission import ADMIT_RATE, Admission
from libstaragent.roles.room_files import RoomFiles
from libstaragent.roles.room_guard import TRIAL_SECONDS, RoomGuards, barred
from libstaragent.roles.room_hello import agreed_protocol
from libstaragent.roles.room_outputs import RoomOutputs
from libstaragent.roles.room_rosters import RoomRosters
from libstaragent.roles.room_state import Link, OpenOrder, Pending, host_up
from libstaragent.roles.room_turns import Turns
from libstaragent.roles.seen import SeenOrders
from libstaragent.roles.wheel import Wheel
from libstaragent.security.roster import revoked_in
from libstaragent.security.signed import Signed

# Who is sent away first comes back after this long: a room that restarts needs as much.
RETURN_FIRST_MS = 200
# An agent that is refused for a reason that will not go away by itself comes back after this long.
REFUSED_RETRY_MS = 60_000
# One that was dropped for what passes comes back after this long.
DROPPED_RETRY_MS = 1000
# A room that central takes for an earlier one says who it is no more often: each time central sends what is open.
INTRODUCED_EVERY_MS = 1000
# An agent's requests for a certificate that are heard: each costs central a signature. An honest one asks every ten
# minutes until it has it. Counted by agent, not by connection: a new connection is cheap.
RENEWAL_EVERY = 60.0
# A cancel whose job has not come yet (the bus may deliver it again later) is remembered so long.
CANCEL_KEPT_MS = 600_000
# Settled rides along with the next word to the agent, or goes with the tick: of its own it would cost a TLS record and
# a system call for each result. More than this many do not wait.
SETTLED_WAITING_MAX = 64
# Bytes on a link beyond which neither orders nor revisions join them: a quarter of OUTGOING_MAX, so that what may not
# wait (cancels, pings, settled results) always has its place, and enough for tens of the largest orders.
LINK_QUEUED_MAX = 4 * 1024 * 1024


class RoomCore:
    """See the module."""

    def __init__(self, *, room: str, now: float, heartbeat_ms: int = HEARTBEAT_DEFAULT_MS, boot: str = "") -> None:
        self.room = room
        self._boot = boot
        self._hosts_told = 0
        self._introduced_ms = 0
        self._unknown = False
        self._heartbeat_ms = heartbeat_ms
        self.links: dict[str, Link] = {}
        self._pending: dict[str, dict[str, Pending]] = {}
        self._seen = SeenOrders()
        self._cancels: dict[str, Signed] = {}
        self._links_due: Wheel[Link] = Wheel()
        self._orders_due: Wheel[OpenOrder] = Wheel()
        self._cancels_due: Wheel[str] = Wheel()
        self._settling: dict[Link, None] = {}
        self._turns = Turns()
        self._guards = RoomGuards()
        self._on_trial: dict[Link, None] = {}
        self._rosters = RoomRosters(send=self._send, has_room=self._has_room)
        self._audit = t.AuditHead(0, b"", 0)
        self._revoked: frozenset[str] = frozenset()
        self._renewed: OrderedDict[str, float] = OrderedDict()
        self.admission = Admission(now=now)
        self.outputs = RoomOutputs()
        self.files = RoomFiles(
            room=room,
            links=self.links,
            send=self._send,
            has_room=self._has_room,
            wants=lambda agent, job: job in self._pending.get(agent, ()),
        )
        self.renewals_ignored = 0
        self.dirty: dict[Link, None] = {}
        self.closing: list[Link] = []
        self.reports: list[t.Report] = [t.RoomStarted(room, boot)]
        self.live: list[t.LiveChunk | t.LiveDropped] = []

    # Connections ---------------------------------------------------------------------------------------------------

    def opened(self, agent: str, *, now: float, issued_s: int = 0) -> Link:
        """A TLS connection of the agent that its certificate names; empty when it names none. `issued_s` is from when
        that certificate is, in seconds since the epoch.
        """
        link = Link(agent, now=now, heartbeat_ms=self._heartbeat_ms, issued_s=issued_s)
        self._watch_silence(link)
        return link

    def refuse(self, link: Link, error: StarAgentError, *, now_ms: int) -> None:
        """Do not take this agent, and say why."""
        self._drop(link, error.code.code, error.detail, now_ms)

    def received(self, link: Link, data: bytes, *, now: float, now_ms: int) -> None:
        """Bytes of an agent. What cannot be understood closes its connection, with a code."""
        if link.connection.state == "closed":
            return
        try:
            heard = link.connection.receive(data, now)
            # What came together with its result is history already: central needs to hear of the end only.
            ended = {message.result.job for message in heard if type(message) is m.Result} if len(heard) > 1 else None
            for message in heard:
                kind = type(message)
                if kind is m.Result:
                    self._result(link.agent, message.result)  # type: ignore[union-attr]
                elif (kind is m.Accepted or kind is m.Started) and ended and message.job in ended:  # type: ignore[union-attr]
                    continue
                else:
                    self._hear(link, message, now, now_ms)
        except StarAgentError as error:
            self._drop(link, error.code.code, error.detail, now_ms)

    def written(self, link: Link, *, now_ms: int) -> None:
        """Bytes were taken from the link: what waited for room may follow."""
        self._rosters.tell(link)
        while link.waiting and not link.trial_until and self._has_room(link):
            if self._turns.full:
                return self._turns.hold(link)
            job = link.waiting.popleft()
            pending = self._pending.get(link.agent, {}).get(job)
            if pending is not None:
                self._deliver(link, job, pending, now_ms)

    def next_turn(self, *, now_ms: int) -> None:
        """All that was dirty is written: what was held back for that follows."""
        for link in self._turns.next():
            self.written(link, now_ms=now_ms)

    def closed(self, link: Link, code: str, *, now_ms: int) -> None:
        """The connection is gone."""
        self.dirty.pop(link, None)
        self._settling.pop(link, None)
        self._on_trial.pop(link, None)
        self._links_due.discard(link, link.due_ms)
        link.connection.state = "closed"
        link.waiting.clear()
        self._turns.drop(link)
        self.files.closed(link)
        if self.links.get(link.agent) is link:
            del self.links[link.agent]
            pendings = self._pending.get(link.agent)
            if pendings is not None and not pendings:
                del self._pending[link.agent]
            for pending in (pendings or {}).values():
                pending.stream = 0
            self._tell_down(link, link.code or code, now_ms)

    # Central -------------------------------------------------------------------------------------------------------

    def order(self, order: t.Order, *, now_ms: int) -> None:
        """An order of central."""
        match order:
            case t.Dispatch():
                self._dispatch(order, now_ms)
            case t.SettledTargets():
                self._settled(order)
            case t.CancelTargets():
                self._cancel(order, now_ms)
            case t.WatchTargets():
                self._watch(order)
            case t.TellAgain():
                for agent, job in order.pairs:
                    if (pending := self._pending.get(agent, {}).get(job)) and pending.told:
                        self.outputs.again(agent, pending.told, reduce=pending.order.dispatch.reduce)
            case t.RosterRevisions():
                self._rosters.take(order, list(self.links.values()))
                self._revoked = revoked_in(order.revisions)
                for link in list(self.links.values()):
                    if link.agent in self._revoked:
                        # It has heard why; what it still runs is its own.
                        self._drop(link, codes.HOST_REVOKED.code, "", now_ms)
            case t.AuditHead():
                # The bus may deliver an older one after a newer one.
                self._audit = max(self._audit, order, key=lambda head: head.at_ms)
            case t.GuardHosts():
                for guard in order.guards:
                    self._guard(guard, now_ms)
            case t.FiringsKnown():
                for agent, job in order.pairs:
                    if (link := self.links.get(agent)) is not None:
                        self._send(link, m.FiringKnown((job,)))
            case t.ReadTarget() | t.GrantRead() | t.StopReading():
                self.files.order(order)
            case t.CertificateIssued():
                link = self.links.get(order.agent)
                if link is not None:
                    self._send(link, m.Certificate(order.pem, order.code))

    def take_reports(self) -> list[t.Report]:
        """What is to be published now."""
        reports, self.reports = self.reports, []
        reports += self.outputs.take()
        return reports

    def tick(self, *, now: float, now_ms: int) -> None:
        """Pings, silence, expiry, settled results that wait. Call about once a second."""
        for link in self._links_due.due(int(now * 1000)):
            if not link.connection.alive(now):
                self._drop(link, codes.PEER_SILENT.code, "", now_ms)
                continue
            if link.up and now >= link.next_ping:
                link.next_ping = now + self._heartbeat_ms / 1000
                self._ping(link, now_ms)
            if link.connection.state != "closed":
                self._watch_silence(link)
        for link in list(self._settling):
            self._flush_settled(link)
        self.next_turn(now_ms=now_ms)
        for link in [link for link in self._on_trial if now >= link.trial_until]:
            del self._on_trial[link]
            link.trial_until = 0.0
            self.written(link, now_ms=now_ms)
        for order in self._orders_due.due(now_ms):
            self._order_due(order, now_ms)
        if self._unknown:
            self._introduce(now_ms)
        for job in self._cancels_due.due(now_ms):
            self._cancels.pop(job, None)
        self._seen.tick(now_ms)

    def go_away(self, code: str) -> None:
        """Send every agent away, each to come back in its turn: as fast as ADMIT_RATE lets them in, and no faster."""
        for turn, link in enumerate(list(self.links.values())):
            self._send(link, m.GoAway(code, RETURN_FIRST_MS + int(turn * 1000 / ADMIT_RATE)))

    def holds(self, agent: str) -> int:
        """Targets on this agent that are not settled."""
        return len(self._pending.get(agent, ()))

    def grant(self, agent: str, job: str, count: int) -> None:
        """A viewer has taken `count` bytes of a target's live output: more may come."""
        link = self.links.get(agent)
        pending = self._pending.get(agent, {}).get(job)
        if link is not None and pending is not None and pending.stream:
            self._send(link, m.Credit(pending.stream, min(count, CREDIT_INITIAL)))

    # What agents say -----------------------------------------------------------------------------------------------

    def _result(self, agent: str, result: TargetResult) -> None:
        pending = self._pending.get(agent, {}).get(result.job)
        if pending is None:
            self.outputs.add(agent, result, reduce="", whole=True)
            return
        whole = pending.told is not None
        pending.told = self.outputs.add(agent, result, reduce=pending.order.dispatch.reduce, whole=whole)

    def _hear(self, link: Link, message: object, now: float, now_ms: int) -> None:
        agent = link.agent
        if isinstance(message, m.Accepted):
            self.reports.append(t.TargetProgress(agent, message.job, "accepted", now_ms))
        elif isinstance(message, m.Started):
            self.reports.append(t.TargetProgress(agent, message.job, "running", message.at_ms))
        elif isinstance(message, m.LiveOutput):
            job = link.streams.get(message.stream)
            if job is not None:
                self.live.append(t.LiveChunk(agent, job, message.offset, message.data))
            else:
                self.files.heard(link, message)
        elif isinstance(message, m.Want):
            self.files.want(link, message, now_ms)
        elif isinstance(message, m.Hello):
            self._hello(link, message, now, now_ms)
        elif isinstance(message, m.Dropped):
            self.live.append(t.LiveDropped(agent, message.job, message.count))
        elif isinstance(message, m.RenewRequest):
            self._renew(agent, message.csr, now)
        elif isinstance(message, m.Firing):
            self.reports.append(
                t.FiringBegan(agent, self.room, message.job, message.schedule, message.at_ms, message.boot)
            )
        elif isinstance(message, m.Bye):
            self._end(link, message.code, now_ms)

    def _renew(self, agent: str, csr: bytes, now: float) -> None:
        while self._renewed and now - next(iter(self._renewed.values())) >= RENEWAL_EVERY:
            self._renewed.popitem(last=False)
        if agent in self._renewed:
            self.renewals_ignored += 1
            return
        self._renewed[agent] = now
        self.reports.append(t.RenewCertificate(agent, self.room, csr))

    def _hello(self, link: Link, hello: m.Hello, now: float, now_ms: int) -> None:
        protocol = agreed_protocol(hello, agent=link.agent, revoked=self._revoked)
        refusal = self._guards.refusal(link.agent, hello.boot_nonce, link.issued_s)
        if refusal is not None:
            error, retry_ms = refusal
            self.reports.append(RoomGuards.seen(link.agent, self.room, hello, link.issued_s, now_ms))
            self._drop(link, error.code.code, error.detail, now_ms, retry_ms)
            return
        before = self.links.get(link.agent)
        if before is not None and before is not link:
            if before.nonce != hello.boot_nonce:
                link.trial_until = now + TRIAL_SECONDS
                self._on_trial[link] = None
            self._drop(before, codes.REPLACED.code, "", now_ms)
        link.nonce = hello.boot_nonce
        self.links[link.agent] = link
        link.up = True
        link.next_ping = now + self._heartbeat_ms / 1000
        self._links_due.discard(link, link.due_ms)
        self._watch_silence(link)
        features = tuple(sorted(set(hello.features) & set(FEATURES)))
        self._send(
            link,
            m.Welcome(
                protocol=protocol, features=features, room=self.room, heartbeat_ms=self._heartbeat_ms, clock_ms=now_ms
            ),
        )
        self.reports.append(host_up(link, hello, self.room, now_ms, boot=self._boot, order=self._next_order()))
        if self._audit.seq:
            self._ping(link, now_ms)
        if self._guards.must_renew(link.agent, link.issued_s):
            self._renewed.pop(link.agent, None)
            self._send(link, m.RenewNow())
        link.told = hello.roster
        self._rosters.tell(link)
        for job, pending in list(self._pending.get(link.agent, {}).items()):
            self._offer(link, job, pending, now_ms)

    # What central orders -------------------------------------------------------------------------------------------

    def _dispatch(self, dispatch: t.Dispatch, now_ms: int) -> None:
        job = dispatch.job
        if dispatch.boot != self._boot:
            # For a room process before this one, which may have sent it; central says again what is still open.
            self._introduce(now_ms)
            return
        if now_ms >= dispatch.deadline_ms:
            return
        targets = self._seen.new_targets(dispatch)
        cancelled = job in self._cancels
        order = OpenOrder(dispatch)
        for agent, proof in targets:
            orders = self._pending.get(agent)
            if orders is not None and job in orders:
                continue
            if cancelled and not dispatch.again:
                # The cancel overtook it.
                self.reports.append(t.TargetEnded(agent, TargetResult(job=job, state="cancelled", ran="no")))
                continue
            if self._guards.barred(agent) and not dispatch.again:
                self.reports.append(barred(agent, job))
                continue
            if orders is None:
                orders = self._pending[agent] = {}
            pending = orders[job] = Pending(order, proof)
            order.left += 1
            link = self.links.get(agent)
            if not pending.sent:
                order.unsent.add(agent)
            if link is not None:
                self._offer(link, job, pending, now_ms)
        if order.left:
            self._orders_due.add(order, order.due_ms)

    def _introduce(self, now_ms: int) -> None:
        self._unknown = now_ms - self._introduced_ms < INTRODUCED_EVERY_MS
        if not self._unknown:
            self._introduced_ms = now_ms
            self.reports.append(t.RoomStarted(self.room, self._boot))

    def _offer(self, link: Link, job: str, pending: Pending, now_ms: int) -> None:
        """Deliver now, or in its turn; after the roster, which the order may need."""
        if self._turns.full:
            self._turns.hold(link)
            link.waiting.append(job)
        elif link.waiting or link.trial_until or link.told < self._rosters.newest or not self._has_room(link):
            link.waiting.append(job)
        else:
            self._deliver(link, job, pending, now_ms)

    def _deliver(self, link: Link, job: str, pending: Pending, now_ms: int) -> None:
        if pending.told is not None:
            # Its result is on its way to the store. A host that refused it may not remember; it must not run now.
            return
        if pending.fixed and pending.nonce != link.nonce:
            return
        if not pending.sent and now_ms >= pending.order.dispatch.expires_ms:
            # One that was sent is sent again even so: the agent has it and says what became of it, or refuses it.
            return
        stream = 0
        if pending.watch:
            stream = self._new_stream(link, job, pending)
        if not pending.sent:
            # Before the bytes leave: whatever is lost after this, nobody may say that nothing ran.
            pending.sent = True
            pending.order.unsent.discard(link.agent)
            self.reports.append(t.TargetProgress(link.agent, job, "sent", now_ms))
        pending.nonce = link.nonce
        self._turns.took(pending.order.dispatch.signed.payload)
        self._send(link, m.Run(job, pending.order.dispatch.signed, pending.proof, stream))
        cancel = self._cancels.get(job)
        if cancel is not None:
            self._send(link, m.CancelRun(cancel))

    def _ping(self, link: Link, now_ms: int) -> None:
        self._send(link, m.Ping(now_ms, self._audit.seq, self._audit.hash))

    @staticmethod
    def _has_room(link: Link) -> bool:
        return link.connection.state == "open" and link.connection.queued <= LINK_QUEUED_MAX

    def _new_stream(self, link: Link, job: str, pending: Pending) -> int:
        if not pending.stream:
            pending.stream = link.next_stream
            link.next_stream += 1
            link.streams[pending.stream] = job
        return pending.stream

    @staticmethod
    def _close_stream(link: Link, pending: Pending) -> None:
        link.streams.pop(pending.stream, None)
        link.connection.close_stream(pending.stream)
        pending.stream = 0

    def _settled(self, order: t.SettledTargets) -> None:
        for agent, job in order.pairs:
            link = self.links.get(agent)
            self._forget(agent, job)
            if link is None:
                continue
            link.settled.append(job)
            self._settling[link] = None
            if len(link.settled) >= SETTLED_WAITING_MAX:
                self._flush_settled(link)

    def _flush_settled(self, link: Link) -> None:
        self._settling.pop(link, None)
        if link.settled:
            jobs, link.settled = tuple(link.settled), []
            self._send(link, m.Settled(jobs))

    def _cancel(self, order: t.CancelTargets, now_ms: int) -> None:
        if order.job not in self._cancels:
            self._cancels[order.job] = order.signed
            pendings = (self._pending.get(agent, {}).get(order.job) for agent in order.agents)
            deadlines = [pending.order.dispatch.deadline_ms for pending in pendings if pending is not None]
            self._cancels_due.add(order.job, max(deadlines, default=now_ms + CANCEL_KEPT_MS))
        for agent in order.agents:
            pending = self._pending.get(agent, {}).get(order.job)
            if pending is not None and not pending.sent:
                # It never left this room, and now it never will: the host need not be asked.
                self._forget(agent, order.job)
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
                self._close_stream(link, pending)

    # Inside --------------------------------------------------------------------------------------------------------

    def _forget(self, agent: str, job: str) -> None:
        orders = self._pending.get(agent)
        pending = orders.pop(job, None) if orders is not None else None
        if pending is None:
            return
        link = self.links.get(agent)
        if link is not None:
            self._close_stream(link, pending)
        elif not orders:
            del self._pending[agent]
        order = pending.order
        order.unsent.discard(agent)
        order.left -= 1
        if not order.left:
            self._orders_due.discard(order, order.due_ms)

    def _order_due(self, order: OpenOrder, now_ms: int) -> None:
        dispatch = order.dispatch
        if order.unsent:
            agents = tuple(agent for agent, _ in dispatch.targets if agent in order.unsent)
            for agent in agents:
                self._forget(agent, dispatch.job)
            self.reports.append(t.Undelivered(dispatch.job, agents, self._boot))
        if now_ms >= dispatch.deadline_ms:
            for agent, _ in dispatch.targets:
                pending = self._pending.get(agent, {}).get(dispatch.job)
                if pending is not None and pending.order is order:
                    self._forget(agent, dispatch.job)
        elif order.left:
            order.due_ms = dispatch.deadline_ms
            self._orders_due.add(order, order.due_ms)

    def _watch_silence(self, link: Link) -> None:
        silent_at = link.connection.heard_at + link.connection.silence_allowed
        due = min(link.next_ping, silent_at) if link.up else silent_at
        # One more: a link is silent after the allowed time, not at it.
        link.due_ms = int(due * 1000) + 1
        self._links_due.add(link, link.due_ms)

    def _send(self, link: Link, message: m.RoomMessage, frame: bytes | None = None) -> bool:
        if link.connection.state == "closed":
            return False
        try:
            if link.settled:
                self._settling.pop(link, None)
                jobs, link.settled = tuple(link.settled), []
                link.connection.send(m.Settled(jobs))
            link.connection.send(message, frame)
        except StarAgentError as error:
            self._fail(link, error)
            return False
        self.dirty[link] = None
        return True

    def _fail(self, link: Link, error: StarAgentError) -> None:
        # Its HostDown comes when the shell has closed it: there may be no more words on this connection.
        link.code = error.code.code
        link.connection.state = "closed"
        self.closing.append(link)

    def _guard(self, guard: t.HostGuard, now_ms: int) -> None:
        """Central decided about an identity that two machines may have."""
        agent = guard.agent
        self._guards.take(guard)
        if not self._guards.barred(agent):
            return
        for job, pending in list(self._pending.get(agent, {}).items()):
            pending.fixed = True
            if not pending.sent:
                self._forget(agent, job)
                self.reports.append(barred(agent, job))
        link = self.links.get(agent)
        refusal = self._guards.refusal(agent, b"", 0)
        if link is not None and refusal is not None:
            self._drop(link, refusal[0].code.code, "", now_ms, refusal[1])

    def _drop(self, link: Link, code: str, detail: str, now_ms: int, retry_ms: int | None = None) -> None:
        """Say why, then close."""
        state = link.connection.state
        if state in ("opening", "waiting"):
            self._send(link, m.Refuse(code, detail, REFUSED_RETRY_MS if retry_ms is None else retry_ms))
        elif state == "open":
            self._send(link, m.GoAway(code, DROPPED_RETRY_MS if retry_ms is None else retry_ms))
        if link.agent and not link.up and link.agent not in self.links:
            # It never came up: the operator sees why all the same.
            self._tell_down(link, code, now_ms)
        self._end(link, code, now_ms)

    def _tell_down(self, link: Link, code: str, now_ms: int) -> None:
        self.reports.append(t.HostDown(link.agent, self.room, code, now_ms, self._boot, self._next_order()))

    def _next_order(self) -> int:
        self._hosts_told += 1
        return self._hosts_told

    def _end(self, link: Link, code: str, now_ms: int) -> None:
        self.closing.append(link)
        dirty = link in self.dirty
        self.closed(link, code, now_ms=now_ms)
        if dirty:
            self.dirty[link] = None
