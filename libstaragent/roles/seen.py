"""Which orders a room has had already: the bus delivers them again, and central gives them again.

Not here: what a room does with those that are new. Rules: what was had stays had until its job's deadline, after which
no order of it is taken; a job without a plan comes whole, so its first order names all targets there are, and a number
of jobs is remembered; one with a plan comes in parts, so each of its targets is remembered.
"""

from __future__ import annotations

__all__ = ("SEEN_JOBS_MAX", "SEEN_PARTS_MAX", "SeenOrders")

from libstaragent.protocol import trunk as t
from libstaragent.roles.wheel import Wheel
from libstaragent.security.membership import Proof

# Jobs that are recognised when the bus delivers them again, which it does within a minute or so; about 10 MB.
SEEN_JOBS_MAX = 65_536
# Targets of planned jobs that are recognised, about 25 MB: a host each in as many jobs as are seen whole. Beyond it the
# oldest job's are forgotten; an order of it that comes again then goes to its host again, which knows the id.
SEEN_PARTS_MAX = 262_144

Targets = tuple[tuple[str, Proof | None], ...]


class SeenOrders:
    """See the module."""

    def __init__(self) -> None:
        self._whole: dict[str, None] = {}
        self._parts: dict[str, set[str]] = {}
        self._parts_due: Wheel[str] = Wheel()
        self._targets = 0

    def new_targets(self, dispatch: t.Dispatch) -> Targets:
        """Those of its targets that no order before named; they count as had from now on."""
        job = dispatch.job
        if not dispatch.parts:
            if job in self._whole:
                return ()
            self._whole[job] = None
            if len(self._whole) > SEEN_JOBS_MAX:
                del self._whole[next(iter(self._whole))]
            return dispatch.targets
        had = self._parts.get(job)
        if had is None:
            had = self._parts[job] = set()
            self._parts_due.add(job, dispatch.deadline_ms)
        new = tuple(target for target in dispatch.targets if target[0] not in had)
        had.update(agent for agent, _ in new)
        self._targets += len(new)
        while self._targets > SEEN_PARTS_MAX and len(self._parts) > 1:
            self._forget(next(iter(self._parts)))
        return new

    def tick(self, now_ms: int) -> None:
        """Forget what is past its deadline."""
        for job in self._parts_due.due(now_ms):
            self._forget(job)

    def clear(self) -> None:
        """Forget everything."""
        self._whole.clear()
        self._parts.clear()
        self._targets = 0

    def _forget(self, job: str) -> None:
        self._targets -= len(self._parts.pop(job, ()))
