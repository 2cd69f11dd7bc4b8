"""`opsconsole demo`: a whole fleet on this machine for a while; the console on it, or plain lines."""

from __future__ import annotations

__all__ = ("run",)

import asyncio
import sys
from argparse import Namespace

from libstaragent.client.fleet import Fleet
from opsconsole.demo.fleet import DemoFleet, demo_names
from opsconsole.demo.script import Narrator, run_script


def run(options: Namespace) -> int:
    """0 when every step did what it should (or the console was left), else 1."""
    plain = options.script or options.json or not (sys.stdin.isatty() and sys.stdout.isatty())
    return asyncio.run(_run(options, plain=plain))


async def _run(options: Namespace, *, plain: bool) -> int:
    narrator = Narrator(as_json=options.json)
    narrator.say("step", "a fleet on this machine; everything is thrown away at the end")
    demo = DemoFleet(demo_names(options.hosts), say=lambda text: narrator.say("ok", text))
    try:
        fleet = await demo.start()
        try:
            if plain:
                return 0 if await run_script(demo, fleet, narrator) else 1
            await _console(fleet)
            return 0
        finally:
            await fleet.aclose()
    finally:
        await demo.stop()


async def _console(fleet: Fleet) -> None:
    from opsconsole.app import OpsConsoleApp
    from opsconsole.hosting.terminal import run_here, user_keymap
    from opsconsole.live_source import LiveSource

    await run_here(OpsConsoleApp(LiveSource(fleet), keymap=user_keymap(), title="demo"))
