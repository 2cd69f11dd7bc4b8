"""What fails, and when: a schedule that is a function of its seed (`FAULTS` has the kinds), and its execution.

Not here: how a process is killed (`bench.hosts`). Rules: the schedule does not depend on what happens; a fault that
cannot be done yet (the agent is just being started) is done as soon as it can be, or counted apart.
"""

from __future__ import annotations

__all__ = ("FAULTS", "KINDS", "KINDS_AND_DOWN", "Fault", "Faults", "schedule")

import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.fleet import ControlPlane, wall_ms
from bench.hosts import Hosts


class Kind(NamedTuple):
    """Its share of all faults, how many seconds it lasts (at least, at most), and what it is."""

    weight: int
    seconds: tuple[float, float]
    what: str


FAULTS = {
    "agent": Kind(8, (0, 0), "`kill -9` of an agent; its keeper starts it again"),
    "keeper": Kind(4, (0, 0), "`kill -9` of a keeper; its agent becomes the keeper"),
    "host": Kind(3, (0, 0), "`kill -9` of agent and keeper; a service manager starts them within 0.1 s"),
    "central": Kind(2, (0, 2), "`kill -9` of the control plane, which is started again after this"),
    "cut": Kind(4, (0, 0), "a host's connection is reset"),
    # Longer than a restart, shorter than three heartbeats: what heartbeats find is another kind of fault.
    "stall": Kind(2, (1, 8), "a host's connection is silent, then reset"),
    "down": Kind(1, (60, 90), "agent and keeper are killed and stay off"),
}
KINDS_AND_DOWN = {name: kind.weight for name, kind in FAULTS.items()}
KINDS = {name: weight for name, weight in KINDS_AND_DOWN.items() if name != "down"}
# What is to be hit must be there; a keeper whose agent dies again and again waits before it starts it.
PATIENCE_SECONDS = 5.0
AGAIN_SECONDS = 0.05


@dataclass(frozen=True)
class Fault:
    """One fault: seconds from the beginning, kind, the host's number, how long it lasts."""

    at: float
    kind: str
    host: int
    seconds: float


@dataclass(frozen=True)
class Done:
    """One that was done, in ms since the epoch."""

    kind: str
    agent: str
    from_ms: int
    to_ms: int


def schedule(seed: int, *, seconds: float, every: float, hosts: int, kinds: Mapping[str, int] = KINDS) -> list[Fault]:
    """Faults about `every` so many seconds; the first of each kind come early, so that a short run has them all."""
    rng = random.Random(seed)
    first = list(kinds)
    rng.shuffle(first)
    found: list[Fault] = []
    at = rng.uniform(0, every)
    while at < seconds:
        kind = first.pop() if first else rng.choices(list(kinds), list(kinds.values()))[0]
        low, high = FAULTS[kind].seconds
        found.append(Fault(at, kind, rng.randrange(hosts), rng.uniform(low, high)))
        at += rng.expovariate(1 / every)
    return found


class Faults:
    """Carries a schedule out in a thread of its own.

    Attributes:
        done: what happened. missed: by kind, what could not be done. error: what ended it early.
    """

    def __init__(self, plane: ControlPlane, hosts: Hosts, faults: Sequence[Fault]) -> None:
        self._plane = plane
        self._hosts = hosts
        self._faults = faults
        self._kinds = sorted({fault.kind for fault in faults}, key=list(KINDS_AND_DOWN).index)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.done: list[Done] = []
        self.missed: Counter[str] = Counter()
        self.error: Exception | None = None

    def start(self) -> None:
        """From now on."""
        self._began = time.monotonic()
        self._thread.start()

    def finish(self) -> None:
        """Wait for the last one; raises what went wrong."""
        self._thread.join()
        if self.error is not None:
            raise self.error

    @property
    def counts(self) -> dict[str, int]:
        """Faults that happened, by kind."""
        return {kind: len({done.from_ms for done in self.done if done.kind == kind}) for kind in self._kinds}

    def hit(self, kinds: Sequence[str], agent: str, from_ms: int, to_ms: int) -> bool:
        """Whether a fault of one of these kinds hit this host between."""
        kinds = (*kinds, "down") if "host" in kinds else kinds
        return any(
            done.kind in kinds and done.agent == agent and done.from_ms <= to_ms and done.to_ms >= from_ms
            for done in self.done
        )

    def down(self, agent: str, from_ms: int, to_ms: int) -> bool:
        """Whether this host was down by the schedule all the time between."""
        return any(
            done.kind == "down" and done.agent == agent and done.from_ms <= from_ms and done.to_ms >= to_ms
            for done in self.done
        )

    def _run(self) -> None:
        ends: list[tuple[float, Fault]] = []
        try:
            for fault in self._faults:
                while ends and ends[0][0] <= fault.at:
                    self._until(ends[0][0])
                    self._end(ends.pop(0)[1])
                self._until(fault.at)
                if self._do(fault) and fault.kind in ("stall", "down"):
                    ends = sorted([*ends, (self._now + fault.seconds, fault)], key=lambda end: end[0])
            for at, fault in ends:
                self._until(at)
                self._end(fault)
        except Exception as error:
            self.error = error

    def _until(self, at: float) -> None:
        self._stop.wait(max(0.0, self._began + at - time.monotonic()))

    @property
    def _now(self) -> float:
        return time.monotonic() - self._began

    def _do(self, fault: Fault) -> bool:
        host = self._hosts[fault.host]
        from_ms = wall_ms()
        if fault.kind == "central":
            self._plane.kill()
            self._stop.wait(fault.seconds)
            self._plane.start()
            happened = True
        else:
            hit = {
                "agent": host.kill_agent,
                "keeper": host.kill_keeper,
                "host": host.kill_all,
                "cut": host.cut,
                "stall": lambda: host.stall(True),
                "down": host.turn_off,
            }[fault.kind]
            until = time.monotonic() + PATIENCE_SECONDS
            while not (happened := hit()) and time.monotonic() < until:
                self._stop.wait(AGAIN_SECONDS)
        if happened:
            agent = "" if fault.kind == "central" else host.member.agent
            # Of a host that stays down the end is told when it comes.
            self.done.append(Done(fault.kind, agent, from_ms, wall_ms()))
        else:
            self.missed[fault.kind] += 1
        return happened

    def _end(self, fault: Fault) -> None:
        host = self._hosts[fault.host]
        if fault.kind == "stall":
            host.stall(False)
            return
        began = next(done for done in reversed(self.done) if (done.kind, done.agent) == ("down", host.member.agent))
        self.done.append(Done("down", began.agent, began.from_ms, wall_ms()))
        host.start()
