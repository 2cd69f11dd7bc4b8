"""One round of central: the decisions that are written together, and who hears of it after.

Not here: deciding, writing (`service`). Values and lists only.
"""

from __future__ import annotations

__all__ = ("Reports", "Round", "Unit")

from collections.abc import Callable, Sequence
from typing import Any

from agentd.bus import Delivery
from agentd.store.ops import Op
from libstaragent.errors import StarAgentError
from libstaragent.protocol.trunk import report_bytes, report_count
from libstaragent.roles.central_state import Decision

Done = Callable[[StarAgentError | None], None]


class Reports:
    """Reports to hear, `count` words of agents in about `bytes`, and the deliveries that these are done with."""

    __slots__ = ("batch", "bytes", "count", "deliveries")

    def __init__(self, batch: Sequence[Any], deliveries: list[Delivery]) -> None:
        self.batch = batch
        self.count = sum(map(report_count, batch))
        self.bytes = sum(map(report_bytes, batch))
        self.deliveries = deliveries


class Unit:
    """A decision that is written whole or not at all."""

    __slots__ = ("decision", "done", "error", "ops")

    def __init__(self, decision: Decision, ops: Sequence[Op], done: Done | None) -> None:
        self.decision = decision
        self.ops = ops
        self.done = [] if done is None else [done]
        self.error: StarAgentError | None = None


class Round:
    """See the module. `fresh` are the jobs that are new in it, `ending` those that end with it, `rooms` those that have
    just started.
    """

    __slots__ = ("ending", "fresh", "now_ms", "open", "rooms", "units")

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.units: list[Unit] = []
        self.fresh: dict[str, Unit] = {}
        self.ending: set[str] = set()
        self.rooms: list[str] = []
        self.open = 0

    def add(self, decision: Decision, ops: Sequence[Op], done: Done | None = None) -> Unit:
        """One more decision."""
        unit = Unit(decision, ops, done)
        self.units.append(unit)
        self.ending.update([job.id for job in decision.finished])
        return unit
