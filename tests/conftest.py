"""What every test has: a short folder for sockets, asyncio unless it asks for more, a watch on processes left behind.

Not a place for fixtures of one area: those stand in the conftest.py of its folder. That warnings are errors is said in
pyproject.toml.

Rules: the watch is on for every test. While tests run, this process is the *subreaper* of all that they start (Linux):
a process whose parent died, even in a session of its own, comes back as our child instead of init's, so none can hide
from the watch. A process that a fixture of a wider scope starts before the test is that fixture's to end; the watch for
it is at the session's end.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# From <linux/prctl.h>.
PR_SET_CHILD_SUBREAPER = 36

# How long a process may take to be gone after its test: it was told to end already, so this is for a loaded machine.
GONE_WITHIN_SECONDS = 5.0

# A unix socket's address holds 108 bytes on Linux and 104 on macOS; what a test puts below the folder needs its share.
SHORT_FOLDER_AT_MOST_BYTES = 40

# What workers of pytest-xdist left running, as command lines.
LEFT_BY_WORKERS = pytest.StashKey[list[str]]()


def pytest_configure() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails a run that leaves processes behind. With `-n`, each worker watches its own and tells the run's process."""
    told = getattr(session.config, "workeroutput", None)
    if told is None and session.config.getoption("numprocesses", None):
        left = session.config.stash.get(LEFT_BY_WORKERS, [])
    else:
        running = _wait_until_gone(_children())
        _end(running)
        left = list(running.values())
    if told is not None:
        told["left_running"] = left
    elif left:
        session.config.get_terminal_writer().line("\nleft running at the end of the session: " + "; ".join(left))
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist ended."""
    told = getattr(node, "workeroutput", {})
    node.config.stash.setdefault(LEFT_BY_WORKERS, []).extend(told.get("left_running", []))


@pytest.fixture(scope="session")  # async fixtures of any scope may stand on it
def anyio_backend() -> str:
    """The loop of an async test. The roles run on asyncio; tests of the library's client override this with both."""
    return "asyncio"


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A folder of the test's own whose path is short enough for unix sockets below it (`tmp_path` is not)."""
    root = "/tmp" if os.path.isdir("/tmp") and os.access("/tmp", os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="oc-", dir=root)
    try:
        assert len(os.fsencode(folder)) <= SHORT_FOLDER_AT_MOST_BYTES, f"{folder} is too long for sockets below it"
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Fails a test that leaves a process running, its orphans included, and ends them."""
    before = _children().keys()
    yield
    left = _wait_until_gone({pid: name for pid, name in _children().items() if pid not in before})
    if left:
        _end(left)
        pytest.fail("the test left processes running: " + "; ".join(left.values()), pytrace=False)


def _children() -> dict[int, str]:
    """Our children that still run, as pid to command line; dead ones are left to whoever waits for them."""
    if sys.platform != "linux":
        return {}
    found: dict[int, str] = {}
    for task in os.listdir("/proc/self/task"):
        try:
            pids = Path("/proc/self/task", task, "children").read_text().split()
        except OSError:  # that thread has ended since
            continue
        for pid in pids:
            try:
                state = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0]
                words = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            # multiprocessing keeps one helper for the life of the interpreter: it is the interpreter's, not the test's.
            if state not in "ZX" and "resource_tracker" not in words:
                found[int(pid)] = f"{pid} {words[:200]}"
    return found


def _wait_until_gone(children: dict[int, str]) -> dict[int, str]:
    """Those of `children` that are still there after GONE_WITHIN_SECONDS."""
    deadline = time.monotonic() + GONE_WITHIN_SECONDS
    left = dict(children)
    for pid in children:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            del left[pid]
            continue
        try:
            # A pidfd becomes readable when its process ends.
            if select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0]:
                del left[pid]
        finally:
            os.close(handle)
    return left


def _end(children: dict[int, str]) -> None:
    for pid in children:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
