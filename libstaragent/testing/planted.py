"""What an entry of the tables of planted bugs is (`bugs`, `host_bugs`, `schedule_bugs`)."""

from __future__ import annotations

__all__ = ("PlantedBug",)

from dataclasses import dataclass

from libstaragent.testing.cores import Cores


@dataclass(frozen=True, slots=True)
class PlantedBug:
    """`wrong` says what the `cores` of a fleet do wrong. `shows_at` is a seed at which that was seen, for who only
    wants to see it again; `scripts/simulate --bugs` searches from 0 on.
    """

    wrong: str
    cores: Cores
    shows_at: int = 0
