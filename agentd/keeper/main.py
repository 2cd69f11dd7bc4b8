"""`agentd agent` begins here: the keeper, and the agent as its child.

The keeper is forked from nothing and imports next to nothing, so it stays small; the agent is forked from it before
the agent's imports and is started again when it dies. The keeper alone holds the lock on the state directory, and
never gives it to a child. Killed itself, it is succeeded by whoever runs `agentd agent` next, who finds the spools.

Rules: SIGTERM, SIGINT and SIGHUP stop the agent first, then end every running command (`interrupted`), write the
results, and leave.
"""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import sys
import time

from agentd.keeper.log import say
from agentd.keeper.shell import KeeperShell
from libstaragent.codes import KEEPER_RUNNING
from libstaragent.roles.keeper_summary import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("next_pause", "run")

# A child that waits at its gate holds the lock of a keeper that was killed, for the moment that it takes to leave.
LOCK_PATIENCE = 2.0
# An agent that dies at once must not burn the host; one that has run for a while deserves to be back at once.
RESTART_FIRST = 0.2
RESTART_MAX = 30.0
# To start costs it half a second of CPU: one that lives so long and dies again uses a twentieth of a core at most.
RESTART_RESET = 10.0
# Time for the agent to say goodbye to its room.
AGENT_GRACE = 5.0

_PR_SET_CHILD_SUBREAPER = 36


def run(state_dir: str, start_agent: Callable[[], None] | None) -> int:
    """Be the keeper of this state directory until told to stop; the process's exit status.

    Raises SA-6201 where another keeper holds the directory, OSError where the directory cannot be used.
    """
    os.makedirs(state_dir, mode=0o700, exist_ok=True)
    _close_on_exec()
    lock = _lock(os.path.join(state_dir, "keeper.lock"))
    _become_subreaper()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    stop: list[int] = []
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _noted)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda caught, _frame: stop.append(caught))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())

    shell = KeeperShell(state_dir, private=(lock,))
    agent = _Agent(start_agent)

    def on_wake(descriptor: int, _mask: int) -> None:
        os.read(descriptor, 4096)

    shell.watch(wake_read, on_wake)
    shell.recover()
    # Nothing that exists now will ever be garbage; unvisited by the collector, its pages stay shared with every child.
    gc.collect()
    gc.freeze()
    stopping = False
    while True:
        now = time.monotonic()
        _reap(shell, agent, now)
        if stop and not stopping:
            stopping = True
            agent.stop(now)
            shell.perform(shell.core.on_stop(now))
        if stopping and shell.core.idle and agent.pid is None:
            break
        agent.tend(now)
        shell.agent = agent.pid
        shell.turn(agent.deadline)
    signal.set_wakeup_fd(-1)
    shell.close()
    os.close(wake_read)
    os.close(wake_write)
    os.close(lock)
    return 0


def _noted(_number: int, _frame: object) -> None:
    """A handler that does nothing: with it the signal wakes the loop."""


def _close_on_exec() -> None:
    """What we were started with must not reach a command."""
    for name in os.listdir("/dev/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:
                continue


def _lock(path: str) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise KEEPER_RUNNING.error(f"process {holder or 'unknown'} holds {path}") from None
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            # Who holds it is for people. A full disk must not keep the host out of reach.
            pass
        return descriptor


def _become_subreaper() -> None:
    """What a command's process leaves behind becomes our child instead of init's, so that we can find and count it."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap(shell: KeeperShell, agent: _Agent, now: float) -> None:
    ended: list[tuple[int, int, Usage]] = []
    while True:
        try:
            pid, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            break
        if pid == agent.pid:
            agent.ended(status, now)
            continue
        scale = 1 if sys.platform.startswith("linux") else 1024
        usage = Usage(int(used.ru_utime * 1000), int(used.ru_stime * 1000), used.ru_maxrss // scale)
        ended.append((pid, status, usage))
    # Reaped first, all of them, one look at the processes afterwards is true for each: none is seen alive in it.
    shell.look_again()
    for pid, status, usage in ended:
        shell.on_child(pid, status, usage)


def next_pause(lived: float, before: float) -> float:
    """Seconds until an agent that has ended after `lived` seconds is started again; `before`: the pause before it."""
    return RESTART_FIRST if lived >= RESTART_RESET or not before else min(RESTART_MAX, 2 * before)


class _Agent:
    """The agent's process: started, started again with growing pauses, stopped."""

    def __init__(self, start: Callable[[], None] | None) -> None:
        self.pid: int | None = None
        self.deadline: float | None = None
        self._start = start
        self._started_at = 0.0
        self._pause = 0.0
        self._stopping = False
        self._next = 0.0

    def tend(self, now: float) -> None:
        """Start it if it is time; while stopping, kill it if its grace is over."""
        if self._start is None:
            return
        if self._stopping:
            if self.pid is not None and self.deadline is not None and now >= self.deadline:
                os.kill(self.pid, signal.SIGKILL)
                self.deadline = None
            return
        if self.pid is not None:
            return
        if now < self._next:
            self.deadline = self._next
            return
        self.deadline = None
        self._started_at = now
        pid = os.fork()
        if pid == 0:
            _be_agent(self._start)
        self.pid = pid

    def ended(self, status: int, now: float) -> None:
        """It has died; `status` as wait(2) gives it."""
        self.pid = None
        self.deadline = None
        self._pause = next_pause(now - self._started_at, self._pause)
        self._next = now + self._pause
        if not self._stopping:
            code = os.waitstatus_to_exitcode(status)
            how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            say(f"the agent {how}; started again in {self._pause:.1f} s")

    def stop(self, now: float) -> None:
        """Ask it to leave."""
        self._stopping = True
        self.deadline = None
        if self.pid is not None:
            os.kill(self.pid, signal.SIGTERM)
            self.deadline = now + AGENT_GRACE


def _be_agent(start: Callable[[], None]) -> None:
    """In the child: forget that we were the keeper, then be the agent. Never returns."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for name in os.listdir("/dev/fd"):
            if int(name) > 2:
                try:
                    os.close(int(name))
                except OSError:
                    continue
        start()
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:
            # Its last words are lost; the child must not go on as a second keeper over that.
            pass
        finally:
            os._exit(status)
