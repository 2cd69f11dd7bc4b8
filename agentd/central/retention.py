"""Retention: the store is looked at every minute, and as soon as what was written may have passed a bound; what is too
old or too much goes in small batches.

    survey ─▶ too old, too many, too large? ─▶ choose a batch (in a thread) ─▶ delete it (an op of the writer) ─▶ …

Not here: choosing (`store.retention`), deleting (`store.deletion`). Rules: never an open job, never one whose envelope
could still be sent again; each batch is a submission like any other, and the next one is chosen when it is on disk, so
that writers wait no longer than for a batch. What a bound is passed by goes down to LOW_WATER of it, so that it does
not go on for ever by single rows. Entries of the audit go only behind a signed checkpoint.
"""

from __future__ import annotations

__all__ = ("Retention", "RetentionMetrics")

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from agentd.central.retention_limits import RetentionLimits
from agentd.store import ops
from agentd.store.retention import Survey
from agentd.store.store import Store
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.security.audit import AuditEntry, Checkpoint, checkpoint_digest, seal_checkpoint

log = logging.getLogger("agentd.central.retention")

# How often ages are looked at; they are days.
EVERY_SECONDS = 60.0
# A pass does not begin sooner after the last: a survey reads indexes of a million rows. After one that found nothing to
# delete, as where all that is too much is open, it rests longer.
PAUSE_SECONDS = 1.0
REST_SECONDS = 15.0
LOW_WATER = 0.95
DAY_MS = 86_400_000

# What one batch deletes: a few ms of the writer.
JOBS_A_BATCH = 32
TARGETS_A_BATCH = 250
OUTPUTS_A_BATCH = 64
OUTPUT_BYTES_A_BATCH = 2 * 1024 * 1024
AUDIT_A_BATCH = 1000
# By age alone the audit is pruned once a day: each time leaves a checkpoint for good.
AUDIT_EVERY_MS = DAY_MS
# The audit's newest entries are never pruned by number: a page to look at.
AUDIT_LEAST = 100


class Retention:
    """See the module. `open_jobs` gives the ids of jobs that have ended targets and are open themselves; `forget`
    is told those that are gone; `seed` is the audit key.

    Attributes:
        survey: what was found last. pruned: rows deleted since the start, by kind.
    """

    def __init__(
        self,
        store: Store,
        limits: RetentionLimits,
        *,
        write: Callable[[Sequence[ops.Op]], Awaitable[None]],
        open_jobs: Callable[[], Iterable[str]],
        now_ms: Callable[[], int],
        forget: Callable[[Iterable[str]], None],
        seed: bytes,
        fleet: str,
    ) -> None:
        self._store = store
        self._limits = limits
        self._write = write
        self._open_jobs = open_jobs
        self._now_ms = now_ms
        self._forget = forget
        self._seed = seed
        self._fleet = fleet
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.survey = Survey()
        self._at_survey = (0, 0, 0)
        self.pruned = {"jobs": 0, "outputs": 0, "audit": 0}

    def start(self) -> None:
        """Look now, and from then on."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End between two batches."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def nudge(self) -> None:
        """Something was written: look soon, if it may have been too much. Costs next to nothing."""
        if self._due.is_set():
            return
        jobs, output_bytes, audit = (
            now - before for now, before in zip(self._store.inserted, self._at_survey, strict=True)
        )
        survey, limits = self.survey, self._limits
        if (
            survey.jobs + jobs > limits.jobs_max
            or survey.output_bytes + output_bytes > limits.outputs_bytes
            or survey.audit + audit > limits.audit_max
        ):
            self._due.set()

    async def once(self) -> None:
        """One pass: everything that is to go, goes.

        :raises StarAgentError: the store does not take it.
        """
        now_ms = self._now_ms()
        limits = self._limits
        await self._look()
        await self._prune_jobs(before_ms=now_ms - int(limits.jobs_days * DAY_MS), most=None)
        await self._prune_outputs(before_ms=now_ms - int(limits.outputs_days * DAY_MS), size=None)
        if self.survey.jobs > limits.jobs_max:
            await self._prune_jobs(before_ms=None, most=self.survey.jobs - int(limits.jobs_max * LOW_WATER))
        if self.survey.output_bytes > limits.outputs_bytes:
            excess = self.survey.output_bytes - int(limits.outputs_bytes * LOW_WATER)
            await self._prune_outputs(before_ms=None, size=excess)
        await self._prune_audit(now_ms)
        await self._shrink()
        await self._write([ops.DeleteTokens(now_ms - int(limits.tokens_days * DAY_MS)), _sessions(now_ms)])
        await self._look()

    async def _run(self) -> None:
        while True:
            before = sum(self.pruned.values())
            try:
                await self.once()
            except StarAgentError as error:
                log.warning("retention waits: %s", error)
            except Exception:
                log.exception("%s: a pass of retention failed", codes.CENTRAL_BUG.code)
            await asyncio.sleep(PAUSE_SECONDS if sum(self.pruned.values()) > before else REST_SECONDS)
            self._due.clear()
            self.nudge()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._due.wait()

    async def _look(self) -> None:
        inserted = self._store.inserted
        self.survey = await asyncio.to_thread(self._store.prunable.survey)
        self._at_survey = inserted

    async def _prune_jobs(self, *, before_ms: int | None, most: int | None) -> int:
        """Delete ended jobs, `most` of them or all; how many it were."""
        gone = 0
        prunable = self._store.prunable
        while most is None or gone < most:
            found, large = await asyncio.to_thread(
                prunable.ended_jobs,
                now_ms=self._now_ms(),
                before_ms=before_ms,
                jobs=JOBS_A_BATCH if most is None else min(JOBS_A_BATCH, most - gone),
                targets=TARGETS_A_BATCH,
            )
            if not found:
                break
            if large:
                await self._cut_down(found[-1])
            await self._write([ops.DeleteJobs(tuple(found))])
            self._forget(found)
            gone += len(found)
            self.pruned["jobs"] += len(found)
        return gone

    async def _cut_down(self, job: str) -> None:
        """Of a large job's targets leave one batch."""
        while (upto := await asyncio.to_thread(self._store.prunable.last_of_first, job, TARGETS_A_BATCH)) is not None:
            await self._write([ops.DeleteTargets(job, upto)])

    async def _prune_outputs(self, *, before_ms: int | None, size: int | None) -> int:
        """Delete outputs, `size` bytes of them or all; how many bytes it were."""
        freed = 0
        open_jobs = tuple(self._open_jobs())
        while size is None or freed < size:
            most = OUTPUT_BYTES_A_BATCH if size is None else min(OUTPUT_BYTES_A_BATCH, size - freed)
            found = await asyncio.to_thread(
                self._store.prunable.outputs,
                before_ms=before_ms,
                most_bytes=most,
                limit=OUTPUTS_A_BATCH,
                open_jobs=open_jobs,
            )
            if not found:
                break
            await self._write([ops.DeleteOutputs(tuple((output.digest, output.last_ms) for output in found))])
            freed += sum(output.size for output in found)
            self.pruned["outputs"] += len(found)
        return freed

    async def _prune_audit(self, now_ms: int) -> None:
        prunable, limits = self._store.prunable, self._limits
        checkpoints = await asyncio.to_thread(self._store.audit.checkpoints)
        end = self._store.audit_end
        before = msgspec.msgpack.decode(checkpoints[-1].payload, type=Checkpoint) if checkpoints else None
        upto = 0
        if end is not None and self.survey.audit > limits.audit_max:
            upto = end.seq - max(AUDIT_LEAST, int(limits.audit_max * LOW_WATER))
        if before is None or now_ms - before.at_ms >= AUDIT_EVERY_MS:
            old = await asyncio.to_thread(prunable.audit_before, now_ms - int(limits.audit_days * DAY_MS))
            upto = max(upto, old)
        if end is not None and upto == end.seq:
            upto -= 1
        last = await asyncio.to_thread(prunable.audit_entry, upto) if upto > (before.upto if before else 0) else None
        if last is not None:
            checkpoint = Checkpoint(
                fleet=self._fleet,
                upto=last.seq,
                hash=last.hash,
                count=last.seq - (before.upto if before is not None else 0),
                upto_ms=last.at_ms,
                at_ms=now_ms,
                previous=checkpoint_digest(checkpoints[-1]) if checkpoints else b"",
            )
            signed = seal_checkpoint(checkpoint, self._seed)
            entry = AuditEntry(
                act="checkpoint",
                outcome="accepted",
                text=f"entries up to {last.seq} are pruned",
                subject=str(last.seq),
                envelope=checkpoint_digest(signed),
            )
            packed = msgspec.msgpack.encode(signed)
            await self._write([ops.InsertCheckpoint(last.seq, packed), ops.InsertAudit(entry, now_ms)])
        pruned_to = last.seq if last is not None else before.upto if before is not None else 0
        while pruned_to and (rows := await asyncio.to_thread(prunable.audit_rows, pruned_to)):
            await self._write([ops.DeleteAudit(AUDIT_A_BATCH)])
            self.pruned["audit"] += min(rows, AUDIT_A_BATCH)

    async def _shrink(self) -> None:
        """Bring the whole store below its bound: outputs first, then jobs, the oldest of each."""
        limit = self._limits.store_bytes
        while True:
            await self._look()
            excess = self.survey.store_bytes - limit
            if excess <= 0:
                return
            freed = await self._prune_outputs(before_ms=None, size=min(excess, 8 * OUTPUT_BYTES_A_BATCH))
            if not freed and not await self._prune_jobs(before_ms=None, most=JOBS_A_BATCH):
                log.warning("the store has %d bytes more than it may, and nothing that may go", excess)
                return


class RetentionMetrics:
    """What there is and what went, for Prometheus; as of the last look."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks for."""
        survey = self._retention.survey
        rows = GaugeMetricFamily("opsconsole_store_rows", "Rows kept", labels=["table"])
        oldest = GaugeMetricFamily("opsconsole_store_oldest_seconds", "Time of the oldest row kept", labels=["table"])
        for table, count, at_ms in (
            ("jobs", survey.jobs, survey.oldest_job_ms),
            ("outputs", survey.outputs, survey.oldest_output_ms),
            ("audit", survey.audit, survey.oldest_audit_ms),
        ):
            rows.add_metric([table], count)
            oldest.add_metric([table], at_ms / 1000)
        yield rows
        yield oldest
        yield GaugeMetricFamily("opsconsole_store_bytes", "Bytes of the store in use", value=survey.store_bytes)
        yield GaugeMetricFamily("opsconsole_store_output_bytes", "Bytes of kept outputs", value=survey.output_bytes)
        pruned = CounterMetricFamily("opsconsole_store_pruned", "Rows pruned since the start", labels=["table"])
        for table, count in self._retention.pruned.items():
            pruned.add_metric([table], count)
        yield pruned


def _sessions(now_ms: int) -> ops.DeleteSessions:
    return ops.DeleteSessions(expired_ms=now_ms)
