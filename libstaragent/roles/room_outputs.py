"""Results as a room tells them: each distinct output once, with all the hosts that printed it. Pure.

What a room hears in one turn of its loop goes out as groups: `TargetsEnded` has one body and the results of its hosts,
`TargetsReduced` the part that a reducer made of them. A body that this process has sent before is left out, only its
digest is named.

Why no row of the store can point to a body that is not there: central writes a result that only names a digest when it
has the body in its hands, and writes both together. If it has not (the message with the body was lost, is late, or
went to a central that is gone) it asks with `TellAgain`, and what is told again carries its body. So leaving a body out
can cost a question, never an output, and neither end has to know what the other has forgotten: a room that has not
the body any more says nothing, and the agent repeats its result; what an agent repeats is told whole, always.

Why no host can pass off another's output as its own: digests are made here, of the bytes that came with the result.

A reduced part names the hosts it covers by the results in its message. Central takes all of it or none: if one of them
has ended there already, it asks for the others again, and they make a new part.

Rules: messages are bounded (GROUP_MAX, parts by their merging); what is remembered is bounded by `OutputCache`; what
was not sent is counted.
"""

from __future__ import annotations

__all__ = ("GROUP_MAX", "RoomOutputs", "Told")

from msgspec import Struct
from msgspec.structs import replace

from libstaragent.errors import StarAgentError
from libstaragent.jobs.kept_output import output_of, pack_output
from libstaragent.jobs.reduce import Part, Reducer, counts, merge, pack_part, parse_reducer, reduce_output
from libstaragent.model.result import Output, TargetResult
from libstaragent.protocol import trunk as t
from libstaragent.roles.output_cache import OutputCache

# Results in one message: with a body of the largest output, or a part, it stays below the megabyte that a message of
# the bus may be.
GROUP_MAX = 512
# Outputs of reduced jobs, for the rare part that central cannot take; without them the agents repeat their results.
REDUCED_BYTES_MAX = 8 * 1024 * 1024
# Names of reducers that were read lately; a fleet uses a handful.
REDUCERS_MAX = 64


class Told(Struct, frozen=True, array_like=True):
    """A result as it was told to central, without its output, until it is settled."""

    result: TargetResult
    digest: bytes
    omitted: int


class _Group:
    """Results of this turn that share an output."""

    __slots__ = ("body", "ended", "omitted", "size")

    def __init__(self, body: bytes | None, size: int, omitted: int) -> None:
        self.body = body
        self.size = size
        self.omitted = omitted
        self.ended: list[tuple[str, TargetResult]] = []


class _Reduction:
    """Results of this turn that belong to one reduced job, and their parts."""

    __slots__ = ("ended", "parts")

    def __init__(self) -> None:
        self.ended: dict[str, tuple[str, TargetResult, bytes]] = {}
        self.parts: list[Part] = []


class RoomOutputs:
    """See the module.

    Attributes:
        sent: what this process has sent, as far as it remembers. reduced: what it made parts of.
        spared: bytes of bodies that were not sent again.
        bytes: what waits to be told. unanswered: results that central asked for and the room had not any more.
    """

    def __init__(self) -> None:
        self.sent = OutputCache()
        self.reduced = OutputCache(bytes_max=REDUCED_BYTES_MAX)
        self.spared = 0
        self.unanswered = 0
        self.bytes = 0
        self._groups: dict[bytes, _Group] = {}
        self._reductions: dict[str, _Reduction] = {}
        self._reducers: dict[str, Reducer | None] = {}
        self._full: list[t.TargetsEnded | t.TargetsReduced] = []

    def add(self, agent: str, result: TargetResult, *, reduce: str, whole: bool) -> Told:
        """A result, to be told at the end of this turn.

        :param reduce: the reducer of its job, or nothing.
        :param whole: it was told before, or nobody here knows its job: its body goes with it.
        """
        digest, body = pack_output(result.output)
        output = result.output
        told = Told(result, b"", 0) if output is None else Told(replace(result, output=None), digest, output.omitted)
        self._add(agent, told, body, reduce, whole=whole)
        return told

    def again(self, agent: str, told: Told, *, reduce: str) -> None:
        """Central asks for a result that it was told."""
        body = (self.sent.get(told.digest) or self.reduced.get(told.digest)) if told.digest else b""
        if body is None:
            self.unanswered += 1
            return
        self._add(agent, told, body, reduce, whole=True)

    def take(self) -> list[t.TargetsEnded | t.TargetsReduced]:
        """All that is to be told; then the turn is over."""
        for digest in list(self._groups):
            self._close_group(digest)
        for job in list(self._reductions):
            self._close_reduction(job)
        full, self._full = self._full, []
        self.bytes = 0
        return full

    def _add(self, agent: str, told: Told, body: bytes, reduce: str, *, whole: bool) -> None:
        reducer = self._reducer(reduce) if reduce and counts(told.result) else None
        if reducer is not None:
            self._reduce(agent, told, body, reducer)
            return
        digest = told.digest
        self.bytes += t.REPORT_BYTES
        group = self._groups.get(digest)
        if group is None:
            known = not digest or self.sent.get(digest) is not None
            group = self._groups[digest] = _Group(None if known else body, len(body), told.omitted)
            if not known:
                self.sent.put(digest, body)
                self.bytes += len(body)
        if whole and digest:
            group.body = body
        group.ended.append((agent, told.result))
        if len(group.ended) >= GROUP_MAX:
            self._close_group(digest)

    def _reduce(self, agent: str, told: Told, body: bytes, reducer: Reducer) -> None:
        if told.digest:
            self.reduced.put(told.digest, body)
        job = told.result.job
        reduction = self._reductions.get(job)
        if reduction is None:
            reduction = self._reductions[job] = _Reduction()
        if agent in reduction.ended:
            # It repeats itself within one turn.
            return
        result = replace(told.result, output=Output(omitted=told.omitted)) if told.omitted else told.result
        reduction.ended[agent] = (agent, result, told.digest)
        reduction.parts.append(reduce_output(reducer, output_of(body) if body else None))
        self.spared += len(body)
        self.bytes += t.REPORT_BYTES + len(body)
        if len(reduction.ended) >= GROUP_MAX:
            self._close_reduction(job)

    def _close_group(self, digest: bytes) -> None:
        group = self._groups.pop(digest)
        self.spared += group.size * (len(group.ended) - (group.body is not None))
        self._full.append(t.TargetsEnded(digest, group.body, group.omitted, tuple(group.ended)))

    def _close_reduction(self, job: str) -> None:
        reduction = self._reductions.pop(job)
        part = pack_part(merge(reduction.parts))
        self._full.append(t.TargetsReduced(job, part, tuple(reduction.ended.values())))

    def _reducer(self, name: str) -> Reducer | None:
        """None for a name that a later version may know: then outputs travel, and who shows them says so."""
        if name not in self._reducers:
            if len(self._reducers) >= REDUCERS_MAX:
                self._reducers.clear()
            try:
                self._reducers[name] = parse_reducer(name)
            except StarAgentError:
                self._reducers[name] = None
        return self._reducers[name]
