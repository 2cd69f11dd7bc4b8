"""What the console knows of the fleet, kept up to date by batches of events: hosts, jobs, and the jobs it listens to.

It is not a client (it is told, it never asks) and not a screen. It also says how a host, a job and a target look as
cells: each state has a glyph and a word as well as a colour.

Rules: pure, `now` as an argument; what hosts sent stays as it came, the widgets sanitise; every keeping is bounded.
"""

from __future__ import annotations

__all__ = (
    "KEPT_JOBS",
    "FleetView",
    "age",
    "host_columns",
    "job_columns",
    "labels_text",
    "natural",
    "state_cell",
    "tally",
    "target_columns",
)

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache

from opsconsole.job_view import JobView
from opsconsole.source import IN_FLIGHT, Event, HostRow, JobRow, LinkChanged, OutputLines, TargetRow
from opsconsole.table_model import Cell, Column, TableModel

# Jobs whose live output is held at once: what an operator follows, each with a full ring at worst.
KEPT_JOBS = 4
# Jobs listed: two screens of the tallest terminal; older ones are asked for by id.
LISTED_JOBS = 200

# A state's glyph and role. States that a newer fleet may send fall to the last line.
_STATES: dict[str, tuple[str, str]] = {
    "up": ("●", "good"),
    "never": ("▲", "warn"),
    "quarantined": ("■", "bad"),
    "down": ("✗", "bad"),
    "running": ("▶", "info"),
    "paused": ("‖", "warn"),
    "held": ("◔", "info"),
    "stopped": ("■", "bad"),
    "done": ("●", "muted"),
    "queued": ("○", "muted"),
    "sent": ("◌", "muted"),
    "accepted": ("◍", "muted"),
    "ok": ("●", "good"),
    "exit_nonzero": ("✗", "bad"),
    "signalled": ("✗", "bad"),
    "timeout": ("✗", "bad"),
    "oom": ("✗", "bad"),
    "limit": ("✗", "bad"),
    "spawn_failed": ("✗", "bad"),
    "denied": ("✗", "bad"),
    "bad_signature": ("✗", "bad"),
    "expired": ("▲", "warn"),
    "unreachable": ("▲", "warn"),
    "agent_lost": ("▲", "warn"),
    "interrupted": ("▲", "warn"),
    "unsupported": ("▲", "warn"),
    "cancelled": ("■", "warn"),
}
_UNKNOWN_STATE = ("?", "warn")


def state_cell(state: str) -> Cell:
    glyph, role = _STATES.get(state, _UNKNOWN_STATE)
    return Cell(f"{glyph} {state.replace('_', ' ')}", role)


def age(seconds: float) -> str:
    """A duration in at most four characters: 8s, 12m, 3h, 45d."""
    whole = max(0, int(seconds))
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "m"), (86_400, 3600, "h")):
        if whole < limit:
            return f"{whole // size}{unit}"
    return f"{min(whole // 86_400, 999)}d"


@lru_cache(maxsize=131_072)
def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts web2 before web10."""
    # [0-9] and not \d: int() refuses digits such as ² that str.isdigit accepts, and long runs of any.
    return tuple(
        (0, int(part[:40]), part) if "0" <= part[0] <= "9" else (1, 0, part.lower())
        for part in re.split(r"([0-9]+)", text)
        if part
    )


def tally(counts: Iterable[tuple[str, int]]) -> list[Cell]:
    """How many targets are in each state, worst last to be read first: the cells of a summary."""
    ordered = sorted(counts, key=lambda pair: list(_STATES).index(pair[0]) if pair[0] in _STATES else len(_STATES))
    cells: list[Cell] = []
    for state, count in ordered:
        if count:
            glyph, role = _STATES.get(state, _UNKNOWN_STATE)
            cells.append(Cell(f"{glyph} {count:,} {state.replace('_', ' ')}", role))
    return cells


def _since(row: HostRow, now: float) -> Cell:
    return Cell("-" if row.since is None else age(now - row.since), "muted" if row.state == "up" else "warn")


def labels_text(row: HostRow) -> str:
    return " ".join(f"{name}={value}" if value else name for name, value in row.labels)


def host_columns() -> Sequence[Column[HostRow]]:
    return (
        Column(
            key="host",
            title="HOST",
            width=14,
            share=3,
            cell=lambda row, _: Cell(row.name),
            order=lambda row: natural(row.name),
        ),
        Column(
            key="state", title="STATE", width=8, cell=lambda row, _: state_cell(row.state), order=lambda row: row.state
        ),
        Column(
            key="room",
            title="ROOM",
            width=9,
            rank=3,
            cell=lambda row, _: Cell(row.room),
            order=lambda row: natural(row.room),
        ),
        Column(
            key="address",
            title="ADDRESS",
            width=15,
            rank=2,
            cell=lambda row, _: Cell(row.address, "muted"),
            order=lambda row: natural(row.address),
        ),
        Column(
            key="os",
            title="OS",
            width=13,
            share=1,
            rank=4,
            cell=lambda row, _: Cell(row.os, "muted"),
            order=lambda row: natural(row.os),
        ),
        Column(
            key="agent",
            title="AGENT",
            width=7,
            rank=5,
            cell=lambda row, _: Cell(row.version, "muted"),
            order=lambda row: natural(row.version),
        ),
        Column(
            key="since", title="SINCE", width=6, right=True, rank=1, cell=_since, order=lambda row: -(row.since or 0.0)
        ),
        Column(
            key="labels",
            title="LABELS",
            width=16,
            share=4,
            rank=6,
            cell=lambda row, _: Cell(labels_text(row), "muted"),
            order=labels_text,
        ),
    )


def _job_state(row: JobRow) -> Cell:
    failed = sum(count for state, count in row.counts if _STATES.get(state, _UNKNOWN_STATE)[1] in ("bad", "warn"))
    if row.state == "done":
        return Cell("✗ failed", "bad") if failed else Cell("● ok", "good")
    return state_cell(row.state)


def _progress(row: JobRow) -> Cell:
    finished = sum(count for state, count in row.counts if state not in IN_FLIGHT)
    return Cell(f"{finished:,}/{row.targets:,}", "" if finished < row.targets else "muted")


def _trouble(row: JobRow) -> Cell:
    cells = [cell for cell in tally(row.counts) if cell.role in ("bad", "warn")]
    return Cell("  ".join(cell.text for cell in cells), cells[0].role if cells else "muted")


def _took(row: JobRow, now: float) -> Cell:
    return Cell("-" if row.started is None else age((row.finished or now) - row.started), "muted")


def job_columns() -> Sequence[Column[JobRow]]:
    return (
        Column(
            key="started",
            title="AGO",
            width=5,
            right=True,
            cell=lambda row, now: Cell("-" if row.started is None else age(now - row.started), "muted"),
            order=lambda row: -(row.started or 0.0),
        ),
        Column(key="state", title="STATE", width=11, cell=lambda row, _: _job_state(row), order=lambda row: row.state),
        Column(
            key="command",
            title="COMMAND",
            width=30,
            share=4,
            cell=lambda row, _: Cell(row.command),
            order=lambda row: row.command,
        ),
        Column(
            key="progress",
            title="DONE",
            width=11,
            right=True,
            cell=lambda row, _: _progress(row),
            order=lambda row: row.targets,
        ),
        Column(
            key="trouble",
            title="TROUBLE",
            width=18,
            share=3,
            rank=1,
            cell=lambda row, _: _trouble(row),
            order=lambda row: _trouble(row).text,
        ),
        Column(
            key="took",
            title="TOOK",
            width=5,
            right=True,
            rank=2,
            cell=_took,
            order=lambda row: (row.finished or 0.0) - (row.started or 0.0),
        ),
        Column(
            key="operator",
            title="OPERATOR",
            width=12,
            rank=3,
            cell=lambda row, _: Cell(row.operator, "muted"),
            order=lambda row: row.operator,
        ),
        Column(
            key="job",
            title="JOB",
            width=26,
            rank=4,
            cell=lambda row, _: Cell(row.id, "muted"),
            order=lambda row: row.id,
        ),
    )


def target_columns() -> Sequence[Column[TargetRow]]:
    return (
        Column(
            key="host",
            title="HOST",
            width=10,
            share=1,
            cell=lambda row, _: Cell(row.host),
            order=lambda row: natural(row.host),
        ),
        Column(
            key="state", title="STATE", width=14, cell=lambda row, _: state_cell(row.state), order=lambda row: row.state
        ),
        Column(
            key="exit",
            title="EXIT",
            width=4,
            right=True,
            rank=1,
            cell=lambda row, _: Cell(
                "" if row.exit_status is None else str(row.exit_status), "muted" if not row.exit_status else "bad"
            ),
            order=lambda row: -1 if row.exit_status is None else row.exit_status,
        ),
        Column(
            key="code",
            title="CODE",
            width=7,
            rank=2,
            cell=lambda row, _: Cell(row.code, "bad"),
            order=lambda row: row.code,
        ),
    )


class FleetView:
    """The fleet as the console knows it."""

    def __init__(self) -> None:
        self.hosts: TableModel[HostRow] = TableModel(
            host_columns(),
            identity=lambda row: row.id,
            text=lambda row: (
                f"{row.name} {row.state} {row.room} {row.address} {row.os} {row.version} {labels_text(row)}"
            ),
        )
        self.jobs: TableModel[JobRow] = TableModel(
            job_columns(),
            identity=lambda row: row.id,
            text=lambda row: f"{row.id} {row.operator} {row.state} {row.command}",
        )
        self.host_counts: Counter[str] = Counter()
        self.link = LinkChanged(live=False, detail="connecting")
        self.revision = 0
        self._watched: OrderedDict[str, JobView] = OrderedDict()

    def load_hosts(self, rows: Iterable[HostRow]) -> None:
        """Start from a full list."""
        self.hosts.replace(rows)
        self.host_counts = Counter(row.state for row in self.hosts.rows.values())
        self.revision += 1

    def load_jobs(self, rows: Iterable[JobRow]) -> None:
        self.jobs.replace(rows)
        self.revision += 1

    def apply(self, batch: Sequence[Event]) -> None:
        """Take one batch of changes, in its order."""
        hosts: list[HostRow] = []
        jobs: list[JobRow] = []
        for event in batch:
            match event:
                case HostRow():
                    hosts.append(event)
                case OutputLines():
                    if (view := self._watched.get(event.job)) is not None:
                        view.take_output(event)
                case TargetRow():
                    if (view := self._watched.get(event.job)) is not None:
                        view.take_target(event)
                case JobRow():
                    jobs.append(event)
                    if event.id not in self.jobs.rows:
                        # First heard of while listening: everything it will print is still to come.
                        self.watch(event.id, complete=True)
                    if (view := self._watched.get(event.id)) is not None:
                        view.job = event
                        view.revision += 1
                case LinkChanged():
                    self.link = event
        self._count(hosts)
        self.hosts.apply(hosts)
        self.jobs.apply(jobs)
        self._trim_jobs()
        self.revision += 1

    def watch(self, job: str, *, complete: bool = False) -> JobView:
        """The view of one job, kept from now on. `complete` says that none of its output has gone by already."""
        view = self._watched.get(job)
        if view is None:
            view = self._watched[job] = JobView(job, target_columns(), complete=complete)
            view.job = self.jobs.rows.get(job)
        self._watched.move_to_end(job)
        while len(self._watched) > KEPT_JOBS:
            self._watched.popitem(last=False)
        return view

    def _count(self, hosts: list[HostRow]) -> None:
        latest = {row.id: row for row in hosts}
        for identity, row in latest.items():
            before = self.hosts.rows.get(identity)
            if before is not None:
                self.host_counts[before.state] -= 1
            self.host_counts[row.state] += 1

    def _trim_jobs(self) -> None:
        if len(self.jobs.rows) > 2 * LISTED_JOBS:
            newest = sorted(self.jobs.rows.values(), key=lambda row: row.started or 0.0)[-LISTED_JOBS:]
            self.jobs.replace(newest)
