"""The console in the terminal that started it, with the user's own ``keymap.toml`` of the configuration folder."""

from __future__ import annotations

__all__ = ("open_console", "run_here", "user_keymap")

import asyncio
import select
import sys

import platformdirs

from libstaragent.client.fleet import Fleet
from libstaragent.codes import KEYMAP_INVALID
from opsconsole.app import OpsConsoleApp
from opsconsole.keymap import Keymap, read_keymap
from opsconsole.live_source import LiveSource
from opsconsole.theme import DEFAULT_THEME

# How often it is looked whether the terminal is still there.
LOOK_SECONDS = 1.0


def open_console(fleet: Fleet, *, read_only: bool, theme: str = DEFAULT_THEME, title: str = "fleet") -> int:
    """Runs the console until it is left; the exit status.

    :raises UsageError: SA-1020, the keymap cannot be used.
    :raises NotFound: SA-1121, there is no such theme.
    """
    keymap = user_keymap()

    async def opened() -> None:
        async with fleet:
            app = OpsConsoleApp(LiveSource(fleet), theme=theme, keymap=keymap, read_only=read_only, title=title)
            await run_here(app)

    asyncio.run(opened())
    return 0


async def run_here(app: OpsConsoleApp) -> None:
    """Run the app until it is left, or its terminal has gone without a word: SIGHUP does not reach every child."""
    terminal = select.poll()
    terminal.register(sys.stdin.fileno(), select.POLLHUP)

    async def leave_when_gone() -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in terminal.poll(0)):
                app.exit()
                return

    looking = asyncio.create_task(leave_when_gone())
    try:
        await app.run_async()
    finally:
        looking.cancel()


def user_keymap() -> Keymap | None:
    """The keys of ``keymap.toml`` in the user's configuration folder; None where there is no such file.

    :raises UsageError: SA-1020 with every problem in it.
    """
    path = platformdirs.user_config_path("opsconsole", appauthor=False) / "keymap.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise KEYMAP_INVALID.error(f"{path}: {error}") from error
    return read_keymap(text, file=str(path))
