"""What the HTTP API says of the outputs of many hosts together: in groups, and reduced. Rules: as in `api`."""

from __future__ import annotations

__all__ = ("FoldedGroup", "FoldedView", "ReducedLine", "ReducedView")

from msgspec import UNSET, Struct, UnsetType

from libstaragent.model.api import OutputView


class FoldedGroup(Struct, frozen=True, kw_only=True):
    """Hosts that ended alike with one output; `output` is that of the first, where the page has room for it."""

    hosts: str
    count: int
    state: str
    exit_status: int | None = None
    signal: int | None = None
    code: str | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_sha256: str | None = None
    stderr_sha256: str | None = None
    output: OutputView | UnsetType | None = UNSET


class FoldedView(Struct, frozen=True, kw_only=True):
    """The ended targets of a job in groups, the largest first; `more_groups` of `more_hosts` hosts are not shown."""

    job: str
    open: int
    groups: tuple[FoldedGroup, ...]
    more_groups: int = 0
    more_hosts: int = 0


class ReducedLine(Struct, frozen=True):
    """A line of the hosts' output, and how often it was printed."""

    count: int
    line: bytes


class ReducedView(Struct, frozen=True, kw_only=True):
    """What a reducer made of the outputs of the `hosts` that are in it, of `targets`.

    `uncounted` have ended and are not in it: they failed, came late, or their output was cut (`cut_hosts` of them, with
    `cut_bytes` missing). `lines` and `line_bytes` is all that was reduced; `left_out` lines are in none of `rows`,
    because there were too many different ones. `total` is the sum of the `numbers` lines that are one.
    """

    job: str
    reducer: str
    targets: int
    open: int
    hosts: int
    uncounted: int
    cut_hosts: int
    cut_bytes: int
    lines: int
    line_bytes: int
    left_out: int = 0
    rows: tuple[ReducedLine, ...] = ()
    more_rows: int = 0
    total: str | None = None
    numbers: int = 0
