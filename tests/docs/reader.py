"""A reader who types what the documents say, on a fleet of this machine.

Each command goes to a real shell, in a home and a folder of the reader's own. What stands for something is filled in,
as a reader would: FINGERPRINT and the token by what `opsconsole up` printed, JOB by the job that was started last,
`127.0.0.1:7443` by the port that is free here. `agentd join` and `agentd agent` get a state directory in the folder
(root's is /var/lib). `opsconsole up` and `agentd agent` stay in the foreground, so the reader starts them in another
terminal: waits for the first until it says that it is up, for the second until the host is.

Not here: what is in a document (`blocks`). Rules: every process ends with `close`, by its pid.
"""

from __future__ import annotations

__all__ = ("Reader",)

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PATIENCE_SECONDS = 40.0
_FOREGROUND = ("opsconsole up", "agentd agent")
_JOB = re.compile(r"\b01[0-9A-HJKMNP-TV-Z]{24}\b")
_JOINS = re.compile(r"agentd join .*--name (\w+)")


class Reader:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.fingerprint = self.token = self.address = self.job = ""
        self.name = "web01"
        self._running: list[subprocess.Popen[str]] = []
        self._environment = {
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
        }

    def types(self, text: str) -> tuple[int, str]:
        """One command; its exit status and all that it printed. A command of the foreground counts as ended with 0."""
        for words in _FOREGROUND:
            if text.startswith(words):
                return 0, self._other_terminal(self._filled(text))
        typed = self._filled(text)
        feed = self.token + "\n" if text.startswith("agentd join") else ""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", typed], cwd=self.folder, env=self._environment, input=feed, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
        if joined := _JOINS.search(text):
            self.name = joined[1]
        if ("exec" in text or "curl" in text) and "jobs" not in text.split()[:2]:
            self._remember_job(done.stdout)
        return done.returncode, done.stdout

    def runs(self, program: str) -> subprocess.CompletedProcess[str]:
        """A Python program of a document."""
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", self._filled(program)], cwd=self.folder, env=self._environment,
            text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip

    def close(self) -> None:
        """End what runs, agents first."""
        for process in reversed(self._running):
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_SECONDS)
            assert process.stdout is not None
            process.stdout.close()

    def knows(self, output: str, shown: str) -> str:
        """What the document shows, with the reader's own job in it."""
        return shown.replace("JOB", self.job) if self.job and self.job in output else shown

    def _filled(self, text: str) -> str:
        text = text.replace("FINGERPRINT", self.fingerprint).replace("JOB", self.job)
        if self.address:
            text = text.replace("127.0.0.1:7443", self.address)
        if text.startswith("opsconsole up"):
            text = text.replace("opsconsole up", "opsconsole up --listen 127.0.0.1:0 --room-listen 127.0.0.1:0", 1)
        if text.startswith(("agentd join", "agentd agent")) and "--state" not in text:
            joined = _JOINS.search(text)
            text += f" --state {self.folder / (joined[1] if joined else self.name)}"
        return text

    def _other_terminal(self, text: str) -> str:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {text}"], cwd=self.folder, env=self._environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._running.append(process)
        if text.startswith("agentd agent"):
            self._wait_until_up()
            return ""
        printed = self._read_until(process, "then here:")
        self.fingerprint = re.findall(r"--pin ([0-9a-f]{64})", printed)[0]
        self.token = re.findall(r"^ +(opsenrol-\S+)$", printed, re.MULTILINE)[0]
        self.address = re.findall(r"agentd join (\S+)", printed)[0]
        state = re.findall(r"state in (.*), context", printed)[0]
        (self.folder / "ca.pem").write_bytes((Path(state) / "ca.pem").read_bytes())
        return printed.replace(self.address, "127.0.0.1:7443")

    def _read_until(self, process: subprocess.Popen[str], words: str) -> str:
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        deadline = time.monotonic() + PATIENCE_SECONDS
        printed = b""
        while words.encode() not in printed:
            assert select.select([descriptor], [], [], deadline - time.monotonic())[0], printed
            piece = os.read(descriptor, 65536)
            assert piece, printed
            printed += piece
        return printed.decode()

    def _wait_until_up(self) -> None:
        program = (
            "import libstaragent, asyncio, contextlib, sys\n"
            "async def main(name):\n"
            "    async with libstaragent.Fleet.connect() as fleet, contextlib.aclosing(fleet.events()) as events:\n"
            "        async for _ in events:\n"
            "            if (await fleet.host(name)).state == 'up':\n"
            "                return\n"
            f"asyncio.run(main({self.name!r}))\n"
        )
        done = self.runs(program)
        assert done.returncode == 0, done.stderr

    def _remember_job(self, output: str) -> None:
        if found := _JOB.findall(output):
            self.job = found[0]
            return
        listed = subprocess.run(
            ["opsconsole", "jobs", "list", "--limit", "1", "--json"], env=self._environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        if found := _JOB.findall(listed.stdout):
            self.job = found[0]
