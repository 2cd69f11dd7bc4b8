"""Real hosts for the benchmarks that kill: `agentd join`, `agentd agent`, and a small service manager.

    with Hosts(plane, folder, 8) as hosts:
        hosts[0].kill_agent(); hosts[1].kill_keeper(); hosts[2].kill_all(); hosts[3].cut()

Each host reaches its room through a port of its own (`bench.cutter`), so that its connection can be cut and stalled.

Not here: which is killed when (`bench.faults`). Rules: nothing is killed by a name, only what was started here, by a
pidfd; a kill is reported only when the process has ended by it. This process is the subreaper of all that it starts, so
an agent that becomes the keeper after its keeper's death is its child.
"""

from __future__ import annotations

__all__ = ("Host", "Hosts")

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from bench.cutter import Cutter
from bench.fleet import ControlPlane
from libstaragent.security.acts import Member

PR_SET_CHILD_SUBREAPER = 36
# A process that outlives SIGKILL so long hangs in the kernel.
GONE_WITHIN_SECONDS = 30.0
# Between looks of the service manager: systemd's default pause before a restart.
TEND_SECONDS = 0.1
# A forked command has its own session after a few system calls.
SECOND_LOOK_SECONDS = 0.1


class Host:
    """One agent and its keeper.

    Attributes:
        owner: what stands in the environment of its commands before the job's id.
        starts: how often the service manager had to start it.
    """

    def __init__(self, state: Path, member: Member, cutter: Cutter, log: Path) -> None:
        self.state = state
        self.member = member
        self.owner = sha256(os.path.realpath(state).encode()).hexdigest()[:12]
        self.starts = 0
        self._cutter = cutter
        self._log = log
        self._handle: int | None = None
        self._pid = 0
        self.wanted = False
        # A host is killed, succeeded and started by one thread at a time.
        self.lock = threading.Lock()

    def start(self) -> None:
        """`agentd agent`, if it does not run."""
        with self.lock:
            self.wanted = True
            self._tend()

    def tend(self) -> None:
        """What a service manager does: start it if it ended."""
        with self.lock:
            self._tend()

    def kill_agent(self) -> bool:
        """`kill -9` of the agent; the keeper starts it again. False: there was none at this moment."""
        with self.lock:
            agent = self._agent()
            return agent is not None and _kill(agent)

    def kill_keeper(self) -> bool:
        """`kill -9` of the keeper alone: the agent becomes the keeper."""
        with self.lock:
            if not self._kill_keeper():
                return False
            self._adopt_orphan()
            return True

    def kill_all(self) -> bool:
        """`kill -9` of keeper and agent: what a service manager, or the loss of power, does."""
        with self.lock:
            if not self._kill_keeper():
                return False
            self._kill_orphans()
            return True

    def turn_off(self) -> bool:
        """`kill_all`, and stay off until `start`."""
        with self.lock:
            if self._handle is None or _is_gone(self._handle, 0):
                return False
            self.wanted = False
        return self.kill_all()

    def cut(self) -> bool:
        """Break its connection; False: there was none."""
        return self._cutter.cut(self.member.agent)

    def stall(self, on: bool) -> bool:
        """Let nothing through, and say nothing of it; or break what was stalled."""
        return self._cutter.stall(self.member.agent, on)

    def stop(self) -> None:
        """SIGTERM, and wait."""
        with self.lock:
            self.wanted = False
            if self._handle is not None and not _is_gone(self._handle, 0):
                signal.pidfd_send_signal(self._handle, signal.SIGTERM)
                if not _is_gone(self._handle, GONE_WITHIN_SECONDS):
                    signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            self._reap()
            self._kill_orphans()

    @property
    def keeper_pid(self) -> int:
        """Of its keeper."""
        return self._pid

    @property
    def agent_pid(self) -> int | None:
        """Of its agent, if there is one at this moment."""
        with self.lock:
            return self._agent()

    @property
    def log(self) -> str:
        """What it said."""
        return self._log.read_text(errors="replace")

    def _tend(self) -> None:
        if self._handle is not None and not _is_gone(self._handle, 0):
            return
        self._reap()
        if not self.wanted or self._adopt_orphan():
            return
        with open(self._log, "ab") as log:
            command = [sys.executable, "-m", "agentd", "agent", "--state", str(self.state)]
            # The pidfd is what we hold; nobody else waits for it.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=Path(__file__).resolve().parent.parent
            )
            process.returncode = 0
        self.starts += 1
        self._adopt(process.pid)

    def _orphans(self) -> list[int]:
        """Agents of this host that live on without their keeper, and are our children now."""
        found: list[int] = []
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                ours = child.pid != self._pid and child.cmdline()[-1:] == [str(self.state)]
                if ours and os.getsid(child.pid) == os.getsid(0) and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child.pid)
        return found

    def _adopt_orphan(self) -> bool:
        """Look after an agent that becomes the keeper, as it is the host's main process now."""
        for pid in self._orphans():
            with contextlib.suppress(ProcessLookupError):
                self._adopt(pid)
                return True
        return False

    def _kill_orphans(self) -> None:
        for pid in self._orphans():
            if _kill(pid):
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)

    def _adopt(self, pid: int) -> None:
        handle = os.pidfd_open(pid)
        self._pid, self._handle = pid, handle

    def _kill_keeper(self) -> bool:
        if self._handle is None or _is_gone(self._handle, 0):
            return False
        signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        if not _is_gone(self._handle, GONE_WITHIN_SECONDS):
            raise RuntimeError("a keeper outlived SIGKILL")
        return self._reap() == -signal.SIGKILL

    def _reap(self) -> int | None:
        if self._handle is None:
            return None
        status = os.waitpid(self._pid, 0)[1]
        os.close(self._handle)
        self._handle = None
        return os.waitstatus_to_exitcode(status)

    def _agent(self) -> int | None:
        """The keeper's child that runs the same program in the same session, and still does at a second look: a command
        that was forked just now is such a child, too, for the moment until it has a session of its own.
        """
        found = self._likely_agents()
        if found:
            select.select([], [], [], SECOND_LOOK_SECONDS)
            found &= self._likely_agents()
        return min(found, default=None)

    def _likely_agents(self) -> set[int]:
        if self._handle is None or _is_gone(self._handle, 0):
            return set()
        try:
            keeper = psutil.Process(self._pid)
            here = os.getsid(self._pid)
            same = keeper.cmdline()
            return {
                child.pid for child in keeper.children() if child.cmdline() == same and os.getsid(child.pid) == here
            }
        except (psutil.Error, ProcessLookupError):
            return set()


class Hosts:
    """All of them, joined and up; tended by a thread."""

    def __init__(self, plane: ControlPlane, folder: Path, count: int) -> None:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # Whoever ends this program ends what it started: keepers outlive their parents by design.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        self._plane = plane
        self._cutter = Cutter()
        self._ended = threading.Event()
        self._tender = threading.Thread(target=self._tend, daemon=True)
        token = plane.token(count)
        self.all: list[Host] = []
        for number in range(count):
            state = folder / f"h{number}"
            member = _join(plane, state, f"host{number:02}", token)
            port = self._cutter.listen(member.agent, plane.room)
            path = state / "identity.json"
            identity = json.loads(path.read_text())
            path.write_text(json.dumps({**identity, "room_address": f"127.0.0.1:{port}"}))
            self.all.append(Host(state, member, self._cutter, folder / f"h{number}.log"))

    def __enter__(self) -> Self:
        for host in self.all:
            host.start()
        self._tender.start()
        self.until_up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._tender.join()
        for host in self.all:
            host.stop()
        self._cutter.close()
        _reap_orphans()

    def __getitem__(self, index: int) -> Host:
        return self.all[index]

    def __len__(self) -> int:
        return len(self.all)

    def until_up(self, within: float = 90.0) -> None:
        """Until the control plane says that all are connected."""
        client = self._plane.client()
        for _ in range(int(within / TEND_SECONDS)):
            if json.loads(client.get("/v1/health"))["hosts_up"] >= len(self.all):
                client.close()
                return
            select.select([], [], [], TEND_SECONDS)
        raise RuntimeError("not all hosts are up: " + self.all[0].log[-1000:] + self._plane.log[-1000:])

    def _tend(self) -> None:
        while not self._ended.wait(TEND_SECONDS):
            for host in self.all:
                host.tend()
            _reap_orphans()


def _join(plane: ControlPlane, state: Path, name: str, token: str) -> Member:
    command = [sys.executable, "-m", "agentd", "join", plane.api, "--pin", plane.fleet, "--name", name]
    done = subprocess.run([*command, "--state", str(state)], input=token.encode(), check=True, capture_output=True)
    return Member(done.stdout.decode().partition(" as ")[2].partition(";")[0], name, "main")


def _kill(pid: int) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        return _is_gone(handle, GONE_WITHIN_SECONDS)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)


def _is_gone(handle: int, within: float) -> bool:
    return bool(select.select([handle], [], [], within)[0])


def _reap_orphans() -> None:
    """What a killed keeper left is our child; its end is nobody else's to hear of. Commands have sessions of their own,
    what is started here has ours.
    """
    for child in psutil.Process().children():
        try:
            if child.status() == psutil.STATUS_ZOMBIE and os.getsid(child.pid) != os.getsid(0):
                os.waitpid(child.pid, os.WNOHANG)
        except (psutil.Error, ProcessLookupError, ChildProcessError):
            continue
