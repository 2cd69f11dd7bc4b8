"""The part of the agent's core that is about live output: what runs here, shown to whoever watches while it runs.

    Run or Watch with a stream ─▶ the keeper tells how far the spool is ─▶ Follow ─▶ records on it, by its credit

A view and no more: what could not be sent is counted, and the result has the output. Each run has one stream at most,
and none of which nothing will come stays open: a connection has STREAMS_MAX of them in all.

Not here: results, spools of ended jobs (`agent_spools`). Rules: pure.
"""

from __future__ import annotations

__all__ = ("AgentLive",)

from collections.abc import Sequence

from libstaragent.model.result import encode_records
from libstaragent.protocol import messages as m
from libstaragent.protocol.connection import Connection
from libstaragent.protocol.limits import DATA_CHUNK
from libstaragent.roles.agent_effects import Effect, Follow, ToKeeper
from libstaragent.roles.agent_run import LocalRun


class AgentLive:
    """See the module; `AgentCore` is the whole."""

    open: dict[str, LocalRun]
    effects: list[Effect]
    connection: Connection | None

    def followed(self, job: str, pairs: Sequence[tuple[int, bytes]], *, next_offset: int, missed: int) -> None:
        """The answer to Follow: records, the offset after them, and how many bytes were overwritten before them."""
        run = self.open.get(job)
        if run is None or not run.following:
            return
        run.following = False
        run.live_offset = next_offset
        if missed:
            self._say(m.Dropped(job, missed))
        if pairs and run.stream and self.connection is not None and self.connection.state == "open":
            start = next_offset - sum(len(data) for _, data in pairs)
            self.connection.send_live(run.stream, start, encode_records(pairs))
        self._follow(job, run)

    def _watch(self, job: str, stream: int) -> None:
        """Live output of `job` goes on `stream` from now on, or nowhere where it is 0."""
        assert self.connection is not None
        run = self.open.get(job)
        if run is None or run.state == "settling":
            self.connection.close_stream(stream)
        elif run.stream != stream:
            self.connection.close_stream(run.stream)
            run.stream = stream
            self._watch_keeper(job, run)

    def _unwatch_all(self) -> None:
        """The connection is gone, and its streams with it."""
        for run in self.open.values():
            run.stream = 0
            run.following = False

    def _watch_keeper(self, job: str, run: LocalRun) -> None:
        if run.state == "running":
            self.effects.append(ToKeeper({"op": "watch", "job": job, "on": bool(run.stream), "from": run.live_offset}))

    def _follow_all(self) -> None:
        for job, run in self.open.items():
            if run.stream:
                self._follow(job, run)

    def _follow(self, job: str, run: LocalRun) -> None:
        if run.following or not run.stream or run.live_offset >= run.live_end or self.connection is None:
            return
        limit = min(self.connection.credit(run.stream), DATA_CHUNK)
        if limit >= DATA_CHUNK:
            run.following = True
            self.effects.append(Follow(job, run.live_offset, limit))

    def _say(self, message: m.AgentMessage) -> bool:
        raise NotImplementedError
