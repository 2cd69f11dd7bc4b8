"""Whether two machines live with one identity: a disk that was cloned, a snapshot that was brought back. Pure.

Each agent says in HELLO a nonce, new at each start of its process, and how many connections it ever made, kept on its
disk. On one machine those numbers only grow, and a process that was followed by another never speaks again. So

    two_live            a nonce comes back that another one followed, with a number from after that
    went_back           a new nonce comes with a number that was used already, and lives: it says HELLO once more, or is
                        still connected after STRAY_MS
    one_process_twice   one nonce says numbers that do not grow, twice: a process that was copied while it ran

What is normal and says nothing: a restart (a new nonce, a higher number), a reconnect (the same nonce, a higher
number), another address, an old connection that stands half open, and a late HELLO of a process that is gone, which
comes after its successor's with a number from before. A backup that was restored looks like the second line, and is
treated so: what that machine believes to have done is older than what it did.

The bus tells a HELLO again, and late, when a commit fails or central starts anew: numbers that do not grow then say
nothing of the host. So only what a room heard after all that is known counts (`Heard`). Leaving out what comes late
costs no proof: doubles go on saying HELLO.

Not here: what follows (`guards`). Rules: about 400 bytes an agent; what is known of it is lost with the process and
told again by its next HELLOs; a finding stays until `settle`.
"""

from __future__ import annotations

__all__ = ("LATE_WITHIN_MS", "STRAY_MS", "SUPERSEDED_MAX", "CloneWatch", "Finding", "Heard")

from typing import Literal, NamedTuple

Finding = Literal["", "two_live", "went_back", "one_process_twice"]

# Nonces that were followed by others and are recognised when they come back; a double comes back within seconds.
SUPERSEDED_MAX = 4
# A HELLO of a process that is gone leaves no connection behind for longer than three heartbeats, 45 s.
STRAY_MS = 60_000
# Numbers of one process that may not have grown: one is a late word on an old connection.
LATE_WORDS = 1
# So many within this: two copies of a process send each other away every second or two, and one process in a year of
# bad networks may well have two late words.
LATE_WITHIN_MS = 600_000


class Heard(NamedTuple):
    """When a room heard a HELLO: `order` counts what one room process, `boot`, heard; `at_ms` is the room's wall clock,
    which decides between two processes, and where a process has no name.
    """

    at_ms: int
    boot: str = ""
    order: int = 0

    def is_after(self, other: Heard) -> bool:
        """Whether this was heard after `other`; not where it is the same one."""
        if self.boot and self.boot == other.boot:
            return self.order > other.order
        return self.at_ms > other.at_ms


class _Known:
    """What one agent's HELLOs said, `heard` when the last of them was."""

    __slots__ = ("finding", "first", "heard", "last", "late", "late_ms", "nonce", "strays", "superseded")

    def __init__(self, nonce: bytes, connects: int, heard: Heard) -> None:
        self.nonce = nonce
        self.heard = heard
        self.first = self.last = connects
        # Late words, and when the last of them was heard.
        self.late = self.late_ms = 0
        self.superseded: dict[bytes, int] = {}
        # Nonces that came with a number from before; which one of them is alive is not known yet.
        self.strays: dict[bytes, int] = {}
        self.finding: Finding = ""


class CloneWatch:
    """See the module."""

    def __init__(self) -> None:
        self._agents: dict[str, _Known] = {}

    def hello(self, agent: str, nonce: bytes, connects: int, heard: Heard) -> Finding:
        """A HELLO, perhaps told again or late; what is wrong with the agent, or nothing."""
        if not connects:
            return ""
        known = self._agents.get(agent)
        if known is None:
            self._agents[agent] = _Known(nonce, connects, heard)
            return ""
        if not known.finding and heard.is_after(known.heard):
            known.heard = heard
            known.finding = _judge(known, nonce, connects)
        return known.finding

    def is_stray(self, agent: str, nonce: bytes) -> bool:
        """Whether this process came with a number from before."""
        known = self._agents.get(agent)
        return known is not None and nonce in known.strays

    def lives(self, agent: str, nonce: bytes) -> Finding:
        """A process that came with a number from before is connected for STRAY_MS."""
        known = self._agents[agent]
        if not known.finding and nonce in known.strays:
            known.finding = "went_back"
        return known.finding

    def settle(self, agent: str, nonce: bytes) -> None:
        """An operator decided: the process with this nonce is the agent, and what was before counts no more."""
        known = self._agents.get(agent)
        if known is not None:
            known.nonce, known.first, known.last, known.late = nonce, 0, 0, 0
            known.superseded.clear()
            known.strays.clear()
            known.finding = ""


def _judge(known: _Known, nonce: bytes, connects: int) -> Finding:
    if nonce == known.nonce:
        if connects > known.last:
            known.last = connects
            return ""
        at_ms = known.heard.at_ms
        known.late = known.late + 1 if at_ms - known.late_ms < LATE_WITHIN_MS else 1
        known.late_ms = at_ms
        return "one_process_twice" if known.late > LATE_WORDS else ""
    before = known.superseded.get(nonce)
    if before is not None:
        return "two_live" if connects > before and connects >= known.first else ""
    stray = known.strays.get(nonce)
    if stray is not None:
        return "went_back" if connects > stray else ""
    if connects <= known.last:
        _keep(known.strays, nonce, connects)
        return ""
    _keep(known.superseded, known.nonce, known.last)
    known.nonce, known.first, known.last, known.late = nonce, connects, connects, 0
    return ""


def _keep(numbers: dict[bytes, int], nonce: bytes, connects: int) -> None:
    numbers[nonce] = connects
    if len(numbers) > SUPERSEDED_MAX:
        del numbers[next(iter(numbers))]
