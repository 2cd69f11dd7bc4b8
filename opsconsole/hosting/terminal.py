"""The console in the terminal that started it."""

from __future__ import annotations

__all__ = ("open_console",)

import asyncio

from libstaragent.client.fleet import Fleet
from opsconsole.app import OpsConsoleApp
from opsconsole.live_source import LiveSource


def open_console(fleet: Fleet, *, read_only: bool, title: str = "fleet") -> int:
    """Runs the console until it is left; the exit status."""

    async def opened() -> None:
        async with fleet:
            await OpsConsoleApp(LiveSource(fleet), read_only=read_only, title=title).run_async()

    asyncio.run(opened())
    return 0
