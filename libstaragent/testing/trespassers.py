"""Orders that the roster's rules forbid, in a simulated fleet whose central does not ask them: a stolen one carries
them to hosts, and only these can say no. The referee knows by itself what is forbidden: what runs as FORBIDDEN_USER.

Rules: everything drawn comes from one `Random` of the seed's own.
"""

from __future__ import annotations

__all__ = ("Trespassers",)

from collections.abc import Sequence
from random import Random

from libstaragent.security.acts import Exec, Member
from libstaragent.testing.clock import ManualClock
from libstaragent.testing.operators import SUBMIT_WITHIN, Operators
from libstaragent.testing.rules import FORBIDDEN_USER


class Trespassers:
    """See the module."""

    def __init__(self, clock: ManualClock, seed: int, operators: Operators, members: Sequence[Member]) -> None:
        self._clock = clock
        self._random = Random(f"trespassers {seed}")
        self._operators = operators
        self._members = members
        for _ in range(1 + int(self._random.random() * 2)):
            clock.call_later(self._random.random() * SUBMIT_WITHIN, self._order)

    def _order(self) -> None:
        draw = self._random.random
        expires = self._clock.now_ms + 5000 + int(draw() * 20_000)
        act = Exec(argv=("sim", "10", "0", "0", "0", str(expires), "own"), user=FORBIDDEN_USER, timeout_ms=1000)
        members = tuple(self._random.sample(self._members, 1 + int(draw() * len(self._members))))
        self._operators.order(act, expires, members)
