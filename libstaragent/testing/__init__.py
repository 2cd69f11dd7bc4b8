"""What tests of this project, and of programs built on it, may use: a clock that is turned by hand, a network in
memory, and a whole fleet under one seed.

    clock = ManualClock()
    outcome = simulate(7)          # agents, keepers, a room and central for a minute, with everything going wrong
    assert not outcome.broken

Not here: fakes of single roles; the simulator runs the real cores. Rules: no real clock, socket, file or process.
"""

from __future__ import annotations

__all__ = (
    "BUGS",
    "Cores",
    "ManualClock",
    "MemoryNetwork",
    "MemoryTransport",
    "Outcome",
    "PlainTrust",
    "PlantedBug",
    "Timer",
    "simulate",
)

from libstaragent.testing.bugs import BUGS, PlantedBug
from libstaragent.testing.clock import ManualClock, Timer
from libstaragent.testing.fleet import Cores, Outcome, simulate
from libstaragent.testing.transport import MemoryNetwork, MemoryTransport
from libstaragent.testing.trust import PlainTrust
