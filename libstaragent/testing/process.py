"""A simulated process: what it has put off dies with it.

Not here: what it does (`fleet_agent`, `fleet_keeper`, `fleet_room`, `fleet_central`). Rules: a killed process is never
used again; a restart is a new object, and what it knows is what its disk held.
"""

from __future__ import annotations

__all__ = ("SimProcess",)

from collections.abc import Callable

from libstaragent.testing.clock import ManualClock


class SimProcess:
    """See the module."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.alive = True

    def later(self, delay: float, call: Callable[..., object], *args: object) -> None:
        """Call it after `delay` seconds, if this process lives then."""
        self.clock.call_later(delay, self._if_alive, call, args)

    def at(self, when: float, call: Callable[..., object], *args: object) -> None:
        """Call it at second `when`, if this process lives then."""
        self.clock.call_at(when, self._if_alive, call, args)

    def kill(self) -> None:
        """As `kill -9`: nothing of it happens any more."""
        self.alive = False

    def _if_alive(self, call: Callable[..., object], args: tuple[object, ...]) -> None:
        if self.alive:
            call(*args)
