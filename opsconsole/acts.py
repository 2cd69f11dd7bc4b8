"""The acts of the console that reach the fleet: run a command, cancel a job, and the questions before them.

It is not the wiring (`opsconsole.app`, which is made of this and of Textual's App) and knows no widget's inside.

Rules: what waits for the fleet is a worker; a run on more hosts than the context allows without a question
(`confirm_above`, as for the command line), and every act that destroys, asks for their number.
"""

from __future__ import annotations

__all__ = ("FleetActs",)

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from libstaragent.codes import COMMAND_SYNTAX
from libstaragent.errors import StarAgentError
from opsconsole.command import RunRequest, split_run, written_targets
from opsconsole.fleet_view import FleetView
from opsconsole.screens.confirm import ConfirmScreen
from opsconsole.source import IN_FLIGHT, OPEN_JOBS, FleetSource, JobRow

if TYPE_CHECKING:
    from textual.app import App

    from opsconsole.screens.base import ConsoleScreen

    _Base = App[None]
else:
    _Base = object


class FleetActs(_Base):
    """Mixed into the app, which has these."""

    source: FleetSource
    fleet: FleetView

    @property
    def console_screen(self) -> ConsoleScreen | None:
        raise NotImplementedError

    def open_job(self, job: str) -> None:
        raise NotImplementedError

    def work_for_screen(self, work: Coroutine[Any, Any, None]) -> None:
        raise NotImplementedError

    def run_typed(self, argument: str, *, shell: bool) -> None:
        """Open the run bar with what was typed, or with the hosts that the screen is about."""
        screen = self.console_screen
        if screen is None:
            return
        if " -- " in argument:
            wanted = split_run(argument, shell=shell)
            command = argument.partition(" -- ")[2].strip()
            screen.open_run_bar(wanted.targets, command=command, shell=shell)
            return
        targets, left_out = written_targets(screen.run_targets()) if not argument else (argument, 0)
        screen.open_run_bar(targets, shell=shell)
        if left_out:
            screen.show_note(f"{left_out:,} host names cannot be written as targets and were left out.")

    def start(self, wanted: RunRequest, hosts: Sequence[str]) -> None:
        """Start a job on hosts that have been seen; many of them ask for their number."""

        def answered(yes: bool | None) -> None:
            if yes:
                self.work_for_screen(self._start(wanted))

        if len(hosts) <= self.source.confirm_above:
            answered(True)
        else:
            what = " ".join(wanted.argv)
            self.push_screen(
                ConfirmScreen(f"Run this on {len(hosts):,} hosts?", what=what, hosts=hosts, count=len(hosts)), answered
            )

    async def _start(self, wanted: RunRequest) -> None:
        job = await self.source.run(wanted.targets, wanted.argv, shell=wanted.shell, timeout=None)
        if self.console_screen is not None:
            self.console_screen.close_run_bar()
        self.fleet.watch(job, complete=True)
        self.open_job(job)

    def cancel_refusal(self, job: JobRow | None) -> StarAgentError | None:
        if job is None or job.state not in OPEN_JOBS:
            return COMMAND_SYNTAX.error("cancel job: it has finished")
        return None

    def cancel_job(self, job: JobRow) -> None:
        count = sum(number for state, number in job.counts if state in IN_FLIGHT)

        def answered(yes: bool | None) -> None:
            if yes:
                self.work_for_screen(self.source.cancel(job.id))

        self.push_screen(
            ConfirmScreen(
                f"Cancel this job on {count:,} host{'s' if count != 1 else ''}?",
                what=job.command,
                hosts=(),
                count=count,
            ),
            answered,
        )
