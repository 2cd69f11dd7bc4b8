"""Control groups: the one fence that a command cannot leave by forking, and how a job is killed whole.

Version 2 is preferred (one write kills all of it), the freezer or pids hierarchy of version 1 will do, and where none
is writable there is no fence: sessions, descendants and the cookie (`agentd.keeper.processes`) have to do. A `memory`
limit takes a group of the memory controller, which also says whether the kernel's OOM killer struck.

    <our own group>/opsconsole-<digest of the state directory>/<job>

Rules: whatever a group cannot do, it says by returning nothing; a missing fence never stops a command.
"""

from __future__ import annotations

import contextlib
import os

from libstaragent.jobs.digest import sha256
from libstaragent.roles.keeper_spec import is_job_id

__all__ = ("Groups", "JobGroup")

_FENCES_V1 = ("freezer", "pids")


def _mounts() -> list[tuple[str, str, set[str]]]:
    """(file system type, mount point, options) of every control-group hierarchy whose root we see."""
    found: list[tuple[str, str, set[str]]] = []
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind, _, options = right.split()
            if kind in ("cgroup", "cgroup2"):
                found.append((kind, left.split()[4], set(options.split(","))))
    return found


def _own_groups() -> dict[str, str]:
    """Our own group's path by controller; version 2 under the empty name."""
    groups: dict[str, str] = {}
    with contextlib.suppress(OSError), open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                groups[controller] = path
    return groups


def _write(path: str, text: str) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, text.encode())
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


class JobGroup:
    """The groups of one job: a fence, and one for memory where a limit asks for it; either may be missing."""

    __slots__ = ("_fence", "_memory")

    def __init__(self, fence: str | None, memory: str | None) -> None:
        self._fence = fence
        self._memory = memory

    def add(self, pid: int) -> None:
        """Put a process (and all that it will fork) in."""
        for directory in {self._fence, self._memory} - {None}:
            _write(f"{directory}/cgroup.procs", str(pid))

    def pids(self) -> set[int]:
        """The processes in it, zombies included."""
        found: set[int] = set()
        for directory in {self._fence, self._memory} - {None}:
            found.update(int(pid) for pid in _read(f"{directory}/cgroup.procs").split())
        return found

    def kill(self) -> None:
        """Kill everything in it at once, where the kernel can."""
        if self._fence is not None:
            _write(f"{self._fence}/cgroup.kill", "1")

    def oom_struck(self) -> bool:
        """Whether the kernel killed a process in it for want of memory."""
        for directory in {self._fence, self._memory} - {None}:
            for name in ("memory.events", "memory.oom_control"):
                for line in _read(f"{directory}/{name}").splitlines():
                    key, _, count = line.partition(" ")
                    if key == "oom_kill" and count != "0":
                        return True
        return False

    def remove(self) -> None:
        """Remove it if it is empty; what still lives in it keeps it."""
        for directory in {self._fence, self._memory} - {None}:
            with contextlib.suppress(OSError):
                os.rmdir(str(directory))


class Groups:
    """Where this keeper's job groups go."""

    def __init__(self, state_dir: str) -> None:
        name = "opsconsole-" + sha256(os.path.realpath(state_dir).encode()).hexdigest()[:12]
        own = _own_groups()
        self._fence: str | None = None
        self._memory: str | None = None
        mounts = _mounts()
        for kind, point, _ in mounts:
            if kind == "cgroup2":
                self._fence = self._usable(point, own.get(""), name)
                if self._fence is not None and "memory" in _read(f"{self._fence}/cgroup.controllers").split():
                    _write(f"{self._fence}/cgroup.subtree_control", "+memory")
                    self._memory = self._fence
        for controller in _FENCES_V1:
            for kind, point, options in mounts:
                if self._fence is None and kind == "cgroup" and controller in options:
                    self._fence = self._usable(point, own.get(controller), name)
        for kind, point, options in mounts:
            if self._memory is None and kind == "cgroup" and "memory" in options:
                self._memory = self._usable(point, own.get("memory"), name)

    @staticmethod
    def _usable(point: str, own: str | None, name: str) -> str | None:
        if own is None:
            return None
        directory = os.path.join(point, own.lstrip("/"), name)
        try:
            # Not makedirs: where our own group lies outside what is mounted here, a copy of its path would be made.
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory)
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.join(directory, "probe"))
            os.rmdir(os.path.join(directory, "probe"))
        except OSError:
            return None
        return directory

    @property
    def limits_memory(self) -> bool:
        """Whether a memory limit can be kept."""
        return self._memory is not None

    def create(self, job: str, memory: int | None) -> JobGroup:
        """Make the groups of a job, with a memory limit in bytes if one is wanted and possible."""
        fence = self._made(self._fence, job)
        limited = None
        if memory is not None:
            limited = self._made(self._memory, job)
            if limited is not None:
                for name, amount in (
                    ("memory.max", memory),
                    ("memory.swap.max", 0),
                    ("memory.limit_in_bytes", memory),
                    ("memory.memsw.limit_in_bytes", memory),
                ):
                    # Two names belong to version 2 and two to version 1: the others are not there to be written.
                    _write(f"{limited}/{name}", str(amount))
        return JobGroup(fence, limited)

    def find(self, job: str) -> JobGroup:
        """The groups that a keeper before made for a job."""
        places = [f"{base}/{job}" if base is not None else None for base in (self._fence, self._memory)]
        existing = [place if place is not None and os.path.isdir(place) else None for place in places]
        return JobGroup(existing[0], existing[1])

    @staticmethod
    def _made(base: str | None, job: str) -> str | None:
        if base is None:
            return None
        with contextlib.suppress(OSError):
            os.makedirs(f"{base}/{job}", exist_ok=True)
            return f"{base}/{job}"
        return None

    def close(self) -> None:
        """Remove every group in which nothing lives any more, our own too."""
        for directory in {self._fence, self._memory} - {None}:
            with contextlib.suppress(OSError):
                for name in os.listdir(str(directory)):
                    if is_job_id(name):
                        JobGroup(f"{directory}/{name}", None).remove()
            with contextlib.suppress(OSError):
                os.rmdir(str(directory))
