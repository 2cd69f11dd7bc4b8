"""One simulated agent: its own TLS connection to a real room, the real decoder, connection and agent core, instant
answers to what the core asks for. What is not real is said in `bench/agents.py`, which runs many of them.
"""

from __future__ import annotations

__all__ = ("OUTPUT", "AgentPlan", "Plan", "SimulatedAgent", "Verifier", "printed", "wall_ms")

import hashlib
import os
import random
import select
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import msgspec

from agentd.agent.backoff import Backoff
from libstaragent.model.result import Output, encode_records
from libstaragent.roles.agent import AgentCore
from libstaragent.roles.agent_effects import Persist, ReadSpool, StoreRoster, ToKeeper
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
# Of TCP, TLS and HELLO together, as in agentd/agent/loop.py.
HANDSHAKE_SECONDS = 30.0


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

    def signs_results(self, envelope: Envelope, now_ms: int) -> bool:
        return False

    def may_manage(self, envelope: Envelope, owner: str | None, now_ms: int) -> None:
        return None

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


def printed(whose: str, size: int) -> bytes:
    """What the command ``print SIZE`` prints: lines that say whose they are."""
    line = b"%b says what a command says that has much to say\n" % whose.encode()
    return (line * (1 + size // len(line)))[:size]


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

    __slots__ = (
        "address",
        "backoff",
        "ca_pem",
        "connects",
        "core",
        "deadline",
        "key",
        "member",
        "plan",
        "printing",
        "socket",
        "state",
        "tries",
        "verifier",
    )

    def __init__(self, plan: AgentPlan, whole: Plan, ca_pem: str, verifier: Verifier) -> None:
        self.plan = plan
        self.address = (whole.host, whole.port)
        self.key = Path(whole.key)
        self.ca_pem = ca_pem
        self.backoff = Backoff(random.random)
        self.state = "waiting"
        self.deadline = 0.0
        self.tries = 0
        # For good, as on a real host: a number that goes back is another machine.
        self.connects = 0
        self.verifier = verifier
        self.member = Member(plan.agent, plan.name, plan.room)
        # Jobs whose command is `print BYTES same|own`, until their output is read.
        self.printing: dict[str, Output] = {}
        self.socket: socket.socket | None = None
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

    def connect(self, now: float) -> None:
        """Begin a connection; `progress` goes on with it."""
        self.tries += 1
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(self.address)
        self.state = "connecting"
        self.deadline = now + HANDSHAKE_SECONDS

    def progress(self, now: float) -> int:
        """What its socket may do has changed; which events it waits for now. Raises OSError when it is lost."""
        assert self.socket is not None
        if self.state == "connecting":
            error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
            context = agent_context(certificate=Path(self.plan.certificate), key=self.key, ca_pem=self.ca_pem)
            self.socket = context.wrap_socket(
                self.socket, server_hostname=self.address[0], do_handshake_on_connect=False
            )
            self.state = "shaking"
        assert isinstance(self.socket, ssl.SSLSocket)
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            return select.EPOLLIN
        except ssl.SSLWantWriteError:
            return select.EPOLLOUT
        self.state = "open"
        self.connects += 1
        self.core.connected(connects=self.connects, now=now, now_ms=wall_ms())
        self.send()
        return select.EPOLLIN

    def lost(self, now: float) -> float:
        """Its connection is gone; when to try again."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        refused = self.core.refused
        self.core.disconnected()
        self.state = "waiting"
        at_least = refused.retry_after_ms / 1000 if refused is not None else 0.0
        return now + self.backoff.pause(at_least=at_least)

    @property
    def welcomed(self) -> bool:
        """Whether its room has taken it."""
        return self.core.connection is not None and self.core.connection.state == "open"

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
        if self.core.refused is not None:
            return False
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
                        argv = effect.request["spec"]["argv"]
                        summary = SUMMARY if argv[0] != "print" else self._prints(job, int(argv[1]), argv[2])
                        core.keeper_says({"ev": "started", "job": job, "at_ms": now_ms}, now=now)
                        core.keeper_says({"job": job, **summary}, now=now)
                elif kind is ReadSpool:
                    core.spool_read(effect.job, self.printing.pop(effect.job, KEPT), now=now)
                elif kind is StoreRoster:
                    continue

    def _prints(self, job: str, size: int, whose: str) -> dict[str, Any]:
        text = printed(self.plan.name if whose == "own" else "host", size)
        self.printing[job] = Output(head=encode_records([(1, text)]))
        return SUMMARY | {"stdout_bytes": size, "stdout_sha256": hashlib.sha256(text).hexdigest()}

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
