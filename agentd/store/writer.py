"""The one thread that writes, and the queue before it. Group commit without a timer: a batch is what came during the
last commit.

    any thread ── submit ──▶ queue (bounded) ──▶ writer thread: one transaction for all that is there ──▶ answers

An idle store thus commits one submission at once, and a busy one as many as a disk can take in a commit; nothing is
tuned.

Rules: an answer is given after the commit that holds the submission, or says that nothing of it was written. A full
queue refuses at once (STORE_BUSY), so pressure is the caller's to see. The environment's failure (no space) fails the
batch; a row that the database refuses is found by writing the batch's submissions one by one, so it takes nobody down
with it.
"""

from __future__ import annotations

__all__ = ("MAX_QUEUED_BYTES", "MAX_QUEUED_OPS", "Answer", "Lane", "Writer")

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Condition, Thread
from typing import Any

from agentd.store.dialect import store_error
from agentd.store.ops import InsertJob, InsertOutput
from agentd.store.transaction import Submission, Transaction
from libstaragent import codes
from libstaragent.errors import StarAgentError

# Several seconds of the fastest fan-out measured: longer than any commit should take.
MAX_QUEUED_OPS = 262_144

# What these may hold in bodies and envelopes; rows without a body are some 500 bytes each.
MAX_QUEUED_BYTES = 256 * 1024 * 1024

# A commit of so many rows takes about a tenth of a second; more would only make everybody in it wait.
MAX_BATCH_OPS = 16_384

Answer = Callable[[StarAgentError | None], None]


class Lane:
    """A way to submit for one event loop: answers come in its thread, one wake-up a commit and not one a submission."""

    def __init__(self, writer: Writer, post: Callable[..., Any]) -> None:
        self._writer = writer
        self.post = post

    def submit(self, submission: Submission, answer: Answer) -> None:
        """Queue; later `answer` is called in the loop, with None or why nothing of it was written.

        :raises ResourceShort: STORE_BUSY, the queue is full.
        :raises DependencyFailed: STORE_CLOSED.
        """
        self._writer.put(submission, answer, self)


class Writer:
    """Owns the thread. `transaction` writes; the thread is the only one to use it."""

    def __init__(
        self, transaction: Transaction, *, max_ops: int = MAX_QUEUED_OPS, max_bytes: int = MAX_QUEUED_BYTES
    ) -> None:
        self._transaction = transaction
        self._max_ops = max_ops
        self._max_bytes = max_bytes
        self._queue: deque[tuple[Submission, Answer, Lane | None, int]] = deque()
        self._ops = 0
        self._bytes = 0
        self._closing = False
        self._changed = Condition()
        self._thread = Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, submission: Submission) -> Future[None]:
        """Queue; the future is resolved after the commit, or with why nothing was written.

        :raises ResourceShort: STORE_BUSY, the queue is full.
        :raises DependencyFailed: STORE_CLOSED.
        """
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        self.put(submission, partial(_resolve, future), None)
        return future

    def put(self, submission: Submission, answer: Answer, lane: Lane | None) -> None:
        """Queue for `answer`, called in the lane's loop, or in the writer's thread if there is no lane."""
        size = sum(_size(op) for op in submission)
        with self._changed:
            if self._closing:
                raise codes.STORE_CLOSED.error()
            if self._ops + len(submission) > self._max_ops or self._bytes + size > self._max_bytes:
                raise codes.STORE_BUSY.error(f"{self._ops} writes and {self._bytes} bytes are waiting")
            self._queue.append((submission, answer, lane, size))
            self._ops += len(submission)
            self._bytes += size
            if len(self._queue) == 1:
                self._changed.notify()

    @property
    def queued(self) -> tuple[int, int]:
        """Ops and bytes that wait, for metrics."""
        return self._ops, self._bytes

    def close(self) -> None:
        """Write what is queued, then end the thread; further submissions are refused."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._changed.wait()
                if not self._queue:
                    return
                batch = self._take()
            results = self._write([submission for submission, _, _, _ in batch])
            posts: dict[Lane, list[tuple[Answer, StarAgentError | None]]] = {}
            for (_, answer, lane, _), result in zip(batch, results, strict=True):
                if lane is None:
                    answer(result)
                else:
                    posts.setdefault(lane, []).append((answer, result))
            for lane, answers in posts.items():
                try:
                    lane.post(_deliver, answers)
                except RuntimeError:
                    continue  # the loop is closed: nobody is left to be told, and the rows are safe

    def _take(self) -> list[tuple[Submission, Answer, Lane | None, int]]:
        batch: list[tuple[Submission, Answer, Lane | None, int]] = []
        taken = 0
        while self._queue and (not batch or taken + len(self._queue[0][0]) <= MAX_BATCH_OPS):
            entry = self._queue.popleft()
            batch.append(entry)
            taken += len(entry[0])
            self._bytes -= entry[3]
        self._ops -= taken
        return batch

    def _write(self, submissions: list[Submission]) -> list[StarAgentError | None]:
        try:
            return self._transaction.run(submissions)
        except Exception as error:
            coded = store_error(error)
            if coded.code is codes.STORE_REFUSED and len(submissions) > 1:
                middle = len(submissions) // 2
                return self._write(submissions[:middle]) + self._write(submissions[middle:])
            return [coded] * len(submissions)


def _size(op: Any) -> int:
    kind = type(op)
    if kind is InsertOutput:
        return len(op.body)
    return len(op.envelope) + len(op.members) if kind is InsertJob else 0


def _resolve(future: Future[None], error: StarAgentError | None) -> None:
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _deliver(answers: list[tuple[Answer, StarAgentError | None]]) -> None:
    for answer, error in answers:
        answer(error)
