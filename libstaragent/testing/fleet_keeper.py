"""A keeper's thin shell in the simulator: the real `KeeperCore` over a simulated disk and simulated commands.

As in `agentd.keeper.shell`, but disk and processes take seeded time, so everything else can happen in between.

Rules: a command whose gate was not opened vanishes with its keeper; one that was let through lives on, and only the
next keeper's signals end it.
"""

from __future__ import annotations

__all__ = ("Command", "KeeperProcess", "Machine")

from collections.abc import Callable, Iterable
from random import Random

from libstaragent import codes
from libstaragent.jobs.journal import Record, compacted
from libstaragent.jobs.spool import FINISHED, STARTED
from libstaragent.roles import keeper_effects as act
from libstaragent.roles.keeper import KeeperCore
from libstaragent.roles.keeper_summary import Usage
from libstaragent.testing.clock import ManualClock
from libstaragent.testing.disk import DiskHealth, DraftDisk, JournalDisk, SpoolDisk, sync_time
from libstaragent.testing.process import SimProcess
from libstaragent.testing.referee import RealRun, Referee

# What a simulated command is to do, in its argv: ("sim", runtime in ms, exit status, output bytes, ignores TERM,
# expires in ms, whose text it prints: "own" or "same" on all hosts), and of a firing the schedule's name.
_RUNTIME, _STATUS, _OUTPUT, _STUBBORN, _EXPIRES, _TEXT = 1, 2, 3, 4, 5, 6
_SIGTERM, _SIGKILL = 15, 9
# A put is let in before it expires, and may be pulled for longer than that.
_NEVER_EXPIRES = 1 << 53


def _text(whose: str, size: int) -> bytes:
    """Lines that say whose they are, each some times."""
    return b"".join(b"%s says %d\n" % (whose.encode(), number % 7) for number in range(1 + size // 12))[:size]


class Command:
    """A child: waiting at its gate until `run` is there, gone when `over`."""

    __slots__ = ("argv", "draft", "keeper", "over", "run", "user")

    def __init__(
        self, keeper: KeeperProcess, argv: tuple[str, ...], user: str | None, draft: bytes | None = None
    ) -> None:
        self.keeper = keeper
        # What it is to place; None for a command.
        self.draft = draft
        self.argv = argv
        self.user = user
        self.run: RealRun | None = None
        self.over = False


class Machine:
    """What of a host outlives its processes: disks, running commands, and a clock that may be wrong.

    Attributes:
        ahead_ms: how far its wall clock is ahead. boots: how often it was started.
        revoked: operators whom the roster that it has does not name any more.
    """

    def __init__(self, name: str, compact: Callable[[Iterable[Record]], list[Record]] = compacted) -> None:
        self.name = name
        self.ahead_ms = 0
        self.boots = 1
        self.revoked: set[str] = set()
        self.health = DiskHealth()
        self.journal = JournalDisk(compact)
        self.spools = SpoolDisk()
        self.drafts = DraftDisk()
        # Hears of each file that takes its name.
        self.on_placed: Callable[[str, str, bytes], None] = lambda job, agent, content: None
        self.commands: dict[str, Command] = {}


class KeeperProcess(SimProcess):
    """See the module. `say` takes its events to the agent that is connected, if one is."""

    def __init__(
        self, clock: ManualClock, random: Random, machine: Machine, referee: Referee, make: Callable[[], KeeperCore]
    ) -> None:
        super().__init__(clock)
        self._random = random
        self._machine = machine
        self._referee = referee
        self.core = make()
        self.say: Callable[[dict[str, object]], None] | None = None
        self._pids = 100
        self._wake_at: float | None = None
        self._acts: dict[type[act.Effect], Callable[..., None]] = {
            act.CreateSpool: self._create_spool,
            act.Fork: self._fork,
            act.WriteStarted: self._write_started,
            act.Release: self._release,
            act.Abort: self._abort,
            act.Signal: self._signal,
            act.Census: self._census,
            act.Drain: self._drain,
            act.WriteFinished: self._write_finished,
            act.DeleteSpool: self._delete_spool,
            act.Tell: self._tell,
        }
        for job, started, record, finished in machine.spools.found():
            self.perform(self.core.on_found(job, started, record, finished, clock.now))

    def kill(self) -> None:
        """See `SimProcess`; its children at their gates go with it."""
        super().kill()
        for job, command in list(self._machine.commands.items()):
            if command.run is None:
                del self._machine.commands[job]

    def connected(self, say: Callable[[dict[str, object]], None]) -> None:
        """Another agent speaks now."""
        self.say = say
        self.core.on_connected()

    def request(self, message: dict[str, object]) -> None:
        """A request of the agent."""
        self.perform(self.core.on_request(message, self.clock.now))

    def perform(self, effects: list[act.Effect]) -> None:
        """Carry out effects in their order."""
        for effect in effects:
            self._acts[type(effect)](effect)
        due = self.core.deadline()
        if due is not None and (self._wake_at is None or due < self._wake_at):
            self._wake_at = due
            self.at(due, self._wake, due)

    def _wake(self, due: float) -> None:
        if self._wake_at == due:
            self._wake_at = None
            self.perform(self.core.on_time(self.clock.now))

    def _answer(self, delay: float, call: Callable[..., list[act.Effect]], *args: object) -> None:
        self.later(delay, self._answered, call, args)

    def _answered(self, call: Callable[..., list[act.Effect]], args: tuple[object, ...]) -> None:
        self.perform(call(*args))

    # Effects -------------------------------------------------------------------------------------------------------

    def _create_spool(self, effect: act.CreateSpool) -> None:
        job, health = effect.job, self._machine.health
        failure = health.errno
        if failure is None and self._machine.spools.create(job) is None:
            failure = 17
        if failure is not None:
            self._answer(0.001, self.core.on_create_failed, job, codes.SPOOL_REFUSED.code, failure, "")
        else:
            self._answer(0.001, self.core.on_created, job)

    def _fork(self, effect: act.Fork) -> None:
        self._pids += 1
        draft = None if effect.spec.task is None else self._machine.drafts.files.get(effect.job, b"")
        self._machine.commands[effect.job] = Command(self, effect.spec.argv, effect.spec.user, draft)
        self._answer(0.002, self._forked, effect.job, self._pids)

    def _forked(self, job: str, pid: int) -> list[act.Effect]:
        return self.core.on_forked(job, pid, 1, self._machine.name, self.clock.now_ms)

    def _write_started(self, effect: act.WriteStarted) -> None:
        self._machine.spools.files[effect.job].write(STARTED, effect.record)
        self.later(sync_time(self._random), self._started_synced, effect.job)

    def _started_synced(self, job: str) -> None:
        failure = self._machine.health.errno
        if failure is not None:
            self.perform(self.core.on_started_failed(job, failure, codes.SPOOL_WRITE.code, "started"))
            return
        self._machine.spools.files[job].sync()
        self.perform(self.core.on_started_written(job, self.clock.now))

    def _release(self, effect: act.Release) -> None:
        job = effect.job
        command = self._machine.commands[job]
        self._referee.note(self._machine.name, f"command of {job} starts")
        if command.draft is not None:
            command.run = self._referee.started(job, self._machine.name, _NEVER_EXPIRES)
            self.clock.call_later(0.005 + self._random.random() * 0.5, self._ends, job, command, None)
            return
        command.run = self._referee.started(
            job,
            self._machine.name,
            int(command.argv[_EXPIRES]),
            argv=command.argv,
            user=command.user,
            behind=-self._machine.ahead_ms,
        )
        self.clock.call_later(int(command.argv[_RUNTIME]) / 1000, self._ends, job, command, None)
        size = int(command.argv[_OUTPUT])
        text = command.run.text = _text(self._machine.name if command.argv[_TEXT] == "own" else "fleet", size)
        if size:
            self.later(0.01 + self._random.random() * 0.1, self._writes, job, command, text[: size // 2])
            self.later(0.15 + self._random.random(), self._writes, job, command, text[size // 2 :])

    def _writes(self, job: str, command: Command, text: bytes) -> None:
        file = self._machine.spools.files.get(job)
        if file is None or command.over:
            return
        file.output += text
        self.perform(self.core.on_output(job, len(file.output), self.clock.now))

    def _ends(self, job: str, command: Command, signal: int | None) -> None:
        """The command's process is gone: by itself, or by a signal. It may have outlived its keeper."""
        if command.over:
            return
        command.over = True
        if self._machine.commands.get(job) is command:
            del self._machine.commands[job]
        own = 0 if command.draft is not None else int(command.argv[_STATUS])
        status = own << 8 if signal is None else signal
        if command.draft is not None and command.run is not None and signal is None:
            self._machine.on_placed(job, self._machine.name, command.draft)
        if command.run is not None:
            command.run.ended = True
            command.run.exit_status = own if signal is None else None
            self._referee.note(self._machine.name, f"command of {job} ends with {status}")
        keeper = command.keeper
        if keeper.alive:
            keeper.perform(keeper.core.on_exited(job, status, Usage(), self.clock.now_ms))

    def _abort(self, effect: act.Abort) -> None:
        command = self._machine.commands.get(effect.job)
        if command is not None:
            self.later(0.001, self._ends, effect.job, command, None)

    def _signal(self, effect: act.Signal) -> None:
        command = self._machine.commands.get(effect.job)
        if command is None:
            return
        if effect.how == "kill":
            self.clock.call_later(0.002, self._ends, effect.job, command, _SIGKILL)
        elif command.draft is not None or command.argv[_STUBBORN] == "0":
            self.clock.call_later(0.01 + self._random.random() * 0.2, self._ends, effect.job, command, _SIGTERM)

    def _census(self, effect: act.Census) -> None:
        alive = int(effect.job in self._machine.commands)
        self._answer(0.0, self.core.on_census, effect.job, alive, self.clock.now)

    def _drain(self, effect: act.Drain) -> None:
        file = self._machine.spools.files[effect.job]
        left = int(effect.job in self._machine.commands)
        facts: dict[str, object] = {
            "stdout_bytes": len(file.output),
            "stderr_bytes": 0,
            "omitted_bytes": 0,
            "left_running": [],
            "left_running_count": left,
        }
        self._answer(0.001, self.core.on_drained, effect.job, facts, self.clock.now_ms)

    def _write_finished(self, effect: act.WriteFinished) -> None:
        self._machine.spools.files[effect.job].write(FINISHED, effect.summary)
        self.later(sync_time(self._random), self._finished_synced, effect.job)

    def _finished_synced(self, job: str) -> None:
        failure = self._machine.health.errno
        if failure is not None:
            self.perform(self.core.on_finished_failed(job, failure, self.clock.now))
            return
        self._machine.spools.files[job].sync()
        self.perform(self.core.on_finished_written(job))

    def _delete_spool(self, effect: act.DeleteSpool) -> None:
        self._machine.spools.remove(effect.job)

    def _tell(self, effect: act.Tell) -> None:
        if self.say is not None:
            self.say(effect.event)
