"""What is done about an identity that two machines have: central's book of guarded agents. Pure; no I/O.

    free ──finding──▶ quarantined ──resolved──▶ renewing ──its new certificate is seen──▶ bound
                          ▲                        │                                        │
                          └────── finding ─────────┴────────────────────────────────────────┘

quarantined   nobody with this identity gets a job or keeps a connection; who knocks is listed as a holder
renewing      the holder that was kept may connect, gets jobs, and is told to renew its certificate at once
bound         certificates from before the resolution are refused: the other machine has only such, and must join anew
replaced      the host joined anew under its name; this identity is refused for good

Not here: finding doubles (`clones`), the room's part (`room_guard`), writing it down. Rules: a guard is durable before
a room hears of it; the list of holders is bounded, the newest are kept.
"""

from __future__ import annotations

__all__ = ("HOLDERS_MAX", "STATES", "Change", "Guard", "GuardBook", "Holder", "read_guard", "write_guard")

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from libstaragent import codes
from libstaragent.protocol import trunk as t
from libstaragent.roles.clones import STRAY_MS, CloneWatch, Finding, Heard

State = Literal["free", "quarantined", "renewing", "bound", "replaced"]
STATES: tuple[State, ...] = ("free", "quarantined", "renewing", "bound", "replaced")

# Two machines are the common case; a template that was rolled out with an identity in it has hundreds.
HOLDERS_MAX = 16


class Holder(Struct, frozen=True, kw_only=True):
    """A process that holds the identity. `issued_s` is from when its certificate is, seconds since the epoch."""

    nonce: bytes
    connects: int
    hostname: str
    addresses: tuple[str, ...] = ()
    issued_s: int = 0
    first_ms: int = 0
    last_ms: int = 0


class Guard(Struct, frozen=True, kw_only=True):
    """One agent's guard. `keep` is the nonce that was kept, `issued_after_s` what its certificate must not be older
    than.
    """

    state: State = "free"
    since_ms: int = 0
    finding: Finding = ""
    holders: tuple[Holder, ...] = ()
    keep: bytes = b""
    issued_after_s: int = 0


class Change(Struct, frozen=True):
    """A guard that is another than before, to be written and then told to the agent's room."""

    agent: str
    guard: Guard
    before: Guard

    @property
    def order(self) -> t.HostGuard:
        """What the room is told."""
        guard = self.guard
        return t.HostGuard(self.agent, guard.state, guard.keep, guard.issued_after_s)


FREE = Guard()

_decoder = msgspec.msgpack.Decoder(Guard)
_encoder = msgspec.msgpack.Encoder()


def write_guard(guard: Guard) -> bytes:
    """As the store keeps it."""
    return _encoder.encode(guard)


def read_guard(data: bytes) -> Guard:
    """The reverse."""
    return _decoder.decode(data)


class GuardBook:
    """See the module."""

    def __init__(self) -> None:
        self._guards: dict[str, Guard] = {}
        self._watch = CloneWatch()
        # The last HELLO of each nonce that may become a holder.
        self._seen: dict[str, tuple[Holder, ...]] = {}
        # Those that are looked at again: the nonce, and when.
        self._strays: dict[str, tuple[bytes, int]] = {}

    def restore(self, agent: str, guard: Guard) -> None:
        """A guard of the store."""
        self._guards[agent] = guard

    def get(self, agent: str) -> Guard:
        """How this agent is guarded."""
        return self._guards.get(agent, FREE)

    @property
    def guards(self) -> Mapping[str, Guard]:
        """Those that are not free."""
        return self._guards

    def host_up(self, report: t.HostUp) -> Change | None:
        """A HELLO that its room let in."""
        agent = report.agent
        guard = self.get(agent)
        self._see(agent, _holder_of(report))
        heard = Heard(report.at_ms, report.boot, report.order)
        finding = self._watch.hello(agent, report.boot_nonce, report.connects, heard)
        if guard.state in ("quarantined", "replaced"):
            # The room has not heard of it yet.
            return None
        if finding:
            return self._quarantine(agent, finding, report.at_ms)
        if self._watch.is_stray(agent, report.boot_nonce):
            self._strays[agent] = (report.boot_nonce, report.at_ms + STRAY_MS)
        if guard.state == "renewing" and report.issued_s >= guard.issued_after_s:
            bound = msgspec.structs.replace(guard, state="bound", holders=(), finding="")
            return self._put(agent, bound)
        return None

    def tick(self, connected: Callable[[str], bytes | None], *, now_ms: int) -> list[Change]:
        """What time shows; `connected` is the nonce of the process that is connected for an agent, None for none."""
        changes: list[Change] = []
        for agent, (nonce, due_ms) in list(self._strays.items()):
            if connected(agent) != nonce:
                del self._strays[agent]
            elif now_ms >= due_ms:
                del self._strays[agent]
                finding = self._watch.lives(agent, nonce)
                if finding and self.get(agent).state not in ("quarantined", "replaced"):
                    changes.append(self._quarantine(agent, finding, now_ms))
        return changes

    def knocked(self, report: t.HolderSeen) -> Change | None:
        """Somebody with this identity whom the room did not let in."""
        guard = self.get(report.agent)
        if guard.state != "quarantined":
            return None
        known = {holder.nonce for holder in guard.holders}
        holders = _seen_again(guard.holders, _holder_of(report))
        changed = msgspec.structs.replace(guard, holders=holders)
        if report.boot_nonce in known:
            # When it knocked last is for people, and not worth a write.
            self._guards[report.agent] = changed
            return None
        return self._put(report.agent, changed)

    def resolve(self, agent: str, keep: bytes, *, now_ms: int) -> Change:
        """An admin decides: the holder with the nonce `keep`, or the one that was first seen last, is the agent.

        :raises Conflict: NOT_QUARANTINED.
        :raises NotFound: HOLDER_UNKNOWN.
        """
        guard = self.get(agent)
        if guard.state != "quarantined":
            raise codes.NOT_QUARANTINED.error(guard.state)
        holders = {holder.nonce: holder for holder in guard.holders}
        kept = holders.get(keep) if keep else max(guard.holders, key=lambda holder: holder.first_ms)
        if kept is None:
            raise codes.HOLDER_UNKNOWN.error(f"{keep.hex()}; there are {', '.join(nonce.hex() for nonce in holders)}")
        newest = max(holder.issued_s for holder in guard.holders)
        changed = Guard(
            state="renewing",
            since_ms=now_ms,
            keep=kept.nonce,
            # What is issued from now on; a certificate is dated back a little, so one of theirs may look as new.
            issued_after_s=max(newest + 1, now_ms // 1000 - BACKDATED_S),
        )
        self._watch.settle(agent, kept.nonce)
        self._seen[agent] = (kept,)
        return self._put(agent, changed)

    def replaced(self, agent: str, *, now_ms: int) -> Change:
        """The host has another identity now."""
        return self._put(agent, Guard(state="replaced", since_ms=now_ms))

    def undo(self, change: Change) -> None:
        """It could not be written."""
        if change.before.state == "free":
            self._guards.pop(change.agent, None)
        else:
            self._guards[change.agent] = change.before

    def orders(self, is_here: Callable[[str], bool]) -> tuple[t.HostGuard, ...]:
        """All that a room must know when it starts, of the agents that are its own."""
        return tuple(Change(agent, guard, FREE).order for agent, guard in self._guards.items() if is_here(agent))

    def _quarantine(self, agent: str, finding: Finding, now_ms: int) -> Change:
        guard = Guard(
            state="quarantined",
            since_ms=now_ms,
            finding=finding,
            holders=self._seen.get(agent, ()),
            issued_after_s=self.get(agent).issued_after_s,
        )
        return self._put(agent, guard)

    def _put(self, agent: str, guard: Guard) -> Change:
        change = Change(agent, guard, self.get(agent))
        self._guards[agent] = guard
        return change

    def _see(self, agent: str, holder: Holder) -> None:
        # Two are enough to name both when the second one shows; more are seen once they knock.
        self._seen[agent] = _seen_again(self._seen.get(agent, ()), holder)[-2:]


# `libstaragent.security.identity.BACKDATE_MS`: that module loads `cryptography`, and this one is in every central core.
BACKDATED_S = 300


def _holder_of(report: t.HostUp | t.HolderSeen) -> Holder:
    return Holder(
        nonce=report.boot_nonce,
        connects=report.connects,
        hostname=report.hostname,
        addresses=report.addresses,
        issued_s=report.issued_s,
        first_ms=report.at_ms,
        last_ms=report.at_ms,
    )


def _seen_again(holders: tuple[Holder, ...], now: Holder) -> tuple[Holder, ...]:
    """`holders` with what is known `now` of one of them, that one last."""
    before = next((holder for holder in holders if holder.nonce == now.nonce), None)
    if before is not None:
        now = msgspec.structs.replace(now, first_ms=before.first_ms)
    return (*(holder for holder in holders if holder.nonce != now.nonce), now)[-HOLDERS_MAX:]
