"""The books of a run under fire: what the commands themselves wrote down, beside what the control plane says of them.

    host    the command appends to one file (O_APPEND): "S owner/job" when it begins; "E owner/job STATUS TEXT" when it
            is about to print TEXT and exit with STATUS. OWNER names the host. Nothing of ours writes there.
    store   state, exit status, output and digest of each target, read over the API when all is over

Not here: who is killed (`bench.faults`), the flying (`bench.flight`). Rules: a line is one write; whoever kills the
shell between two lines leaves the first. A host that refuses because it has all that it takes (BUSY), and on which
nothing began, has said the truth. `judge` gives at most one complaint a target, by the worst first.
"""

from __future__ import annotations

__all__ = ("BUSY", "COMMAND", "Complaint", "Order", "Record", "command", "judge", "read_record")

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from libstaragent.codes import AGENT_BUSY, KEEPER_BUSY
from libstaragent.model.api import TargetView
from libstaragent.model.result import TERMINAL, records

# So many are open, or running and kept.
BUSY = frozenset((AGENT_BUSY.code, KEEPER_BUSY.code))

# A kill is felt until its host is back: a keeper waits up to 2 s for the lock, and up to 30 s before it starts an agent
# that died again and again within 10 s.
FELT_MS = 35_000

Killed = Callable[[Sequence[str], str, int, int], bool]

# $1 the record, $2 seconds, $3 exit status, $4 what it prints.
COMMAND = (
    'echo "S $OPSCONSOLE_KEEPER" >>"$1"; [ "$2" = 0 ] || sleep "$2"; '
    'echo "E $OPSCONSOLE_KEEPER $3 $4" >>"$1"; echo "$4"; exit "$3"'
)


@dataclass(frozen=True)
class Order:
    """What one job is to do on each of its hosts."""

    job: str
    owners: Mapping[str, str]
    """Agent id to owner."""
    status: int
    text: str
    submitted_ms: int


@dataclass(frozen=True)
class Complaint:
    """What does not balance. `kind` is one of lost, double, silent."""

    kind: str
    job: str
    agent: str
    why: str


@dataclass
class Record:
    """What the commands wrote: how often each began and ended, and how the first end was."""

    began: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    last: dict[str, str] = field(default_factory=dict)
    torn: int = 0


def command(path: Path, seconds: float, status: int, text: str) -> tuple[str, ...]:
    """The argv of a command that keeps the record."""
    return ("/bin/sh", "-c", COMMAND, "books", str(path), f"{seconds:g}", str(status), text)


def read_record(path: Path) -> Record:
    """All that was written."""
    found = Record()
    for line in path.read_text().splitlines() if path.exists() else ():
        kind, _, rest = line.partition(" ")
        who, _, said = rest.partition(" ")
        if kind == "S":
            found.began[who] += 1
        elif kind == "E":
            found.ended[who] += 1
            found.last[who] = said
        else:
            found.torn += 1
    return found


def judge(order: Order, views: Sequence[TargetView], record: Record, killed: Killed) -> list[Complaint]:
    """What does not balance of one job.

    :param killed: of (kinds of fault, agent, from ms, to ms) whether one of them hit that host between: what runs is
        interrupted by its keeper's death only, and what was accepted and not begun by its agent's, too.
    """
    found: list[Complaint] = []
    by_agent: dict[str, list[TargetView]] = {}
    for view in views:
        by_agent.setdefault(view.agent, []).append(view)
    for agent, owner in order.owners.items():
        why = _why(order, f"{owner}/{order.job}", by_agent.get(agent, ()), record, killed)
        if why is not None:
            found.append(Complaint(why[0], order.job, agent, why[1]))
    return found


def _why(order: Order, who: str, views: Sequence[TargetView], record: Record, killed: Killed) -> tuple[str, str] | None:
    began, ended = record.began[who], record.ended[who]
    if began > 1 or ended > 1:
        return "double", f"began {began} times, ended {ended} times"
    if not views or views[0].state not in TERMINAL:
        return "lost", f"no end is known (began {began}): {views[0].state if views else 'no row'}"
    # A later result stands beside a verdict of central's own.
    view = views[-1]
    if view.state in ("ok", "exit_nonzero"):
        return _why_not_that_end(order, who, view, record)
    if began and view.ran == "no":
        return "silent", f"it ran, and {view.state} says that it did not"
    if view.code in BUSY and not began:
        return None
    if view.state == "interrupted":
        kinds = ("keeper", "host", "agent") if view.ran == "no" else ("keeper", "host")
        if not killed(kinds, view.agent, order.submitted_ms - FELT_MS, view.received_ms or 0):
            return "lost", f"interrupted ({view.code} {view.detail}), and nobody killed its {kinds[0]}"
        return None
    return "lost", f"{view.state} ({view.code} {view.detail}); began {began}, ended {ended}"


def _why_not_that_end(order: Order, who: str, view: TargetView, record: Record) -> tuple[str, str] | None:
    if not record.ended[who]:
        return "silent", f"{view.state}, and the command did not come to its end (began {record.began[who]})"
    expected = f"{order.status} {order.text}"
    if record.last[who] != expected:
        return "silent", f"the record has {record.last[who]!r} for {expected!r}"
    printed = (order.text + "\n").encode()
    kept = b"" if view.output is None else b"".join(data for stream, data in records(view.output.head) if stream == 1)
    if view.exit_status != order.status or (view.state == "ok") != (order.status == 0):
        return "silent", f"exit status {order.status} became {view.state} {view.exit_status}"
    if kept != printed or view.stdout_bytes != len(printed):
        return "silent", f"{len(printed)} bytes printed, {len(kept)} kept, {view.stdout_bytes} counted"
    if view.stdout_sha256 != hashlib.sha256(printed).hexdigest():
        return "silent", "the digest is another's"
    return None
