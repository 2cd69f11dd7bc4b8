"""The one seam between the console and a fleet: the values that it shows and the protocol it asks.

It is not the client library: `libstaragent.client.Fleet` is wrapped into a `FleetSource` by the wiring, and tests
bring a source of their own. It names everything the console may know of a fleet, so that no screen reaches past it.

Rules: frozen values; what a host sent (names, labels, output) is carried as it came and is hostile until it has passed
`opsconsole.sanitize`; times are seconds since the epoch; every failure is a `StarAgentError`.
"""

from __future__ import annotations

__all__ = (
    "IN_FLIGHT",
    "OPEN_JOBS",
    "Event",
    "FleetSource",
    "HostRow",
    "HostState",
    "JobRow",
    "JobState",
    "LinkChanged",
    "OutcomeCount",
    "OutputLines",
    "StreamName",
    "TargetRow",
)

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from libstaragent.jobs.states import OPEN

HostState = Literal["up", "down", "never", "quarantined"]
# `held`: between two waves of its plan. `stopped`: its failures ended hosts whose turn had not come.
JobState = Literal["running", "paused", "held", "done", "stopped", "cancelled"]
StreamName = Literal["stdout", "stderr"]
# The states of a target that has not finished; every other state is terminal.
IN_FLIGHT = frozenset(OPEN)
# The states of a job that has not finished.
OPEN_JOBS: frozenset[JobState] = frozenset(("running", "paused", "held"))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRow:
    """One host as it is now; as an event: this host changed to this. `since`: when it came into its state."""

    id: str
    name: str
    room: str
    state: HostState
    labels: tuple[tuple[str, str], ...] = ()
    os: str = ""
    address: str = ""
    version: str = ""
    since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One job as it is now; `counts` says how many targets are in each state, in-flight states included."""

    id: str
    operator: str
    command: str
    targets: int
    counts: tuple[tuple[str, int], ...] = ()
    state: JobState = "running"
    started: float | None = None
    finished: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRow:
    """One host in one job. `state` is a terminal state of a target, or one of `IN_FLIGHT`."""

    job: str
    host: str
    state: str
    exit_status: int | None = None
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLines:
    """A piece of one target's output: raw bytes, cut anywhere.

    `seq` grows with each record of a target, so that a record read from history and the same one live are told apart.
    `omitted` counts the bytes of output that are not shown between the record before and this one.
    """

    job: str
    host: str
    stream: StreamName
    seq: int
    data: bytes
    omitted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeCount:
    """How many of `total` targets ended so; `code` is empty where none was given."""

    state: str
    code: str
    room: str
    version: str
    targets: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanged:
    """The way to central: live, or lost and being sought again."""

    live: bool
    detail: str = ""


Event = HostRow | JobRow | TargetRow | OutputLines | LinkChanged


class FleetSource(Protocol):
    """What the console asks of a fleet. All may raise StarAgentError; `events` is then asked again after a pause."""

    @property
    def confirm_above(self) -> int:
        """A run on more hosts than this asks for their number."""
        ...

    async def hosts(self) -> Sequence[HostRow]:
        """Every host, with its state now."""
        ...

    async def jobs(self, limit: int) -> Sequence[JobRow]:
        """The newest `limit` jobs, newest first."""
        ...

    async def targets(self, job: str) -> Sequence[TargetRow]:
        """Every target of a job, with its state now."""
        ...

    async def output(self, job: str, host: str) -> Sequence[OutputLines]:
        """What is kept of one target's output, in the order of its `seq`."""
        ...

    async def outcomes(self, since: float) -> Sequence[OutcomeCount]:
        """How targets ended in the last `since` seconds."""
        ...

    def events(self) -> AsyncIterator[Sequence[Event]]:
        """Changes in batches; a batch is what arrived in one go.

        The first batch comes as soon as the subscription stands, empty if need be: from then on nothing is missed, so
        that the lists asked for after it and the batches together are complete. Targets and output come at least for
        the jobs that were started here or whose `targets` were asked for; a record that comes twice is told by its
        `seq`.
        """
        ...

    async def preview(self, targets: str) -> Sequence[str]:
        """The names of the hosts an expression matches; an unknown host or an empty match is an error."""
        ...

    async def run(self, targets: str, argv: Sequence[str], *, shell: bool, timeout: float | None) -> str:
        """Start a job and give its id. With `shell`, `argv` is one string for the shell."""
        ...

    async def cancel(self, job: str) -> None:
        """Stop a job on every target that has not finished."""
        ...
