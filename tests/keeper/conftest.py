"""A real keeper process, and the socket that an agent would hold to it."""

from __future__ import annotations

import itertools
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentd.keeper.cgroups import Groups
from agentd.keeper.spoolfile import SpoolReader, read_output
from libstaragent.roles.keeper_frames import FrameReader, encode_frame

DEADLINE = 30.0
REPOSITORY = Path(__file__).parents[2]


class Link:
    """A blocking connection to a keeper, as a test wants it."""

    def __init__(self, state: Path) -> None:
        self.events: list[dict] = []
        self._reader = FrameReader()
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self.socket.connect(str(state / "keeper.sock"))
        except OSError:
            self.socket.close()
            raise
        credentials = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self.keeper_pid = struct.unpack("3i", credentials)[0]

    def send(self, **message: object) -> None:
        self.socket.sendall(encode_frame(message))

    def wait(self, wanted: Callable[[dict], bool], since: int = 0) -> dict:
        """The first event, past (from number `since` on) or to come, that is wanted."""
        deadline = time.monotonic() + DEADLINE
        while True:
            for event in self.events[since:]:
                if wanted(event):
                    return event
            since = len(self.events)
            left = deadline - time.monotonic()
            assert left > 0, f"not told in time; told: {self.events}"
            if select.select([self.socket], [], [], left)[0]:
                data = self.socket.recv(65536)
                assert data, f"the keeper hung up; told: {self.events}"
                self.events += self._reader.feed(data)

    def hung_up(self) -> bool:
        """Whether the keeper closes this connection (after what it still had to say)."""
        self.socket.settimeout(DEADLINE)
        while data := self.socket.recv(65536):
            self.events += self._reader.feed(data)
        return True

    def event(self, kind: str, job: str | None = None) -> dict:
        return self.wait(lambda event: event["ev"] == kind and (job is None or event.get("job") == job))

    def spawn(self, job: str, argv: list[str], **spec: object) -> None:
        self.send(op="spawn", job=job, spec={"argv": argv, "timeout_ms": 60_000, **spec})

    def run(self, job: str, argv: list[str], **spec: object) -> dict:
        """Spawn and wait for the end."""
        self.spawn(job, argv, **spec)
        return self.wait(lambda event: event["ev"] in ("finished", "refused") and event.get("job") == job)

    def hello(self) -> dict[str, dict]:
        """What the keeper knows, by job."""
        before = len(self.events)
        self.send(op="hello")
        return {job["job"]: job for job in self.wait(lambda event: event["ev"] == "known", before)["jobs"]}

    def end_of(self, job: str) -> dict:
        """How a job ended, of which a keeper may have told before we came."""
        known = self.hello()[job]
        return known if known["done"] else self.event("finished", job)


class KeeperProcess:
    """One keeper without an agent, in a process of its own; `driver` is Python to run before it."""

    def __init__(self, state: Path, *, user: int | None = None, driver: str = "") -> None:
        self.state = state
        if user is not None:
            # The interpreter may lie where only root can read, so it becomes the user once it has been loaded. Linux
            # then takes it for a secret-bearing process and hides its /proc, which a real one would see.
            driver += f"""
import ctypes, os, agentd.keeper.main
os.setgroups([]); os.setgid({user}); os.setuid({user})
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
"""
        code = f"{driver}\nfrom agentd.keeper import main\nraise SystemExit(main.run({str(state)!r}, None))"
        self.process = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY)
        self.links: list[Link] = []
        self._await_socket()

    def _await_socket(self) -> None:
        deadline = time.monotonic() + DEADLINE
        pidfd = os.pidfd_open(self.process.pid)
        try:
            while time.monotonic() < deadline:
                assert self.process.poll() is None, "the keeper did not start"
                try:
                    # A child of a keeper that was just killed may for a moment hold the socket of that one.
                    if self.connect().keeper_pid == self.process.pid:
                        return
                    self.links.pop().socket.close()
                except OSError:
                    select.select([pidfd], [], [], 0.01)
            raise AssertionError("the keeper did not listen in time")
        finally:
            os.close(pidfd)

    @property
    def link(self) -> Link:
        return self.links[-1]

    def connect(self) -> Link:
        self.links.append(Link(self.state))
        return self.link

    def spool(self, job: str) -> str:
        return str(self.state / "spool" / job)

    def output(self, job: str) -> bytes:
        """All that its spool holds, both streams."""
        head, _, tail = read_output(self.spool(job))
        return b"".join(data for _, data in head + tail)

    def await_output(self, job: str, count: int) -> bytes:
        """The first `count` lines of a running job."""
        self.link.send(op="watch", job=job, on=True, **{"from": 0})
        self.link.wait(lambda _: os.path.exists(self.spool(job)) and self.output(job).count(b"\n") >= count)
        return self.output(job)

    def slots(self, job: str) -> tuple[str, str, str]:
        with SpoolReader(self.spool(job)) as spool:
            return spool.reserved[0], spool.started[0], spool.finished[0]

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait(DEADLINE) == -signal.SIGKILL

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE)
        finally:
            for link in self.links:
                link.socket.close()


@pytest.fixture
def new_job() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"01J{next(numbers):023d}"


@pytest.fixture
def start_keeper(tmp_path: Path) -> Iterator[Callable[..., KeeperProcess]]:
    started: list[KeeperProcess] = []

    def start(*, state: Path | None = None, user: int | None = None, driver: str = "") -> KeeperProcess:
        started.append(KeeperProcess(state or tmp_path / "state", user=user, driver=driver))
        return started[-1]

    yield start
    for keeper in started:
        keeper.stop()
        # One that was killed could not tidy up its control groups.
        Groups(str(keeper.state)).close()


@pytest.fixture
def keeper(start_keeper: Callable[..., KeeperProcess]) -> KeeperProcess:
    return start_keeper()


@pytest.fixture(scope="module")
def one_keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeeperProcess]:
    """One keeper for the tests of a module, each with jobs of its own."""
    keeper = KeeperProcess(tmp_path_factory.mktemp("keeper") / "state")
    yield keeper
    keeper.stop()
    Groups(str(keeper.state)).close()


@pytest.fixture(scope="module")
def bare_keeper() -> Iterator[KeeperProcess]:
    """The same as a user who may not change users, whoever runs the tests."""
    directory = tempfile.mkdtemp()
    if os.geteuid() == 0:
        os.chown(directory, 65534, 65534)
    keeper = KeeperProcess(Path(directory) / "state", user=65534 if os.geteuid() == 0 else None)
    yield keeper
    keeper.stop()
    shutil.rmtree(directory)


@pytest.fixture(params=["own user", "without privilege"])
def any_keeper(request: pytest.FixtureRequest, start_keeper: Callable[..., KeeperProcess]) -> Iterator[KeeperProcess]:
    """As it is, and as a user who may neither make control groups nor change users."""
    if request.param == "own user":
        yield start_keeper()
        return
    if os.geteuid() != 0:
        pytest.skip("already without privilege")
    directory = tempfile.mkdtemp()
    os.chown(directory, 65534, 65534)
    try:
        yield start_keeper(state=Path(directory) / "state", user=65534)
    finally:
        shutil.rmtree(directory)


class Watched:
    """A process that a test wants to see gone."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    def ended(self) -> bool:
        """Whether it ends, in time."""
        return bool(select.select([self._pidfd], [], [], DEADLINE)[0])

    def alive(self) -> bool:
        return not select.select([self._pidfd], [], [], 0)[0]

    def kill(self) -> None:
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        os.close(self._pidfd)


@pytest.fixture
def watch_process() -> Iterator[Callable[[int], Watched]]:
    watched: list[Watched] = []

    def watch(pid: int) -> Watched:
        watched.append(Watched(pid))
        return watched[-1]

    yield watch
    for process in watched:
        if process.alive():
            process.kill()
        process.close()
