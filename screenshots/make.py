"""Makes the pictures in screenshots/ from the real console: `scripts/shots`, or `--check` to see if they are current.

The app, its screens and its keys are the real ones, driven by key presses; the fleet is the tests' in-memory one with a
clock that stands still, so that the same code gives the same bytes. Not a test of behaviour, and not shipped.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
# The tests' fleet is beside this folder, and no package.
sys.path.insert(0, str(FOLDER.parent))

from textual.app import App  # noqa: E402
from textual.pilot import Pilot  # noqa: E402  # after the path is set

from opsconsole.app import OpsConsoleApp  # noqa: E402
from opsconsole.source import JobRow, OutcomeCount  # noqa: E402
from tests.console.memory_source import NOW, MemorySource, host  # noqa: E402

SIZES = {"": (120, 36), "-small": (80, 24)}
OTHER_THEMES = ("star-light", "contrast", "deuteranopia", "tritanopia", "mono")


def fleet() -> MemorySource:
    """Thirty hosts in three rooms, a few of them in trouble, and a morning's jobs."""
    web = [
        host(
            f"web{number:02d}",
            room="ams-1" if number < 10 else "fra-2",
            address=f"10.{20 if number < 10 else 31}.4.{10 + number}",
            os="Debian 12",
            labels=(("role", "web"), ("env", "prod"), *((("canary", ""),) if number in (1, 10) else ())),
            since=NOW - 1 - number % 4 - (90 if number == 7 else 0),
            state="never" if number == 7 else "up",
        )
        for number in range(1, 19)
    ]
    database = [
        host(
            f"db{number:02d}",
            room="ams-1",
            address=f"10.20.8.{number}",
            os="Rocky 9.4",
            labels=(("role", "db"), ("env", "prod")),
            state="down" if number == 4 else "up",
            since=NOW - (7_260 if number == 4 else 2),
        )
        for number in range(1, 7)
    ]
    build = [
        host(f"build{number}", room="lab", address=f"10.90.0.{number}", os="macOS 15.1", labels=(("role", "ci"),))
        for number in range(1, 4)
    ]
    past = (
        ("apt-get -y upgrade openssl", 18, (("ok", 17), ("timeout", 1)), 5_400, 44),
        ("systemctl restart nginx", 9, (("ok", 9),), 3_100, 6),
        ("df -h /var", 27, (("ok", 26), ("unreachable", 1)), 1_260, 2),
        ("pg_basebackup --check", 6, (("ok", 4), ("exit_nonzero", 1), ("unreachable", 1)), 640, 61),
    )
    jobs = [
        JobRow(
            id=f"01K5Q8ZT{index}XW3V9M4H7RBD2CNA"[:26],
            operator="oncall" if index % 2 else "ops",
            command=command,
            targets=targets,
            counts=counts,
            state="done",
            started=NOW - ago,
            finished=NOW - ago + took,
        )
        for index, (command, targets, counts, ago, took) in enumerate(past)
    ]
    return MemorySource([*web, *database, *build], jobs)


def seen(app: App[None]) -> str:
    """The text on the screen."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


async def until(pilot: Pilot[None], *texts: str) -> None:
    """Let the console run until it shows all of these."""
    deadline = time.monotonic() + 20
    while not all(text in seen(pilot.app) for text in texts):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the console never showed {texts}:\n{seen(pilot.app)}")
        await pilot.pause()


async def show_fleet(pilot: Pilot[None], source: MemorySource) -> None:
    await pilot.press("down", "down", "down", "enter")
    await until(pilot, "id-db01")


async def show_run(pilot: Pilot[None], source: MemorySource) -> None:
    await pilot.press("slash", *"web0", "enter", "asterisk", "r", *"uptime")
    await until(pilot, "9 hosts", "9 marked")


async def show_output(pilot: Pilot[None], source: MemorySource) -> None:
    await show_run(pilot, source)
    await pilot.press("enter")
    await until(pilot, "$ uptime", "0/9")
    job = list(source.job_rows)[-1]
    for number in range(1, 10):
        name = f"web{number:02d}"
        if number == 7:
            continue
        load, colour = (4.28, 31) if number == 4 else (0.07 * number, 32)
        source.print(job, name, b"\x1b[1mup %d days\x1b[0m, load average: " % (40 + number))
        source.print(job, name, b"\x1b[%dm%.2f\x1b[0m, 0.31, 0.28\n" % (colour, load))
        if number == 4:
            source.print(job, name, b"warning: 3 processes in uninterruptible sleep\n", stream="stderr")
            source.finish(job, name, "exit_nonzero", 1)
        else:
            source.finish(job, name)
    await until(pilot, "8/9", "up 49 days", "✗ exit nonzero")


async def show_jobs(pilot: Pilot[None], source: MemorySource) -> None:
    await pilot.press("J")
    await until(pilot, "COMMAND", "df -h /var")


async def show_outcomes(pilot: Pilot[None], source: MemorySource) -> None:
    counts = (
        ("ok", "", "0.1.0", 9_412),
        ("exit_nonzero", "", "0.1.0", 131),
        ("unreachable", "SA-3401", "", 57),
        ("timeout", "SA-6401", "0.1.0", 12),
        ("denied", "SA-4320", "0.0.9", 3),
    )
    total = sum(count for *_, count in counts)
    source.outcome_rows = [
        OutcomeCount(state=state, code=code, room="main", version=version, targets=count, total=total)
        for state, code, version, count in counts
    ]
    await pilot.press("colon", *"outcomes", "enter")
    await until(pilot, "SA-3401", "9,412")


async def show_actions(pilot: Pilot[None], source: MemorySource) -> None:
    await pilot.press("question_mark")
    await until(pilot, "WHAT IT DOES", "filter")


Scene = Callable[[Pilot[None], MemorySource], Awaitable[None]]
SCENES: dict[str, Scene] = {
    "fleet": show_fleet,
    "run": show_run,
    "output": show_output,
    "jobs": show_jobs,
    "outcomes": show_outcomes,
    "actions": show_actions,
}


async def picture(scene: Scene, *, size: tuple[int, int], theme: str = "star-dark") -> str:
    source = fleet()
    app = OpsConsoleApp(source, title="acme", theme=theme, clock=lambda: NOW)
    async with app.run_test(size=size) as pilot:
        await until(pilot, "live", "build1")
        await scene(pilot, source)
        return app.export_screenshot(title="opsconsole")


async def pictures() -> dict[str, str]:
    made: dict[str, str] = {}
    for suffix, size in SIZES.items():
        for name, scene in SCENES.items():
            made[f"{name}{suffix}.svg"] = await picture(scene, size=size)
    for theme in OTHER_THEMES:
        made[f"theme-{theme}.svg"] = await picture(show_output, size=SIZES[""], theme=theme)
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the console's pictures.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a picture is out of date")
    parser.add_argument("--to", type=Path, default=FOLDER, help="the folder to write to (default: screenshots/)")
    options = parser.parse_args()
    stale = 0
    for name, svg in asyncio.run(pictures()).items():
        file: Path = options.to / name
        if file.is_file() and file.read_text(encoding="utf-8") == svg:
            continue
        stale += 1
        print(f"{'out of date' if options.check else 'made'}: {file.name}")
        if not options.check:
            file.write_text(svg, encoding="utf-8")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
