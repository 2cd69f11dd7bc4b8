"""The part of the agent's core that stands between what was taken and the keeper: when a job is handed to it, what the
keeper says of it, and what becomes of jobs that an agent before us took.

    holding     ─a place at the keeper→ starting; ─its time is over, or cancelled→ ending
    recovered   ─the keeper knows it→ as the keeper says
                ─unknown to the keeper, and ordered again→ verified again → holding
                ─unknown to the keeper, and its time is over→ ending, `interrupted`, ran=no

The keeper runs so many at once; the others wait here, first come, first served. What was signed bounds when a command
may begin, so one that waited for too long does not start. Its timeout counts from its start.

A keeper has a spool of all that it ever let begin, on disk before the command is let through. So what a keeper does not
know surely never ran, and may start late. But only once the room orders it again, which it does on each new connection
while the job is wanted: then a cancel, another roster or an end that came meanwhile are heard first, and the order is
verified like a new one. Where the agent itself ends such a job, that is on disk before it is said.

Not here: what happens before and after (`agent`). Rules: pure.
"""

from __future__ import annotations

__all__ = ("HANDED_MAX", "AgentHandover")

from collections import deque
from collections.abc import Callable, Iterable
from errno import EEXIST
from typing import Any

from libstaragent import codes
from libstaragent.errors import Code, StarAgentError
from libstaragent.jobs.journal import Refused
from libstaragent.model.result import TargetResult, failed_result
from libstaragent.protocol import messages as m
from libstaragent.roles.agent_acts import wants_signature
from libstaragent.roles.agent_effects import ReadSpool, ToKeeper, Verifier
from libstaragent.roles.agent_files import Pulls
from libstaragent.roles.agent_heads import heads_result
from libstaragent.roles.agent_keeping import AgentKeeping, counts_until
from libstaragent.roles.agent_run import LocalRun, begin_by, ids_lost, keeper_spec, result_of
from libstaragent.roles.refusals import LONGEST_LIFE_MS, refused_until
from libstaragent.security.acts import Exec, Fetch, Put, ReadHeads
from libstaragent.security.heads import HeadRing
from libstaragent.security.result_signature import ResultSigner

# Commands that the keeper has at once: what it runs (`keeper.RUNNING_MAX`). It may refuse for want of a place all the
# same, having some of an agent before us; those wait again.
HANDED_MAX = 128
# Refusals that mean: later.
_LATER = (codes.KEEPER_BUSY.code, codes.AGENT_BUSY.code)
# Its time is over, or it was meant for the process before us.
_TOO_LATE = (codes.ENVELOPE_EXPIRED, codes.ENVELOPE_WRONG_BOOT)


class AgentHandover(AgentKeeping):
    """See the module; `AgentCore` is the whole."""

    heads: HeadRing
    pulls: Pulls

    def __init__(
        self,
        *,
        agent: str,
        boot: str,
        verifier: Verifier,
        state_of: Callable[[Code], str],
        signer: ResultSigner | None,
        handed_max: int,
    ) -> None:
        super().__init__(agent=agent, boot=boot, verifier=verifier, state_of=state_of)
        self._state_of = state_of
        self._signer = signer
        self._handed_max = handed_max
        self._done: dict[str, int] = {}
        self._keeper_up = False
        # In the order in which they are handed over; one that is not `holding` any more is passed over.
        self._holding: deque[str] = deque()
        self._handed: set[str] = set()
        # What to add to the monotonic time, in ms, for the wall clock.
        self._wall_ahead_ms = 0

    # The keeper ----------------------------------------------------------------------------------------------------

    def keeper_known(self, jobs: Iterable[dict[str, Any]], *, now: float, now_ms: int) -> None:
        """The keeper is there, and this is all it has. What was taken and is not in it did not run."""
        self._keeper_up = True
        self._see_clock(now, now_ms)
        known = {entry["job"]: entry for entry in jobs}
        for job, entry in known.items():
            if job in self._done:
                self.effects.append(ToKeeper({"op": "forget", "job": job}))
                continue
            if job not in self.open:
                # A spool whose journal record is lost: it ran, so its id counts and its result is told.
                self.open[job] = LocalRun("starting", expires_ms=now_ms + LONGEST_LIFE_MS)
            elif self.open[job].state in ("recovered", "pulling"):
                # An agent before us had handed it over; of a file, it had all.
                self.open[job].state = "starting"
                self.open[job].envelope = None
            if self.open[job].state in ("starting", "running"):
                self._handed.add(job)
            if entry["done"]:
                self.keeper_says({"ev": "finished", **entry}, now=now)
            elif entry["state"] == "running":
                self.keeper_says({"ev": "started", **entry}, now=now)
        for job, run in list(self.open.items()):
            if job not in known:
                self._unknown_to_keeper(job, run, now, now_ms)
        self._expire(now)
        self._hand_on(now)

    def keeper_gone(self) -> None:
        """The keeper's socket closed; a new keeper will tell what became of its jobs."""
        self._keeper_up = False

    def keeper_says(self, event: dict[str, Any], *, now: float) -> None:
        """started, output, finished or refused, of one job."""
        job = event["job"]
        run = self.open.get(job)
        kind = event["ev"]
        if run is None:
            if kind == "finished" and job in self._done:
                # Told from memory while its disk failed, and on disk only now: it may be deleted all the same.
                self.effects.append(ToKeeper({"op": "forget", "job": job}))
            return
        if kind == "started" and run.state == "starting":
            run.state = "running"
            run.envelope = None
            run.started_ms = event["at_ms"]
            if run.told:
                self._say(m.Started(job, event["at_ms"]))
            if run.cancelled:
                self._kill(job)
            self._watch_keeper(job, run)
        elif kind == "output":
            run.live_end = max(run.live_end, event["end"])
            self._follow(job, run)
        elif kind == "finished" and run.state in ("starting", "running"):
            self._handed.discard(job)
            run.summary = event
            if event["stdout_bytes"] or event["stderr_bytes"]:
                run.state = "reading"
                self.effects.append(ReadSpool(job))
            else:
                self._finish(job, result_of(job, event, None), now)
            self._hand_on(now)
        elif kind == "refused" and run.state == "starting":
            self._handed.discard(job)
            self._refused_by_keeper(job, run, event, now)

    def _refused_by_keeper(self, job: str, run: LocalRun, event: dict[str, Any], now: float) -> None:
        if event["code"] in _LATER and run.envelope is not None:
            # At the head of the line; it goes on when a place is free, or with the next tick.
            run.state = "holding"
            self._holding.appendleft(job)
            if run.cancelled:
                self._finish(job, TargetResult(job=job, state="cancelled", ran="no"), now)
            return
        errno = event.get("errno")
        # A spool that is there and says nothing: whose it was, and whether it ran, nobody knows.
        ran = "maybe" if errno == EEXIST else "no"
        result = failed_result(job, "spawn_failed", event["code"], event.get("detail", ""), errno=errno, ran=ran)
        self._finish(job, result, now)
        self._hand_on(now)

    # Handing over --------------------------------------------------------------------------------------------------

    def _begin(self, job: str, run: LocalRun, now: float) -> None:
        """It is taken, on disk, and may start."""
        act = None if run.envelope is None else run.envelope.act
        if run.cancelled:
            self._finish(job, TargetResult(job=job, state="cancelled", ran="no"), now)
        elif isinstance(act, ReadHeads):
            self._finish(job, heads_result(job, self.heads.heads), now)
        elif isinstance(act, Put):
            run.state = "pulling"
            self.pulls.begin(job, act, now)
        else:
            self._hold(job, run)

    def _hold(self, job: str, run: LocalRun) -> None:
        run.state = "holding"
        self._holding.append(job)

    def _hand_on(self, now: float) -> None:
        """Give the keeper as many as it has places for, if it is there."""
        while self._holding and self._keeper_up and len(self._handed) < self._handed_max:
            job = self._holding.popleft()
            run = self.open.get(job)
            if run is None or run.state != "holding" or run.envelope is None:
                continue
            if self._too_late(run, now):
                self._finish(job, failed_result(job, "expired", codes.ENVELOPE_EXPIRED.code), now)
                continue
            act = run.envelope.act
            assert isinstance(act, Exec | Put | Fetch)
            # The envelope stays until it runs: a keeper that has no place after all lets it wait again.
            run.state = "starting"
            self._handed.add(job)
            self.effects.append(ToKeeper({"op": "spawn", "job": job, "spec": keeper_spec(act, run.operator)}))

    def _expire(self, now: float) -> None:
        """End what never started and may not any more."""
        if not self._keeper_up:
            return
        for job, run in list(self.open.items()):
            if not self._too_late(run, now):
                continue
            if run.state == "holding":
                self._finish(job, failed_result(job, "expired", codes.ENVELOPE_EXPIRED.code), now)
            elif run.state == "recovered":
                self._finish(job, failed_result(job, "interrupted", codes.NEVER_STARTED.code), now)

    def _too_late(self, run: LocalRun, now: float) -> bool:
        return self._wall_ms(now) >= run.expires_ms if run.begin_by is None else now >= run.begin_by

    def _kill(self, job: str) -> None:
        self.effects.append(ToKeeper({"op": "kill", "job": job, "reason": "cancelled"}))

    # After a restart -----------------------------------------------------------------------------------------------

    def _unknown_to_keeper(self, job: str, run: LocalRun, now: float, now_ms: int) -> None:
        """The keeper that there is now has nothing of an open job: it did not run."""
        self._handed.discard(job)
        if run.state == "pulling" and run.envelope is not None and isinstance(run.envelope.act, Put):
            # What the keeper does not know was not placed: to go on with the draft is safe.
            self.pulls.begin(job, run.envelope.act, now)
        elif run.state == "starting" and run.envelope is not None:
            # It was told to a keeper that is gone.
            run.state = "holding"
            self._holding.appendleft(job)
        elif run.state in ("recovered", "starting", "running"):
            if run.doubtful:
                self._finish(job, ids_lost(job), now)
            elif run.cancelled:
                self._finish(job, TargetResult(job=job, state="cancelled", ran="no"), now)
            elif run.fired is not None or run.state != "recovered":
                # Nobody orders a firing again, and its time is over.
                self._finish(job, failed_result(job, "interrupted", codes.NEVER_STARTED.code), now)
            elif run.order is not None:
                self._ordered_again(run.order, run, now, now_ms)

    def _ordered_again(self, order: m.Run, run: LocalRun, now: float, now_ms: int) -> None:
        """A job that an agent before us took is still wanted."""
        job = order.job
        if not self._keeper_up:
            run.order = order
            return
        run.order = None
        if run.doubtful or run.fired is not None:
            return
        try:
            envelope = self._verifier.verify(order.signed, order.proof, now_ms)
            if envelope.id != job:
                raise codes.ACT_UNSUPPORTED.error("the room gave the envelope another job's id")
            run.sign = wants_signature(envelope, self._verifier, now_ms, can_sign=self._signer is not None)
        except StarAgentError as error:
            if error.code in _TOO_LATE:
                self._finish(job, failed_result(job, "interrupted", codes.NEVER_STARTED.code), now)
            elif refused_until(order.signed, job, error.code, now_ms) is not None:
                # Other bytes than those that were taken end nothing.
                self._finish(job, failed_result(job, self._state_of(error.code), error.code.code, error.detail), now)
            return
        run.envelope = envelope
        run.operator = envelope.operator
        run.expires_ms = envelope.expires
        run.begin_by = begin_by(envelope, now)
        self._keep_time()
        self._begin(job, run, now)

    # The end -------------------------------------------------------------------------------------------------------

    def _finish(self, job: str, result: TargetResult, now: float) -> None:
        run = self.open[job]
        if run.draft:
            self.pulls.drop(job)
        self._handed.discard(job)
        # Whether a spool on disk says that it ended.
        unheard = run.fired is None and (run.summary is None or run.summary.get("durable") is False)
        run.envelope = None
        run.summary = None
        if not unheard or result.ran != "no":
            self._report_as(run, result, now)
            return
        # A next process would find it taken and not begun, and start it.
        run.state = "ending"
        run.result = result
        self._persist(job, "ended", Refused(job, counts_until(run), result.state, result.code or ""), sync=True)

    def _report_as(self, run: LocalRun, result: TargetResult, now: float) -> None:
        if run.sign and self._signer is not None:
            result = self._signer.sign(result)
        run.state = "reporting"
        run.result = result
        self._report(run, now)

    # Time ----------------------------------------------------------------------------------------------------------

    def _see_clock(self, now: float, now_ms: int) -> None:
        self._wall_ahead_ms = now_ms - int(now * 1000)

    def _wall_ms(self, now: float) -> int:
        """The wall clock, as far as it was seen last, and never before what operators signed."""
        return max(int(now * 1000) + self._wall_ahead_ms, self._verifier.highest_ms)

    # What the core has ---------------------------------------------------------------------------------------------

    def _say(self, message: m.AgentMessage) -> bool:
        raise NotImplementedError

    def _keep_time(self) -> None:
        raise NotImplementedError

    def _report(self, run: LocalRun, now: float) -> None:
        raise NotImplementedError

    def _follow(self, job: str, run: LocalRun) -> None:
        raise NotImplementedError

    def _watch_keeper(self, job: str, run: LocalRun) -> None:
        raise NotImplementedError
