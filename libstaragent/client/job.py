"""One job, as its submitter or anybody who knows its id holds it.

Not here: submitting (`fleet`), the event stream (`events`). Rules: nothing is cached, each method asks central; a
result is only given for a job that has ended; a host is named by its name or by its agent's id.
"""

from __future__ import annotations

__all__ = ("HostOutput", "Job", "JobResult", "target_pages")

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from libstaragent import codes
from libstaragent.client.context import Context
from libstaragent.client.events import JobEvents
from libstaragent.client.known_hosts import KnownHosts
from libstaragent.client.output import STDERR, STDOUT, Gap, Piece, output_pieces
from libstaragent.client.transport import Transport
from libstaragent.client.verification import Verdict, judge
from libstaragent.errors import StarAgentError
from libstaragent.jobs.states import TERMINAL, exit_status
from libstaragent.model.api import JobView, OutputView, TargetPage, TargetView
from libstaragent.model.gathered import ReducedView

if TYPE_CHECKING:
    from libstaragent.jobs.folding import Group, GroupDiff

# A result brings the outputs along up to so many targets, 20 MB at most; of larger jobs they are read host by host.
MAX_WHOLE_TARGETS = 100
PAGE = 1000
PAGE_WITH_OUTPUT = 50


class HostOutput(Struct, frozen=True):
    """What is kept of one target's output; `pieces` in the order in which they were written."""

    pieces: tuple[Piece | Gap, ...]

    @property
    def stdout(self) -> bytes:
        """The kept bytes of stdout."""
        return b"".join(piece.data for piece in self.pieces if isinstance(piece, Piece) and piece.stream == STDOUT)

    @property
    def stderr(self) -> bytes:
        """The kept bytes of stderr."""
        return b"".join(piece.data for piece in self.pieces if isinstance(piece, Piece) and piece.stream == STDERR)

    @property
    def omitted(self) -> int:
        """How many bytes in the middle were not kept."""
        return sum(piece.size for piece in self.pieces if isinstance(piece, Gap))


class JobResult(Struct, frozen=True):
    """How a job ended. `targets` without what came later, with outputs where they are at most 100."""

    job: JobView
    targets: tuple[TargetView, ...]
    amendments: tuple[TargetView, ...] = ()

    @property
    def counts(self) -> Mapping[str, int]:
        """How many targets ended in each state."""
        return self.job.counts

    @property
    def exit_status(self) -> int:
        """What `opsconsole exec` ends with."""
        return exit_status(self.job.counts, stopped=self.job.stopped)

    @property
    def ok(self) -> bool:
        """Whether every target is ok."""
        return self.job.counts.get("ok", 0) == self.job.targets

    def output(self, host: str) -> HostOutput:
        """The output of the host with this name or agent id, if it came along.

        :raises NotFound: OUTPUT_MISSING.
        """
        for target in self.targets:
            if host in (target.host, target.agent) and isinstance(target.output, OutputView):
                return HostOutput(tuple(output_pieces(target.output)))
        raise codes.OUTPUT_MISSING.error(host)


class _Owner(Protocol):
    """What a job needs of the fleet that it was got from."""

    transport: Transport
    context: Context

    def open_events(self, job: JobView, *, output: bool = True) -> JobEvents: ...

    async def cancel_job(self, job: str) -> JobView: ...

    async def pause_job(self, job: str, paused: bool) -> JobView: ...
    def read_spool(self, job: str, host: str, offset: int) -> AsyncGenerator[Piece | Gap]: ...

    async def result_keys(self, agents: Sequence[str]) -> tuple[KnownHosts, Mapping[str, str]]: ...


class Job:
    """A job, by its id."""

    def __init__(self, owner: _Owner, view: JobView) -> None:
        self.id = view.id
        self.submitted = view
        self._owner = owner

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.submitted.expression!r} {self.submitted.command!r}>"

    async def view(self) -> JobView:
        """The job as it is now."""
        return await self._owner.transport.get(f"/v1/jobs/{self.id}", JobView)

    def events(self, *, output: bool = True) -> JobEvents:
        """Live events from now until the job's end; see `JobEvents`. Hosts send live output only to who wants it."""
        return self._owner.open_events(self.submitted, output=output)

    async def targets(self, *, state: str | None = None, output: bool = False) -> tuple[TargetView, ...]:
        """All targets of the job, or those in `state`; with `output` what is kept of their output comes along."""
        return tuple([target async for page in target_pages(self, state=state, output=output) for target in page])

    async def page(self, *, after: str | None, state: str | None = None, output: bool = False) -> TargetPage:
        """A page of `targets`, of those after the agent `after`; its `next` begins the one that follows."""
        return await self._owner.transport.get(
            f"/v1/jobs/{self.id}/targets",
            TargetPage,
            state=state,
            output=1 if output else None,
            after=after,
            limit=PAGE_WITH_OUTPUT if output else PAGE,
        )

    async def stored_output(self, host: str) -> OutputView:
        """What is kept of one target's output, as records; of what came later, if something did.

        :raises NotFound: no such host in this job.
        :raises Conflict: TARGET_OPEN, it has not ended.
        """
        return await self._owner.transport.get(f"/v1/jobs/{self.id}/output", OutputView, host=host)

    async def output(self, host: str) -> HostOutput:
        """What is kept of one target's output; nothing, if it printed nothing or never ran.

        :raises NotFound: no such host in this job.
        :raises Conflict: TARGET_OPEN, it has not ended.
        """
        return HostOutput(tuple(output_pieces(await self.stored_output(host))))

    async def fold(self, *, similar: bool = False) -> tuple[Group, ...]:
        """The ended targets in groups of identical outputs, or of similar ones, the largest first.

        :raises StarAgentError: central refuses, or cannot be reached.
        """
        from libstaragent.client.folded import folded  # late: most programs fold nothing

        return await folded(self, similar=similar)

    async def diff(self) -> tuple[GroupDiff, ...]:
        """Each group of identical outputs but the largest, compared with the largest.

        :raises StarAgentError: central refuses, or cannot be reached.
        """
        from libstaragent.client.folded import compared  # late: most programs fold nothing

        return await compared(await self.fold())

    async def reduced(self) -> ReducedView:
        """What the rooms have made of the outputs so far; of all, once the job has ended.

        :raises Conflict: NOT_REDUCED, the job was run without a reducer.
        """
        return await self._owner.transport.get(f"/v1/jobs/{self.id}/reduced", ReducedView)

    def read_output(self, host: str, offset: int = 0) -> AsyncGenerator[Piece | Gap]:
        """What the host itself still keeps of the output, from `offset` (bytes of both streams) on: more than came with
        the result, for a day or until its room is needed. A cut connection is gone on with; close it when it is left.

        :raises NotFound: SPOOL_GONE, the host keeps nothing of it.
        """
        return self._owner.read_spool(self.id, host, offset)

    async def verify(self, targets: Sequence[TargetView] | None = None) -> tuple[Verdict, ...]:
        """How far the results of the job's ended targets, or of those `targets` of it, are their hosts' own word.

        :raises Denied: the file of known keys can be changed by others.
        :raises StarAgentError: central refuses, or cannot be reached.
        """
        if targets is None:
            targets = await self.targets(output=self.submitted.targets <= MAX_WHOLE_TARGETS)
        ended = [target for target in targets if target.state in TERMINAL]
        agents = sorted({target.agent for target in ended if target.signature})
        known, told = await self._owner.result_keys(agents)
        verdicts: list[Verdict] = []
        for target in ended:
            try:
                key = known.key(target.agent, told.get(target.agent, "")) if target.signature else b""
            except StarAgentError as error:
                if error.code is not codes.HOST_KEY_CHANGED:
                    raise
                verdicts.append(Verdict(target, "forged", f"{error.code.code} {error.code.sentence}"))
                continue
            verdicts.append(judge(target, fleet=self._owner.context.fleet, key=key))
        known.save()
        return tuple(verdicts)

    async def cancel(self) -> JobView:
        """Asks every target that has not ended to stop; signed like any act.

        :raises StarAgentError: central refuses it.
        """
        return await self._owner.cancel_job(self.id)

    async def pause(self) -> JobView:
        """Begins on no further host of a planned job; what runs goes on.

        :raises Conflict: NOTHING_HELD, all of its hosts have been begun on.
        """
        return await self._owner.pause_job(self.id, True)

    async def resume(self) -> JobView:
        """Goes on with a planned job that is paused, or that waits at the end of a wave.

        :raises Conflict: NOTHING_HELD, all of its hosts have been begun on.
        """
        return await self._owner.pause_job(self.id, False)

    async def result(self) -> JobResult:
        """Waits for the job's end and gives it.

        :raises StarAgentError: central refuses, or cannot be reached any more.
        """
        events = self.events()
        try:
            async for _ in events:
                pass
        finally:
            await events.aclose()
        return await self.ended(events.job)

    async def ended(self, view: JobView) -> JobResult:
        """The result of a job whose last view is `view`: it has ended."""
        targets = await self.targets(output=view.targets <= MAX_WHOLE_TARGETS)
        return JobResult(
            view,
            tuple(target for target in targets if not target.amendment),
            tuple(target for target in targets if target.amendment),
        )


async def target_pages(
    job: Job, *, state: str | None = None, output: bool = False
) -> AsyncGenerator[tuple[TargetView, ...], None]:
    """The targets of `Job.targets` page by page, for whoever cannot hold all outputs."""
    after: str | None = None
    while True:
        page = await job.page(after=after, state=state, output=output)
        yield page.targets
        after = page.next
        if after is None:
            return
