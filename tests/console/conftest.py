"""What the console's tests share: a small fleet in memory, the app on it, and eyes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from opsconsole.app import OpsConsoleApp
from tests.console.memory_source import NOW, MemorySource, host

DEADLINE = 10.0


class Console:
    """The app under test, its source, and what is on the screen."""

    def __init__(self, app: OpsConsoleApp, pilot: Pilot[None], source: MemorySource) -> None:
        self.app = app
        self.pilot = pilot
        self.source = source

    @property
    def lines(self) -> list[str]:
        """The rendered strips of the screen, as they go to the terminal."""
        return [
            "".join(segment.text for segment in strip).rstrip() for strip in self.app.screen._compositor.render_strips()
        ]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        """Text into the line in focus, as a paste would bring it: a key press each costs a test seconds."""
        field = self.app.focused
        assert isinstance(field, Input), f"no line to type into, but {field}"
        field.insert_text_at_cursor(text)
        await self.pilot.pause()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Let the app run until something holds."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, f"never came; the screen is\n{self.text}"
            await self.pilot.pause()

    async def sees(self, text: str) -> None:
        await self.until(lambda: text in self.text)


@asynccontextmanager
async def opened(source: MemorySource, *, size: tuple[int, int] = (120, 36), **options: Any) -> AsyncIterator[Console]:
    app = OpsConsoleApp(source, title="demo", clock=lambda: NOW, **options)
    async with app.run_test(size=size) as pilot:
        console = Console(app, pilot, source)
        await console.until(lambda: app.fleet.link.live)
        await console.until(lambda: not source.host_rows or app.fleet.hosts.cursor is not None)
        yield console


def small_fleet() -> MemorySource:
    rows = [host(f"web{number:02d}", address=f"10.1.0.{number}", os="Debian 12") for number in range(1, 21)]
    rows.append(host("db01", room="vault", address="10.2.0.1", labels=(("role", "db"), ("env", "prod"))))
    rows.append(host("db02", room="vault", state="never", since=NOW - 95))
    rows.append(host("build01", state="down", since=NOW - 7200))
    return MemorySource(rows)


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may want none; what the console does then has tests that say so."""
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
async def console() -> AsyncIterator[Console]:
    async with opened(small_fleet()) as opened_console:
        yield opened_console
