"""A real keeper process and the socket an agent would hold to it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libstaragent.roles.keeper_frames import FrameReader, encode_frame

DEADLINE = 20.0


def ulid(number: int) -> str:
    """A job id for a test, from a number."""
    return f"01J{number:023d}"


class Link:
    """A blocking connection to a keeper, as a test wants it."""

    def __init__(self, state: Path) -> None:
        self.events: list[dict] = []
        self._reader = FrameReader()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(state / "keeper.sock"))

    def send(self, **message: object) -> None:
        self.socket.sendall(encode_frame(message))

    def wait(self, wanted: Callable[[dict], bool]) -> dict:
        """The first event, past or to come, that is wanted."""
        deadline = time.monotonic() + DEADLINE
        seen = 0
        while True:
            for event in self.events[seen:]:
                if wanted(event):
                    return event
            seen = len(self.events)
            left = deadline - time.monotonic()
            assert left > 0, f"not told in time; told: {self.events}"
            if select.select([self.socket], [], [], left)[0]:
                data = self.socket.recv(65536)
                assert data, f"the keeper hung up; told: {self.events}"
                self.events += self._reader.feed(data)

    def event(self, kind: str, job: str | None = None) -> dict:
        return self.wait(lambda event: event["ev"] == kind and (job is None or event.get("job") == job))

    def spawn(self, job: str, argv: list[str], **spec: object) -> None:
        self.send(op="spawn", job=job, spec={"argv": argv, "timeout_ms": 60_000, **spec})

    def run(self, job: str, argv: list[str], **spec: object) -> dict:
        self.spawn(job, argv, **spec)
        return self.wait(lambda event: event["ev"] in ("finished", "refused") and event.get("job") == job)

    def hello(self) -> list[dict]:
        self.send(op="hello")
        return self.event("known")["jobs"]

    def close(self) -> None:
        self.socket.close()


class KeeperProcess:
    """One keeper without an agent, in a process of its own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        code = f"from agentd.keeper.main import run; raise SystemExit(run({str(state)!r}, None))"
        self.process = subprocess.Popen([sys.executable, "-c", code])
        self.links: list[Link] = []
        self._await_socket()

    def _await_socket(self) -> None:
        deadline = time.monotonic() + DEADLINE
        pidfd = os.pidfd_open(self.process.pid)
        try:
            while time.monotonic() < deadline:
                assert self.process.poll() is None, "the keeper did not start"
                try:
                    self.links.append(Link(self.state))
                    return
                except OSError:
                    select.select([pidfd], [], [], 0.01)
            raise AssertionError("the keeper did not listen in time")
        finally:
            os.close(pidfd)

    @property
    def link(self) -> Link:
        return self.links[-1]

    def reconnect(self) -> Link:
        self.links.append(Link(self.state))
        return self.link

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE)
        finally:
            for link in self.links:
                link.close()

    def spool(self, job: str) -> str:
        return str(self.state / "spool" / job)


@pytest.fixture
def start_keeper(tmp_path: Path) -> Iterator[Callable[..., KeeperProcess]]:
    started: list[KeeperProcess] = []

    def start(state: Path | None = None) -> KeeperProcess:
        started.append(KeeperProcess(state or tmp_path / "state"))
        return started[-1]

    yield start
    for keeper in started:
        keeper.stop()


@pytest.fixture
def keeper(start_keeper: Callable[..., KeeperProcess]) -> KeeperProcess:
    return start_keeper()
