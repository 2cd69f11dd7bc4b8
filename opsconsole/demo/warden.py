"""The warden: a small process that outlives the demo by a moment and leaves nothing of it.

It is told on stdin, a line each, which processes belong to the demo; when stdin ends, however the demo ended (`kill -9`
included), it asks them to stop, kills those that do not, and removes the directory.

    python -m opsconsole.demo.warden DIRECTORY      lines: pid

Rules: only processes that it was told of are touched, and only while they are the same process (pid and start time);
and those whose command line names a path below the directory, which has this one demo's name: an agent whose keeper was
killed goes on under a pid that nobody told.
"""

from __future__ import annotations

__all__ = ("main",)

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

# A keeper ends its commands, its agent and itself in less.
PATIENCE = 8.0


def _started(pid: int) -> str:
    """The start time of a process; empty when it is gone (or where there is no /proc)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _alive(pid: int, started: str) -> bool:
    if started:
        return _started(pid) == started and not _is_zombie(pid)
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return True


def _below(directory: Path) -> dict[int, str]:
    """The processes whose command line names a path below the directory, where the system tells (Linux)."""
    wanted = os.fsencode(f"{directory}/")
    found: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(word.startswith(wanted) for word in (entry / "cmdline").read_bytes().split(b"\0")):
                found[int(entry.name)] = _started(int(entry.name))
    return found


def _end(processes: dict[int, str], directory: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        processes = processes | _below(directory)
        for pid, started in processes.items():
            if _alive(pid, started):
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
        deadline = time.monotonic() + PATIENCE
        while any(_alive(pid, started) for pid, started in processes.items()):
            if time.monotonic() >= deadline:
                break
            time.sleep(0.05)
        else:
            return


def main() -> int:
    """Wait for the end of stdin, then clean up."""
    directory = Path(sys.argv[1])
    # Whoever presses Ctrl-C means the demo; the warden acts when the demo is gone.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    processes: dict[int, str] = {}
    for line in sys.stdin:
        if line.strip().isdigit():
            pid = int(line)
            processes[pid] = _started(pid)
    _end(processes, directory)
    shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
