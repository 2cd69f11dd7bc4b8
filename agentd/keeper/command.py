"""One command while it runs: its pipes, read into its spool.

Order: what a command writes to one stream stays in order. Between stdout and stderr the order is that of arrival:
both are read by one loop, so writes are in their true order when the keeper was awake between them, and may be
swapped where a command writes to both within the same few microseconds. No pipe tells more.

Rules: each round reads a bounded amount, so a flood of one command does not starve the others; memory does not grow
with output; a pipe that a left-over process holds is read on and thrown away, so that it does not die of our closing
it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from agentd.keeper.cgroups import JobGroup
from agentd.keeper.spawn import GatedChild
from agentd.keeper.spoolfile import SpoolWriter
from libstaragent.jobs.digest import sha256
from libstaragent.jobs.spool import STDERR, STDOUT

__all__ = ("READ_SIZE", "Command")

# A pipe's usual capacity: one read empties it.
READ_SIZE = 65536


class Command:
    """A spool, and while it lives the child whose output goes there."""

    def __init__(self, job: str, spool: SpoolWriter, group: JobGroup) -> None:
        self.job = job
        self.spool = spool
        self.group = group
        self.child: GatedChild | None = None
        self.stdin_left = b""
        self.sealed = False
        self._hashes = {STDOUT: sha256(b""), STDERR: sha256(b"")}
        self._counts = {STDOUT: 0, STDERR: 0}
        self._open: dict[int, int] = {}

    def attach(self, child: GatedChild, stdin: bytes | None) -> None:
        """The child was forked: its pipes are ours to serve."""
        self.child = child
        self.stdin_left = stdin or b""
        self._open = {child.stdout: STDOUT, child.stderr: STDERR}

    @property
    def descriptors(self) -> list[int]:
        """The output pipes that are still open."""
        return list(self._open)

    def read(self, descriptor: int) -> bool:
        """Read once. False where the pipe has ended; it is closed then."""
        try:
            data = os.read(descriptor, READ_SIZE)
        except BlockingIOError:
            return True
        if not data:
            self.close_pipe(descriptor)
            return False
        if not self.sealed:
            self._take(self._open[descriptor], data)
        return True

    def _take(self, stream: int, data: bytes) -> None:
        self._hashes[stream].update(data)
        self._counts[stream] += len(data)
        self.spool.append(stream, data)

    def close_pipe(self, descriptor: int) -> None:
        """Close one of our ends."""
        self._open.pop(descriptor, None)
        os.close(descriptor)

    def feed_stdin(self) -> bool:
        """Write what stdin takes; False when it is done or nobody reads it, and our end is closed."""
        child = self.child
        if child is None or child.stdin is None:
            return False
        try:
            written = os.write(child.stdin, self.stdin_left) if self.stdin_left else 0
        except BlockingIOError:
            return True
        except OSError:
            written = len(self.stdin_left)
        self.stdin_left = self.stdin_left[written:]
        if self.stdin_left:
            return True
        self.close_stdin()
        return False

    def close_stdin(self) -> None:
        """Close our end of the command's stdin."""
        if self.child is not None and self.child.stdin is not None:
            os.close(self.child.stdin)
            self.child.stdin = None

    def drain(self) -> dict[str, object]:
        """Read what the pipes hold now, at most their capacity, then seal the output and sum it up."""
        for descriptor, stream in list(self._open.items()):
            left = fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) if hasattr(fcntl, "F_GETPIPE_SZ") else READ_SIZE
            with contextlib.suppress(BlockingIOError):
                while left > 0:
                    data = os.read(descriptor, min(left, READ_SIZE))
                    if not data:
                        self.close_pipe(descriptor)
                        break
                    left -= len(data)
                    self._take(stream, data)
        self.sealed = True
        self.spool.flush()
        return {
            "stdout_bytes": self._counts[STDOUT],
            "stderr_bytes": self._counts[STDERR],
            "stdout_sha256": self._hashes[STDOUT].hexdigest(),
            "stderr_sha256": self._hashes[STDERR].hexdigest(),
            "omitted_bytes": self.spool.omitted(),
        }
