"""What a simulated fleet is made of, and what is said of its run. Values only.

Not here: the fleet (`fleet`).
"""

from __future__ import annotations

__all__ = ("Cores", "Outcome")

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from libstaragent.jobs.journal import Record, compacted
from libstaragent.roles.agent import AgentCore
from libstaragent.roles.central import CentralCore
from libstaragent.roles.keeper import KeeperCore
from libstaragent.testing.fleet_audit import When
from libstaragent.testing.fleet_room import WatchedRoom


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """What a fleet is made of; a planted bug replaces one of them."""

    agent: type[AgentCore] = AgentCore
    keeper: type[KeeperCore] = KeeperCore
    room: type[WatchedRoom] = WatchedRoom
    central: type[CentralCore] = CentralCore
    acknowledge_early: bool = False
    audit: When = "with"
    compact: Callable[[Iterable[Record]], list[Record]] = compacted


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run went; `broken` is empty where every promise held, and `events` names the faults that happened; `turns`
    counts hosts of planned jobs that were begun on, `later_turns` those after a first wave; `fired` counts firings of
    schedules, `firings_ran` those of them whose command started; `placed` files
    that took their name.
    """

    seed: int
    broken: tuple[str, ...]
    trace: tuple[str, ...]
    seconds: float
    jobs: int
    ran: int
    events: tuple[str, ...]
    turns: int = 0
    later_turns: int = 0
    fired: int = 0
    firings_ran: int = 0
    placed: int = 0
