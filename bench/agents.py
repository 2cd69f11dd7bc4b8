"""Simulated agents: each its own TLS connection to a real room, the real decoder, the real connection and agent cores.

What is not real: nothing is forked (the answer is `OUTPUT`), the journal is a list in memory that answers at once, and
the signature of an envelope is verified once a process instead of once an agent. What that saves is said in
docs/benchmarks.md, and it is all on this side: the control plane does all of its work.

    bench/agents.py PLAN        a `Plan` as JSON; prints "up N" once all are welcomed; ends when stdin closes

Who is not let in, or loses its room, comes back as a real agent does: `agentd.agent.backoff`, and the room's word.

One epoll loop over non-blocking TLS sockets: lighter than any event loop, so that two cores measure the control plane
and not this.
"""

from __future__ import annotations

__all__ = ("Crowd", "main")

import gc
import heapq
import os
import select
import sys
import time
from pathlib import Path

import msgspec

from bench.simulated import Plan, SimulatedAgent, Verifier, wall_ms

TICK_SECONDS = 5.0
# One process has one core: more handshakes at once would only make each of them late, which no real host is by the
# others' work.
HANDSHAKES_AT_ONCE = 200


class Crowd:
    """All agents of one process over one epoll: who waits, who shakes hands, who is open."""

    def __init__(self, plan: Plan) -> None:
        verifier = Verifier(plan.fleet, plan.rosters)
        ca_pem = Path(plan.ca).read_text()
        self.agents = [SimulatedAgent(entry, plan, ca_pem, verifier) for entry in plan.agents]
        self.poll = select.epoll()
        self._by_descriptor: dict[int, SimulatedAgent] = {}
        # When who tries again.
        now = time.monotonic()
        self._waiting = [(now, number) for number in range(len(self.agents))]
        self._numbers = {agent: number for number, agent in enumerate(self.agents)}
        self._handshaking: set[SimulatedAgent] = set()

    @property
    def up(self) -> int:
        """Agents that their room has taken."""
        return sum(agent.welcomed for agent in self.agents)

    @property
    def pause(self) -> float:
        """How long nothing is due."""
        if not self._waiting or len(self._handshaking) >= HANDSHAKES_AT_ONCE:
            return TICK_SECONDS
        return max(0.0, min(TICK_SECONDS, self._waiting[0][0] - time.monotonic()))

    def begin(self, now: float) -> None:
        """Connect those whose time has come."""
        while self._waiting and self._waiting[0][0] <= now and len(self._handshaking) < HANDSHAKES_AT_ONCE:
            agent = self.agents[heapq.heappop(self._waiting)[1]]
            agent.connect(now)
            assert agent.socket is not None
            self._handshaking.add(agent)
            self._by_descriptor[agent.socket.fileno()] = agent
            self.poll.register(agent.socket.fileno(), select.EPOLLOUT)

    def serve(self, descriptor: int, now: float, now_ms: int) -> None:
        """Something happened at a socket."""
        agent = self._by_descriptor[descriptor]
        if agent.state == "open":
            if not agent.readable(now, now_ms):
                self._lost(descriptor, agent, now)
            elif agent in self._handshaking and agent.welcomed:
                agent.backoff.reset()
                self._handshaking.discard(agent)
            return
        try:
            self.poll.modify(descriptor, agent.progress(now))
        except OSError:
            self._lost(descriptor, agent, now)

    def tick(self, now: float) -> None:
        """What is due by the clock."""
        for descriptor, agent in list(self._by_descriptor.items()):
            if agent in self._handshaking and now >= agent.deadline:
                self._lost(descriptor, agent, now)
                continue
            agent.core.tick(now=now)
            agent.send()

    def _lost(self, descriptor: int, agent: SimulatedAgent, now: float) -> None:
        self.poll.unregister(descriptor)
        del self._by_descriptor[descriptor]
        self._handshaking.discard(agent)
        heapq.heappush(self._waiting, (agent.lost(now), self._numbers[agent]))


def main(path: str) -> None:
    """Runs the agents of one plan until stdin closes; a byte there asks for "tries N up N"."""
    crowd = Crowd(msgspec.json.decode(Path(path).read_bytes(), type=Plan))
    crowd.poll.register(0, select.EPOLLIN)
    told = False
    ticked = time.monotonic()
    while True:
        crowd.begin(time.monotonic())
        events = crowd.poll.poll(crowd.pause)
        now, now_ms = time.monotonic(), wall_ms()
        for descriptor, _ in events:
            if descriptor:
                crowd.serve(descriptor, now, now_ms)
                continue
            if not os.read(0, 4096):
                return
            say(f"tries {sum(agent.tries for agent in crowd.agents)} up {crowd.up}")
            for agent in crowd.agents:
                agent.tries = 0
        if not told and crowd.up == len(crowd.agents):
            told = True
            gc.freeze()
            say(f"up {crowd.up}")
        if now - ticked >= TICK_SECONDS:
            ticked = now
            crowd.tick(now)


def say(text: str) -> None:
    """One line to whoever started this."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
