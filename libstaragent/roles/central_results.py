"""What central makes of results: which end a target, which stand beside its end, which it must hear again. Pure.

Rules
- A terminal state never changes. A result that comes after central's own verdict is an amendment.
- A result that only names its output's digest is written if the body is here, and together with it; else its room is
  asked to tell it again. So no row names a body that is not there (`room_outputs` has the whole argument), but for
  results of reduced jobs, whose outputs are nowhere: they keep the digest, which is part of what the host signed.
- A reduced part is taken with all of its results, in one commit, or not at all. A result of a reduced job that comes
  without a part (its room did not know the job any more, or does not know the reducer) is made a part of here.

Not here: orders, clocks, hosts (`central`).
"""

from __future__ import annotations

__all__ = ("CentralResults",)

from collections.abc import Iterable

from msgspec.structs import replace

from libstaragent.jobs.kept_output import output_digest, output_of, pack_output
from libstaragent.jobs.reduce import PART_MAX, counts, pack_part, parse_reducer, reduce_output
from libstaragent.jobs.states import is_terminal
from libstaragent.model.result import TargetResult
from libstaragent.protocol import trunk as t
from libstaragent.roles.central_state import Decision, Ended, Job, Reduced
from libstaragent.roles.output_cache import OutputCache


class CentralResults:
    """See the module.

    Attributes:
        jobs: those in memory. outputs: bodies heard lately. asked_again: results that had to be told again.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.outputs = OutputCache()
        self.asked_again = 0

    def _group_ended(self, report: t.TargetsEnded, now_ms: int, decision: Decision) -> None:
        digest, body = report.digest, report.body or b""
        if body and self.outputs.get(digest) != body:
            if output_digest(body) != digest:
                # A room that cannot count must not put its bytes under the digest of others'.
                return
            self.outputs.put(digest, body)
        elif digest and not body:
            body = self.outputs.get(digest) or b""
        if digest and not body:
            self._ask_again(report.ended, now_ms, decision)
            return
        for agent, result in report.ended:
            self._one_ended(agent, result, now_ms, decision, digest, body, report.omitted)

    def _reduced(self, report: t.TargetsReduced, now_ms: int, decision: Decision) -> None:
        job = self.jobs.get(report.job)
        if job is not None:
            fresh = {agent for agent, result, _ in report.ended if result.job == job.id and self._is_open(job, agent)}
            if len(fresh) < len(report.ended):
                # Some of it has been counted, or ended otherwise; what is open comes in another part.
                self._ask_again(((agent, result) for agent, result, _ in report.ended), now_ms, decision)
                return
            if fresh and len(report.part) <= PART_MAX:
                decision.reduced.append(Reduced(job.id, report.ended[0][0], report.part))
        for agent, result, digest in report.ended:
            self._one_ended(agent, result, now_ms, decision, digest, in_part=True)

    def _ask_again(self, ended: Iterable[tuple[str, TargetResult]], now_ms: int, decision: Decision) -> None:
        """Results that cannot be stored as they came. Those that have ended before are settled all the same."""
        rooms: dict[str, list[tuple[str, str]]] = {}
        for agent, result in ended:
            job = self.jobs.get(result.job)
            current = job.states.get(agent) if job is not None else None
            if job is None or current is None:
                continue
            if is_terminal(current) and current not in ("agent_lost", "unreachable"):
                self._one_ended(agent, result, now_ms, decision)
            else:
                rooms.setdefault(job.members[agent].room, []).append((agent, result.job))
        for room, pairs in rooms.items():
            self.asked_again += len(pairs)
            decision.orders.append((room, t.TellAgain(tuple(pairs))))

    @staticmethod
    def _is_open(job: Job, agent: str) -> bool:
        state = job.states.get(agent)
        return state is not None and not is_terminal(state)

    def _ended(self, report: t.TargetEnded, now_ms: int, decision: Decision) -> None:
        self._one_ended(report.agent, report.result, now_ms, decision, *pack_output(report.result.output))

    def _one_ended(
        self,
        agent: str,
        result: TargetResult,
        now_ms: int,
        decision: Decision,
        digest: bytes = b"",
        body: bytes = b"",
        omitted: int = 0,
        *,
        in_part: bool = False,
    ) -> None:
        job = self.jobs.get(result.job)
        if job is None:
            decision.strange.append(t.TargetEnded(agent, replace(result, output=output_of(body)) if body else result))
            return
        current = job.states.get(agent)
        if current is None or not _is_known_terminal(result.state):
            # Not a target of this job, or no state of ours: a host may not write into others' books.
            return
        decision.settle.append((job.members[agent].room, agent, job.id))
        amends = current in ("agent_lost", "unreachable") and result.state != current
        if is_terminal(current) and not amends:
            return
        if result.output is not None:
            # Of a reduced job, or one that came by itself.
            omitted, result = result.output.omitted, replace(result, output=None)
        entry = Ended(job.id, agent, result, current, now_ms, digest, body, omitted)
        if amends:
            decision.amended.append(entry)
            return
        if job.reduce and not in_part and counts(result):
            # Its room did not know the job any more, or does not know the reducer.
            part = reduce_output(parse_reducer(job.reduce), output_of(body) if body else None)
            decision.reduced.append(Reduced(job.id, agent, pack_part(part)))
        self._end(job, entry, decision)

    def _end(self, job: Job, entry: Ended, decision: Decision) -> None:
        decision.ended.append(entry)
        job.move(entry.agent, entry.result.state)
        if not job.open:
            job.ended_at = entry.received_ms
            decision.finished.append(job)


def _is_known_terminal(state: str) -> bool:
    """Whether a host may report this state."""
    try:
        return is_terminal(state)
    except KeyError:
        return False
