"""The demo's fleet: a control plane and real agents as processes of this machine, in one directory, without root.

Everything is started as a user would start it: `opsconsole up`, `agentd join`, `agentd agent`. Not here: what is done
with the fleet (`script`, the console). Rules: each process is told to the warden the moment it exists; nothing is in
the environment or in argv that is secret.
"""

from __future__ import annotations

__all__ = ("DemoFleet", "demo_names")

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from libstaragent import codes
from libstaragent.client.context import load_context
from libstaragent.client.fleet import Fleet
from libstaragent.errors import StarAgentError

# A loaded laptop needs some seconds for eight enrolments; more means that something is wrong.
PATIENCE = 60.0
# Enrolments at once: each is a process that imports an X.509 library, and more than the cores only queue.
JOINS_AT_ONCE = max(2, os.cpu_count() or 2)

_ROLES = (("web", 4), ("db", 2), ("cache", 1), ("batch", 1))


def demo_names(count: int) -> list[str]:
    """Names for `count` hosts: a small shop for eight, more web servers beyond."""
    names = [f"{role}{number:02}" for role, amount in _ROLES for number in range(1, amount + 1)]
    names += [f"web{number:02}" for number in range(5, 5 + max(0, count - len(names)))]
    return names[:count]


class DemoFleet:
    """See the module. `say` hears what is being done, a line each."""

    def __init__(self, names: Sequence[str], *, say: Callable[[str], None]) -> None:
        self.names = list(names)
        self.directory = Path(tempfile.mkdtemp(prefix="opsconsole-demo-"))
        self.context = self.directory / "context.toml"
        self._say = say
        self._keepers: dict[str, subprocess.Popen[str]] = {}
        self._up: subprocess.Popen[str] | None = None
        self._warden = subprocess.Popen(
            [sys.executable, "-m", "opsconsole.demo.warden", str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )

    async def start(self) -> Fleet:
        """From nothing to every host answering. Raises StarAgentError."""
        begun = time.monotonic()
        self._say("starting the control plane")
        await self._start_control_plane()
        fleet = Fleet.connect(load_context(self.context))
        self._say(f"enrolling {len(self.names)} hosts")
        token = self.directory / "token"
        issued = await fleet.issue_token(room="main", uses=len(self.names), ttl=3600)
        token.touch(0o600)
        token.write_text(issued.token)
        turns = asyncio.Semaphore(JOINS_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            for name in self.names:
                tasks.create_task(self._enrol(name, token, turns))
        token.unlink()
        await self._all_up(fleet)
        self._say(f"{len(self.names)} hosts are up after {time.monotonic() - begun:.1f} s")
        return fleet

    def kill_agent(self, name: str) -> int:
        """`kill -9` the agent of a host, not its keeper; the pid of the process that is gone then.

        :raises DependencyFailed: it does not run.
        """
        import psutil

        try:
            keeper = psutil.Process(self._keepers[name].pid)
            agent = next((child for child in keeper.children() if child.cmdline() == keeper.cmdline()), None)
        except psutil.Error:
            agent = None
        if agent is None:
            raise codes.DEMO_FAILED.error(f"the agent of {name} does not run")
        agent.send_signal(signal.SIGKILL)
        psutil.wait_procs([agent], timeout=PATIENCE)
        if agent.is_running() and agent.status() != psutil.STATUS_ZOMBIE:
            raise codes.CONSOLE_FAULT.error(f"process {agent.pid} outlived SIGKILL")
        return agent.pid

    async def stop(self) -> None:
        """End every process and remove the directory; the warden does it, as it would without us."""
        assert self._warden.stdin is not None
        with contextlib.suppress(OSError):
            self._warden.stdin.close()
        await asyncio.to_thread(self._warden.wait)
        for process in (*self._keepers.values(), *([self._up] if self._up is not None else [])):
            await asyncio.to_thread(process.wait)

    async def _start_control_plane(self) -> None:
        command = [sys.executable, "-m", "opsconsole", "up", "--json", "--state", str(self.directory / "central")]
        command += ["--listen", "127.0.0.1:0", "--room-listen", "127.0.0.1:0", "--operator", "demo"]
        command += ["--context", str(self.context), "--key-file", str(self.directory / "operator.key")]
        command += ["--root-key-file", str(self.directory / "root.key")]
        self._up = self._launch(command, log="central", stdout=subprocess.PIPE)
        assert self._up.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(self._up.stdout.readline), PATIENCE)
        if not line:
            raise self._failed("the control plane", "central")
        pid = json.loads(line).get("pid")
        if isinstance(pid, int):
            self._watch(pid)

    async def _enrol(self, name: str, token: Path, turns: asyncio.Semaphore) -> None:
        state = str(self.directory / "hosts" / name)
        context = load_context(self.context)
        address = context.api.removeprefix("https://").rstrip("/")
        join = [sys.executable, "-m", "agentd", "join", address, "--pin", context.fleet, "--token-file", str(token)]
        async with turns:
            joining = self._launch([*join, "--name", name, "--state", state], log=name)
            if await asyncio.to_thread(joining.wait):
                raise self._failed(f"joining {name}", name)
        keeper = self._launch([sys.executable, "-m", "agentd", "agent", "--state", state], log=name)
        self._keepers[name] = keeper

    async def _all_up(self, fleet: Fleet) -> None:
        async with asyncio.timeout(PATIENCE), contextlib.aclosing(fleet.events()) as batches:
            async for _ in batches:
                up = {host.name for host in await fleet.hosts() if host.state == "up"}
                if up >= set(self.names):
                    return

    def _watch(self, pid: int) -> None:
        assert self._warden.stdin is not None
        self._warden.stdin.write(f"{pid}\n")
        self._warden.stdin.flush()

    def _launch(self, command: Sequence[str], *, log: str, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """A process of the demo, known to the warden before anything else happens."""
        path = self.directory / f"{log}.log"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as stderr:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True, text=True
            )
        self._watch(process.pid)
        return process

    def _failed(self, what: str, log: str) -> StarAgentError:
        last = (self.directory / f"{log}.log").read_text(errors="replace").strip().splitlines()[-3:]
        return codes.DEMO_FAILED.error(f"{what}: {' / '.join(last) or 'it said nothing'}")
