"""The demo as plain lines: each step says what it does, does it for real, and checks what came of it.

Rules: a step is ok only if what it saw is what should be; with ``--json`` each line on stdout is an object, and
people's words go nowhere else. What hosts say passes the sanitiser, as everywhere.
"""

from __future__ import annotations

__all__ = ("Narrator", "run_script")

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

from libstaragent.client.fleet import Fleet
from libstaragent.errors import StarAgentError
from libstaragent.model.api import OutputLive, TargetChanged
from libstaragent.model.result import records
from libstaragent.targets import fold
from opsconsole.demo.fleet import DemoFleet
from opsconsole.sanitize import safe

# Each is done in two or three; a host that is gone for good would be waited for until its job's deadline, an hour.
STEP_SECONDS = 40.0


class Narrator:
    """Lines for people, or objects for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def say(self, kind: str, text: str, **values: object) -> None:
        """One line."""
        if self._as_json:
            sys.stdout.write(json.dumps({"kind": kind, "text": text, **values}) + "\n")
        else:
            mark = {"step": "\n▸ ", "ok": "  ✔ ", "failed": "  ✖ ", "output": "    "}.get(kind, "  ")
            sys.stdout.write(f"{mark}{text}\n")
        sys.stdout.flush()


class _Wrong(Exception):
    """A step saw something else than it should."""


class _Script:
    def __init__(self, demo: DemoFleet, fleet: Fleet, narrator: Narrator) -> None:
        self._demo = demo
        self._fleet = fleet
        self._narrator = narrator
        self._victim = demo.names[0]
        self._count = len(demo.names)

    def steps(self) -> list[tuple[str, Callable[[], Awaitable[str]]]]:
        victim = self._victim
        return [
            (f"exec -t all -- uname -sm      a command on {self._count} hosts, waited for", self._sync),
            ("exec --async … ; jobs show    an id at once, asked about later", self._async),
            ("exec -- sh -c 'exit 3'        a command that fails", self._failing),
            (f"exec -t {victim} …             output while it runs", self._live),
            ("jobs cancel                   a command stopped on every host", self._cancel),
            (f"kill -9 the agent of {victim}    in the middle of a command", self._kill),
            ("exec -t nosuchhost            an unknown host: nothing is sent", self._unknown),
        ]

    async def _sync(self) -> str:
        job = await self._fleet.run("all", ["uname", "-sm"])
        result = await job.result()
        groups: dict[bytes, list[str]] = {}
        for target in result.targets:
            groups.setdefault(result.output(target.host).stdout, []).append(target.host)
        for output, hosts in groups.items():
            self._output(fold(hosts), output)
        _expect(result.counts == {"ok": self._count}, f"counts are {dict(result.counts)}")
        return f"{self._count} of {self._count} ok"

    async def _async(self) -> str:
        job = await self._fleet.run("web*", ["sh", "-c", "sleep 0.5; date +%s"], background=True)
        seen = await job.view()
        _expect(seen.finished_ms is None, "the job had ended before it was asked about")
        self._narrator.say("output", f"{job.id} {seen.counts}", job=job.id, counts=seen.counts)
        result = await job.result()
        _expect(result.ok, f"counts are {dict(result.counts)}")
        return f"later: {dict(result.counts)}"

    async def _failing(self) -> str:
        # The smallest fleets have web servers only.
        some = "db*" if any(name.startswith("db") for name in self._demo.names) else self._victim
        job = await self._fleet.run(some, ["sh", "-c", "echo trouble >&2; exit 3"])
        result = await job.result()
        for target in result.targets:
            self._output(target.host, result.output(target.host).stderr)
        _expect(all(target.exit_status == 3 for target in result.targets), "an exit status is not 3")
        _expect(result.exit_status == 1, f"exec would end with {result.exit_status}")
        return "each host's own exit status is 3; exec ends with 1"

    async def _live(self) -> str:
        job = await self._fleet.run(self._victim, ["sh", "-c", "for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done"])
        live = 0
        async for event in job.events():
            if isinstance(event, OutputLive):
                live += 1
                self._output(event.host, b"".join(data for _, data in records(event.data)))
        result = await job.result()
        _expect(result.ok and live >= 2, f"{live} pieces came while it ran")
        return f"{live} pieces came while it ran"

    async def _cancel(self) -> str:
        job = await self._fleet.run("all", ["sleep", "600"], background=True)
        await _until_running(job.events(), self._count)
        begun = time.monotonic()
        await job.cancel()
        result = await job.result()
        _expect(result.counts == {"cancelled": self._count}, f"counts are {dict(result.counts)}")
        return f"{self._count} cancelled within {time.monotonic() - begun:.1f} s"

    async def _kill(self) -> str:
        job = await self._fleet.run(self._victim, ["sh", "-c", "sleep 1.5; echo the command went on"])
        await _until_running(job.events(), 1)
        pid = self._demo.kill_agent(self._victim)
        self._narrator.say("output", f"process {pid} is gone; its command is not", pid=pid)
        result = await job.result()
        output = result.output(self._victim).stdout
        self._output(self._victim, output)
        _expect(result.ok and output == b"the command went on\n", f"the result is {dict(result.counts)}")
        return "the result arrived all the same, once"

    async def _unknown(self) -> str:
        try:
            await self._fleet.run("nosuchhost", ["true"])
        except StarAgentError as error:
            _expect(error.code.symbol == "host_unknown", str(error))
            return str(error)
        raise _Wrong("an unknown host was accepted")

    def _output(self, hosts: str, data: bytes) -> None:
        for line in data.decode("utf-8", "replace").splitlines():
            self._narrator.say("output", f"{hosts} | {safe(line)}", hosts=hosts)


async def run_script(demo: DemoFleet, fleet: Fleet, narrator: Narrator) -> bool:
    """All steps in order; whether every one did what it should."""
    script = _Script(demo, fleet, narrator)
    good = 0
    steps = script.steps()
    for title, step in steps:
        narrator.say("step", title)
        try:
            async with asyncio.timeout(STEP_SECONDS):
                narrator.say("ok", await step())
            good += 1
        except TimeoutError:
            narrator.say("failed", f"it was not done within {STEP_SECONDS:.0f} s")
        except _Wrong as wrong:
            narrator.say("failed", str(wrong))
        except StarAgentError as error:
            narrator.say("failed", f"{error} → {error.code.remedy}", code=error.code.code)
    narrator.say("step", f"{good} of {len(steps)} steps did what they should", good=good, steps=len(steps))
    return good == len(steps)


async def _until_running(events: object, count: int) -> None:
    from libstaragent.client.events import JobEvents

    assert isinstance(events, JobEvents)
    running: set[str] = set()
    try:
        async for event in events:
            if isinstance(event, TargetChanged) and event.target.state == "running":
                running.add(event.target.agent)
                if len(running) == count:
                    return
    finally:
        await events.aclose()
    raise _Wrong(f"the job ended with only {len(running)} of {count} seen running")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Wrong(otherwise)
