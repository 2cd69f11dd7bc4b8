"""The keeper's core: one small machine a job, from the wish to run a command to a result that outlives everyone.

The promise: a command runs at most once, and what is told of it is on disk. So the order is fixed. The spool is
created and its space reserved; a child is forked that waits at a gate; `started` is made durable; only then is the
gate opened; when the child has ended its pipes are drained; `finished` is made durable; only then is it told. The
table `keeper_job.MOVES` is that order.

The file is long because one job's way up and down is read in one piece.

Not here: files, processes, sockets, clocks. A shell (or a simulator) calls a method for each thing that happened,
with `now` in monotonic seconds and wall-clock milliseconds where a record needs them, and carries out the returned
effects in order (`keeper_effects` says which method answers which). Between events it waits until `deadline` and
calls `on_time`.

How a simulator drives it: keep effects in a queue a disk and a process model work off at seeded times. To crash the
keeper is to drop the core, its queue and every unsynced write; then `on_found` is called on a new core for each spool
that the disk still has, with what its header says. A child whose gate was open lives on; one whose gate was not must
be dropped.

Rules: a request is the agent's and may be wrong in any way: it is answered with an event, never with an exception. A
move that the table lacks is a bug of ours and raises SA-6901.
"""

from __future__ import annotations

from libstaragent.codes import JOB_NOT_KEPT, KEEPER_BUSY, KEEPER_FRAME
from libstaragent.errors import StarAgentError
from libstaragent.roles.keeper_effects import (
    Abort,
    Census,
    CreateSpool,
    DeleteSpool,
    Drain,
    Effect,
    Fork,
    Release,
    Signal,
    Tell,
    WriteFinished,
    WriteStarted,
)
from libstaragent.roles.keeper_job import KeptJob
from libstaragent.roles.keeper_spec import JobSpec, is_job_id
from libstaragent.roles.keeper_summary import Usage, summary_of

__all__ = ("KeeperCore",)

# Each running command costs about five file descriptors; this stays under the common limit of 1,024.
RUNNING_MAX = 128
# Finished results wait for the agent's acknowledgement; at 210 KiB each this many are at most 430 MB of disk.
KEPT_MAX = 2048
# How often the processes of a job are counted while they are being ended.
CENSUS_INTERVAL = 0.05
# SIGKILL cannot be refused, only be late (a process in uninterruptible I/O); after this long the job ends without it.
KILL_PATIENCE = 10.0
# An agent follows live output; more events a second would only cost it wake-ups.
OUTPUT_INTERVAL = 0.02
# When the keeper itself is told to stop, commands get at most this long to end by themselves.
STOP_GRACE = 2.0
# A disk that fails may recover. After so many failures the result is told although it is only in memory.
FINISH_RETRY = 1.0
FINISH_TRIES = 3
# A `known` event stays far under the frame limit: a summary is at most 8 KiB, commonly 700 bytes.
KNOWN_PER_EVENT = 100


class KeeperCore:
    """All jobs of one keeper. See the module's text for how it is driven."""

    def __init__(self, *, running_max: int = RUNNING_MAX, kept_max: int = KEPT_MAX) -> None:
        self._running_max = running_max
        self._kept_max = kept_max
        self._jobs: dict[str, KeptJob] = {}
        self._live: dict[str, KeptJob] = {}
        self._stopping = False

    # What the shell asks -------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Nothing is under way: every job is finished, or its end has been told and the disk will not take it."""
        return all(kept.tries >= FINISH_TRIES for kept in self._live.values())

    def state(self, job: str) -> str | None:
        """The state of a job; None where it is not known."""
        kept = self._jobs.get(job)
        return None if kept is None else kept.state

    def identity(self, job: str) -> tuple[int | None, int, bool]:
        """(pid, start time, whether this keeper started it) of a job's main process."""
        kept = self._jobs.get(job)
        if kept is None:
            return None, 0, False
        start_time = kept.record.get("start_time")
        return kept.pid, start_time if isinstance(start_time, int) else 0, kept.gate in ("shut", "open")

    def deadline(self) -> float | None:
        """When `on_time` has to be called at the latest; None where nothing is pending."""
        times = [at for kept in self._live.values() if (at := kept.deadline()) is not None]
        return min(times, default=None)

    # The agent -----------------------------------------------------------------------------------------------------

    def on_connected(self) -> None:
        """Another agent speaks now: what the one before watched is no longer watched."""
        for kept in self._live.values():
            kept.watched = False
            kept.next_tell = None

    def on_request(self, message: dict[str, object], now: float) -> list[Effect]:
        """One frame from the agent. Whatever is wrong with it comes back as an event."""
        operation = message.get("op")
        if operation == "hello":
            return self._hello()
        job = message.get("job")
        if not isinstance(job, str) or not is_job_id(job):
            return [Tell("", {"ev": "error", "code": KEEPER_FRAME.code, "detail": "job must be a ULID"})]
        if operation == "spawn":
            return self._spawn(job, message)
        if operation == "kill":
            return self._kill(job, now)
        if operation == "watch":
            return self._watch(job, message)
        if operation == "forget":
            return self._forget(job)
        return [Tell(job, {"ev": "error", "job": job, "code": KEEPER_FRAME.code, "detail": "no such op"})]

    def _hello(self) -> list[Effect]:
        jobs: list[object] = [kept.event() for kept in self._jobs.values()]
        pages = [jobs[at : at + KNOWN_PER_EVENT] for at in range(0, len(jobs), KNOWN_PER_EVENT)] or [[]]
        return [
            Tell("", {"ev": "known", "jobs": page, "more": number < len(pages)}) for number, page in enumerate(pages, 1)
        ]

    def _spawn(self, job: str, message: dict[str, object]) -> list[Effect]:
        kept = self._jobs.get(job)
        if kept is not None:
            return [Tell(job, _news(kept))]
        try:
            spec = JobSpec(message.get("spec"))
            if self._stopping:
                raise KEEPER_BUSY.error("the keeper is stopping")
            if len(self._live) >= self._running_max:
                raise KEEPER_BUSY.error(f"{len(self._live)} commands are running")
            if len(self._jobs) >= self._kept_max:
                raise KEEPER_BUSY.error(f"{len(self._jobs)} results wait to be collected")
        except StarAgentError as problem:
            return [Tell(job, _refused(job, problem.code.code, None, problem.detail))]
        kept = KeptJob(job, "reserving", spec)
        self._jobs[job] = self._live[job] = kept
        return [CreateSpool(job, spec)]

    def _kill(self, job: str, now: float) -> list[Effect]:
        kept = self._jobs.get(job)
        if kept is None:
            return [Tell(job, {"ev": "error", "job": job, "code": JOB_NOT_KEPT.code, "detail": ""})]
        if kept.state == "finished":
            return [Tell(job, _news(kept))]
        return self._stop(kept, "cancelled", now, None)

    def _watch(self, job: str, message: dict[str, object]) -> list[Effect]:
        kept = self._jobs.get(job)
        if kept is None:
            return []
        kept.watched = message.get("on") is True
        start = message.get("from")
        if not kept.watched:
            kept.next_tell = None
            return []
        if isinstance(start, int) and start >= kept.end:
            return []
        return [Tell(job, {"ev": "output", "job": job, "end": kept.end})]

    def _forget(self, job: str) -> list[Effect]:
        kept = self._jobs.get(job)
        if kept is None or kept.state != "finished":
            return []
        kept.move("forgotten")
        del self._jobs[job]
        return [DeleteSpool(job)]

    # The way up ----------------------------------------------------------------------------------------------------

    def on_created(self, job: str) -> list[Effect]:
        """The spool exists and its space is ours."""
        kept = self._jobs[job]
        kept.move("created")
        return [Fork(job, kept.spec)] if kept.spec is not None else []

    def on_create_failed(self, job: str, code: str, errno: int | None, detail: str) -> list[Effect]:
        """There is no spool, so nothing is started and nothing is kept."""
        self._jobs[job].move("create_failed")
        del self._jobs[job], self._live[job]
        return [Tell(job, _refused(job, code, errno, detail))]

    def on_forked(self, job: str, pid: int, start_time: int, boot_id: str, now_ms: int) -> list[Effect]:
        """The child waits at its gate."""
        kept = self._jobs[job]
        kept.move("forked")
        kept.pid = pid
        kept.started_ms = now_ms
        kept.record = {"pid": pid, "start_time": start_time, "boot_id": boot_id, "at_ms": now_ms}
        return [WriteStarted(job, kept.record)]

    def on_fork_failed(self, job: str, errno: int, code: str, detail: str, now_ms: int) -> list[Effect]:
        """No child could be made."""
        kept = self._jobs[job]
        kept.move("fork_failed")
        self._exec_failed(kept, code, errno, detail)
        kept.exited_ms = kept.started_ms = now_ms
        return [Drain(job)]

    def on_started_written(self, job: str, now: float) -> list[Effect]:
        """`started` is durable: open the gate, unless the command was recalled or the child died meanwhile."""
        kept = self._jobs[job]
        kept.move("recorded")
        if kept.exited:
            kept.move("exited")
            return [Drain(job)]
        if kept.cause is not None:
            kept.move("recalled")
            return [Abort(job)]
        kept.gate = "open"
        kept.due = now + kept.spec.timeout if kept.spec is not None else None
        return [Release(job), Tell(job, _news(kept))]

    def on_started_failed(self, job: str, errno: int, code: str, detail: str) -> list[Effect]:
        """`started` could not be made durable: the command must not run."""
        kept = self._jobs[job]
        kept.move("record_failed")
        self._exec_failed(kept, code, errno, detail)
        if not kept.exited:
            return [Abort(job)]
        kept.move("exited")
        return [Drain(job)]

    def on_exec_failed(self, job: str, errno: int | None, code: str, detail: str) -> list[Effect]:
        """The child was let through but the OS would not start the command; its exit follows."""
        self._exec_failed(self._jobs[job], code, errno, detail)
        return []

    def _exec_failed(self, kept: KeptJob, code: str, errno: int | None, detail: str) -> None:
        kept.exec_code, kept.exec_errno, kept.exec_detail = code, errno, detail

    # The way down --------------------------------------------------------------------------------------------------

    def on_exited(self, job: str, status: int, usage: Usage, now_ms: int) -> list[Effect]:
        """The main process has ended with this raw wait status."""
        kept = self._jobs.get(job)
        if kept is None:
            return []
        was = kept.state
        kept.move("exited")
        if kept.exited or was in ("finishing", "finished"):
            return []
        kept.exited, kept.status, kept.usage, kept.exited_ms = True, status, usage, now_ms
        if was in ("running", "aborting"):
            kept.due = None
            return [Drain(job)]
        return [Census(job)] if was in ("terminating", "killing") else []

    def _stop(self, kept: KeptJob, cause: str, now: float, grace_max: float | None) -> list[Effect]:
        if kept.cause is not None or kept.exited or kept.state not in ("reserving", "forking", "recording", "running"):
            return []
        kept.cause = cause
        if kept.state != "running":
            return []
        kept.move("stopped")
        grace = kept.spec.kill_grace if kept.spec is not None else 0.0
        kept.due = now + (grace if grace_max is None else min(grace, grace_max))
        kept.next_census = now + CENSUS_INTERVAL
        return [Signal(kept.name, "term")]

    def on_census(self, job: str, alive: int, now: float) -> list[Effect]:
        """How many processes of the job live, zombies not counted."""
        kept = self._jobs.get(job)
        if kept is None or kept.state not in ("terminating", "killing"):
            return []
        kept.next_census = now + CENSUS_INTERVAL
        if alive or not kept.exited:
            return []
        kept.move("empty")
        kept.due = kept.next_census = None
        return [Drain(job)]

    def on_drained(self, job: str, facts: dict[str, object], now_ms: int) -> list[Effect]:
        """Output is complete; `facts`: its totals, what the job left running, and whether the kernel's OOM struck."""
        kept = self._jobs[job]
        kept.move("drained")
        kept.due = kept.next_census = None
        kept.summary = summary_of(kept, facts, now_ms)
        return [WriteFinished(job, kept.summary)]

    def on_finished_written(self, job: str) -> list[Effect]:
        """`finished` is durable: now it may be told."""
        kept = self._jobs[job]
        kept.move("written")
        return self._told(kept, first=kept.tries < FINISH_TRIES)

    def on_finished_failed(self, job: str, errno: int, now: float) -> list[Effect]:
        """The disk refused the end of the story. Try on, and after a while tell it all the same."""
        kept = self._jobs[job]
        kept.move("write_failed")
        kept.tries += 1
        kept.retry_at = now + FINISH_RETRY
        if kept.tries != FINISH_TRIES or kept.summary is None:
            return []
        return [Tell(job, {"ev": "finished", "job": job, "durable": False, "disk_errno": errno, **kept.summary})]

    def _told(self, kept: KeptJob, *, first: bool) -> list[Effect]:
        self._live.pop(kept.name, None)
        kept.next_tell = kept.retry_at = kept.due = kept.next_census = None
        kept.spec = None
        effects: list[Effect] = []
        if kept.watched and first:
            effects.append(Tell(kept.name, {"ev": "output", "job": kept.name, "end": kept.end}))
        effects.append(Tell(kept.name, _news(kept)))
        return effects

    # Time, output, the keeper's own end and beginning -----------------------------------------------------------------

    def on_output(self, job: str, end: int, now: float) -> list[Effect]:
        """Output up to this offset can be read in the spool."""
        kept = self._live.get(job)
        if kept is None:
            return []
        kept.end = end
        if kept.watched and kept.next_tell is None:
            kept.next_tell = now + OUTPUT_INTERVAL
        return []

    def on_time(self, now: float) -> list[Effect]:
        """Everything that is due at `now`."""
        effects: list[Effect] = []
        for kept in list(self._live.values()):
            if kept.next_tell is not None and now >= kept.next_tell:
                kept.next_tell = None
                effects.append(Tell(kept.name, {"ev": "output", "job": kept.name, "end": kept.end}))
            if kept.retry_at is not None and now >= kept.retry_at and kept.summary is not None:
                kept.retry_at = None
                effects.append(WriteFinished(kept.name, kept.summary))
            if kept.due is not None and now >= kept.due:
                effects += self._overdue(kept, now)
            if kept.next_census is not None and now >= kept.next_census:
                kept.next_census = now + CENSUS_INTERVAL
                if kept.state == "killing":
                    effects.append(Signal(kept.name, "kill"))
                effects.append(Census(kept.name))
        return effects

    def _overdue(self, kept: KeptJob, now: float) -> list[Effect]:
        if kept.state == "running":
            return self._stop(kept, "timeout", now, None)
        was = kept.state
        kept.move("overdue")
        if was == "terminating":
            kept.due = now + KILL_PATIENCE
            kept.next_census = now
            return [Signal(kept.name, "kill")]
        kept.due = kept.next_census = None
        return [Drain(kept.name)]

    def on_stop(self, now: float) -> list[Effect]:
        """The keeper is told to go: end every command, each result `interrupted`; go when `idle`."""
        self._stopping = True
        effects: list[Effect] = []
        for kept in self._live.values():
            effects += self._stop(kept, "interrupted", now, STOP_GRACE)
        return effects

    def on_found(
        self, job: str, started: str, record: dict[str, object], finished: dict[str, object] | None, now: float
    ) -> list[Effect]:
        """A spool that a keeper before left behind: what its slots are, and hold.

        :param started: blank, whole or damaged; empty where nothing at all was written to it.
        """
        kept = KeptJob(job, "found", None)
        if finished is None and started == "blank":
            # Its command was never let through, so the agent may hand it over again.
            kept.move("found_unstarted")
            return [DeleteSpool(job)]
        self._jobs[job] = kept
        if finished is not None:
            kept.move("found_finished")
            kept.summary = finished
            return []
        self._live[job] = kept
        kept.cause = "interrupted"
        kept.exited = True
        if started == "empty":
            # Begun just now, or cut off by a damage: it is not begun again.
            kept.move("found_empty")
            return [Drain(job)]
        kept.gate = "unknown" if started == "whole" else "damaged"
        kept.record = record
        pid, at_ms = record.get("pid"), record.get("at_ms")
        kept.pid = pid if isinstance(pid, int) else None
        kept.started_ms = at_ms if isinstance(at_ms, int) else 0
        kept.move("found_started")
        kept.due = now + KILL_PATIENCE
        kept.next_census = now + CENSUS_INTERVAL
        return [Signal(job, "kill"), Census(job)]


def _news(kept: KeptJob) -> dict[str, object]:
    if kept.state == "finished" and kept.summary is not None:
        return {"ev": "finished", "job": kept.name, **kept.summary}
    if kept.gate == "open":
        return {"ev": "started", "job": kept.name, **kept.record}
    return {"ev": "starting", "job": kept.name}


def _refused(job: str, code: str, errno: int | None, detail: str) -> dict[str, object]:
    return {"ev": "refused", "job": job, "code": code, "errno": errno, "detail": detail}
