"""`opsconsole demo` as a process: every step as promised, and nothing left however it ends.

Nothing left: none of the processes that it started, found by the folder in their command lines, and no folder. TMPDIR
is the test's own, so that folders of others are not counted. The warden, which cleans up, is waited for by its pidfd.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from libstaragent import codes

# A fleet from nothing, seven steps with commands that take a second, and its end, on a loaded machine.
pytestmark = [pytest.mark.timeout(150), pytest.mark.slow]

WITHIN = 90.0


class Demo:
    """One run of the demo in a folder of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "opsconsole", "demo", "--hosts", "3", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(folder)},
        )
        self.said: list[str] = []

    def until_said(self, text: str) -> None:
        """Read what it says until a line has `text`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if text in line:
                return
        pytest.fail(f"it ended without {text!r}: {self.said} {self.process.stderr.read()}", pytrace=False)

    def processes(self) -> list[psutil.Process]:
        """What runs of it, the warden included: all have its folder in their command lines, but the demo itself."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(str(self.folder) in word for word in process.cmdline()):
                    found.append(process)
        return found

    def warden(self) -> psutil.Process:
        (found,) = [process for process in self.processes() if "opsconsole.demo.warden" in process.cmdline()]
        return found

    def finish(self) -> tuple[int, str, str]:
        """Its exit status, and all that it said."""
        out, errors = self.process.communicate(timeout=WITHIN)
        return self.process.returncode, "".join(self.said) + out, errors

    def left(self) -> tuple[list[str], list[Path]]:
        """Processes and files that are there still."""
        running = [process for process in self.processes() if process.status() != psutil.STATUS_ZOMBIE]
        return [" ".join(process.cmdline()) for process in running], list(self.folder.iterdir())


@pytest.fixture
def demo() -> Iterator[Callable[..., Demo]]:
    # Short, for the agents' sockets below it.
    with tempfile.TemporaryDirectory(prefix="oc-", dir="/tmp") as folder:
        made: list[Demo] = []

        def start(*words: str) -> Demo:
            made.append(Demo(Path(folder), *words))
            return made[-1]

        yield start
        for each in made:
            if each.process.poll() is None:
                each.process.kill()
            each.process.communicate()


def gone(processes: list[psutil.Process]) -> bool:
    """Whether all of them end within the time that we have."""
    deadline = time.monotonic() + WITHIN
    for process in processes:
        try:
            handle = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return False
        finally:
            os.close(handle)
    return True


def test_every_step_does_what_it_should_and_nothing_is_left(demo: Callable[..., Demo]) -> None:
    running = demo("--script")
    status, said, errors = running.finish()
    assert status == 0, said + errors
    assert "7 of 7 steps did what they should" in said and "✖" not in said
    assert errors == ""
    assert running.left() == ([], [])


def test_as_json_each_line_is_an_object_and_the_kill_really_happened(demo: Callable[..., Demo]) -> None:
    running = demo("--json")
    status, said, errors = running.finish()
    assert status == 0, said + errors
    lines = [json.loads(line) for line in said.splitlines()]
    assert all(isinstance(line, dict) and {"kind", "text"} <= set(line) for line in lines)
    assert lines[-1]["good"] == lines[-1]["steps"] == 7
    (killed,) = [line["pid"] for line in lines if "pid" in line]
    assert not psutil.pid_exists(killed)
    assert running.left() == ([], [])


@pytest.mark.parametrize(
    ("number", "when"),
    [
        (signal.SIGKILL, "enrolling"),
        (signal.SIGKILL, "a command stopped on every host"),
        (signal.SIGINT, "line 1"),
        (signal.SIGTERM, "line 1"),
    ],
)
def test_however_it_is_ended_nothing_is_left(demo: Callable[..., Demo], number: signal.Signals, when: str) -> None:
    running = demo("--script")
    running.until_said(when)
    before = running.processes()
    assert len(before) >= 2 and running.left()[1]
    running.process.send_signal(number)
    status, _, _ = running.finish()
    assert status != 0
    assert gone(running.processes()) and gone(before)
    assert running.left() == ([], [])


def test_a_step_that_goes_wrong_is_told_and_gives_exit_status_1(demo: Callable[..., Demo]) -> None:
    running = demo("--json")
    running.until_said("output while it runs")
    agents = [process for process in running.processes() if process.cmdline()[-3:-1] == ["agent", "--state"]]
    pair = {process.pid: process for process in agents if process.cmdline()[-1].endswith("web01")}
    (keeper,) = [process for process in pair.values() if process.ppid() not in pair]
    # With its keeper the command dies. The agent goes on as a keeper under a pid that the demo does not know.
    keeper.kill()
    assert gone([keeper])
    status, said, _ = running.finish()
    assert status == 1, said
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line for line in lines if line["kind"] == "failed"]
    assert lines[-1]["good"] < lines[-1]["steps"]
    assert running.left() == ([], [])


def test_a_part_that_does_not_start_is_told_with_its_code_and_nothing_is_left(demo: Callable[..., Demo]) -> None:
    running = demo("--script")
    running.until_said("starting the control plane")
    # It has a CA and a store to make first: `up` is there, and has not said that it is ready.
    up: list[psutil.Process] = []
    while not up:
        up = [process for process in running.processes() if "up" in process.cmdline()]
    up[0].kill()
    status, said, errors = running.finish()
    assert status == 1, said
    assert codes.DEMO_FAILED.code in errors
    assert gone(running.processes())
    assert running.left() == ([], [])


def test_a_demo_whose_terminal_goes_away_ends_though_no_signal_reaches_it(short_tmp: Path) -> None:
    environment = os.environ | {"TMPDIR": str(short_tmp), "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "opsconsole", "demo", "--hosts", "2"]
    master, slave = pty.openpty()
    # In a session of its own, for which this terminal is not the controlling one: the kernel sends it no SIGHUP.
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    )
    os.close(slave)
    try:
        seen = b""
        while b"web02" not in seen:
            assert select.select([master], [], [], 40)[0], f"no console came: {seen[-400:]!r}"
            seen += os.read(master, 65536)
    finally:
        os.close(master)
    assert process.wait(20) == 0
    assert not list(short_tmp.glob("opsconsole-demo-*"))
