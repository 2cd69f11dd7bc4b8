"""What stands between a bare spawn and a command that keeps our promises, one step at a time.

Each step is a plain loop in as many processes as there are cores, without a fleet: it spawns `true`, waits, and does
what the step adds. So the steps are a floor for whoever forks from Python; ours has the whole channel on top.

    bench/staircase.py STEP COUNT FOLDER        a line of JSON: rate, and CPU of each

Rules: it is a program of its own that imports next to nothing, for a fork costs by the size of who forks; no step does
less than our keeper does of the same thing; files lie beside the hosts' own.
"""

from __future__ import annotations

__all__ = ("STEPS",)

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TRUE = "/bin/true"
RECORD = b"x" * 600


class Step:
    """One process's loop. `folder` is where its records go."""

    def __init__(self, folder: str) -> None:
        self._file = os.open(f"{folder}/records-{os.getpid()}", os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(self._file, bytes(4096), 0)
        os.fsync(self._file)

    def spawn(self) -> None:
        """posix_spawn, wait: no memory is copied, and nothing can be between fork and exec."""
        os.waitpid(os.posix_spawn(TRUE, [TRUE], {}), 0)

    def fork(self) -> None:
        """fork, exec, wait."""
        pid = os.fork()
        if pid == 0:
            os.execve(TRUE, [TRUE], {})
        os.waitpid(pid, 0)

    def gated(self) -> None:
        """The child waits at a pipe until it may exec; its output goes to two more, which are read to their end."""
        self._gated(records=False)

    def synced(self) -> None:
        """And three records are on disk: before it is forked, before it may exec, after it has ended."""
        self._gated(records=True)

    def _gated(self, *, records: bool) -> None:
        if records:
            self._record()
        gate, outputs = os.pipe(), (os.pipe(), os.pipe())
        pid = os.fork()
        if pid == 0:
            os.close(gate[1])
            os.setsid()
            os.read(gate[0], 1)
            for number, (_, write) in enumerate(outputs, 1):
                os.dup2(write, number)
            os.execve(TRUE, [TRUE], {})
        for descriptor in (gate[0], outputs[0][1], outputs[1][1]):
            os.close(descriptor)
        if records:
            self._record()
        os.write(gate[1], b"1")
        os.close(gate[1])
        for read, _ in outputs:
            os.read(read, 65536)
            os.close(read)
        os.waitpid(pid, 0)
        if records:
            self._record()

    def _record(self) -> None:
        os.pwrite(self._file, RECORD, 0)
        os.fdatasync(self._file)


# What is printed, and the loop.
STEPS: dict[str, Callable[[Step], None]] = {
    "bare": Step.spawn,
    "fork": Step.fork,
    "gated": Step.gated,
    "synced": Step.synced,
}


def measure(name: str, count: int, folder: str) -> tuple[float, float]:
    """(commands a second on all cores at once, CPU µs a command with the command's own)."""
    cores = os.cpu_count() or 1
    before = os.times()
    began = time.monotonic()
    children: list[int] = []
    for _ in range(cores):
        pid = os.fork()
        if pid == 0:
            step = Step(folder)
            for _ in range(count):
                STEPS[name](step)
            os._exit(0)
        children.append(pid)
    for pid in children:
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError(f"the step {name} failed")
    elapsed = time.monotonic() - began
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return cores * count / elapsed, used / (cores * count) * 1e6


if __name__ == "__main__":
    rate, cpu = measure(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    sys.stdout.write(f"[{rate}, {cpu}]\n")
