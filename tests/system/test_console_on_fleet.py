"""The console on a real fleet: a command typed into it, live output, cancel, a host that goes and comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from libstaragent import Fleet
from libstaragent.client.context import load_context
from opsconsole.app import OpsConsoleApp
from opsconsole.live_source import LiveSource

WITHIN_SECONDS = 20.0


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)


class Screen:
    """The app, and what is on its screen."""

    def __init__(self, app: OpsConsoleApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def text(self) -> str:
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)

    async def sees(self, *texts: str) -> None:
        await self.until(lambda: all(text in self.text for text in texts))

    async def until(self, holds: Callable[[], Any]) -> None:
        deadline = time.monotonic() + WITHIN_SECONDS
        while not holds():
            assert time.monotonic() < deadline, f"never came; the screen is\n{self.text}"
            await self.pilot.pause(0.02)

    async def run(self, targets: str, command: str, *, shell: bool = False) -> None:
        """As a person: r, the command, the targets, enter."""
        await self.pilot.press("r")
        await self.type(command)
        if shell:
            await self.pilot.press("f2")
        await self.pilot.press("shift+tab", "ctrl+u")
        await self.type(targets)
        await self.pilot.press("enter")

    async def type(self, text: str) -> None:
        await self.until(lambda: isinstance(self.app.focused, Input))
        field = self.app.focused
        assert isinstance(field, Input)
        field.insert_text_at_cursor(text)
        await self.pilot.pause()


@asynccontextmanager
async def opened(site: Any) -> AsyncIterator[Screen]:
    async with Fleet(load_context(site.context)) as fleet:
        app = OpsConsoleApp(LiveSource(fleet), title="real")
        async with app.run_test(size=(120, 36)) as pilot:
            screen = Screen(app, pilot)
            await screen.sees("web01", "web02", "db01", "live")
            yield screen


async def test_a_command_typed_into_the_console_runs_and_its_output_is_shown_while_it_runs(
    site: Any, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    script = f"echo one from $OPSCONSOLE_JOB; until [ -e {go} ]; do sleep 0.05; done; echo two; exit 3"
    async with opened(site) as screen:
        await screen.run("web01", script, shell=True)
        await screen.sees("running", "one from 01")
        assert "two" not in screen.text.replace(script, "")
        go.touch()
        await screen.sees("exit nonzero", "│ two")


async def test_a_job_that_had_ended_is_shown_with_its_whole_output(site: Any) -> None:
    done = site.run("exec", "-t", "web*", "--", "sh", "-c", "echo earlier; echo trouble >&2")
    assert done.returncode == 0
    async with opened(site) as screen:
        await screen.pilot.press("J")
        await screen.sees("earlier")
        await screen.pilot.press("enter")
        await screen.sees("2/2", "│ earlier", "! trouble")


async def test_a_running_job_is_cancelled_from_the_console(site: Any) -> None:
    async with opened(site) as screen:
        await screen.run("web*", "sleep 600")
        await screen.sees("2 running")
        await screen.pilot.press("X")
        await screen.sees("2")
        await screen.type("2")
        await screen.pilot.press("enter")
        await screen.sees("2 cancelled")


async def test_a_host_is_seen_to_go_and_to_come_back(new_site: Callable[..., Any]) -> None:
    # Not asyncio.to_thread: with our context along, what runs there takes itself for a part of this loop.
    site = await asyncio.get_running_loop().run_in_executor(None, new_site, "web01", "web02", "db01")
    async with opened(site) as screen:
        await asyncio.to_thread(site.stop_agent, "db01")
        try:
            await screen.sees("1 down", "✗ down")
        finally:
            await asyncio.to_thread(site.start_agent, "db01")
        await screen.sees("3 up")
        assert "down" not in screen.text


async def test_an_unknown_host_is_said_with_its_code_and_nothing_runs(site: Any) -> None:
    async with opened(site) as screen:
        await screen.pilot.press("r")
        await screen.type("uptime")
        await screen.pilot.press("shift+tab", "ctrl+u")
        await screen.type("nosuchhost")
        await screen.sees("SA-1101")
