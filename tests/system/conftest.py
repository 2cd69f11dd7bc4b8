"""A real fleet for the tests of the whole: everything in it is a process, started as a user would start it.

`opsconsole up` is the control plane, `agentd join` and `agentd agent` make a host, `opsconsole …` drives them. `site`
is one fleet of three hosts for the whole session, for tests that leave it as it was; `new_site` makes one of the test's
own, for tests that break it.

Rules: nothing is waited for by the clock: what a fleet does is heard as events, the end of a process by its pidfd, what
a command does by a fifo. A test that kills takes a fleet of its own.

Over 400 lines, and one file because tests are not importable: what they share has to be reached by a fixture.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx
import psutil
import pytest

from libstaragent import sync
from libstaragent.client.context import load_context
from libstaragent.client.fleet import Fleet
from libstaragent.client.job import Job
from libstaragent.model.api import HostView, JobChanged, JobView, TargetChanged
from libstaragent.model.ids import ULID_RANDOM_BYTES, new_ulid
from libstaragent.security.acts import Envelope, Exec, TargetList
from libstaragent.security.tls import client_context

PATIENCE = 30.0
CONSOLE = (sys.executable, "-m", "opsconsole")
AGENTD = (sys.executable, "-m", "agentd")


class Site:
    """One fleet on this machine, in a folder that is short enough for the agents' sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "central"
        self.context = folder / "context.toml"
        self.key_file = folder / "operator.key"
        self.root_key_file = folder / "root.key"
        self.up_process: subprocess.Popen[str] | None = None
        self.said: dict[str, Any] = {}
        self.keepers: dict[str, subprocess.Popen[bytes]] = {}
        self._listen = ("127.0.0.1:0", "127.0.0.1:0")

    # The control plane ------------------------------------------------------------------------------------------------

    def up(self) -> dict[str, Any]:
        """`opsconsole up`: at first on any ports, later on the same; what it said."""
        with (self.folder / "up.log").open("ab") as log:
            self.up_process = subprocess.Popen(
                [
                    *(*CONSOLE, "up", "--json", "--operator", "li", "--state", str(self.state)),
                    *("--listen", self._listen[0], "--room-listen", self._listen[1]),
                    *("--context", str(self.context), "--key-file", str(self.key_file)),
                    *("--root-key-file", str(self.root_key_file)),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        line = line_of(self.up_process)
        assert line, (self.folder / "up.log").read_text() + self.central_log
        self.said = json.loads(line)
        self._listen = (self.said["api"].removeprefix("https://"), self.said["room"])
        return self.said

    def kill_central(self) -> None:
        """`kill -9` of the control plane itself; `opsconsole up`, which waits for it, ends."""
        with process_handle(self.said["pid"]) as handle:
            os.kill(self.said["pid"], signal.SIGKILL)
            assert gone(handle), "the control plane outlived SIGKILL"
        self._up_ended(1)

    def down(self) -> int:
        """SIGTERM to `opsconsole up`; its exit status."""
        assert self.up_process is not None
        self.up_process.terminate()
        return self._up_ended(None)

    def _up_ended(self, expected: int | None) -> int:
        assert self.up_process is not None and self.up_process.stdout is not None
        status = self.up_process.wait(PATIENCE)
        self.up_process.stdout.close()
        self.up_process = None
        assert expected is None or status == expected
        return status

    @property
    def central_log(self) -> str:
        """What the control plane wrote to its log."""
        file = self.state / "agentd.log"
        return file.read_text() if file.exists() else ""

    # Hosts ------------------------------------------------------------------------------------------------------------

    def join(
        self, name: str, *, token: str | None = None, pin: str | None = None, address: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`agentd join`, with the token on stdin."""
        return self.join_at(self.host_state(name), name, token=token, pin=pin, address=address)

    def join_at(
        self, state: Path, name: str, *, token: str | None = None, pin: str | None = None, address: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The same with another state directory than the name's own."""
        return self.agentd(
            *("join", address or self.said["join"], "--pin", pin or self.said["fleet"]),
            *(f"--name={name}", "--state", str(state)),
            input=f"{self.said['token'] if token is None else token}\n",
        )

    def agentd(self, *words: str, input: str = "") -> subprocess.CompletedProcess[str]:
        """`agentd WORDS` to its end."""
        return subprocess.run(
            [*AGENTD, *words], input=input, capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    def host_state(self, name: str) -> Path:
        """The state directory of a host's agent."""
        return self.folder / "hosts" / name

    def start_agent(self, name: str, *, log_to_pipe: bool = False, env: dict[str, str] | None = None) -> None:
        """`agentd agent`; what it says goes to a file, or to us (`log_line`). `env` is added to its environment."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.keepers[name] = subprocess.Popen(
                [*AGENTD, "agent", "--state", str(self.host_state(name))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.PIPE if log_to_pipe else log,
                env=os.environ | (env or {}),
            )

    def log_line(self, name: str, text: str) -> str:
        """The next line with `text` of an agent that was started with `log_to_pipe`."""
        pipe = self.keepers[name].stderr
        assert pipe is not None
        for line in iter(pipe.readline, b""):
            if text in line.decode():
                return line.decode()
        raise AssertionError(f"the agent ended without a word of {text}")

    def add_hosts(self, *names: str) -> None:
        """Enrol hosts, start their agents, and wait until each is up."""
        for name in names:
            done = self.join(name)
            assert done.returncode == 0, done.stderr
            self.start_agent(name)
        self.until_state("up", *names)

    def stop_agent(self, name: str) -> int:
        """SIGTERM to a host's agent; its exit status."""
        keeper = self.keepers.pop(name)
        keeper.terminate()
        status = keeper.wait(PATIENCE)
        if keeper.stderr is not None:
            keeper.stderr.close()
        return status

    def agent_process(self, name: str) -> psutil.Process:
        """The agent itself: the keeper's child that runs the same program."""
        keeper = psutil.Process(self.keepers[name].pid)
        # The one that forks commands for the keeper has a session of its own.
        same = [child for child in keeper.children() if child.cmdline() == keeper.cmdline()]
        return next(child for child in same if os.getsid(child.pid) == os.getsid(keeper.pid))

    def kill_agent(self, name: str) -> None:
        """`kill -9` of the agent, not of its keeper."""
        pid = self.agent_process(name).pid
        with process_handle(pid) as handle:
            os.kill(pid, signal.SIGKILL)
            assert gone(handle), "the agent outlived SIGKILL"

    def kill_keeper(self, name: str) -> None:
        """`kill -9` of the keeper. The agent becomes a new keeper under its own pid; we, its reaper, keep that."""
        agent = self.agent_process(name)
        keeper = self.keepers[name]
        keeper.kill()
        assert keeper.wait(PATIENCE) == -signal.SIGKILL
        self.keepers[name] = _Adopted(agent.pid)  # type: ignore[assignment]

    def agent_log(self, name: str) -> str:
        """What a host's agent wrote to its log."""
        return (self.folder / f"{name}.log").read_text()

    # Driving it -------------------------------------------------------------------------------------------------------

    def command(self, *words: str, console: Sequence[str] = CONSOLE) -> list[str]:
        """The command line `opsconsole WORDS` on this fleet."""
        at = words.index("--") if "--" in words else len(words)
        return [*console, *words[:at], "--context", str(self.context), *words[at:]]

    def run(self, *words: str, input: bytes | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        """`opsconsole WORDS` to its end; what it said, as text."""
        done = subprocess.run(
            self.command(*words),
            input=b"" if input is None else input,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            **options,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        )

    def run_as(self, options: Sequence[str], *words: str) -> subprocess.CompletedProcess[str]:
        """`opsconsole WORDS` with other options than this fleet's own context."""
        at = words.index("--shell") if "--shell" in words else len(words)
        return subprocess.run(
            [*CONSOLE, *words[:at], *options, *words[at:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    @contextlib.contextmanager
    def start(self, *words: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """`opsconsole WORDS` in the background of the test, ended with it."""
        settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(self.command(*words), text=True, **(settings | options))
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=PATIENCE)

    @contextlib.contextmanager
    def fleet(self) -> Iterator[sync.Fleet]:
        """The library on this fleet."""
        with sync.Fleet.connect(self.context) as fleet:
            yield fleet

    @contextlib.contextmanager
    def http(self, *, login: bool = True) -> Iterator[httpx.Client]:
        """HTTP as any program would speak it to the API; with a bearer token if `login`."""
        headers = {"authorization": f"Bearer {self.bearer()}"} if login else {}
        verify = client_context(load_context(self.context).ca)
        with httpx.Client(base_url=self.said["api"], verify=verify, timeout=PATIENCE, headers=headers) as client:
            yield client

    def bearer(self, *words: str) -> str:
        """What `opsconsole login --print` prints."""
        done = self.run("login", "--print", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def seed(self) -> bytes:
        """The operator's key."""
        return load_context(self.context).key_store().load()

    def issue(self, *words: str) -> str:
        """What `opsconsole token` prints: an enrolment token."""
        done = self.run("token", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def envelope(self, *argv: str, hosts: str = "web01", **changes: Any) -> Envelope:
        """An envelope that holds, for hosts of this fleet, with some of its fields changed."""
        now_ms = time.time_ns() // 1_000_000
        with self.fleet() as fleet:
            members, roster = fleet.resolve(hosts), fleet.roster()
        values: dict[str, Any] = {
            "id": new_ulid(now_ms, os.urandom(ULID_RANDOM_BYTES)),
            "fleet": roster.fleet,
            "operator": "li",
            "act": Exec(argv=argv or ("true",)),
            "targets": TargetList(hosts, members),
            "issued": now_ms,
            "not_before": now_ms,
            "expires": now_ms + 60_000,
            "roster": roster.revision,
        }
        return Envelope(**(values | changes))

    # Waiting ----------------------------------------------------------------------------------------------------------

    def until_state(self, state: str, *names: str) -> None:
        """Wait by events until each host is in `state`."""
        self.until_hosts(lambda hosts: all(name in hosts and hosts[name].state == state for name in names))

    def until_hosts(self, holds: Callable[[dict[str, HostView]], bool]) -> None:
        """Wait by events until `holds` of the hosts by name."""

        async def wait() -> None:
            hosts: dict[str, HostView] = {}
            try:
                async with Fleet.connect(self.context) as fleet:
                    with anyio.fail_after(PATIENCE):
                        async with contextlib.aclosing(fleet.events()) as batches:
                            async for _ in batches:
                                hosts = {host.name: host for host in await fleet.hosts()}
                                if holds(hosts):
                                    return
            except TimeoutError:
                states = {name: (host.state, host.code) for name, host in hosts.items()}
                pytest.fail(f"not within {PATIENCE} s: {states}\n{self._logs()}", pytrace=False)

        anyio.run(wait)

    def until_target(self, job: str, state: str, count: int = 1) -> None:
        """Wait by events until `count` targets of the job are, or were, in `state`."""

        async def wait() -> None:
            async with Fleet.connect(self.context) as fleet:
                with anyio.fail_after(PATIENCE):
                    events = (await fleet.job(job)).events()
                    seen: set[str] = set()
                    try:
                        if (await fleet.job(job)).submitted.counts.get(state, 0) >= count:
                            return
                        async for event in events:
                            if isinstance(event, TargetChanged) and event.target.state == state:
                                seen.add(event.target.agent)
                            if len(seen) >= count or (
                                isinstance(event, JobChanged) and event.job.counts.get(state, 0) >= count
                            ):
                                return
                    finally:
                        await events.aclose()
            pytest.fail(f"{job} ended without {count} {state}", pytrace=False)

        anyio.run(wait)

    def until_job(self, job: str, holds: Callable[[JobView], bool]) -> None:
        """Wait by events until `holds` of the job."""

        async def wait() -> None:
            async with Fleet.connect(self.context) as fleet:
                with anyio.fail_after(PATIENCE):
                    events = (await fleet.job(job)).events()
                    try:
                        if holds((await fleet.job(job)).submitted):
                            return
                        async for event in events:
                            if isinstance(event, JobChanged) and holds(event.job):
                                return
                    finally:
                        await events.aclose()
            pytest.fail(f"{job} ended before that", pytrace=False)

        anyio.run(wait)

    def result(self, job: str) -> Any:
        """Wait for the end of a job; its `JobResult`."""

        async def wait() -> Any:
            async with Fleet.connect(self.context) as fleet:
                with anyio.fail_after(PATIENCE):
                    found: Job = await fleet.job(job)
                    return await found.result()

        return anyio.run(wait)

    def _logs(self) -> str:
        files = [*sorted(self.folder.glob("*.log")), self.state / "agentd.log"]
        return "\n".join(f"--- {file.name}\n{file.read_text()[-2000:]}" for file in files if file.exists())

    @staticmethod
    def process_handle(pid: int) -> contextlib.AbstractContextManager[int]:
        """A pidfd; see `process_handle`."""
        return process_handle(pid)

    @staticmethod
    def gone(handle: int) -> bool:
        """Whether the process of a pidfd has ended, or does within our patience."""
        return gone(handle)

    # Its end ----------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Stop everything; what does not stop is killed."""
        for keeper in self.keepers.values():
            if keeper.poll() is None:
                keeper.terminate()
        if self.up_process is not None and self.up_process.poll() is None:
            self.up_process.terminate()
        for process in (*self.keepers.values(), *([self.up_process] if self.up_process is not None else [])):
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.up_process is not None and self.up_process.stdout is not None:
            self.up_process.stdout.close()
        for keeper in self.keepers.values():
            if keeper.stderr is not None:
                keeper.stderr.close()


class _Adopted:
    """A process that became our child because its parent died: as much of `Popen` as a keeper needs."""

    stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None and select.select([self._handle], [], [], 0)[0]:
            self.wait(0)
        return self._status

    def terminate(self) -> None:
        signal.pidfd_send_signal(self._handle, signal.SIGTERM)

    def kill(self) -> None:
        signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        if self._status is None:
            if not select.select([self._handle], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._handle)
        return self._status


# Helpers --------------------------------------------------------------------------------------------------------------


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line of a process's stdout; empty at its end."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], PATIENCE)[0], "it said nothing"
    return process.stdout.readline()


@contextlib.contextmanager
def process_handle(pid: int) -> Iterator[int]:
    """A pidfd: it tells of the process's end, and of no other's that gets its number."""
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)


def gone(handle: int, within: float = PATIENCE) -> bool:
    """Whether the process of a pidfd has ended, at the latest `within` seconds from now."""
    return bool(select.select([handle], [], [], within)[0])


class Gate:
    """A fifo between a command and the test: `heard` waits until the command writes, `open` lets it read."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        os.mkfifo(self.path)
        # Read and write, so that neither end ever blocks at opening or sees an end of file.
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def heard(self) -> bytes:
        """What the command wrote, once it did."""
        assert select.select([self._descriptor], [], [], PATIENCE)[0], f"nobody wrote to {self.path.name}"
        return os.read(self._descriptor, 65536)

    def open(self, lines: int = 1) -> None:
        """Let the command go on: `read` in it returns, in so many processes."""
        os.write(self._descriptor, b"go\n" * lines)

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Callable[[str], Gate]]:
    """Makes gates."""
    made: list[Gate] = []

    def make(name: str) -> Gate:
        made.append(Gate(tmp_path, name))
        return made[-1]

    yield make
    for each in made:
        each.close()


class Referee:
    """A file to which each run of a command appends a line: how often it ran, as the command itself saw it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def mark(self) -> str:
        """Shell that says that the command ran."""
        return f"echo ran >> {self.path}"

    @property
    def count(self) -> int:
        """How often it ran."""
        return len(self.path.read_text().splitlines()) if self.path.exists() else 0


@pytest.fixture
def referee(tmp_path: Path) -> Referee:
    """See `Referee`."""
    return Referee(tmp_path / "referee")


@contextlib.contextmanager
def _short_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="oc-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


HOSTS = ("web01", "web02", "db01")


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """A fleet of three hosts: web01, web02, db01. A test leaves it as it was."""
    with _short_folder() as folder:
        running = Site(folder)
        try:
            running.up()
            running.add_hosts(*HOSTS)
            yield running
        finally:
            running.end()


@pytest.fixture(scope="module")
def module_site() -> Iterator[Site]:
    """A folder for a fleet of a module's own; nothing runs in it yet."""
    with _short_folder() as folder:
        running = Site(folder)
        try:
            yield running
        finally:
            running.end()


@pytest.fixture
def new_site() -> Iterator[Callable[..., Site]]:
    """Makes a fleet of the test's own, with the hosts that are named."""
    with contextlib.ExitStack() as stack:

        def make(*names: str) -> Site:
            running = Site(stack.enter_context(_short_folder()))
            stack.callback(running.end)
            running.up()
            if names:
                running.add_hosts(*names)
            return running

        yield make
