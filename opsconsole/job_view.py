"""One job as the console follows it: its targets, its merged output, and the output of the one host that is looked at.

It is not the job's record (that is central's); it holds what fits a screen and a bounded way back.

Rules: pure; each stream of each host has its own sanitiser, because a sequence may be cut anywhere; records are told
apart by their `seq`, so that history and live output can overlap; what is lost is counted.
"""

from __future__ import annotations

__all__ = ("JobView", "OutputLog")

from collections.abc import Iterable, Sequence

from opsconsole.ring import Entry, Ring
from opsconsole.sanitize import LineSanitizer
from opsconsole.source import IN_FLIGHT, JobRow, OutputLines, TargetRow
from opsconsole.table_model import Column, TableModel

# Records that may wait while a job's history is read; a second of the flood in batches.
_WAITING = 2_000


class OutputLog:
    """A ring that takes records of output in any mixture of hosts and streams."""

    def __init__(self) -> None:
        self.ring = Ring()
        self._streams: dict[tuple[str, str], LineSanitizer] = {}
        self._last: dict[str, int] = {}

    def take(self, record: OutputLines) -> None:
        if record.seq <= self._last.get(record.host, -1):
            return
        self._last[record.host] = record.seq
        if record.omitted:
            self.ring.omit(record.omitted)
        key = (record.host, record.stream)
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = LineSanitizer()
        self.ring.extend([Entry(record.host, record.stream, line) for line in stream.feed(record.data)])

    def finish(self, host: str) -> None:
        """The host prints no more: bring out the lines that it began and did not end."""
        for name in ("stdout", "stderr"):
            stream = self._streams.pop((host, name), None)
            if stream is not None:
                self.ring.extend([Entry(host, name, line) for line in stream.flush()])


class JobView:
    """What is shown of one job."""

    def __init__(self, identity: str, columns: Sequence[Column[TargetRow]], *, complete: bool) -> None:
        self.id = identity
        self.job: JobRow | None = None
        self.targets: TableModel[TargetRow] = TableModel(
            columns, identity=lambda row: row.host, text=lambda row: f"{row.host} {row.state} {row.code}"
        )
        self.merged = OutputLog()
        self.host: str | None = None
        self.single = OutputLog()
        self.revision = 0
        self.waiting = not complete
        self._backlog: list[OutputLines] = []
        self._single_backlog: list[OutputLines] | None = None

    @property
    def shown(self) -> OutputLog:
        """The log on the screen: one host's, or all of them merged."""
        return self.merged if self.host is None else self.single

    def take_target(self, row: TargetRow) -> None:
        self.targets.apply([row])
        if row.state not in IN_FLIGHT:
            if not self.waiting:
                self.merged.finish(row.host)
            if row.host == self.host and self._single_backlog is None:
                self.single.finish(row.host)
        self.revision += 1

    def take_output(self, record: OutputLines) -> None:
        if self.waiting:
            self._hold(self._backlog, record, self.merged)
        else:
            self.merged.take(record)
        if record.host == self.host:
            if self._single_backlog is None:
                self.single.take(record)
            else:
                self._hold(self._single_backlog, record, self.single)
        self.revision += 1

    def load(self, targets: Iterable[TargetRow], history: Iterable[OutputLines]) -> None:
        """Take the state and the output from before this job was followed; what came in the meantime goes after it."""
        self.targets.apply(targets)
        for record in (*history, *self._backlog):
            self.merged.take(record)
        self.waiting = False
        self._backlog.clear()
        self._finish_ended(self.merged)
        self.revision += 1

    def focus(self, host: str | None) -> None:
        """Show one host's output, which `load_single` brings; None shows all hosts again."""
        self.host = host
        self.single = OutputLog()
        self._single_backlog = None if host is None else []
        self.revision += 1

    def load_single(self, host: str, history: Iterable[OutputLines]) -> None:
        """Take the earlier output of the host in focus; an answer that comes after another was chosen is dropped."""
        if host != self.host or self._single_backlog is None:
            return
        for record in (*history, *self._single_backlog):
            self.single.take(record)
        self._single_backlog = None
        self._finish_ended(self.single, only=host)
        self.revision += 1

    def _finish_ended(self, log: OutputLog, *, only: str | None = None) -> None:
        for row in self.targets.rows.values():
            if row.state not in IN_FLIGHT and only in (None, row.host):
                log.finish(row.host)

    def _hold(self, backlog: list[OutputLines], record: OutputLines, log: OutputLog) -> None:
        if len(backlog) < _WAITING:
            backlog.append(record)
        else:
            log.ring.lose(record.data.count(b"\n") or 1)
