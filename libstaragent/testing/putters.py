"""Files that operators put on a simulated fleet, who carries their pieces, and what must hold of them:

- what takes a path's name is what was signed, whole, and once; where it is said to be placed it is, and else it is not
- bytes that nobody changed are never called forged, whatever became of drafts when power was lost

In some runs the control plane changes pieces on their way. The child's own check of what it places is left out here:
the core is to hold without it.

Rules: everything drawn comes from one `Random` of the seed's own.
"""

from __future__ import annotations

__all__ = ("Putters",)

from collections.abc import Callable, Sequence
from hashlib import sha256
from random import Random

from libstaragent import codes
from libstaragent.protocol import trunk as t
from libstaragent.protocol.messages import CHUNK_MAX
from libstaragent.security.acts import Member, Put
from libstaragent.testing.clock import ManualClock
from libstaragent.testing.fleet_store import SimStore
from libstaragent.testing.operators import SUBMIT_WITHIN, Operators
from libstaragent.testing.referee import Referee

SIZES = (0, 1000, CHUNK_MAX, 2 * CHUNK_MAX + 17, 5 * CHUNK_MAX)
# The share of pieces that get lost, and in a run that tampers, of those that are changed.
LOST = 0.1
CHANGED = 0.3


class Putters:
    """See the module. `carries` says whether a piece gets through from central to a room now."""

    def __init__(
        self,
        clock: ManualClock,
        seed: int,
        operators: Operators,
        referee: Referee,
        members: Sequence[Member],
        carries: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._random = Random(f"putters {seed}")
        self._operators = operators
        self._referee = referee
        self._members = members
        self._carries = carries
        self._content: dict[str, bytes] = {}
        self._placed: set[tuple[str, str]] = set()
        draw = self._random.random
        self._tampers = draw() < 0.2
        for number in range(1 + int(draw() * 3)):
            clock.call_later(draw() * SUBMIT_WITHIN, self._put, number)

    @property
    def placed(self) -> int:
        """Files that took their name."""
        return len(self._placed)

    def _put(self, number: int) -> None:
        draw = self._random.random
        content = self._random.randbytes(self._random.choice(SIZES))
        act = Put(f"/etc/f{number}", len(content), sha256(content).digest(), timeout_ms=5000 + int(draw() * 20_000))
        members = tuple(self._random.sample(self._members, 1 + int(draw() * len(self._members))))
        expires = self._clock.now_ms + 5000 + int(draw() * 20_000)
        self._content[self._operators.order(act, expires, members).id] = content

    def wanted(self, want: t.WantPiece, give: Callable[[t.BlobPiece], None]) -> None:
        """A room asks for a piece: it comes late, changed, or not at all."""
        draw = self._random.random
        content = self._content.get(want.job)
        if content is None or draw() < LOST or not self._carries():
            return
        data = content[want.offset : want.offset + CHUNK_MAX]
        if self._tampers and draw() < CHANGED:
            data = data[:-1] + bytes([data[-1] ^ 1]) if data else data
        self._clock.call_later(0.002 + draw() * 0.5, give, t.BlobPiece(want.job, want.offset, data))

    def took_name(self, job: str, agent: str, content: bytes) -> None:
        """A file is at its path on a host."""
        what = f"{job} on {agent}"
        if content != self._content[job]:
            self._referee.breaks("what is placed is what was signed", f"{what}: {len(content)} bytes")
        if (job, agent) in self._placed:
            self._referee.breaks("a file is placed once", what)
        self._placed.add((job, agent))

    def check_end(self, store: SimStore) -> None:
        """Whether what is said of each put is so."""
        for job in self._content.keys() & store.jobs.keys():
            for agent, entry in store.jobs[job].ended.items():
                what = f"{job} on {agent} is {entry.result.state}"
                if (entry.result.state == "ok") > ((job, agent) in self._placed):
                    self._referee.breaks("what is said to be placed is there", what)
                if entry.result.ran == "no" and (job, agent) in self._placed:
                    self._referee.breaks("what is said not to be placed is not there", what)
                if entry.result.code == codes.FILE_DIGEST.code and not self._tampers:
                    self._referee.breaks("bytes that nobody changed are not called forged", what)
