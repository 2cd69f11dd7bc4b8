"""The keeper's hands: carries out what `KeeperCore` decides, on real files, processes and sockets.

One thread, one selector, no timer but the core's deadline. Effects are answered at once, because each is quick: the
slowest is an fsync. The file is long because each effect has its hand here; each is short.

Not here: when anything is done (the core), who started us and who restarts the agent (`main`).

Rules: whatever fails here becomes an answer to the core with an errno; no job's failure touches another job.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections import deque

from agentd.keeper import link, processes
from agentd.keeper.cgroups import Groups
from agentd.keeper.command import Command
from agentd.keeper.disk import sync_folder
from agentd.keeper.kept import KeptSpools
from agentd.keeper.ledger import Ledger
from agentd.keeper.link import AgentLink
from agentd.keeper.spawn import COOKIE, Spawner, code_of_step, cookie_of
from agentd.keeper.spoolfile import SpoolReader, SpoolWriter
from libstaragent.codes import MEMORY_LIMIT, SPAWN_FAILED, SPOOL_REFUSED, SPOOL_WRITE
from libstaragent.errors import StarAgentError
from libstaragent.jobs.digest import sha256
from libstaragent.jobs.spool import BLANK, WHOLE, Geometry
from libstaragent.roles import keeper_effects as act
from libstaragent.roles.keeper import KeeperCore
from libstaragent.roles.keeper_spec import is_job_id
from libstaragent.roles.keeper_summary import LEFT_MAX, Usage

__all__ = ("KeeperShell",)

# Pipes of processes that finished commands left behind; beyond this the oldest are closed: commands need descriptors.
LEFT_PIPES_MAX = 256
# Seconds for which a look at all processes serves every job of a turn: no longer than the core waits between counts.
LOOK_MAX_AGE = 0.05


class KeeperShell:
    """Everything a keeper holds open. `agent` is the agent's pid while it runs."""

    def __init__(self, state_dir: str, *, private: tuple[int, ...]) -> None:
        self.core = KeeperCore()
        self._own_pid = os.getpid()
        self.agent: int | None = None
        self._spool_dir = os.path.join(state_dir, "spool")
        os.makedirs(self._spool_dir, mode=0o700, exist_ok=True)
        self._kept = KeptSpools(os.path.join(state_dir, "kept"))
        self._owner = sha256(os.path.realpath(state_dir).encode()).hexdigest()[:12]
        self._groups = Groups(state_dir)
        self._boot_id = processes.boot_id()
        self._ledger = Ledger(state_dir, self._boot_id, self._counts)
        # Written, and to be answered when the ledger has been synced.
        self._unsynced: list[act.WriteStarted | act.WriteFinished] = []
        self._selector = selectors.DefaultSelector()
        self._commands: dict[str, Command] = {}
        self._jobs_of_pid: dict[int, str] = {}
        self._left_pipes: dict[int, None] = {}
        self._known_orphans: set[int] = set()
        self._look: processes.Look | None = None
        self._looked_at = 0.0
        self._link: AgentLink | None = None
        self._listener = link.listen(os.path.join(state_dir, "keeper.sock"))
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        # A child that held these would, if we were killed just then, keep our successor out or mislead an agent.
        self._spawner = Spawner(
            owner=self._owner, drafts=os.path.join(state_dir, "drafts"), private=(*private, self._listener.fileno())
        )
        self._acts = {
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

    # The loop ---------------------------------------------------------------------------------------------------------

    def watch(self, descriptor: int, callback: object) -> None:
        """Call `callback(key_fd, mask)` whenever the descriptor can be read."""
        self._selector.register(descriptor, selectors.EVENT_READ, callback)

    def turn(self, until: float | None) -> None:
        """Wait for events, at most until the monotonic time `until` or the core's deadline, and handle them."""
        times = [at for at in (until, self.core.deadline()) if at is not None]
        timeout = max(0.0, min(times) - time.monotonic()) if times else None
        self._send()
        if self._unsynced:
            # What is there already goes to disk with it.
            timeout = 0.0
        touched: dict[str, Command] = {}
        ready = self._selector.select(timeout)
        self.look_again()
        for key, mask in ready:
            if isinstance(key.data, Command):
                self._serve_pipe(key.data, key.fd, mask, touched)
            else:
                key.data(key.fd, mask)
        now = time.monotonic()
        for command in touched.values():
            if not command.sealed:
                command.spool.flush()
                self.perform(self.core.on_output(command.job, command.spool.packer.end, now))
        self.perform(self.core.on_time(now))
        self.commit()
        self._send()

    def perform(self, effects: list[act.Effect]) -> None:
        """Carry out effects, and what their answers lead to, in order."""
        queue = deque(effects)
        while queue:
            effect = queue.popleft()
            answer = self._acts[type(effect)](effect)
            if answer:
                queue.extendleft(reversed(answer))

    def close(self) -> None:
        """Let go of everything but the spools."""
        self._drop_link()
        self._selector.unregister(self._listener)
        self._listener.close()
        self._selector.close()
        self._groups.close()
        self._ledger.close()
        self._spawner.close()

    # The agent --------------------------------------------------------------------------------------------------------

    def _accept(self, _descriptor: int, _mask: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if not link.peer_allowed(connection):
            connection.close()
            return
        self._drop_link()
        self._link = AgentLink(connection)
        self._selector.register(connection, selectors.EVENT_READ, self._serve_link)
        self.core.on_connected()

    def _serve_link(self, _descriptor: int, mask: int) -> None:
        current = self._link
        if current is None:
            return
        if mask & selectors.EVENT_WRITE and not current.flush():
            self._drop_link()
            return
        if mask & selectors.EVENT_READ:
            try:
                messages = current.receive()
            except StarAgentError as problem:
                current.add({"ev": "error", "code": problem.code.code, "detail": problem.detail})
                current.flush()
                messages = None
            if messages is None:
                self._drop_link()
                return
            for message in messages:
                self.perform(self.core.on_request(message, time.monotonic()))
        if mask & selectors.EVENT_WRITE:
            self._await_link()

    def _await_link(self) -> None:
        if self._link is not None:
            mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._link.waiting else 0)
            self._selector.modify(self._link.socket, mask, self._serve_link)

    def _drop_link(self) -> None:
        if self._link is not None:
            self._selector.unregister(self._link.socket)
            self._link.close()
            self._link = None

    def _tell(self, effect: act.Tell) -> None:
        if self._link is not None and not self._link.add(effect.event):
            self._drop_link()

    def _send(self) -> None:
        """What was told since the last time goes out at once."""
        if self._link is None or not self._link.waiting:
            return
        if not self._link.flush():
            self._drop_link()
        elif self._link.waiting:
            self._await_link()

    # Pipes and processes ----------------------------------------------------------------------------------------------

    def _serve_pipe(self, command: Command, descriptor: int, mask: int, touched: dict[str, Command]) -> None:
        if mask & selectors.EVENT_WRITE:
            if command.child is not None and descriptor == command.child.stdin:
                self._feed_stdin(command)
            return
        if descriptor not in command.descriptors:
            return
        if not command.read(descriptor):
            self._selector.unregister(descriptor)
            self._left_pipes.pop(descriptor, None)
        touched[command.job] = command

    def _feed_stdin(self, command: Command) -> None:
        descriptor = command.child.stdin if command.child is not None else None
        if descriptor is not None and not command.feed_stdin():
            self._unregister(descriptor)

    def _unregister(self, descriptor: int) -> None:
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    def look_again(self) -> None:
        """What is known of the processes is from before something that counts: the next who asks looks anew."""
        self._look = None

    def _processes(self) -> processes.Look:
        now = time.monotonic()
        if self._look is None or now - self._looked_at >= LOOK_MAX_AGE:
            self._look = processes.Look(COOKIE)
            self._looked_at = now
        return self._look

    def on_child(self, pid: int, status: int, usage: Usage) -> None:
        """A child was reaped that is not the agent: a command's main process, or one that a command left to us."""
        self._known_orphans.discard(pid)
        if pid == self._spawner.forker:
            self._spawner.lost_forker()
            return
        job = self._jobs_of_pid.pop(pid, None)
        if job is None:
            return
        child = self._commands[job].child if job in self._commands else None
        failure = child.failure() if child is not None else None
        if failure is not None:
            step, errno, detail = failure
            code = code_of_step(step, errno)
            told = detail if step == code else f"{step}: {detail}"
            self.perform(self.core.on_exec_failed(job, errno, code, told))
        self.perform(self.core.on_exited(job, status, usage, _wall_ms()))

    @property
    def spared(self) -> set[int]:
        """The pids that are never a job's: the keeper, its agent, who forks for it."""
        return {pid for pid in (self._own_pid, self.agent, self._spawner.forker) if pid is not None}

    def _members(self, job: str) -> list[processes.Process]:
        main, start_time, ours = self.core.identity(job)
        command = self._commands.get(job)
        group = command.group if command is not None else self._groups.find(job)
        grouped = group.pids()
        if not grouped <= self._processes().table.keys():
            # Somebody was forked since.
            self.look_again()
        return processes.members(
            self._processes(),
            cookie_of(self._owner, job),
            main,
            start_time,
            grouped,
            self.spared,
            same_keeper=ours,
        )

    # Effects ----------------------------------------------------------------------------------------------------------

    def _create_spool(self, effect: act.CreateSpool) -> list[act.Effect]:
        job, spec = effect.job, effect.spec
        if "memory" in spec.limits and not self._groups.limits_memory:
            return self.core.on_create_failed(job, MEMORY_LIMIT.code, None, "no memory control group can be made")
        geometry = Geometry.for_bytes(spec.output_head, spec.output_tail, spec.output_spool)
        reserved: dict[str, object] = {"job": job, "digest": spec.digest, "at_ms": _wall_ms(), "owner": spec.owner}
        try:
            spool = self._kept.made_room(lambda: SpoolWriter.create(self._path(job), reserved, geometry))
        except OSError as problem:
            return self.core.on_create_failed(job, SPOOL_REFUSED.code, problem.errno, problem.strerror or "")
        self._commands[job] = Command(job, spool, self._groups.create(job, spec.limits.get("memory")))
        return self.core.on_created(job)

    def _fork(self, effect: act.Fork) -> list[act.Effect]:
        command = self._commands[effect.job]
        try:
            child = self._spawner.fork(effect.job, effect.spec)
        except OSError as problem:
            detail = problem.strerror or ""
            return self.core.on_fork_failed(
                effect.job, problem.errno or 0, SPAWN_FAILED.code, f"fork: {detail}", _wall_ms()
            )
        command.attach(child, effect.spec.stdin)
        command.group.add(child.pid)
        self._jobs_of_pid[child.pid] = effect.job
        return self.core.on_forked(effect.job, child.pid, child.start_time, self._boot_id, _wall_ms())

    def _write_started(self, effect: act.WriteStarted) -> list[act.Effect] | None:
        spool = self._commands[effect.job].spool
        try:
            spool.write_started(effect.record)
        except OSError as problem:
            return self._on_started(effect.job, problem)
        self._ledger.add("started", effect.job, effect.record, reserved=spool.reserved)
        self._unsynced.append(effect)
        return None

    def _on_started(self, job: str, problem: OSError | None) -> list[act.Effect]:
        if problem is None:
            return self.core.on_started_written(job, time.monotonic())
        return self.core.on_started_failed(job, problem.errno or 0, SPOOL_WRITE.code, f"started: {problem.strerror}")

    def commit(self) -> None:
        """One sync for all that was written since the last one; then say so to the core."""
        while self._unsynced:
            written, self._unsynced = self._unsynced, []
            try:
                self._ledger.commit()
                shared = True
            except OSError:
                shared = False
            for effect in written:
                problem = None if shared else self._sync_alone(effect.job)
                answer = self._on_started if isinstance(effect, act.WriteStarted) else self._on_finished
                self.perform(answer(effect.job, problem))

    def _sync_alone(self, job: str) -> OSError | None:
        """Where the ledger cannot be written (a full disk), a spool's own place is there still."""
        try:
            self._commands[job].spool.sync()
            sync_folder(self._spool_dir)
        except OSError as problem:
            return problem
        return None

    def _release(self, effect: act.Release) -> None:
        command = self._commands[effect.job]
        child = command.child
        if child is None:
            return
        for descriptor in command.descriptors:
            self._selector.register(descriptor, selectors.EVENT_READ, command)
        child.release()
        self.look_again()
        if child.stdin is not None and command.feed_stdin():
            self._selector.register(child.stdin, selectors.EVENT_WRITE, command)

    def _abort(self, effect: act.Abort) -> None:
        child = self._commands[effect.job].child
        if child is not None:
            child.abort()

    def _signal(self, effect: act.Signal) -> None:
        members = self._members(effect.job)
        if effect.how == "term":
            for process in members:
                processes.send(process, signal.SIGTERM)
                # A stopped process would sleep through the TERM.
                processes.send(process, signal.SIGCONT)
            return
        command = self._commands.get(effect.job)
        (command.group if command is not None else self._groups.find(effect.job)).kill()
        for process in members:
            processes.send(process, signal.SIGKILL)

    def _census(self, effect: act.Census) -> list[act.Effect]:
        return self.core.on_census(effect.job, len(self._members(effect.job)), time.monotonic())

    def _drain(self, effect: act.Drain) -> list[act.Effect]:
        command = self._commands.get(effect.job)
        if command is None:
            return self.core.on_drained(effect.job, self._recovered_facts(effect.job), _wall_ms())
        before = set(command.descriptors)
        facts = command.drain()
        self.perform(self.core.on_output(effect.job, command.spool.packer.end, time.monotonic()))
        for descriptor in before - set(command.descriptors):
            self._unregister(descriptor)
        if command.child is not None and command.child.stdin is not None:
            self._unregister(command.child.stdin)
            command.close_stdin()
        facts["oom"] = command.group.oom_struck()
        left = self._left_running(command)
        facts["left_running"] = [{"pid": process.pid, "comm": process.comm} for process in left[:LEFT_MAX]]
        facts["left_running_count"] = len(left)
        self._keep_pipes(command, keep=bool(left))
        return self.core.on_drained(effect.job, facts, _wall_ms())

    def _left_running(self, command: Command) -> list[processes.Process]:
        """What lives on of a command whose main process has ended. Reading all of /proc is saved where nothing can."""
        children = processes.children()
        orphans = None if children is None else children - self.spared - set(self._jobs_of_pid) - self._known_orphans
        if not command.group.pids() and orphans is not None and not orphans:
            return []
        if orphans is not None and not orphans <= self._processes().table.keys():
            self.look_again()
        left = self._members(command.job)
        if orphans is not None:
            # An orphan that may belong to a command still running is looked at again when that ends.
            alone = len(self._jobs_of_pid) == 0
            self._known_orphans |= orphans if alone else orphans & {process.pid for process in left}
        return left

    def _keep_pipes(self, command: Command, *, keep: bool) -> None:
        for descriptor in command.descriptors:
            if keep:
                self._left_pipes[descriptor] = None
                continue
            self._unregister(descriptor)
            command.close_pipe(descriptor)
        while len(self._left_pipes) > LEFT_PIPES_MAX:
            oldest = next(iter(self._left_pipes))
            del self._left_pipes[oldest]
            self._selector.get_key(oldest).data.close_pipe(oldest)
            self._unregister(oldest)

    def _recovered_facts(self, job: str) -> dict[str, object]:
        facts: dict[str, object] = {"stdout_bytes": 0, "stderr_bytes": 0, "omitted_bytes": 0}
        left = self._members(job)
        facts["left_running"] = [{"pid": process.pid, "comm": process.comm} for process in left[:LEFT_MAX]]
        facts["left_running_count"] = len(left)
        self._groups.find(job).remove()
        try:
            with SpoolReader(self._path(job)) as spool:
                facts["stdout_bytes"], facts["stderr_bytes"] = spool.stream_bytes()
                facts["omitted_bytes"] = spool.read_output()[1]
        except OSError:
            return facts
        return facts

    def _write_finished(self, effect: act.WriteFinished) -> list[act.Effect] | None:
        command = self._commands.get(effect.job)
        try:
            if command is None:
                self._write_recovered(effect)
            else:
                spool = command.spool
                spool.trim()
                spool.write_finished(effect.summary)
                output = spool.short_output()
                if output is None:
                    spool.sync()
                    sync_folder(self._spool_dir)
                self._ledger.add("finished", effect.job, effect.summary, reserved=spool.reserved, output=output)
                self._unsynced.append(effect)
                return None
        except OSError as problem:
            return self._on_finished(effect.job, problem)
        return self._on_finished(effect.job, None)

    def _write_recovered(self, effect: act.WriteFinished) -> None:
        with contextlib.closing(SpoolWriter.reopen(self._path(effect.job))) as spool:
            spool.write_finished(effect.summary)
            spool.sync()
        sync_folder(self._spool_dir)

    def _on_finished(self, job: str, problem: OSError | None) -> list[act.Effect]:
        if problem is not None:
            return self.core.on_finished_failed(job, problem.errno or 0, time.monotonic())
        command = self._commands.pop(job, None)
        if command is not None:
            command.spool.close()
            command.group.remove()
        return self.core.on_finished_written(job)

    def _delete_spool(self, effect: act.DeleteSpool) -> None:
        self._groups.find(effect.job).remove()
        self._kept.take(self._path(effect.job), effect.job)
        self._ledger.add("gone", effect.job, {})

    def _counts(self, job: str) -> bool:
        return self.core.state(job) is not None

    def _path(self, job: str) -> str:
        return os.path.join(self._spool_dir, job)

    # After a crash ----------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Take over every spool that a keeper before left behind."""
        lost = self._ledger.restore(self._spool_dir)
        for name, kept in lost.items():
            self.perform(self.core.on_found(name, WHOLE, kept.started or {}, kept.finished, time.monotonic()))
        for name in sorted(os.listdir(self._spool_dir)):
            if not is_job_id(name) or name in lost:
                continue
            try:
                with SpoolReader(self._path(name)) as spool:
                    reserved, started, finished = spool.reserved, spool.started, spool.finished
            except OSError:
                continue
            # Nothing readable at all: what happened to it is unknown, unless it was never begun to be written.
            what = started[0] if reserved[0] != "damaged" and finished[0] == BLANK else "damaged"
            if what == BLANK and reserved[0] == BLANK:
                what = "empty"
            end = finished[1] if finished[0] == WHOLE else None
            self.perform(self.core.on_found(name, what, started[1], end, time.monotonic()))


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
