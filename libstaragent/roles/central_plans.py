"""What central makes of plans: whose turn has come, who ends without one, and what a Pause or Resume does. Pure.

Rules
- A planned job begins on its hosts as its `pacing` allows, and only in `committed`: what is on disk by then decides.
- Who is held ends without a turn in the decision that says so: by a cancel, by one failure too many, or at the
  envelope's expiry. Nothing ran there, and nothing will.
- A host that was begun on has until the end of its turn (`turn_ms`, then timeout and grace), so that one that is gone
  holds up its wave no longer.

Not here: how far a plan may go (`pacing`), orders and deadlines (`central`).
"""

from __future__ import annotations

__all__ = ("CentralPlans", "Permit")

from collections.abc import Callable, Sequence

from libstaragent import codes
from libstaragent.errors import Code
from libstaragent.jobs.states import is_terminal
from libstaragent.model.result import TargetResult, failed_result
from libstaragent.roles.central_results import CentralResults
from libstaragent.roles.central_state import GRACE_MS, Decision, Ended, Job
from libstaragent.security.acts import Envelope, Member, Pause, Resume, act_name, is_host_act, run_span_ms
from libstaragent.security.membership import MembershipTree
from libstaragent.security.signed import Signed

# Envelope, hosts, the address it came from, now, and who began what it manages; the rule's name. Raises a coded no.
Permit = Callable[[Envelope, Sequence[Member], str, int, str | None], str]


class CentralPlans(CentralResults):
    """See the module."""

    def __init__(self, *, verify: Callable[[Signed, int], Envelope], permit: Permit) -> None:
        super().__init__()
        self._verify = verify
        self._permit = permit
        self._planned: dict[str, Job] = {}

    def pause(self, signed: Signed, *, now_ms: int, decision: Decision, source: str = "") -> Job:
        """Take an operator's Pause or Resume; the same envelope again changes nothing.

        Raises JOB_UNKNOWN, NOTHING_HELD, or the reason why it is refused.
        """
        envelope = self._verify(signed, now_ms)
        if not isinstance(envelope.act, Pause | Resume):
            raise codes.ACT_UNSUPPORTED.error(f"{act_name(envelope.act)} is neither a pause nor a resume")
        job = self.jobs.get(envelope.act.job)
        if job is None:
            raise codes.JOB_UNKNOWN.error(envelope.act.job)
        decision.rule = self._permit(envelope, tuple(job.members.values()), source, now_ms, job.operator)
        pacing = job.pacing
        if pacing is not None and pacing.knows(envelope.id):
            return job
        if pacing is None or not pacing.held:
            raise codes.NOTHING_HELD.error(job.id)
        paused = isinstance(envelope.act, Pause)
        decision.pauses.append(pacing.entry(envelope.id, signed, job=job.id, paused=paused, now_ms=now_ms))
        pacing.deciding += 1
        decision.now_ms = now_ms
        return job

    def _dispatch(
        self, job: Job, agents: list[str], decision: Decision, *, again: bool, tree: MembershipTree | None = None
    ) -> None:
        raise NotImplementedError

    def _keep_planned(self, job: Job) -> None:
        if job.pacing is not None:
            self._planned[job.id] = job

    def _begin(self, job: Job, decision: Decision) -> None:
        """Send what may be sent now, each host within its turn."""
        pacing = job.pacing
        expires = job.envelope.expires
        # Past its time none is begun on, whoever has just made room for it: no room would send it, and only what is
        # held can be told from what may run. The next tick ends it.
        if pacing is None or not job.open or decision.now_ms >= expires:
            return
        turn_ms = pacing.plan.turn_ms
        within = min(expires, decision.now_ms + turn_ms) if turn_ms else expires
        assert is_host_act(job.envelope.act)
        lost_ms = within + run_span_ms(job.envelope.act) + GRACE_MS
        turn = pacing.begin(job.states, now_ms=decision.now_ms, last_ms=lost_ms)
        if turn:
            job.deliver_by_ms = within
            self._dispatch(job, turn, decision, again=False)

    def _pace_all(self, now_ms: int, decision: Decision) -> None:
        """What time alone does to planned jobs."""
        for job in list(self._planned.values()):
            pacing = job.pacing
            assert pacing is not None
            for agent in pacing.overdue(now_ms):
                if not is_terminal(job.states[agent]):
                    self._lose(job, agent, now_ms, decision)
            if pacing.held and now_ms >= job.envelope.expires:
                self._end_held(job, "expired", codes.TURN_NEVER_CAME, now_ms, decision)
            elif pacing.is_due(now_ms):
                decision.paced[job.id] = job

    def _go_on(self, decision: Decision) -> None:
        """It is on disk: planned jobs go on, by orders that are added to it."""
        for job in decision.finished:
            self._planned.pop(job.id, None)
        for entry in decision.pauses:
            job = self.jobs.get(entry.job)
            if job is not None and job.pacing is not None:
                job.pacing.deciding -= 1
                job.pacing.take(entry)
                decision.paced[job.id] = job
        for job in decision.paced.values():
            self._begin(job, decision)

    def _undo_plans(self, decision: Decision) -> None:
        """It did not happen; the states of its targets are undone already."""
        for entry in decision.pauses:
            job = self.jobs.get(entry.job)
            if job is not None and job.pacing is not None:
                job.pacing.deciding -= 1
        jobs = {entry.job for entry in decision.ended}
        stopped = {entry.job for entry in decision.ended if entry.result.code == codes.STOPPED_BY_FAILURES.code}
        for job_id in jobs:
            job = self.jobs.get(job_id)
            if job is not None and job.pacing is not None:
                job.pacing.stopped &= job_id not in stopped
                job.pacing.recount(job.states)
        for job in decision.new_jobs:
            self._planned.pop(job.id, None)

    def _end(self, job: Job, entry: Ended, decision: Decision) -> None:
        super()._end(job, entry, decision)
        pacing = job.pacing
        if pacing is None:
            return
        pacing.ended(entry.agent, entry.result.state, entry.received_ms)
        decision.paced[job.id] = job
        if pacing.failed_too_often and pacing.held and not pacing.stopped:
            pacing.stopped = True
            self._end_held(job, "cancelled", codes.STOPPED_BY_FAILURES, entry.received_ms, decision)

    def _end_held(self, job: Job, state: str, code: Code, now_ms: int, decision: Decision) -> None:
        if job.pacing is not None:
            for agent in job.pacing.held_agents(job.states):
                result = failed_result(job.id, state, code.code)
                self._end(job, Ended(job.id, agent, result, job.states[agent], now_ms), decision)

    def _lose(self, job: Job, agent: str, now_ms: int, decision: Decision) -> None:
        never_sent = job.states[agent] == "queued"
        state, code = ("unreachable", codes.HOST_UNREACHABLE) if never_sent else ("agent_lost", codes.HOST_LOST)
        # Only its room may say that nothing ran; a room that is cut off may have sent it.
        result = TargetResult(job=job.id, state=state, code=code.code, ran="maybe")
        self._end(job, Ended(job.id, agent, result, job.states[agent], now_ms), decision)
