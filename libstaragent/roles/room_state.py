"""What a room has in memory: connections of agents, and orders while a target of them is open. Values and no decisions:
those are in `libstaragent.roles.room`.
"""

from __future__ import annotations

__all__ = ("Link", "OpenOrder", "Pending", "host_up")

from collections import deque
from typing import Any

from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t
from libstaragent.protocol.connection import ROOM, Connection
from libstaragent.roles.room_outputs import Told
from libstaragent.security.membership import Proof


class Link:
    """One agent's connection. `shell` is the shell's own: what it writes to. `issued_s` is from when its certificate
    is; until `trial_until` nothing is delivered on it (`room_guard`).
    """

    __slots__ = (
        "agent",
        "code",
        "connection",
        "due_ms",
        "issued_s",
        "next_ping",
        "next_stream",
        "nonce",
        "reads",
        "settled",
        "shell",
        "streams",
        "told",
        "trial_until",
        "up",
        "waiting",
    )

    def __init__(self, agent: str, *, now: float, heartbeat_ms: int, issued_s: int = 0) -> None:
        self.agent = agent
        self.connection = Connection(ROOM, now=now, heartbeat_ms=heartbeat_ms)
        self.code = ""
        self.up = False
        self.issued_s = issued_s
        self.nonce = b""
        self.trial_until = 0.0
        self.next_ping = 0.0
        self.due_ms = 0
        self.next_stream = 1
        self.streams: dict[int, str] = {}
        # The same for reads of spools, by central's name for each.
        self.reads: dict[int, str] = {}
        self.settled: list[str] = []
        # The newest revision of the roster that it has, or that is on its way.
        self.told = 0
        # Jobs to be delivered on this connection once there is room.
        self.waiting: deque[str] = deque()
        self.shell: Any = None


class OpenOrder:
    """A dispatch while a target of it is open; `unsent` are those that were never written to a connection."""

    __slots__ = ("dispatch", "due_ms", "left", "unsent")

    def __init__(self, dispatch: t.Dispatch) -> None:
        self.dispatch = dispatch
        self.unsent: set[str] = set()
        self.left = 0
        self.due_ms = dispatch.deadline_ms if dispatch.again else dispatch.expires_ms


class Pending:
    """One target that is not settled. `nonce` is of the agent's process that it was last sent to; `fixed`: to that one
    it may be sent again, and to no other, because another may be another machine.
    """

    __slots__ = ("fixed", "nonce", "order", "proof", "sent", "stream", "told", "watch")

    def __init__(self, order: OpenOrder, proof: Proof | None) -> None:
        self.order = order
        self.proof = proof
        # Its result, once that is on its way to the store.
        self.told: Told | None = None
        self.sent = order.dispatch.again
        self.watch = order.dispatch.watch
        self.stream = 0
        self.nonce = b""
        self.fixed = False


def host_up(link: Link, hello: m.Hello, room: str, now_ms: int, *, boot: str, order: int) -> t.HostUp:
    """What central is told of an agent that said HELLO."""
    return t.HostUp(
        agent=link.agent,
        room=room,
        version=hello.version,
        boot_nonce=hello.boot_nonce,
        hostname=hello.hostname,
        addresses=hello.addresses,
        facts=hello.facts,
        roster=hello.roster,
        clock_ahead_ms=hello.clock_ms - now_ms,
        at_ms=now_ms,
        boot=boot,
        order=order,
        connects=hello.connects,
        issued_s=link.issued_s,
    )
