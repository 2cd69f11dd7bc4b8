"""The referee of a simulated fleet: it saw what really happened, and compares it with what is said.

It is told when a command really starts and ends, whatever any journal, spool or store holds, and it is shown every word
that becomes durable. What must hold is in its methods; each broken promise is kept as one line, with the time.

Not here: the end of a run (`fleet`), where it is looked whether everything has ended and nothing leaked.
"""

from __future__ import annotations

__all__ = ("RealRun", "Referee")

from collections.abc import Callable

from libstaragent.jobs.kept_output import output_of
from libstaragent.model.result import TargetResult, records
from libstaragent.testing.clock import ManualClock

# A command may be a little late after its envelope expired: it was let in before, and each of two fsyncs
# takes up to a second.
START_LATE_MS = 2_500
# Ids of simulated hosts are ULIDs with a name at the end; people want the name.
_PADDING = "0" * 20
# States that only a command that ran to its end has.
_REAL_ENDS = ("ok", "exit_nonzero", "signalled", "timeout", "oom")


class RealRun:
    """One command that really started on one host; `text` is what it prints, if it gets to its end."""

    __slots__ = ("ended", "exit_status", "started_at", "text")

    def __init__(self, started_at: float) -> None:
        self.started_at = started_at
        self.ended = False
        self.exit_status: int | None = None
        self.text = b""


class Referee:
    """See the module. `trace` has a line for everything noted, when it is wanted."""

    def __init__(self, clock: ManualClock, *, tracing: bool) -> None:
        self._clock = clock
        self._tracing = tracing
        self.runs: dict[tuple[str, str], RealRun] = {}
        self.said_not_to_run: dict[tuple[str, str], str] = {}
        self.broken: list[str] = []
        self.trace: list[str] = []
        self.on_started: Callable[[str, str, tuple[str, ...], str | None], None] = lambda job, agent, argv, user: None

    def note(self, who: str, what: str) -> None:
        """A line for the trace."""
        if self._tracing:
            line = f"{self._clock.now:9.3f}  {who.removeprefix(_PADDING):<12}  {what.replace(_PADDING, '')}"
            self.trace.append(line)

    def breaks(self, promise: str, what: str) -> None:
        """A promise does not hold."""
        self.broken.append(f"{promise}: {what}")
        self.note("REFEREE", self.broken[-1])

    # What happened -------------------------------------------------------------------------------------------------

    def started(
        self,
        job: str,
        agent: str,
        expires_ms: int,
        *,
        argv: tuple[str, ...] = (),
        user: str | None = None,
        behind: int = 0,
    ) -> RealRun:
        """A command passed its gate, on a host whose clock is `behind` by so many ms."""
        key = (job, agent)
        if key in self.runs:
            self.breaks("no command runs twice", f"{job} on {agent}")
        if key in self.said_not_to_run:
            self.breaks("what is said not to run does not run", f"{job} on {agent}, {self.said_not_to_run[key]}")
        late_ms = self._clock.now_ms - max(0, behind) - expires_ms
        if late_ms > START_LATE_MS:
            self.breaks("nothing starts after it expired", f"{job} on {agent}, {late_ms} ms late")
        run = self.runs[key] = RealRun(self._clock.now)
        self.on_started(job, agent, argv, user)
        return run

    # What is said --------------------------------------------------------------------------------------------------

    def heard(self, agent: str, result: TargetResult) -> None:
        """A host's word has come to central, whether it is stored or comes too late for that."""
        if result.ran == "no" and (result.job, agent) in self.runs:
            self.breaks("what is said not to run does not run", f"{result.job}: {agent} says {result.state}, ran=no")

    def kept(self, agent: str, result: TargetResult, body: bytes | None) -> None:
        """The output of a result, as the store has it: None where it has not what the row points to."""
        what = f"{result.job} on {agent}, {result.stdout_bytes} bytes"
        run = self.runs.get((result.job, agent))
        if body is None:
            self.breaks("what is stored is there", what)
        elif body and run is not None:
            kept = b"".join(data for _, data in records(output_of(body).head))
            if kept != run.text[: len(kept)] or len(kept) != result.stdout_bytes:
                self.breaks("what is stored of a host is what it printed", what)

    def told(self, agent: str, result: TargetResult, by: str) -> None:
        """A result was said by `by`, or written to the store."""
        key = (result.job, agent)
        run = self.runs.get(key)
        what = f"{result.job} on {agent}: {by} says {result.state}, ran={result.ran}"
        if result.ran == "no":
            if run is not None:
                self.breaks("what is said not to run does not run", what)
            self.said_not_to_run[key] = what
        elif result.ran == "yes" and run is None:
            self.breaks("what is said to run has run", what)
        # A file that did not come in time ran nothing.
        if result.state in _REAL_ENDS and (result.state != "timeout" or result.ran == "yes"):
            if run is None or not run.ended:
                self.breaks("what is said to have ended has ended", what)
            elif result.state in ("ok", "exit_nonzero") and run.exit_status != result.exit_status:
                self.breaks("the exit status is the command's", what)
