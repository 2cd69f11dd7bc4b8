"""Which processes belong to a job, seen from /proc, and how to signal one without hitting another.

A process belongs to a job if it is in the job's cgroup, in the session that its main process began, a descendant of
such a one (the keeper is a subreaper, so descendants do not get lost to init), or bears the job's cookie in its
environment. One that escapes must do all four, and where there is a cgroup it cannot leave that without being root.

Rules: a pid is only a number. It is signalled through a pidfd, after its start time has been compared. Where there is
no /proc (macOS) all that is known is the process group. To read all of /proc costs milliseconds, so many jobs share one
`Look`, and who shares it decides how old it may be.
"""

from __future__ import annotations

import contextlib
import os
import signal

__all__ = ("Look", "Process", "boot_id", "children", "members", "send", "snapshot", "start_time_of")


class Process:
    """One line of /proc/PID/stat."""

    __slots__ = ("comm", "parent", "pid", "session", "start_time", "state")

    def __init__(self, pid: int, text: bytes) -> None:
        # The command's name may hold spaces and parentheses itself: the last one ends it.
        name, _, rest = text.rpartition(b")")
        fields = rest.split()
        self.pid = pid
        self.comm = name.partition(b"(")[2].decode("utf-8", "replace")
        self.state = fields[0].decode()
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.start_time = int(fields[19])

    @property
    def alive(self) -> bool:
        """Whether it still runs: a zombie does not."""
        return self.state not in "ZX"


def _process(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return Process(pid, file.read())
    except (OSError, IndexError, ValueError):
        return None


def start_time_of(pid: int) -> int:
    """In clock ticks since boot; 0 where it cannot be known."""
    process = _process(pid)
    return 0 if process is None else process.start_time


def boot_id() -> str:
    """Different after each boot; empty where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().decode().strip()
    except OSError:
        return ""


def snapshot() -> dict[int, Process]:
    """Every process that can be seen."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return {}
    found = (_process(int(name)) for name in names if name.isdigit())
    return {process.pid: process for process in found if process is not None}


def children() -> set[int] | None:
    """The keeper's own children, adopted ones included; None where the system does not list them."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children", "rb") as file:
            return {int(pid) for pid in file.read().split()}
    except OSError:
        return None


class Look:
    """One look at every process that can be seen; `cookie` is the name of the variable whose values tell jobs apart."""

    __slots__ = ("_bearers", "_name", "table")

    def __init__(self, cookie: str) -> None:
        self.table = snapshot()
        self._name = cookie.encode() + b"="
        self._bearers: dict[bytes, set[int]] | None = None

    def bearers(self, value: str) -> set[int]:
        """The processes in whose environment the variable has this value. Environments are read once, when asked."""
        if self._bearers is None:
            self._bearers = {}
            for pid in self.table:
                for setting in _environment(pid):
                    if setting.startswith(self._name):
                        self._bearers.setdefault(setting, set()).add(pid)
        return self._bearers.get(self._name + value.encode(), set())


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def members(
    look: Look,
    cookie: str,
    main: int | None,
    start_time: int,
    grouped: set[int],
    spared: set[int],
    *,
    same_keeper: bool,
) -> list[Process]:
    """The living processes of one job, whose environment has `cookie`; `spared` (keeper, agent) are never among them.

    After a crash (`same_keeper` false) the session counts only while its leader is provably the command that was
    started: its number may have gone to someone else meanwhile.
    """
    table = look.table
    leader = table.get(main) if main is not None else None
    if same_keeper:
        session = main if leader is None or leader.start_time == start_time else None
    else:
        session = main if leader is not None and leader.start_time == start_time else None
    found = (grouped | look.bearers(cookie)) & table.keys()
    for process in table.values():
        if session is not None and process.session == session and process.start_time >= start_time:
            found.add(process.pid)
    found -= spared
    grew = True
    while grew:
        born = {pid for pid, process in table.items() if process.parent in found} - found - spared
        found |= born
        grew = bool(born)
    return [table[pid] for pid in sorted(found) if table[pid].alive]


def send(process: Process, number: int) -> None:
    """Signal exactly this process; one that is gone, or may not be signalled, is left to the next census."""
    with contextlib.suppress(OSError):
        if not hasattr(os, "pidfd_open"):
            os.kill(process.pid, number)
            return
        descriptor = os.pidfd_open(process.pid)
        try:
            if start_time_of(process.pid) == process.start_time:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
