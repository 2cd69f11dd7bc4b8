"""The console in the terminal that started it, with the user's own ``keymap.toml`` of the configuration folder."""

from __future__ import annotations

__all__ = ("open_console", "user_keymap")

import asyncio

import platformdirs

from libstaragent.client.fleet import Fleet
from libstaragent.codes import KEYMAP_INVALID
from opsconsole.app import OpsConsoleApp
from opsconsole.keymap import Keymap, read_keymap
from opsconsole.live_source import LiveSource
from opsconsole.theme import DEFAULT_THEME


def open_console(fleet: Fleet, *, read_only: bool, theme: str = DEFAULT_THEME, title: str = "fleet") -> int:
    """Runs the console until it is left; the exit status.

    :raises UsageError: SA-1020, the keymap cannot be used.
    :raises NotFound: SA-1121, there is no such theme.
    """
    keymap = user_keymap()

    async def opened() -> None:
        async with fleet:
            app = OpsConsoleApp(LiveSource(fleet), theme=theme, keymap=keymap, read_only=read_only, title=title)
            await app.run_async()

    asyncio.run(opened())
    return 0


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
