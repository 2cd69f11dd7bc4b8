"""Schedules on a real fleet: each firing runs once whatever is killed, and its result arrives whenever it can.

A command says that it ran by writing a line into a fifo or file of the test's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from libstaragent import codes
from libstaragent.client.fleet import Fleet

PATIENCE = 40.0
pytestmark = [pytest.mark.timeout(120)]


class Marks:
    """A fifo of lines that firings write: what is waited for. Each line stands in a file, too."""

    def __init__(self, folder: Path) -> None:
        self.fifo, self.file = folder / "marks", folder / "marks.all"
        os.mkfifo(self.fifo)
        # Held open for both, so that no writer waits and no end of file comes.
        self._descriptor = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK)

    def command(self) -> str:
        return f"date +%s%N >> {self.file}; echo $$ > {self.fifo}"

    def wait(self, count: int = 1) -> None:
        """Until so many more firings have run."""
        end = time.monotonic() + PATIENCE
        while count > 0:
            assert select.select([self._descriptor], [], [], end - time.monotonic())[0], "no firing within our patience"
            count -= os.read(self._descriptor, 4096).count(b"\n")

    def clear(self) -> None:
        """Forget what has been written so far."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._descriptor, 4096):
                pass

    @property
    def runs(self) -> int:
        return len(self.file.read_text().splitlines()) if self.file.exists() else 0

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def marks(tmp_path: Path) -> Any:
    made = Marks(tmp_path)
    yield made
    made.close()


def firings(site: Any, name: str) -> list[Any]:
    with site.fleet() as fleet:
        return [job for job in fleet.jobs(200) if job.schedule == name]


def until(site: Any, holds: Callable[[], Any]) -> Any:
    """Wait by the fleet's events until it holds; what it gave."""

    async def wait() -> Any:
        async with Fleet.connect(site.context) as fleet:
            with anyio.fail_after(PATIENCE):
                async with contextlib.aclosing(fleet.events()) as batches:
                    async for _ in batches:
                        found = await anyio.to_thread.run_sync(holds)
                        if found:
                            return found
        raise AssertionError("the events ended")

    return anyio.run(wait)


def test_a_schedule_fires_through_kills_is_shown_rests_goes_on_and_goes(
    new_site: Callable[..., Any], marks: Marks
) -> None:
    site = new_site("web01", "web02")
    done = site.run("schedule", "add", "beat", "-t", "all", "--every", "1s", "--shell", marks.command())
    assert done.returncode == 0, done.stderr
    marks.wait(2)
    site.kill_central()
    marks.clear()
    marks.wait(3)
    site.up()
    listed = [json.loads(line) for line in site.run("schedule", "list", "--json").stdout.splitlines()]
    assert [(one["name"], one["when"], one["hosts"]) for one in listed] == [("beat", "every 1s", {"kept": 2})]
    taken = site.run("schedule", "add", "beat", "-t", "all", "--every", "1s", "--", "true")
    assert codes.SCHEDULE_NAME_TAKEN.code in taken.stderr
    with site.fleet() as fleet:
        assert fleet.pause_schedule("beat").result().counts == {"ok": 2}
        assert fleet.find_schedule("beat").states == {"web01": "paused", "web02": "paused"}
        rested = marks.runs
        assert fleet.resume_schedule("beat").result().counts == {"ok": 2}
    shown = site.run("schedule", "show", "beat").stdout.split()
    assert shown[shown.index("web01") + 1] == shown[shown.index("web02") + 1] == "kept"
    marks.clear()
    marks.wait(2)
    assert marks.runs > rested
    removed = site.run("schedule", "remove", "beat")
    assert removed.returncode == 0, removed.stderr
    # What fired while there was no central is in the books, too: each command that ran, and none that did not.
    until(site, lambda: all(job.finished_ms is not None for job in firings(site, "beat")))
    ended = firings(site, "beat")
    assert sum(job.counts.get("ok", 0) for job in ended) == marks.runs >= 7
    assert {job.operator for job in ended} == {"li"} and max(job.targets for job in ended) == 2
    assert site.run("schedule", "list").stdout.count("\n") == 1
    gone = site.run("schedule", "pause", "beat")
    assert codes.SCHEDULE_UNKNOWN.code in gone.stderr
    assert codes.SCHEDULE_UNKNOWN.code in site.run("schedule", "show", "nothing").stderr
