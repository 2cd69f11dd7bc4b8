"""An agent's thin shell in the simulator: the real `AgentCore` between a simulated room, keeper and disk.

As in `agentd.agent.loop`: every input, then the effects in their order, then what is to be sent. What it
believes is its verifier's affair (`trust`).
"""

from __future__ import annotations

__all__ = ("AgentProcess", "RecordWatch")

from collections.abc import Callable, Iterable
from random import Random

from libstaragent.errors import StarAgentError
from libstaragent.jobs.journal import Done, Fired, Kept, Record, Removed, Rested
from libstaragent.model.result import Output, encode_records
from libstaragent.roles.agent import AgentCore
from libstaragent.roles.agent_effects import (
    CheckDraft,
    DropDraft,
    Effect,
    Follow,
    OpenDraft,
    Persist,
    ReadSpool,
    ToKeeper,
    Verifier,
    WriteDraft,
)
from libstaragent.security.authority import terminal_state
from libstaragent.testing.clock import ManualClock
from libstaragent.testing.disk import sync_time
from libstaragent.testing.fleet_keeper import KeeperProcess, Machine
from libstaragent.testing.process import SimProcess
from libstaragent.testing.referee import Referee
from libstaragent.testing.transport import MemoryTransport

TICK = 1.0
# The longest pause between two tries to reach the room; shorter than an agent's, for the sake of short runs.
BACKOFF_LAST = 4.0


class RecordWatch:
    """Who looks at the records of agents' journals; nobody by default."""

    def found(self, agent: str, records: Iterable[Record]) -> None:
        """An agent starts, and these are in its journal."""

    def writing(self, agent: str, record: Record) -> None:
        """One is on its way to the disk."""

    def written(self, agent: str, record: Record) -> None:
        """It is there, and the agent is about to hear so."""


class AgentProcess(SimProcess):
    """See the module. `dial` gives a connection to the room, or None; `keeper_of` the keeper that runs now, or None;
    `on_settled` hears that a result is about to be forgotten here; `start_anew` is the shell's answer to a lost keeper.
    """

    def __init__(
        self,
        clock: ManualClock,
        random: Random,
        machine: Machine,
        referee: Referee,
        *,
        make: Callable[..., AgentCore],
        dial: Callable[[AgentProcess], MemoryTransport | None],
        keeper_of: Callable[[], KeeperProcess | None],
        on_settled: Callable[[str], None],
        count_connect: Callable[[], int],
        verifier: Verifier,
        places: int,
        watch: RecordWatch,
    ) -> None:
        super().__init__(clock)
        self._random = random
        self._machine = machine
        self._referee = referee
        self._dial = dial
        self._keeper_of = keeper_of
        self._on_settled = on_settled
        self._count_connect = count_connect
        self._transport: MemoryTransport | None = None
        self._keeper: KeeperProcess | None = None
        self._keeper_at = 0.0
        self._backoff = 0.5
        self._watch = watch
        self._wake_at: float | None = None
        self._synced_at = 0.0
        watch.found(machine.name, machine.journal.records)
        self.core = make(
            agent=machine.name,
            verifier=verifier,
            state_of=terminal_state,
            version="0",
            boot_nonce=random.randbytes(16),
            hostname=machine.name,
            addresses=(),
            facts={},
            journal=machine.journal.open(),
            handed_max=places,
            boot=f"boot {machine.boots}",
        )
        for job in [job for job in machine.drafts.files if job not in self.core.open]:
            machine.drafts.drop(job)
        self.later(0.001, self._meet_keeper)
        self.later(random.random() * 0.3, self._connect)
        self.later(TICK, self._tick)

    def kill(self) -> None:
        """See `SimProcess`; its kernel closes its sockets."""
        super().kill()
        if self._transport is not None:
            self._transport.close()
        if self._keeper is not None and self._keeper.say == self._hears:
            self._keeper.say = None

    # The room ------------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        transport = self._dial(self)
        if transport is None:
            self._retry()
            return
        self._transport = transport
        transport.on_data = self._received
        transport.on_lost = self._lost
        self.core.connected(connects=self._count_connect(), now=self.clock.now, now_ms=self._now_ms)
        self._pump()

    def _received(self, data: bytes) -> None:
        if not self.alive:
            return
        try:
            self.core.receive(data, now=self.clock.now, now_ms=self._now_ms)
        except StarAgentError as error:
            self._referee.breaks("honest ends understand each other", f"{self._machine.name}: {error}")
        self._pump()
        if self.core.refused is not None:
            self._lost()
            return
        connection = self.core.connection
        if connection is not None and connection.state == "open":
            self._backoff = 0.5

    def _lost(self) -> None:
        if not self.alive:
            return
        if self._transport is not None:
            self._transport.close()
        self._transport = None
        self.core.disconnected()
        self._pump()
        self._retry()

    def _retry(self) -> None:
        self.later(self._random.random() * self._backoff, self._connect)
        self._backoff = min(BACKOFF_LAST, self._backoff * 2)

    # The keeper ----------------------------------------------------------------------------------------------------

    def _meet_keeper(self) -> None:
        keeper = self._keeper_of()
        if keeper is None:
            self.later(0.1, self._meet_keeper)
            return
        self._keeper = keeper
        self._keeper_at = self.clock.now
        keeper.connected(self._hears)
        self._ask({"op": "hello"})

    def keeper_lost(self) -> None:
        """The keeper's socket closed, and this process goes on."""
        self._keeper = None
        self.core.keeper_gone()
        self._pump()
        self._meet_keeper()

    def _ask(self, message: dict[str, object]) -> None:
        keeper = self._keeper
        if keeper is not None:
            self._keeper_at = max(self._keeper_at, self.clock.now + self._random.random() * 0.002)
            self.clock.call_at(self._keeper_at, self._asked, keeper, message)

    def _asked(self, keeper: KeeperProcess, message: dict[str, object]) -> None:
        # What an agent before the present one sent is not read any more.
        if keeper.alive and keeper.say == self._hears:
            keeper.request(message)

    def _hears(self, event: dict[str, object]) -> None:
        self.later(0.0005, self._heard, self._keeper, event)

    def _heard(self, keeper: KeeperProcess | None, event: dict[str, object]) -> None:
        if keeper is not self._keeper:
            return
        kind = event["ev"]
        if kind == "known":
            jobs = event["jobs"]
            assert isinstance(jobs, list)
            self.core.keeper_known(jobs, now=self.clock.now, now_ms=self._now_ms)  # pyright: ignore[reportUnknownArgumentType]
        elif kind != "error":
            self.core.keeper_says(event, now=self.clock.now)
        self._pump()

    # Effects -------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        core = self.core
        while core.effects:
            effects, core.effects = core.effects, []
            for effect in effects:
                self._carry_out(effect)
        connection = core.connection
        if connection is not None and self._transport is not None and connection.queued:
            self._transport.write(connection.take())
        self._wait_for_firing()

    # Schedules -----------------------------------------------------------------------------------------------------

    @property
    def _now_ms(self) -> int:
        return self.clock.now_ms + self._machine.ahead_ms

    def _wait_for_firing(self) -> None:
        wake_ms = self.core.schedules.wake_ms
        if wake_ms is None:
            return
        due = self.clock.now + max(0.0, (wake_ms - self._now_ms) / 1000)
        if self._wake_at is None or due < self._wake_at:
            self._wake_at = due
            self.at(due, self._fire, due)

    def _fire(self, due: float) -> None:
        if self._wake_at == due:
            self._wake_at = None
        self.core.fire(now_ms=self._now_ms)
        self._pump()

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Persist):
            if isinstance(effect.record, Done):
                self._on_settled(effect.record.job)
            if self._machine.health.errno is not None:
                self.later(0.001, self._persisted, effect.token, self._machine.health.errno, 0)
                return
            self._watch.writing(self._machine.name, effect.record)
            length = self._machine.journal.append(effect.record)
            synced = self.clock.now + sync_time(self._random)
            if isinstance(effect.record, Kept | Fired | Rested | Removed):
                # One file: what was written first is on disk first. (Others' records do not depend on each other.)
                synced = self._synced_at = max(synced, self._synced_at)
            self.at(synced, self._persisted, effect.token, None, length, effect.record)
        elif isinstance(effect, ToKeeper):
            self._ask(effect.request)
        elif isinstance(effect, ReadSpool):
            self.later(0.001, self._spool_read, effect.job)
        elif isinstance(effect, Follow):
            self._follow(effect)
        elif isinstance(effect, DropDraft):
            self._machine.drafts.drop(effect.job)
        elif isinstance(effect, OpenDraft | WriteDraft | CheckDraft):
            self.later(0.002, self._draft, effect)

    def _persisted(self, token: int, failure: int | None, length: int, record: Record | None = None) -> None:
        if failure is None:
            self._machine.journal.synced(length)
        if record is not None:
            self._watch.written(self._machine.name, record)
        self.core.persisted(token, failure, now=self.clock.now)
        self._pump()

    def _spool_read(self, job: str) -> None:
        file = self._machine.spools.files.get(job)
        output = None if file is None else Output(encode_records([(1, file.output)]))
        self.core.spool_read(job, output, now=self.clock.now)
        self._pump()

    def _draft(self, effect: OpenDraft | WriteDraft | CheckDraft) -> None:
        job, drafts, pulls, now = effect.job, self._machine.drafts, self.core.pulls, self.clock.now
        errno = self._machine.health.errno
        if job not in pulls:
            return
        if isinstance(effect, OpenDraft):
            pulls.opened(job, 0 if errno else drafts.open(job, effect.size), errno, now=now)
        elif isinstance(effect, WriteDraft):
            if not errno:
                drafts.write(job, effect.offset, effect.data)
            pulls.written(job, errno, now=now)
        else:
            pulls.checked(job, b"" if errno else drafts.digest(job), errno, now=now)
        self._pump()

    def _follow(self, effect: Follow) -> None:
        file = self._machine.spools.files.get(effect.job)
        data = b"" if file is None else file.output[effect.offset : effect.offset + effect.limit - 5]
        self.core.followed(effect.job, [(1, data)] if data else [], next_offset=effect.offset + len(data), missed=0)

    def _tick(self) -> None:
        self.later(TICK, self._tick)
        self.core.tick(now=self.clock.now, now_ms=self._now_ms)
        # The clock may have been set.
        self.core.fire(now_ms=self._now_ms)
        connection = self.core.connection
        if connection is not None and not connection.alive(self.clock.now):
            self._lost()
        self._pump()
