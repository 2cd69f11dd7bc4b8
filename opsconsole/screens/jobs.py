"""The jobs: newest first, with what went wrong in each; enter opens one."""

from __future__ import annotations

__all__ = ("JobsScreen",)

from collections.abc import Iterable

from textual.containers import Horizontal
from textual.widget import Widget

from libstaragent.errors import StarAgentError
from opsconsole.actions import Action
from opsconsole.screens.base import ConsoleScreen
from opsconsole.source import JobRow
from opsconsole.widgets.bindings import bindings_for
from opsconsole.widgets.vtable import VTable


class JobsScreen(ConsoleScreen):
    """The newest jobs, live."""

    BINDINGS = bindings_for("jobs")
    place = "jobs"
    crumb = "jobs"

    def compose_body(self) -> Iterable[Widget]:
        app = self.console_app
        with Horizontal(id="body"):
            self.table: VTable[JobRow] = VTable(
                app.fleet.jobs, clock=app.clock, empty="No job yet: r runs a command.", id="jobs"
            )
            yield self.table

    def refusal(self, entry: Action) -> StarAgentError | None:
        refused = super().refusal(entry)
        if refused is None and entry.id == "job.cancel":
            return self.console_app.cancel_refusal(self.table.model.current)
        return refused

    def do_job_open(self) -> None:
        job = self.table.model.current
        if job is not None:
            self.console_app.open_job(job.id)

    def do_job_cancel(self) -> None:
        job = self.table.model.current
        if job is not None:
            self.console_app.cancel_job(job)
