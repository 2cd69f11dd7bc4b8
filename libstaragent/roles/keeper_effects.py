"""What the keeper's core may ask of its shell, one class an act.

Each act is answered by the core's method named beside it, at once or later; a simulator answers when its disk and its
processes are done. An act without an answer is done when it is handed over.

Rules: acts are carried out in the order in which they were returned.
"""

from __future__ import annotations

from libstaragent.roles.keeper_spec import JobSpec

__all__ = (
    "Abort",
    "Census",
    "CreateSpool",
    "DeleteSpool",
    "Drain",
    "Effect",
    "Fork",
    "Release",
    "Signal",
    "Tell",
    "WriteFinished",
    "WriteStarted",
)


class Effect:
    """Any act, on one job."""

    __slots__ = ("job",)

    def __init__(self, job: str) -> None:
        self.job = job

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.job}>"


class CreateSpool(Effect):
    """Create the file, exclusively, and reserve its space → `on_created` or `on_create_failed`."""

    __slots__ = ("spec",)

    def __init__(self, job: str, spec: JobSpec) -> None:
        super().__init__(job)
        self.spec = spec


class Fork(Effect):
    """Fork a child that waits at its gate → `on_forked` or `on_fork_failed`."""

    __slots__ = ("spec",)

    def __init__(self, job: str, spec: JobSpec) -> None:
        super().__init__(job)
        self.spec = spec


class WriteStarted(Effect):
    """Make the record durable → `on_started_written` or `on_started_failed`."""

    __slots__ = ("record",)

    def __init__(self, job: str, record: dict[str, object]) -> None:
        super().__init__(job)
        self.record = record


class Release(Effect):
    """Open the gate: from here on the command may have run."""

    __slots__ = ()


class Abort(Effect):
    """Close the gate unopened: the child leaves without exec → `on_exited`."""

    __slots__ = ()


class Signal(Effect):
    """Signal every process of the job: `how` is ``term`` or ``kill``."""

    __slots__ = ("how",)

    def __init__(self, job: str, how: str) -> None:
        super().__init__(job)
        self.how = how


class Census(Effect):
    """Count the processes of the job that still live → `on_census`."""

    __slots__ = ()


class Drain(Effect):
    """Read what the pipes hold, without waiting for more, and sum up the output → `on_drained`."""

    __slots__ = ()


class WriteFinished(Effect):
    """Write the finished record and make it durable → `on_finished_written` or `on_finished_failed`."""

    __slots__ = ("summary",)

    def __init__(self, job: str, summary: dict[str, object]) -> None:
        super().__init__(job)
        self.summary = summary


class DeleteSpool(Effect):
    """Remove the file; that it is gone already is as good."""

    __slots__ = ()


class Tell(Effect):
    """Send one event to the agent, if one is connected; `job` is empty where it is about no job or many."""

    __slots__ = ("event",)

    def __init__(self, job: str, event: dict[str, object]) -> None:
        super().__init__(job)
        self.event = event
