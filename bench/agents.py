"""Simulated agents: each its own TLS connection to a real room, the real decoder, the real connection and agent cores.

What is not real: nothing is forked (the answer is `OUTPUT`), the journal is a list in memory that answers at once, and
the signature of an envelope is verified once a process instead of once an agent. What that saves is said in
docs/benchmarks.md, and it is all on this side: the control plane does all of its work.

    bench/agents.py PLAN        a `Plan` as JSON; prints "up N" once all are welcomed; ends when stdin closes

One epoll loop over non-blocking TLS sockets: lighter than any event loop, so that two cores measure the control plane
and not this.
"""

from __future__ import annotations

__all__ = ("OUTPUT", "AgentPlan", "Plan", "main")

import gc
import hashlib
import os
import select
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from libstaragent.model.result import Output, encode_records
from libstaragent.roles.agent import AgentCore, Persist, ReadSpool, StoreRoster, ToKeeper
from libstaragent.security.authority import terminal_state, verify_act
from libstaragent.security.clock import TimeJudge
from libstaragent.security.envelope import Envelope, Member
from libstaragent.security.membership import Proof
from libstaragent.security.roster import RosterChain
from libstaragent.security.signed import Signed
from libstaragent.security.tls import agent_context

# What each command "printed": what `uptime` and `uname -a` print is about this long.
OUTPUT = b" 12:34:56 up 41 days,  3:07,  2 users,  load average: 0.31, 0.42, 0.40; Linux web01 6.1.0-18-amd64 x86_64\n"
KEPT = Output(head=encode_records([(1, OUTPUT)]))
# Envelopes verified lately; a bench has few jobs open at once.
VERIFIED_MAX = 4096
READ_AT_ONCE = 256 * 1024
TICK_SECONDS = 10.0
# A room that is busy with others turns a handshake away; a real agent waits seconds.
RETRY_SECONDS = 0.2


class AgentPlan(msgspec.Struct, frozen=True):
    """One simulated agent."""

    agent: str
    name: str
    room: str
    certificate: str


class Plan(msgspec.Struct, frozen=True):
    """What one process of simulated agents needs to know. Paths are of PEM files; rosters are oldest first."""

    host: str
    port: int
    ca: str
    key: str
    fleet: str
    rosters: tuple[Signed, ...]
    agents: tuple[AgentPlan, ...]


class Verifier:
    """The real checks, once for each envelope in this process; the rest of its agents take that word."""

    def __init__(self, fleet: str, rosters: tuple[Signed, ...]) -> None:
        self._fleet = fleet
        self._chain = RosterChain(fleet)
        self._judge = TimeJudge()
        self._verified: dict[bytes, Envelope] = {}
        self.me: Member | None = None
        if rosters:
            self._chain.accept_all(rosters, wall_ms())

    def verify(self, signed: Signed, proof: Proof | None, now_ms: int) -> Envelope:
        envelope = self._verified.get(signed.payload)
        if envelope is None:
            assert self._chain.newest is not None and self.me is not None
            envelope = verify_act(
                signed,
                roster=self._chain.newest,
                fleet=self._fleet,
                me=self.me,
                proof=proof,
                local_ms=now_ms,
                time_judge=self._judge,
                boot_nonce=b"n" * 16,
                evaluate=None,
            )
            if len(self._verified) >= VERIFIED_MAX:
                del self._verified[next(iter(self._verified))]
            self._verified[signed.payload] = envelope
        return envelope

    def take_rosters(self, revisions: tuple[Signed, ...], now_ms: int) -> Signed | None:
        self._chain.accept_all(revisions, now_ms)
        return None

    @property
    def roster_revision(self) -> int:
        return 0 if self._chain.newest is None else self._chain.newest.revision

    @property
    def highest_ms(self) -> int:
        return self._judge.highest_ms

    def may_forget(self, expires_ms: int) -> bool:
        return self._judge.may_forget(expires_ms)


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _summary() -> dict[str, Any]:
    now = wall_ms()
    return {
        "ev": "finished",
        "state": "ok",
        "exit_status": 0,
        "signal": None,
        "core_dumped": False,
        "errno": None,
        "code": None,
        "detail": "",
        "ran": "yes",
        "started_ms": now,
        "finished_ms": now + 1,
        "user_ms": 1,
        "system_ms": 1,
        "max_rss_kb": 1800,
        "stdout_bytes": len(OUTPUT),
        "stderr_bytes": 0,
        "stdout_sha256": hashlib.sha256(OUTPUT).hexdigest(),
        "stderr_sha256": None,
        "left_running": [],
        "left_running_count": 0,
    }


class SimulatedAgent:
    """One agent: its socket, its core, and instant answers to what the core asks for."""

    __slots__ = ("core", "member", "plan", "socket", "verifier")

    def __init__(self, plan: AgentPlan, verifier: Verifier) -> None:
        self.plan = plan
        self.verifier = verifier
        self.member = Member(plan.agent, plan.name, plan.room)
        self.socket: ssl.SSLSocket | None = None
        self.core = AgentCore(
            agent=plan.agent,
            verifier=verifier,
            state_of=terminal_state,
            version="bench",
            boot_nonce=b"n" * 16,
            hostname=plan.name,
            addresses=("127.0.0.1",),
            facts={"os": "linux"},
        )
        self.core.keeper_known([], now=0, now_ms=0)

    def connect(self, address: tuple[str, int], context: ssl.SSLContext, now: float) -> None:
        """Connect, say HELLO, and hear WELCOME; blocks."""
        while True:
            raw = socket.create_connection(address)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                sock = context.wrap_socket(raw, server_hostname=address[0])
                self.core.connected(connects=1, now=now, now_ms=wall_ms())
                assert self.core.connection is not None
                sock.sendall(self.core.connection.take())
                while self.core.connection.state != "open":
                    data = sock.recv(READ_AT_ONCE)
                    if not data:
                        raise ConnectionResetError(f"refused: {self.core.refused}")
                    self.serve(data, now, wall_ms())
            except OSError:
                raw.close()
                if self.core.refused is not None:
                    raise
                select.select([], [], [], RETRY_SECONDS)
                continue
            sock.setblocking(False)
            self.socket = sock
            return

    def readable(self, now: float, now_ms: int) -> bool:
        """Serve what has come; False when the connection is gone."""
        assert self.socket is not None
        try:
            data = self.socket.recv(READ_AT_ONCE)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            return False
        if not data:
            return False
        self.serve(data, now, now_ms)
        self.send()
        return True

    def serve(self, data: bytes, now: float, now_ms: int) -> None:
        core = self.core
        self.verifier.me = self.member
        core.receive(data, now=now, now_ms=now_ms)
        while core.effects:
            effects, core.effects = core.effects, []
            for effect in effects:
                kind = type(effect)
                if kind is Persist:
                    core.persisted(effect.token, None, now=now)
                elif kind is ToKeeper:
                    if effect.request["op"] == "spawn":
                        job = effect.request["job"]
                        core.keeper_says({"ev": "started", "job": job, "at_ms": now_ms}, now=now)
                        core.keeper_says({"job": job, **SUMMARY}, now=now)
                elif kind is ReadSpool:
                    core.spool_read(effect.job, KEPT, now=now)
                elif kind is StoreRoster:
                    continue

    def send(self) -> None:
        connection = self.core.connection
        if connection is None or not connection.queued or self.socket is None:
            return
        data = connection.take()
        while data:
            try:
                data = data[self.socket.send(data) :]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                select.select([], [self.socket], [], 1.0)


SUMMARY = _summary()


def main(path: str) -> None:
    """Runs the agents of one plan until stdin closes."""
    plan = msgspec.json.decode(Path(path).read_bytes(), type=Plan)
    verifier = Verifier(plan.fleet, plan.rosters)
    ca_pem = Path(plan.ca).read_text()
    poll = select.epoll()
    agents: dict[int, SimulatedAgent] = {}
    for entry in plan.agents:
        context = agent_context(certificate=Path(entry.certificate), key=Path(plan.key), ca_pem=ca_pem)
        agent = SimulatedAgent(entry, verifier)
        agent.connect((plan.host, plan.port), context, time.monotonic())
        assert agent.socket is not None
        agents[agent.socket.fileno()] = agent
        poll.register(agent.socket.fileno(), select.EPOLLIN)
    poll.register(0, select.EPOLLIN)
    gc.freeze()
    sys.stdout.write(f"up {len(agents)}\n")
    sys.stdout.flush()
    ticked = time.monotonic()
    while True:
        events = poll.poll(TICK_SECONDS)
        now, now_ms = time.monotonic(), wall_ms()
        for descriptor, _ in events:
            if descriptor == 0:
                if not os.read(0, 4096):
                    return
                continue
            agent = agents[descriptor]
            if not agent.readable(now, now_ms):
                poll.unregister(descriptor)
                del agents[descriptor]
        if now - ticked >= TICK_SECONDS:
            ticked = now
            for agent in agents.values():
                agent.core.tick(now=now)
                agent.send()


if __name__ == "__main__":
    main(sys.argv[1])
