"""How far a planned job may go: given its plan, what has ended and what was paused, which hosts are begun on now.

Not here: dispatching and ending targets (`central`), when a decision is on disk (the shell).

Rules
- Hosts are begun on in the frozen order of the job's members, so what has been begun on is a prefix of it, and one
  number says all: `begun`. The rest is *held*: still `queued`, unknown to every room.
- A wave is over when all its hosts have ended. Between waves come the rest (`wait_ms`, from the last end) and, where
  the plan says `confirm`, an operator's `Resume` given after that end.
- `begun` grows only after a commit and only as far as `allowed` says of what that commit left on disk.

How it survives a restart: `begun` is not written, because it need not be. It was never more than `allowed` of the ends
on disk, and `allowed` only grows with them; so what it is for the ends that a new process reads is at least what the
old one had begun on, and everything up to there was permitted to begin. The new process takes all of it for begun on,
possibly sent, and offers it again; hosts know the ids they have seen. Two things would break this and are written: a
pause stops short of `allowed`, so its row says how far the job was; a `Resume` that confirms a wave says which. A rest
is over or not by the clock, so central's clock must not go back by more than it was down.
Failures stop a job by ending all that is held, in the commit of the result that was one too many.

Times are central's wall clock in ms.
"""

from __future__ import annotations

__all__ = ("KNOWN_PAUSES_MAX", "WITHOUT_TURN", "Pacing", "Past", "PauseEntry")

from collections import deque
from collections.abc import Mapping, Sequence

from msgspec import Struct

from libstaragent import codes
from libstaragent.jobs.states import is_terminal
from libstaragent.security.acts import Plan
from libstaragent.security.membership import MembershipTree
from libstaragent.security.signed import Signed

# Signed pauses and resumes of one job that are recognised when they come again: each is valid for a minute or two.
KNOWN_PAUSES_MAX = 256
# Why a host can end while it is held.
WITHOUT_TURN = frozenset(
    code.code for code in (codes.STOPPED_BY_FAILURES, codes.CANCELLED_BEFORE_TURN, codes.TURN_NEVER_CAME)
)


class PauseEntry(Struct, frozen=True, kw_only=True):
    """One signed Pause or Resume, as it is stored.

    Attributes:
        id: its envelope's. seq: their order within the job, from 1.
        begun: how many hosts had been begun on. confirmed: the end of the wave that it confirms, 0 for none.
    """

    id: str
    job: str
    seq: int
    paused: bool
    begun: int
    confirmed: int
    signed: Signed
    at_ms: int


class Past(Struct, frozen=True, kw_only=True):
    """What is on disk of a planned job besides its targets' states, and the time at which it is read.

    Attributes:
        pauses: in their order. ended_ms: the latest end. without_turn: those that ended while they were held, and why.
    """

    pauses: tuple[PauseEntry, ...] = ()
    ended_ms: int = 0
    without_turn: dict[str, str] = {}
    now_ms: int


class Pacing:
    """One planned job's advance.

    Attributes:
        begun: how many of the order have been begun on. open, held: those that have not ended, begun on and not.
        failed: how many that were begun on have ended other than ok. stopped: whether that ended what was held.
        deciding: pauses and resumes that are decided and not yet on disk; nothing is begun on meanwhile.
    """

    __slots__ = (
        "_places",
        "_turns",
        "begun",
        "confirmed",
        "deciding",
        "ended_ms",
        "failed",
        "held",
        "known",
        "open",
        "order",
        "paused",
        "pauses",
        "plan",
        "stopped",
        "tree",
        "waves",
    )

    def __init__(self, plan: Plan, order: Sequence[str]) -> None:
        self.plan = plan
        self.order = tuple(order)
        self.waves = plan.waves or (len(self.order),)
        self._places = {agent: place for place, agent in enumerate(self.order)}
        # (last moment, place): by then what was begun on up to this place has ended, or is lost.
        self._turns: deque[tuple[int, int]] = deque()
        self.begun = 0
        self.confirmed = 0
        self.open = 0
        self.held = len(self.order)
        self.failed = 0
        self.ended_ms = 0
        self.paused = False
        self.stopped = False
        self.deciding = 0
        self.pauses = 0
        self.known: dict[str, None] = {}
        # Over its hosts, where the envelope has a Merkle root.
        self.tree: MembershipTree | None = None

    # Where it stands -------------------------------------------------------------------------------------------------

    @property
    def wave(self) -> int:
        """The wave that is under way or was the last to end, from 1; 0 before the first."""
        return 0 if not self.begun else 1 + sum(end < self.begun for end in self.waves)

    @property
    def over(self) -> bool:
        """Whether the present wave is over and another would follow."""
        return self.held > 0 and self.open == 0 and self.begun in self.waves

    @property
    def awaits_resume(self) -> bool:
        """Whether a Resume would begin the next wave, now or after its rest."""
        return self.over and self.plan.confirm and self.confirmed < self.begun

    def rests(self, now_ms: int) -> bool:
        """Whether it is between two waves and the time for the next has not come."""
        return self.over and now_ms < self.ended_ms + self.plan.wait_ms

    def is_begun(self, agent: str) -> bool:
        """Whether this host's turn has come."""
        return self._places[agent] < self.begun

    def allowed(self, now_ms: int) -> int:
        """How many of the order may be begun on by now."""
        if self.paused or self.stopped or self.deciding or not self.held:
            return self.begun
        if self.begun in self.waves:
            if not self.over or self.awaits_resume or self.rests(now_ms):
                return self.begun
            bound = next(end for end in self.waves if end > self.begun)
        else:
            bound = next(end for end in self.waves if end >= self.begun)
        if self.plan.window is not None:
            bound = min(bound, self.begun + self.plan.window - self.open)
        return max(bound, self.begun)

    @property
    def failed_too_often(self) -> bool:
        """Whether what is held must not be begun on any more."""
        limit = self.plan.max_failures
        return limit is not None and self.failed > limit

    # What happens ----------------------------------------------------------------------------------------------------

    def is_due(self, now_ms: int) -> bool:
        """Whether `begin` has something to do."""
        return self.allowed(now_ms) > self.begun or (self.open > 0 and not self._turns)

    def begin(self, states: Mapping[str, str], *, now_ms: int, last_ms: int) -> list[str]:
        """Begin on all that `allowed` allows; those that are open. They have ended, or are lost, by `last_ms`."""
        upto = self.allowed(now_ms)
        turn = [agent for agent in self.order[self.begun : upto] if not is_terminal(states[agent])]
        self.begun = upto
        self.open += len(turn)
        self.held -= len(turn)
        if turn or (self.open and not self._turns):
            # After a restart the time of those that were begun on before begins anew.
            self._turns.append((last_ms, upto))
        return turn

    def ended(self, agent: str, state: str, now_ms: int) -> None:
        """A target has ended; one that was held as well, which ends without a turn."""
        if self.is_begun(agent):
            self.open -= 1
            self.failed += state != "ok"
            self.ended_ms = max(self.ended_ms, now_ms)
        else:
            self.held -= 1

    def overdue(self, now_ms: int) -> tuple[str, ...]:
        """Those that were begun on so long ago that they are lost, unless they have ended. Each turn is given once: one
        that was not written is covered by the next, or by `begin`.
        """
        place = 0
        while self._turns and self._turns[0][0] <= now_ms:
            _, place = self._turns.popleft()
        return self.order[:place]

    def held_agents(self, states: Mapping[str, str]) -> list[str]:
        """Those whose turn has not come, and that have not ended."""
        return [agent for agent in self.order[self.begun :] if not is_terminal(states[agent])]

    def knows(self, identity: str) -> bool:
        """Whether this Pause or Resume was taken before."""
        return identity in self.known

    def entry(self, identity: str, signed: Signed, *, job: str, paused: bool, now_ms: int) -> PauseEntry:
        """What a Pause or a Resume is now; it counts once it is on disk (`take`)."""
        self.pauses += 1
        return PauseEntry(
            id=identity,
            job=job,
            seq=self.pauses,
            paused=paused,
            begun=self.begun,
            confirmed=self.begun if not paused and self.over else 0,
            signed=signed,
            at_ms=now_ms,
        )

    def take(self, entry: PauseEntry) -> None:
        """A Pause or Resume that is on disk."""
        self.known[entry.id] = None
        if len(self.known) > KNOWN_PAUSES_MAX:
            del self.known[next(iter(self.known))]
        self.paused = entry.paused
        self.confirmed = max(self.confirmed, entry.confirmed)

    def restore(self, states: Mapping[str, str], past: Past) -> None:
        """Where the job stood; see the module."""
        for entry in past.pauses:
            self.take(entry)
            self.pauses = entry.seq
        self.stopped = codes.STOPPED_BY_FAILURES.code in past.without_turn.values()
        self.ended_ms = past.ended_ms
        reached = past.pauses[-1].begun if self.paused else self._reached(states, past.now_ms)
        self.begun = min((self._places[agent] for agent in past.without_turn), default=reached)
        self.recount(states)

    def _reached(self, states: Mapping[str, str], now_ms: int) -> int:
        """`allowed` of the ends on disk, from the first host on."""
        last_end = max((place for place, agent in enumerate(self.order) if is_terminal(states[agent])), default=-1)
        open_now = 0
        for place, agent in enumerate(self.order):
            if place in self.waves:
                rests = now_ms < self.ended_ms + self.plan.wait_ms and last_end < place
                if open_now or rests or (self.plan.confirm and self.confirmed < place):
                    return place
            is_open = not is_terminal(states[agent])
            if is_open and open_now == self.plan.window:
                return place
            open_now += is_open
        return len(self.order)

    def recount(self, states: Mapping[str, str]) -> None:
        """Count again, after a decision that was undone or from the store."""
        begun = [states[agent] for agent in self.order[: self.begun]]
        self.open = sum(not is_terminal(state) for state in begun)
        self.failed = sum(is_terminal(state) and state != "ok" for state in begun)
        self.held = sum(not is_terminal(states[agent]) for agent in self.order[self.begun :])
