"""Fixtures of the command line's tests: a fleet as a user would start it, `opsconsole up` and two real agents."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent.parent
WITHIN_SECONDS = 40.0


class Done:
    """A command line that has run."""

    def __init__(self, status: int, out: bytes, err: bytes) -> None:
        self.status = status
        self.out = out.decode()
        self.err = err.decode()

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


class CommandLine:
    """Runs `opsconsole` as a process, with nothing of the caller's environment that matters to it."""

    def __init__(self, home: Path, context: Path | None = None) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": str(CHECKOUT),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        }
        if context is not None:
            self.environment["OPSCONSOLE_CONTEXT"] = str(context)

    def start(self, *words: str, **more: object) -> subprocess.Popen[bytes]:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([sys.executable, "-m", "opsconsole", *words], env=self.environment, **(streams | more))

    def __call__(self, *words: str, stdin: bytes | None = None) -> Done:
        more = {} if stdin is None else {"stdin": subprocess.PIPE}
        process = self.start(*words, **more)
        out, err = process.communicate(stdin, timeout=WITHIN_SECONDS)
        return Done(process.returncode, out, err)


class RunningFleet:
    """`opsconsole up` in the foreground, and agents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = folder / "context.toml"
        self.run = CommandLine(folder, self.context)
        self.agents: list[subprocess.Popen[bytes]] = []
        self.up = self.start_up()

    def start_up(self, *more: str) -> subprocess.Popen[bytes]:
        folder = self.folder
        process = self.run.start(
            *("up", "--json", "--state", str(folder / "central"), "--operator", "ada"),
            *("--listen", "127.0.0.1:0", "--room-listen", "127.0.0.1:0"),
            *("--key-file", str(folder / "ada.key"), "--root-key-file", str(folder / "root.key"), *more),
            start_new_session=True,
        )
        assert process.stdout is not None and process.stderr is not None
        if not select.select([process.stdout], [], [], WITHIN_SECONDS)[0]:
            process.kill()
            raise AssertionError("it did not come up")
        line = process.stdout.readline()
        assert line, process.stderr.read().decode()
        self.said = json.loads(line)
        return process

    def join(self, name: str) -> None:
        state = str(self.folder / name)
        words = ("join", self.said["join"], "--pin", self.said["fleet"], "--name", name, "--state", state)
        subprocess.run(
            [sys.executable, "-m", "agentd", *words],
            input=self.said["token"].encode(),
            env=self.run.environment,
            check=True,
            capture_output=True,
            timeout=WITHIN_SECONDS,
        )
        with (self.folder / f"{name}.log").open("wb") as log:
            self.agents.append(
                subprocess.Popen(
                    [sys.executable, "-m", "agentd", "agent", "--state", state],
                    env=self.run.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def wait_until_up(self, names: Sequence[str]) -> None:
        deadline = time.monotonic() + WITHIN_SECONDS
        while time.monotonic() < deadline:
            hosts = self.run("hosts", "--json").lines
            if {host["name"] for host in hosts if host["state"] == "up"} >= set(names):
                return
        raise AssertionError([path.read_text() for path in self.folder.glob("*.log")])

    def stop(self) -> None:
        for agent in self.agents:
            agent.terminate()
        for agent in self.agents:
            agent.wait(WITHIN_SECONDS)
        self.stop_up()

    def stop_up(self) -> tuple[int, str]:
        if self.up.poll() is None:
            self.up.send_signal(signal.SIGINT)
        _, err = self.up.communicate(timeout=WITHIN_SECONDS)
        return self.up.returncode, err.decode()


def new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="oc-", dir="/tmp" if os.access("/tmp", os.W_OK) else None))


@pytest.fixture(scope="session")
def fleet() -> Iterator[RunningFleet]:
    """A fleet with hosts web01 and web02, for tests that leave it as it is."""
    folder = new_folder()
    running = RunningFleet(folder)
    try:
        for name in ("web01", "web02"):
            running.join(name)
        running.wait_until_up(["web01", "web02"])
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def run(fleet: RunningFleet) -> CommandLine:
    """`opsconsole` on that fleet."""
    return fleet.run


@pytest.fixture
def alone(short_tmp: Path) -> CommandLine:
    """`opsconsole` in an empty home, with no fleet."""
    return CommandLine(short_tmp)


@pytest.fixture
def new_fleet(short_tmp: Path) -> Iterator[RunningFleet]:
    """A fleet of a test's own, without hosts."""
    running = RunningFleet(short_tmp)
    try:
        yield running
    finally:
        running.stop()
