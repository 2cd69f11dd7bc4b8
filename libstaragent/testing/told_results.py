"""What a room reports, as a test wants to read it: each result by itself, with the output that was meant.

Not here: what central does when a body is missing; here it was told before, or the test fails.
"""

from __future__ import annotations

__all__ = ("ToldResults",)

from collections.abc import Iterable

from msgspec.structs import replace

from libstaragent.jobs.kept_output import output_of
from libstaragent.protocol import trunk as t


class ToldResults:
    """See the module."""

    def __init__(self) -> None:
        self._bodies: dict[bytes, bytes] = {}

    def one_by_one(self, batch: Iterable[t.Report]) -> list[t.Report]:
        """The batch, with groups of results taken apart.

        :raises KeyError: a digest stands for a body that was never told.
        """
        reports: list[t.Report] = []
        for report in batch:
            if not isinstance(report, t.TargetsEnded):
                reports.append(report)
                continue
            if report.body:
                self._bodies[report.digest] = report.body
            output = output_of(self._bodies[report.digest]) if report.digest else None
            reports.extend(t.TargetEnded(agent, replace(result, output=output)) for agent, result in report.ended)
        return reports
