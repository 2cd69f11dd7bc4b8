"""One job in the keeper: its states as a table, and what is known of it.

    reserving → forking → recording → running → draining → finishing → finished
                              ↓          ↓          ↑
                          aborting   terminating → killing        (and `found`, after a crash)

Not here: what is done on the way (`keeper`).

Rules: nothing but `move` sets a state; a move that the table lacks is a bug of ours and raises SA-6901.
"""

from __future__ import annotations

from libstaragent.codes import KEEPER_BUG
from libstaragent.roles.keeper_spec import JobSpec
from libstaragent.roles.keeper_summary import Usage

__all__ = ("MOVES", "KeptJob")

# (state, event) → state
MOVES: dict[tuple[str, str], str] = {
    ("reserving", "created"): "forking",
    ("reserving", "create_failed"): "gone",
    ("forking", "forked"): "recording",
    ("forking", "fork_failed"): "draining",
    ("recording", "exited"): "recording",
    ("recording", "recorded"): "running",
    ("recording", "record_failed"): "aborting",
    ("running", "recalled"): "aborting",
    ("running", "stopped"): "terminating",
    ("running", "exited"): "draining",
    ("aborting", "exited"): "draining",
    ("terminating", "exited"): "terminating",
    ("terminating", "empty"): "draining",
    ("terminating", "overdue"): "killing",
    ("killing", "exited"): "killing",
    ("killing", "empty"): "draining",
    ("killing", "overdue"): "draining",
    ("draining", "exited"): "draining",
    ("draining", "drained"): "finishing",
    ("finishing", "exited"): "finishing",
    ("finishing", "write_failed"): "finishing",
    ("finishing", "written"): "finished",
    ("finished", "exited"): "finished",
    ("finished", "forgotten"): "gone",
    ("found", "found_finished"): "finished",
    ("found", "found_empty"): "draining",
    ("found", "found_unstarted"): "gone",
    ("found", "found_started"): "killing",
}


class KeptJob:
    """What the keeper knows of one job.

    Attributes:
        gate: how far it got: ``shut``, ``open``, or after a crash ``unknown`` (it may have been open) and ``damaged``.
        cause: why the keeper ended it: ``timeout``, ``cancelled``, ``interrupted``; None while it ends by itself.
        record: what the spool's `started` holds.
        due: when the state's own deadline passes (timeout, grace, patience), in monotonic seconds.
    """

    __slots__ = (
        "cause",
        "due",
        "end",
        "exec_code",
        "exec_detail",
        "exec_errno",
        "exited",
        "exited_ms",
        "gate",
        "name",
        "next_census",
        "next_tell",
        "pid",
        "record",
        "retry_at",
        "spec",
        "started_ms",
        "state",
        "status",
        "summary",
        "tries",
        "usage",
        "watched",
    )

    def __init__(self, name: str, state: str, spec: JobSpec | None) -> None:
        self.name = name
        self.state = state
        self.spec = spec
        self.gate = "shut"
        self.cause: str | None = None
        self.due: float | None = None
        self.end = 0
        self.exec_code: str | None = None
        self.exec_detail = ""
        self.exec_errno: int | None = None
        self.exited = False
        self.exited_ms = 0
        self.next_census: float | None = None
        self.next_tell: float | None = None
        self.pid: int | None = None
        self.record: dict[str, object] = {}
        self.retry_at: float | None = None
        self.started_ms = 0
        self.status: int | None = None
        self.summary: dict[str, object] | None = None
        self.tries = 0
        self.usage = Usage()
        self.watched = False

    def move(self, event: str) -> None:
        """Take the table's move, or raise SA-6901 naming job, state and event."""
        try:
            self.state = MOVES[self.state, event]
        except KeyError:
            raise KEEPER_BUG.error(f"{event} in state {self.state} of job {self.name}") from None

    def deadline(self) -> float | None:
        """The next moment at which something is due for it."""
        times = [t for t in (self.due, self.next_census, self.next_tell, self.retry_at) if t is not None]
        return min(times, default=None)

    def event(self) -> dict[str, object]:
        """Where it stands, as `hello` lists it."""
        if self.summary is not None and self.state == "finished":
            return {"job": self.name, "done": True, **self.summary}
        state = "running" if self.gate == "open" else "starting"
        return {"job": self.name, "done": False, "state": state, "end": self.end, **self.record}
