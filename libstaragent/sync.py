"""The library without ``async``: the same fleet, jobs and events, as plain calls and plain iterators.

    from libstaragent.sync import Fleet

    with Fleet.connect() as fleet:
        job = fleet.run("web[01-03]", ["uptime"])
        for event in job.events():
            ...
        print(job.result().counts)

One thread with an event loop does the work (anyio's blocking portal); a call waits for it. What each method does, takes
and raises stands in `libstaragent.client`. Rules: nothing is decided here; the public methods are those of the other
surface (a test holds them together); one fleet may be used from several threads.

The file is long because it has one method for each of the other surface.
"""

from __future__ import annotations

__all__ = ("Administration", "Fleet", "Job", "JobEvents")

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from libstaragent.client import events as awaited_events
from libstaragent.client import fleet as awaited_fleet
from libstaragent.client import job as awaited_job
from libstaragent.client.audit import AuditRecord, AuditVerdict
from libstaragent.client.context import Context
from libstaragent.client.job import HostOutput, JobResult
from libstaragent.client.output import Gap, Piece
from libstaragent.client.sync_administration import Administration
from libstaragent.client.sync_files import FleetFiles
from libstaragent.client.sync_schedules import FleetSchedules
from libstaragent.client.verification import Verdict
from libstaragent.model.api import (
    Event,
    Health,
    HostView,
    JobSubmission,
    JobView,
    Outcomes,
    OutputView,
    Session,
    TargetPage,
    TargetView,
    TokenIssued,
)
from libstaragent.model.gathered import ReducedView
from libstaragent.security.acts import Act, Exec, Member, Plan
from libstaragent.security.roster import Roster

if TYPE_CHECKING:
    from libstaragent.jobs.folding import Group, GroupDiff


T = TypeVar("T")


class _Caller(Protocol):
    """Runs an asynchronous call and waits for it."""

    def __call__(self, function: Callable[[], Awaitable[T]]) -> T: ...


class JobEvents:
    """A plain iterator over one job's events; leave it early with `close`."""

    def __init__(self, call: _Caller, events: awaited_events.JobEvents) -> None:
        self._call = call
        self._events = events

    @property
    def job(self) -> JobView:
        """The job as it was last heard of."""
        return self._events.job

    @property
    def more(self) -> bool:
        """Whether the next event is here already."""
        return self._events.more

    def __iter__(self) -> JobEvents:
        return self

    def __next__(self) -> Event:
        try:
            return self._call(self._events.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """Ends the stream."""
        self._call(self._events.aclose)


class Job:
    """A job, by its id."""

    def __init__(self, call: _Caller, job: awaited_job.Job) -> None:
        self.id = job.id
        self.submitted = job.submitted
        self._call = call
        self._job = job

    def view(self) -> JobView:
        """The job as it is now."""
        return self._call(self._job.view)

    def events(self, *, output: bool = True) -> JobEvents:
        """Live events from now until the job's end; with live output unless `output` is off."""
        return JobEvents(self._call, self._job.events(output=output))

    def targets(self, *, state: str | None = None, output: bool = False) -> tuple[TargetView, ...]:
        """All targets of the job, or those in `state`; with `output` what is kept of their output comes along."""
        return self._call(lambda: self._job.targets(state=state, output=output))

    def stored_output(self, host: str) -> OutputView:
        """What is kept of one target's output, as records."""
        return self._call(lambda: self._job.stored_output(host))

    def output(self, host: str) -> HostOutput:
        """What is kept of one target's output."""
        return self._call(lambda: self._job.output(host))

    def read_output(self, host: str, offset: int = 0) -> Iterator[Piece | Gap]:
        """What the host itself still keeps of the output, from `offset` on; see the other `Job.read_output`."""
        pieces = self._job.read_output(host, offset)
        try:
            while True:
                try:
                    yield self._call(pieces.__anext__)
                except StopAsyncIteration:
                    return
        finally:
            self._call(pieces.aclose)

    def verify(self, targets: Sequence[TargetView] | None = None) -> tuple[Verdict, ...]:
        """How far the results of the job's ended targets, or of those `targets`, are their hosts' own word."""
        return self._call(lambda: self._job.verify(targets))

    def page(self, *, after: str | None, state: str | None = None, output: bool = False) -> TargetPage:
        """A page of `targets`, of those after the agent `after`; its `next` begins the one that follows."""
        return self._call(lambda: self._job.page(after=after, state=state, output=output))

    def fold(self, *, similar: bool = False) -> tuple[Group, ...]:
        """The ended targets in groups of identical outputs, or of similar ones, the largest first."""
        return self._call(lambda: self._job.fold(similar=similar))

    def diff(self) -> tuple[GroupDiff, ...]:
        """Each group of identical outputs but the largest, compared with the largest."""
        return self._call(self._job.diff)

    def reduced(self) -> ReducedView:
        """What the rooms have made of the outputs so far."""
        return self._call(self._job.reduced)

    def cancel(self) -> JobView:
        """Asks every target that has not ended to stop."""
        return self._call(self._job.cancel)

    def pause(self) -> JobView:
        """Begins on no further host of a planned job; what runs goes on."""
        return self._call(self._job.pause)

    def resume(self) -> JobView:
        """Goes on with a planned job that is paused, or that waits at the end of a wave."""
        return self._call(self._job.resume)

    def result(self) -> JobResult:
        """Waits for the job's end and gives it."""
        return self._call(self._job.result)

    def ended(self, view: JobView) -> JobResult:
        """The result of a job whose last view is `view`: it has ended."""
        return self._call(lambda: self._job.ended(view))


class Fleet(FleetFiles, FleetSchedules):
    """A fleet, through its central's API. Made by `connect`, used as a context manager."""

    def __init__(self, fleet: awaited_fleet.Fleet) -> None:
        self.context = fleet.context
        self._fleet = fleet
        self._manager: AbstractContextManager[BlockingPortal] | None = None
        self._portal: BlockingPortal | None = None

    @classmethod
    def connect(cls, context: Context | Path | None = None) -> Fleet:
        """The fleet of `context`: a value, the path of a context file, or None for the user's own."""
        return cls(awaited_fleet.Fleet.connect(context))

    def __enter__(self) -> Fleet:
        self._manager = start_blocking_portal()
        self._portal = self._manager.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._manager is not None
        try:
            self._call(self._fleet.aclose)
        finally:
            self._portal = None
            self._manager.__exit__(None, None, None)

    def _made(self, job: awaited_job.Job) -> Job:
        return Job(self._call, job)

    def _call(self, function: Callable[[], Awaitable[T]]) -> T:
        if self._portal is None:
            raise RuntimeError("use the fleet in a with statement")
        return self._portal.call(function)

    def health(self) -> Health:
        """How the control plane is; needs no login."""
        return self._call(self._fleet.health)

    def hosts(self, expression: str | None = None) -> tuple[HostView, ...]:
        """The hosts of the fleet, or those that `expression` means, by name."""
        return self._call(lambda: self._fleet.hosts(expression))

    def host(self, name: str) -> HostView:
        """The host with this name or agent id."""
        return self._call(lambda: self._fleet.host(name))

    def resolve(self, expression: str) -> tuple[Member, ...]:
        """The hosts that `expression` means now, as they would be signed."""
        return self._call(lambda: self._fleet.resolve(expression))

    def roster(self) -> Roster:
        """The newest revision of the roster, verified by the pin in the context."""
        return self._call(self._fleet.roster)

    @property
    def administration(self) -> Administration:
        """Rules, operators, hosts that leave: what admins sign."""
        return Administration(self._call, self._fleet.administration)

    def forget_roster(self) -> None:
        """The next act asks for the newest roster again."""
        self._fleet.forget_roster()

    def load_seed(self) -> bytes:
        """The operator's key, from where the context says."""
        return self._fleet.load_seed()

    def login(self, *, ttl: float | None = None) -> Session:
        """Logs in anew for `ttl` seconds, 12 hours if None."""
        return self._call(lambda: self._fleet.login(ttl=ttl))

    def audit(
        self,
        limit: int = 50,
        *,
        since_ms: int = 0,
        operator: str | None = None,
        host: str | None = None,
        refused: bool = False,
    ) -> tuple[AuditRecord, ...]:
        """The newest `limit` entries of the audit, newest first; see the other `Fleet.audit`."""
        return self._call(
            lambda: self._fleet.audit(limit, since_ms=since_ms, operator=operator, host=host, refused=refused)
        )

    def verify_audit(self, *, agents: int = 8) -> AuditVerdict:
        """Reads the whole audit and holds it against what this client and `agents` hosts saw of it."""
        return self._call(lambda: self._fleet.verify_audit(agents=agents))

    def run(
        self,
        targets: str,
        argv: Sequence[str],
        *,
        timeout: float | None = None,
        ttl: float | None = None,
        background: bool = False,
        shell: bool = False,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        reduce: str = "",
        signed: bool = False,
        waves: str | Sequence[int | str] | None = None,
        window: int | None = None,
        max_failures: int | str | None = None,
        wait: float = 0.0,
        confirm_waves: bool = False,
        life: float | None = None,
    ) -> Job:
        """Runs a command on the hosts that `targets` means; see the other `Fleet.run`."""
        job = self._call(
            lambda: self._fleet.run(
                targets,
                argv,
                timeout=timeout,
                ttl=ttl,
                background=background,
                shell=shell,
                user=user,
                cwd=cwd,
                env=env,
                stdin=stdin,
                signed=signed,
                reduce=reduce,
                waves=waves,
                window=window,
                max_failures=max_failures,
                wait=wait,
                confirm_waves=confirm_waves,
                life=life,
            )
        )
        return Job(self._call, job)

    @staticmethod
    def plan(
        count: int,
        *,
        waves: str | Sequence[int | str] | None = None,
        window: int | None = None,
        max_failures: int | str | None = None,
        wait: float = 0.0,
        confirm_waves: bool = False,
        ttl: float | None = None,
        background: bool = False,
    ) -> Plan | None:
        """The plan for `count` hosts, None where nothing of one is asked for; see `run`."""
        return awaited_fleet.Fleet.plan(
            count,
            waves=waves,
            window=window,
            max_failures=max_failures,
            wait=wait,
            confirm_waves=confirm_waves,
            ttl=ttl,
            background=background,
        )

    @staticmethod
    def command(
        argv: Sequence[str],
        *,
        timeout: float | None = None,
        background: bool = False,
        shell: bool = False,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        reduce: str = "",
        signed: bool = False,
    ) -> Exec:
        """The act of running a command; see `run`."""
        return awaited_fleet.Fleet.command(
            argv,
            timeout=timeout,
            background=background,
            shell=shell,
            user=user,
            cwd=cwd,
            env=env,
            stdin=stdin,
            signed=signed,
            reduce=reduce,
        )

    def sign(
        self,
        act: Act,
        *,
        expression: str = "",
        members: Sequence[Member] | None = None,
        ttl: float | None = None,
        background: bool = False,
        plan: Plan | None = None,
        life: float | None = None,
        boot_nonce: bytes | None = None,
    ) -> tuple[str, JobSubmission]:
        """The id of the act and what to submit for it, now or by other means until it expires."""
        return self._call(
            lambda: self._fleet.sign(
                act,
                expression=expression,
                members=members,
                ttl=ttl,
                background=background,
                plan=plan,
                life=life,
                boot_nonce=boot_nonce,
            )
        )

    def boot_of(self, members: Sequence[Member]) -> bytes:
        """What binds an envelope to the present start of one host's agent: for a host whose clock is wrong."""
        return self._call(lambda: self._fleet.boot_of(members))

    def submit(self, submission: JobSubmission) -> Job:
        """Sends what was signed; sent again it is the same job."""
        return Job(self._call, self._call(lambda: self._fleet.submit(submission)))

    def issue_token(
        self,
        *,
        room: str,
        uses: int = 1,
        ttl: float = 3600.0,
        name_pattern: str = "*",
        networks: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        replaces: bool = False,
    ) -> TokenIssued:
        """A token with which hosts can join; it is said only this once."""
        return self._call(
            lambda: self._fleet.issue_token(
                room=room,
                uses=uses,
                ttl=ttl,
                name_pattern=name_pattern,
                networks=networks,
                labels=labels,
                replaces=replaces,
            )
        )

    def resolve_clone(self, name: str, *, keep: str | None = None) -> HostView:
        """Says which of the machines that have a host's identity is the host; the others must join anew."""
        return self._call(lambda: self._fleet.resolve_clone(name, keep=keep))

    def job(self, identity: str) -> Job:
        """The job with this id."""
        return Job(self._call, self._call(lambda: self._fleet.job(identity)))

    def outcomes(self, *, since: float = 3600.0, by: Sequence[str] = ("code",)) -> Outcomes:
        """How targets ended in the last `since` seconds, counted apart by what `by` names."""
        return self._call(lambda: self._fleet.outcomes(since=since, by=by))

    def jobs(self, limit: int = 50) -> tuple[JobView, ...]:
        """The newest `limit` jobs, newest first."""
        return self._call(lambda: self._fleet.jobs(limit))
