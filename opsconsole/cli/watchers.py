"""Who shows a job: lines for people or a pipe, the raw bytes of one host, or JSON.

Not here: following a job (`follow`). Rules: a terminal sees output as it comes, gaps named; a pipe gets everything in
its order, so it waits where something was not sent live.
"""

from __future__ import annotations

__all__ = ("PlanStands", "explain_each", "watcher_for")

import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence

from libstaragent import codes
from libstaragent.client.output import STDERR, Gap, Piece
from libstaragent.client.plans import plan_progress
from libstaragent.model.api import JobView, TargetView
from opsconsole.cli.failure import describe, narrate
from opsconsole.cli.lines_json import JsonWatcher
from opsconsole.following import Watcher
from opsconsole.plain import HostLines, LineWriter, wants_colour


def watcher_for(options: Namespace, job: str, names: Sequence[str]) -> Watcher:
    """Who shows the job `job` on hosts called `names`, by the options and by what stdout is."""
    if options.json:
        return JsonWatcher(job, _write_now)
    writer = LineWriter(sys.stdout, sys.stderr)
    terminal = sys.stdout.isatty()
    if options.raw:
        return _RawWatcher(writer)
    lines = HostLines(writer, names=names, align=terminal, colour=wants_colour(sys.stdout))
    return _LineWatcher(lines, patient=not terminal)


class PlanStands:
    """Says where a plan stands, when that is another wave, a pause or its end."""

    def __init__(self) -> None:
        self._stands: tuple[int, bool, str, bool] | None = None

    def job(self, job: JobView) -> None:
        """The job as it is now."""
        stands = (job.wave, job.paused, job.waits, job.stopped)
        if job.plan is not None and stands != self._stands:
            self._stands = stands
            progress = plan_progress(job)
            if progress:
                narrate(progress)


class _LineWatcher:
    """Lines for people, or for a pipe."""

    def __init__(self, lines: HostLines, *, patient: bool) -> None:
        self.patient = patient
        self._lines = lines
        self._explained: set[str] = set()
        self.job = PlanStands().job

    def pieces(self, host: str, pieces: Iterable[Piece | Gap]) -> None:
        self._lines.pieces(host, pieces)

    def end(self, host: str) -> None:
        self._lines.end(host)

    def target(self, target: TargetView) -> None:
        self._explain(target)

    def _explain(self, target: TargetView) -> None:
        explain_each((target,), self._explained)


class _RawWatcher(_LineWatcher):
    """The bytes of one host as they were. Gaps are told on stderr."""

    def __init__(self, writer: LineWriter) -> None:
        self.patient = True
        self._writer = writer
        self._explained = set()
        self.job = PlanStands().job

    def pieces(self, host: str, pieces: Iterable[Piece | Gap]) -> None:
        for piece in pieces:
            if isinstance(piece, Piece):
                self._writer.write_bytes(piece.data, error=piece.stream == STDERR)
            else:
                self._writer.flush()
                narrate(f"[{piece.size} bytes omitted]")
        self._writer.flush()

    def end(self, host: str) -> None:
        self._writer.flush()


def explain_each(targets: Iterable[TargetView], explained: set[str] | None = None) -> None:
    """Each code once, by its first host: a thousand hosts that are down are one thing to know.

    :param explained: those that were told before; new ones are added.
    """
    explained = set() if explained is None else explained
    for target in targets:
        code = codes.by_code(target.code) if target.code else None
        if code is not None and code.code not in explained:
            explained.add(code.code)
            detail = f"{target.host}: {target.detail}" if target.detail else target.host
            narrate(f"opsconsole: {describe(code.error(detail, errno=target.errno))}")


def _write_now(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()
