"""What fails, and when: a schedule that is a function of its seed, and its execution.

    agent      kill -9 of an agent; its keeper starts it again
    keeper     kill -9 of a keeper; its agent becomes the keeper; what ran is interrupted
    host       kill -9 of both; the service manager starts them again
    central    kill -9 of the control plane; started again after up to 2 s
    cut        a host's connection is reset
    stall      a host's connection is silent for up to 8 s, then reset

Not here: how a process is killed (`bench.hosts`). Rules: the schedule does not depend on what happens; a fault that
cannot be done yet (the agent is just being started) is done as soon as it can be, or counted apart.
"""

from __future__ import annotations

__all__ = ("KINDS", "Fault", "Faults", "schedule")

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.fleet import ControlPlane, wall_ms
from bench.hosts import Hosts

# Kind to weight.
KINDS = {"agent": 8, "keeper": 4, "host": 3, "central": 2, "cut": 4, "stall": 2}
# Longer than a restart, shorter than three heartbeats: what heartbeats find is another kind of fault.
STALL_SECONDS = (1.0, 8.0)
CENTRAL_DOWN_SECONDS = (0.0, 2.0)
# What is to be hit must be there; a keeper that has started its agent often waits up to 30 s before the next time.
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


def schedule(seed: int, *, seconds: float, every: float, hosts: int) -> list[Fault]:
    """Faults about `every` so many seconds; the first of each kind come early, so that a short run has them all."""
    rng = random.Random(seed)
    first = list(KINDS)
    rng.shuffle(first)
    found: list[Fault] = []
    at = rng.uniform(0, every)
    while at < seconds:
        kind = first.pop() if first else rng.choices(list(KINDS), list(KINDS.values()))[0]
        low, high = {"stall": STALL_SECONDS, "central": CENTRAL_DOWN_SECONDS}.get(kind, (0.0, 0.0))
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
        return {kind: sum(done.kind == kind for done in self.done) for kind in KINDS}

    def hit(self, kinds: Sequence[str], agent: str, from_ms: int, to_ms: int) -> bool:
        """Whether a fault of one of these kinds hit this host between."""
        return any(
            done.kind in kinds and done.agent == agent and done.from_ms <= to_ms and done.to_ms >= from_ms
            for done in self.done
        )

    def _run(self) -> None:
        ends: list[tuple[float, int]] = []
        try:
            for fault in self._faults:
                while ends and ends[0][0] <= fault.at:
                    self._until(ends[0][0])
                    self._unstall(ends.pop(0)[1])
                self._until(fault.at)
                self._do(fault)
                if fault.kind == "stall":
                    ends = sorted([*ends, (time.monotonic() - self._began + fault.seconds, fault.host)])
            for at, host in ends:
                self._until(at)
                self._unstall(host)
        except Exception as error:
            self.error = error

    def _until(self, at: float) -> None:
        self._stop.wait(max(0.0, self._began + at - time.monotonic()))

    def _do(self, fault: Fault) -> None:
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
            }[fault.kind]
            until = time.monotonic() + PATIENCE_SECONDS
            while not (happened := hit()) and time.monotonic() < until:
                self._stop.wait(AGAIN_SECONDS)
        if happened:
            agent = "" if fault.kind == "central" else host.member.agent
            self.done.append(Done(fault.kind, agent, from_ms, wall_ms()))
        else:
            self.missed[fault.kind] += 1

    def _unstall(self, host: int) -> None:
        self._hosts[host].stall(False)
