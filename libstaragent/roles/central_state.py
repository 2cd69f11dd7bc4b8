"""What central has in memory: jobs, the connections of hosts, and the decision that one batch of inputs leads to.
Values and their small rules; when they change is decided in `libstaragent.roles.central`.
"""

from __future__ import annotations

__all__ = ("GRACE_MS", "Decision", "Ended", "HostState", "Job", "Reduced")

from collections.abc import Sequence

from msgspec import Struct

from libstaragent.jobs.reduce import is_reducer
from libstaragent.jobs.states import is_terminal
from libstaragent.model.result import TargetResult
from libstaragent.protocol import trunk as t
from libstaragent.roles.guards import Change
from libstaragent.roles.pacing import Pacing, PauseEntry
from libstaragent.security.acts import Envelope, Exec, Member, is_host_act, run_span_ms
from libstaragent.security.signed import Signed

# Beyond expiry and timeout: the kill's own grace, a result read from disk, one reconnect of the agent and one resend.
GRACE_MS = 60_000


class Job:
    """One job in memory. `states` has one entry a target; `ended_at` is None while a target is open; `pacing` is None
    where all hosts were begun on at once. `rule` is the one that let it pass, empty after a restart.
    """

    __slots__ = (
        "cancel",
        "counts",
        "deadline_ms",
        "deliver_by_ms",
        "due_ms",
        "ended_at",
        "envelope",
        "id",
        "members",
        "open",
        "operator",
        "pacing",
        "reduce",
        "rule",
        "schedule",
        "schedule_name",
        "signed",
        "source",
        "states",
        "submitted_ms",
        "watched",
    )

    def __init__(
        self, envelope: Envelope, signed: Signed, members: Sequence[Member], *, source: str, submitted_ms: int
    ) -> None:
        assert is_host_act(envelope.act)
        self.id = envelope.id
        self.operator = envelope.operator
        self.envelope = envelope
        named = envelope.act.reduce if isinstance(envelope.act, Exec) else ""
        # One that only another version knows is none here: outputs travel whole then.
        self.reduce = named if named and is_reducer(named) else ""
        self.signed = signed
        self.source = source
        self.rule = ""
        self.submitted_ms = submitted_ms
        self.deadline_ms = envelope.expires + run_span_ms(envelope.act) + GRACE_MS
        self.deliver_by_ms = envelope.expires
        # When its deadline is looked at.
        self.due_ms = self.deadline_ms
        self.members: dict[str, Member] = {member.agent: member for member in members}
        self.states: dict[str, str] = dict.fromkeys(self.members, "queued")
        self.open = len(self.members)
        self.counts: dict[str, int] = {"queued": self.open}
        self.ended_at: int | None = None
        self.cancel: Signed | None = None
        self.watched = False
        # Of a firing: its schedule. Rooms are given no order then, the host had it long before.
        self.schedule = self.schedule_name = ""
        self.pacing = None if envelope.plan is None else Pacing(envelope.plan, list(self.members))

    def move(self, agent: str, state: str) -> None:
        """Put one target into another state."""
        before = self.states[agent]
        left = self.counts[before] - 1
        if left:
            self.counts[before] = left
        else:
            del self.counts[before]
        self.states[agent] = state
        self.counts[state] = self.counts.get(state, 0) + 1
        self.open += is_terminal(before) - is_terminal(state)

    def open_agents(self) -> list[str]:
        """The targets that have not ended."""
        return [agent for agent, state in self.states.items() if not is_terminal(state)]

    def begun_agents(self) -> list[str]:
        """Those of them that may be on their way or under way: all but the ones whose turn has not come."""
        pacing = self.pacing
        return self.open_agents() if pacing is None else [one for one in self.open_agents() if pacing.is_begun(one)]


class HostState(Struct):
    """What central knows of a host's connection now. Not durable: a room that starts again tells it anew.

    `boot` and `order` are those of the last word about it, see `trunk.HostUp`.
    """

    agent: str
    room: str
    up: bool
    at_ms: int
    version: str = ""
    code: str = ""
    roster: int = 0
    clock_ahead_ms: int = 0
    boot_nonce: bytes = b""
    boot: str = ""
    order: int = 0


class Ended(Struct, frozen=True, array_like=True):
    """One result to store, without its output: that is `body` under `digest` (both empty: there is none), of which
    `omitted` bytes were not kept. `before` is the state in which the target was.
    """

    job: str
    agent: str
    result: TargetResult
    before: str
    received_ms: int
    digest: bytes = b""
    body: bytes = b""
    omitted: int = 0


class Reduced(Struct, frozen=True, array_like=True):
    """A part of a reduction, to store with the results that it covers; `agent` is the first of these."""

    job: str
    agent: str
    part: bytes


class Decision:
    """What one batch changes. The first group is written; the second follows the commit."""

    __slots__ = (
        "amended",
        "cancels",
        "ended",
        "finished",
        "guards",
        "hosts",
        "new_jobs",
        "now_ms",
        "orders",
        "paced",
        "pauses",
        "progress",
        "reduced",
        "renewals",
        "rule",
        "settle",
        "strange",
    )

    def __init__(self) -> None:
        self.new_jobs: list[Job] = []
        self.ended: list[Ended] = []
        self.reduced: list[Reduced] = []
        self.amended: list[Ended] = []
        self.cancels: list[tuple[str, Signed, int]] = []
        # Which rule let a Cancel, Pause or Resume pass; empty where it is of one's own job.
        self.rule = ""
        self.finished: list[Job] = []
        self.pauses: list[PauseEntry] = []
        self.hosts: list[t.HostUp | t.HostDown] = []
        self.guards: list[Change] = []
        self.settle: list[tuple[str, str, str]] = []
        self.orders: list[tuple[str, t.Order]] = []
        self.progress: list[tuple[str, str, str]] = []
        self.renewals: list[t.RenewCertificate] = []
        self.strange: list[t.TargetEnded | t.FiringBegan] = []
        # Planned jobs that may go on once this is on disk, and when that is looked at.
        self.paced: dict[str, Job] = {}
        self.now_ms = 0

    @property
    def writes(self) -> bool:
        """Whether there is something to commit."""
        return bool(
            self.new_jobs or self.ended or self.amended or self.cancels or self.pauses or self.hosts or self.guards
        )
