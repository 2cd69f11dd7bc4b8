"""How the console looks: the scenes of screenshots/make.py, at two sizes and in two themes, against their pictures."""

from __future__ import annotations

from typing import Any

import pytest

from opsconsole.app import OpsConsoleApp
from screenshots.make import SCENES, fleet, until
from tests.console.memory_source import NOW


@pytest.mark.parametrize("theme", ["star-dark", "star-light"])
@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])
@pytest.mark.parametrize("scene", SCENES)
def test_the_console_looks_as_it_did(scene: str, size: tuple[int, int], theme: str, snap_compare: Any) -> None:
    source = fleet()
    app = OpsConsoleApp(source, title="acme", theme=theme, clock=lambda: NOW)

    async def show(pilot: Any) -> None:
        await until(pilot, "live", "build1")
        await SCENES[scene](pilot, source)

    assert snap_compare(app, terminal_size=size, run_before=show)
