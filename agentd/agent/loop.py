"""The agent's loop: one selector over the room, the keeper and signals, carrying out what the core decides.

Not here: decisions (`libstaragent.roles.agent`). Rules: one turn is: wait, feed the core, carry out its effects, send.
All records of a turn are one write and one fsync.
"""

from __future__ import annotations

__all__ = ("AgentLoop",)

import os
import selectors
import signal
import ssl
import sys
import time
from collections.abc import Callable
from typing import Any

from agentd.agent.backoff import Backoff
from agentd.agent.drafts import Drafts
from agentd.agent.journal_file import JournalFile
from agentd.agent.keeper_link import KeeperLink
from agentd.agent.rare_log import RareLog
from agentd.agent.renewal import Renewal
from agentd.agent.room_link import WRITE_SIZE, RoomLink
from agentd.agent.spools import Spools, cut
from agentd.agent.state import AgentState, Identity
from agentd.keeper.spoolfile import follow, read_output
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.model.result import Output, encode_records
from libstaragent.roles.agent import AgentCore
from libstaragent.roles.agent_effects import (
    CheckDraft,
    DropDraft,
    Effect,
    Follow,
    Install,
    KeepHeads,
    Log,
    OpenDraft,
    Persist,
    ReadRecords,
    ReadSpool,
    Renew,
    StoreRoster,
    ToKeeper,
    WriteDraft,
)
from libstaragent.security.tls import agent_context, is_clock_failure

# How often the core's clock is asked; nothing that it does by time is finer.
TICK = 1.0


class AgentLoop:
    """See the module."""

    def __init__(
        self,
        *,
        core: AgentCore,
        state: AgentState,
        identity: Identity,
        journal: JournalFile,
        renewal: Renewal,
        spools: Spools,
        drafts: Drafts,
        random: Callable[[], float],
        log: Callable[[str], None],
    ) -> None:
        self._core = core
        self._state = state
        self._identity = identity
        self._journal = journal
        self._renewal = renewal
        self._spools = spools
        self._drafts = drafts
        self._log = log
        self._dropped = RareLog(log)
        self._backoff = Backoff(random)
        self._selector = selectors.DefaultSelector()
        self._room: RoomLink | None = None
        self._room_events = 0
        self._room_descriptor = -1
        self._keeper: KeeperLink | None = None
        self._keeper_events = 0
        self._known: list[dict[str, Any]] = []
        self._connect_at = 0.0
        # A room's name may have addresses that lead nowhere from here: what did not open is tried by the next one.
        self._address_turn = 0
        self._check_time = True
        self._stop = False

    def run(self) -> None:
        """Until SIGTERM. When the keeper is gone, become `agentd agent` anew: its first act is to be a keeper."""
        self._catch_signals()
        self._meet_keeper()
        next_tick = 0.0
        while not self._stop:
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + TICK
                self._tick(now)
            if self._room is None and now >= self._connect_at:
                self._connect(now)
            self._core.fire(now_ms=_now_ms())
            self._carry_out()
            timeout = max(0.0, min(next_tick, next_tick if self._room is not None else self._connect_at) - now)
            wake_ms = self._core.schedules.wake_ms
            if wake_ms is not None:
                timeout = min(timeout, max(0.0, (wake_ms - _now_ms()) / 1000))
            if self._drafts.busy:
                timeout = 0.0
            for key, _ in self._selector.select(timeout):
                key.data()
            self._drafts.work(self._core, time.monotonic())
            self._carry_out()
            self._send()
            self._watch_keeper()
        self._leave()

    # Room ---------------------------------------------------------------------------------------------------------

    def _connect(self, now: float) -> None:
        try:
            context = agent_context(
                certificate=self._state.identity_pem,
                key=self._state.identity_pem,
                ca_pem=self._state.ca(),
                check_time=self._check_time,
            )
            # Dates are left out of one attempt only: the clock may be right by the next.
            self._check_time = True
            self._room = RoomLink(self._identity.room_address, context, now=now, turn=self._address_turn)
        except (OSError, StarAgentError) as error:
            self._lost(error)
            return
        self._watch_room()

    def _on_room(self) -> None:
        room = self._room
        if room is None:
            return
        now = time.monotonic()
        before = room.state
        try:
            data = room.progress()
            if room.state != before and room.state == "open":
                self._core.connected(connects=self._state.count_connect(), now=now, now_ms=_now_ms())
            if data:
                self._core.receive(data, now=now, now_ms=_now_ms())
                connection = self._core.connection
                if connection is not None and connection.state == "open":
                    self._backoff.reset()
        except ssl.SSLCertVerificationError as error:
            self._check_time = not is_clock_failure(error)
            self._lost(error)
        except (OSError, StarAgentError) as error:
            self._lost(error)
        else:
            if self._core.refused is not None:
                self._lost(None)

    def _lost(self, error: Exception | None) -> None:
        refused = self._core.refused
        reached = self._room is not None and self._room.state == "open"
        self._address_turn += not reached
        if self._room is not None:
            if self._room_events:
                self._selector.unregister(self._room_descriptor)
            self._room.close()
        self._room, self._room_events = None, 0
        self._core.disconnected()
        pause = self._backoff.pause(at_least=refused.retry_after_ms / 1000 if refused is not None else 0.0)
        self._connect_at = time.monotonic() + pause
        reason = refused.code if refused is not None else _reason(error, reached=reached)
        self._log(f"room {self._identity.room_address}: {reason}; again in {pause:.1f} s")

    def _watch_room(self) -> None:
        room = self._room
        if room is None:
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if room.wants_write else 0)
        if events == self._room_events:
            return
        if self._room_events:
            # The TLS socket takes over the plain one's descriptor, so this stays the same file.
            self._selector.modify(self._room_descriptor, events, self._on_room)
        else:
            self._room_descriptor = room.descriptor
            self._selector.register(self._room_descriptor, events, self._on_room)
        self._room_events = events

    def _send(self) -> None:
        room, connection = self._room, self._core.connection
        if room is None:
            return
        try:
            while connection is not None and room.ready_to_send and connection.queued:
                room.send(connection.take(WRITE_SIZE))
        except OSError as error:
            self._lost(error)
            return
        self._watch_room()

    # Keeper -------------------------------------------------------------------------------------------------------

    def _meet_keeper(self) -> None:
        try:
            self._keeper = KeeperLink(self._state.keeper_socket)
        except OSError as error:
            self._log(f"keeper: {error}")
            self._start_anew()
            return
        self._keeper_events = selectors.EVENT_READ
        self._selector.register(self._keeper.socket, selectors.EVENT_READ, self._on_keeper)

    def _watch_keeper(self) -> None:
        if self._keeper is None:
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._keeper.wants_write else 0)
        if events != self._keeper_events:
            self._keeper_events = events
            self._selector.modify(self._keeper.socket, events, self._on_keeper)

    def _on_keeper(self) -> None:
        assert self._keeper is not None
        try:
            self._keeper.flush()
            events = self._keeper.receive()
        except OSError as error:
            self._log(f"keeper: {error}")
            events = None
        except StarAgentError as error:
            self._log(str(error))
            events = None
        if events is None:
            self._log("keeper: gone")
            self._start_anew()
            return
        now = time.monotonic()
        for event in events:
            kind = event.get("ev")
            if kind == "known":
                self._known += event["jobs"]
                if not event["more"]:
                    self._core.keeper_known(self._known, now=now, now_ms=_now_ms())
                    self._known = []
            elif kind == "error":
                self._log(f"keeper: {event.get('code')} {event.get('detail')}")
            else:
                self._core.keeper_says(event, now=now)

    def _start_anew(self) -> None:
        """Without a keeper nobody reaps, times out or records: be replaced by a fresh `agentd agent`."""
        self._core.keeper_gone()
        self._leave()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    # Effects ------------------------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        while self._core.effects:
            effects, self._core.effects = self._core.effects, []
            records = [effect for effect in effects if isinstance(effect, Persist)]
            for effect in effects:
                if not isinstance(effect, Persist):
                    self._carry_out_one(effect)
            if records:
                failure = self._journal.append(
                    [effect.record for effect in records],
                    sync=any(effect.sync for effect in records),
                )
                now = time.monotonic()
                for effect in records:
                    self._core.persisted(effect.token, failure, now=now)

    def _carry_out_one(self, effect: Effect) -> None:
        match effect:
            case ToKeeper():
                self._ask_keeper(effect.request)
            case ReadSpool():
                self._core.spool_read(effect.job, self._read_spool(effect.job), now=time.monotonic())
            case Follow():
                self._follow(effect)
            case ReadRecords():
                self._core.effects += self._spools.carry_out(effect, self._core, _now_ms())
            case OpenDraft() | WriteDraft() | CheckDraft() | DropDraft():
                self._drafts.carry_out(effect, self._core, time.monotonic())
            case StoreRoster():
                self._keep(lambda: self._state.write_roster(effect.signed))
            case Install():
                self._keep(lambda: self._renewal.install(effect.pem, effect.code))
            case KeepHeads():
                self._state.write_heads(effect.heads)
            case Renew():
                self._renewal.hurry()
            case Log():
                self._dropped.say(effect.code, effect.detail, time.monotonic())
            case _:
                raise TypeError(effect)

    def _keep(self, write: Callable[[], None]) -> None:
        """Write something that the room will offer again: a full disk is said and survived."""
        try:
            write()
        except StarAgentError as error:
            self._log(str(error))

    def _ask_keeper(self, request: dict[str, Any]) -> None:
        assert self._keeper is not None
        try:
            self._keeper.send(request)
        except OSError as error:
            self._log(f"keeper: {error}")
            self._start_anew()
        except StarAgentError as error:
            event = {"ev": "refused", "job": request["job"], "code": error.code.code, "detail": error.detail}
            self._core.keeper_says(event, now=time.monotonic())

    def _read_spool(self, job: str) -> Output | None:
        try:
            head, omitted, tail = read_output(str(self._state.spool / job))
        except OSError as error:
            self._log(f"spool of {job}: {error}")
            return None
        return Output(encode_records(head), omitted, encode_records(tail))

    def _follow(self, effect: Follow) -> None:
        try:
            found, _, missed = follow(str(self._state.spool / effect.job), effect.offset, effect.limit)
        except OSError:
            # The spool was collected between two words of the keeper: the result has the output.
            return
        pairs, size = cut(found, effect.limit)
        self._core.followed(effect.job, pairs, next_offset=effect.offset + missed + size, missed=missed)

    # Time and signals ---------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        now_ms = _now_ms()
        self._core.tick(now=now, now_ms=now_ms)
        self._spools.tick(now, time.time())
        connection = self._core.connection
        if self._room is not None:
            if self._room.state != "open" and now >= self._room.deadline:
                self._lost(TimeoutError("no answer"))
            elif connection is not None and not connection.alive(now):
                self._lost(codes.PEER_SILENT.error())
        csr = self._renewal.due(now_ms)
        if csr is not None and not self._core.ask_renewal(csr):
            self._renewal.postpone(csr)
        if self._renewal.come_back():
            self._lost(None)

    def _catch_signals(self) -> None:
        read, write = os.pipe()
        for descriptor in (read, write):
            os.set_blocking(descriptor, False)
            os.set_inheritable(descriptor, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)

        def on_wake() -> None:
            os.read(read, 512)

        def on_stop(_number: int, _frame: object) -> None:
            self._stop = True

        signal.signal(signal.SIGTERM, on_stop)
        signal.signal(signal.SIGINT, on_stop)
        self._selector.register(read, selectors.EVENT_READ, on_wake)

    def _leave(self) -> None:
        if self._room is not None:
            self._room.close()
        if self._keeper is not None:
            self._keeper.close()
        self._journal.close()
        self._selector.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _reason(error: Exception | None, *, reached: bool) -> str:
    """Why the room is gone, with its code."""
    if isinstance(error, StarAgentError):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(codes.CERTIFICATE_REFUSED.error(error.verify_message))
    return str((codes.CONNECTION_LOST if reached else codes.ROOM_UNREACHED).error(str(error)))
