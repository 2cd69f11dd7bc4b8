"""One job: what it is, where its targets stand, and its output, of all hosts merged or of one.

It is not the keeper of the output (`job_view.JobView`); history is asked for once, when the job is opened.
"""

from __future__ import annotations

__all__ = ("JobSummary", "OutputScreen", "progress_bar")

from collections.abc import Iterable, Sequence

from rich.segment import Segment
from textual.containers import Horizontal
from textual.strip import Strip
from textual.widget import Widget

from libstaragent.errors import StarAgentError
from opsconsole.actions import Action
from opsconsole.fleet_view import age, state_cell, tally
from opsconsole.job_view import JobView
from opsconsole.sanitize import safe
from opsconsole.screens.base import ConsoleScreen
from opsconsole.source import IN_FLIGHT, JobRow, TargetRow
from opsconsole.theme import Palette
from opsconsole.widgets.bindings import bindings_for
from opsconsole.widgets.lines import fit
from opsconsole.widgets.logview import LogView
from opsconsole.widgets.vtable import VTable


def progress_bar(counts: Sequence[tuple[str, int]], total: int, width: int) -> list[tuple[str, int]]:
    """A bar as (role, cells): finished targets by how they ended, the rest faint; no outcome has 0 cells."""
    by_role: dict[str, int] = {}
    for state, count in counts:
        if count and state not in IN_FLIGHT:
            role = state_cell(state).role
            by_role[role] = by_role.get(role, 0) + count
    parts: list[tuple[str, int]] = []
    left = width
    for role in ("good", "warn", "bad"):
        if by_role.get(role):
            cells = min(left, max(1, by_role[role] * width // max(1, total)))
            parts.append((role, cells))
            left -= cells
    unfinished = total - sum(by_role.values())
    if left and parts and unfinished <= 0:
        role, cells = parts[0]
        parts[0] = (role, cells + left)
        left = 0
    return [*parts, ("", left)] if left else parts


class JobSummary(Widget):
    """Two lines: the command; state, progress, counts, time, operator."""

    DEFAULT_CSS = """
    JobSummary { height: 3; padding: 0 1; background: $background; }
    """
    ALLOW_SELECT = False

    def __init__(self, view: JobView) -> None:
        super().__init__()
        self._view = view
        self._shown: object = None

    def repaint(self, now: float) -> None:
        app = self.app
        state = (self._view.job, int(app.clock()), app.theme)  # type: ignore[attr-defined]
        if state != self._shown:
            self._shown = state
            self.refresh()

    def render_line(self, y: int) -> Strip:
        palette: Palette = self.app.palette  # type: ignore[attr-defined]
        job = self._view.job
        base = self.rich_style
        width = self.content_size.width
        segments: list[Segment] = []
        if y == 0:
            command = job.command if job else self._view.id
            segments = [Segment("$ ", palette.roles["accent"]), Segment(fit(safe(command), max(0, width - 2)))]
        elif y == 1 and job is not None:
            segments = self._progress(job, palette, width)
        return Strip(segments).apply_style(base).adjust_cell_length(width, base)

    def _progress(self, job: JobRow, palette: Palette, width: int) -> list[Segment]:
        cell = state_cell(job.state)
        finished = sum(count for state, count in job.counts if state not in IN_FLIGHT)
        segments = [Segment(cell.text + "  ", palette.roles[cell.role])]
        for role, cells in progress_bar(job.counts, job.targets, 20 if width >= 76 else 10):
            segments.append(Segment("━" * cells, palette.roles[role] if role else palette.faint))
        segments.append(Segment(f"  {finished:,}/{job.targets:,}   ", palette.foreground))
        segments.extend(Segment(part.text + "   ", palette.roles[part.role]) for part in tally(job.counts))
        if job.started is not None:
            now = self.app.clock()  # type: ignore[attr-defined]
            segments.append(Segment(f"{age((job.finished or now) - job.started)}   ", palette.roles["muted"]))
        segments.append(Segment(f"by {safe(job.operator)}", palette.roles["muted"]))
        return segments


class OutputScreen(ConsoleScreen):
    """One job, live."""

    BINDINGS = bindings_for("output")
    place = "output"
    DEFAULT_CSS = """
    OutputScreen #targets { width: 42; border-right: vkey $faint; }
    OutputScreen #log { width: 1fr; }
    OutputScreen.-narrow #body { layout: vertical; }
    OutputScreen.-narrow #targets { width: 1fr; height: 35%; border-right: none; border-bottom: solid $faint; }
    """

    def __init__(self, view: JobView) -> None:
        super().__init__()
        self.view = view
        self._shown_log: object = None

    @property
    def crumb(self) -> str:  # type: ignore[override]
        return f"job {self.view.id[-8:]}"

    def compose_body(self) -> Iterable[Widget]:
        app = self.console_app
        self._summary = JobSummary(self.view)
        self.table: VTable[TargetRow] = VTable(self.view.targets, clock=app.clock, empty="No target yet.", id="targets")
        self.log_view = LogView(id="log")
        yield self._summary
        with Horizontal(id="body"):
            yield self.table
            yield self.log_view

    def on_mount(self) -> None:
        self._show_log()

    def repaint(self, now: float) -> None:
        if self.view.shown is not self._shown_log:
            self._show_log()
        super().repaint(now)
        self._summary.repaint(now)

    def _show_log(self) -> None:
        self._shown_log = self.view.shown
        host = self.view.host
        subject = "all hosts" if host is None else host
        self.log_view.show(self.view.shown.ring, subject=subject, prefixed=host is None)

    def run_targets(self) -> Sequence[str]:
        return (
            [row.host for row in self.table.model.rows.values()]
            if not self.table.model.marks
            else [row.host for row in self.table.selected()]
        )

    def refusal(self, entry: Action) -> StarAgentError | None:
        refused = super().refusal(entry)
        if refused is None and entry.id == "job.cancel":
            return self.console_app.cancel_refusal(self.view.job)
        return refused

    def current_code(self) -> str:
        row = self.table.model.current
        return "" if row is None else row.code

    def do_target_open(self) -> None:
        row = self.table.model.current
        if row is not None:
            self.view.focus(row.host)
            self.console_app.load_host_output(self.view, row.host)

    def do_target_merged(self) -> None:
        self.view.focus(None)

    def leave_detail(self) -> bool:
        if self.view.host is None:
            return False
        self.view.focus(None)
        return True

    def do_log_follow(self) -> None:
        self.log_view.do_log_follow()

    def do_log_wrap(self) -> None:
        self.log_view.do_log_wrap()

    def do_job_cancel(self) -> None:
        if self.view.job is not None:
            self.console_app.cancel_job(self.view.job)
