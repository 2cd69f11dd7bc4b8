"""The journal on disk (`libstaragent.jobs.journal` says what is in it): appended in groups, one fsync a group.

Rules: a torn end is cut off when the file is opened; of a damaged file a copy is kept aside, the damage is said, and a
`Floor` is written; a failed append leaves the file as it was before; it is written
anew when it is opened, and when it has grown past REWRITE_BYTES and to twice what it was when last written anew. On a
full disk it is opened all the same: the host must stay reachable, and say of each command that it cannot be journaled.
"""

from __future__ import annotations

__all__ = ("DAMAGED_MAX", "JournalFile")

import contextlib
import errno
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from libstaragent import codes
from libstaragent.jobs.journal import Floor, Learned, Record, Salvage, compacted, encode_record, salvage
from libstaragent.security.clock import MAX_SKEW_MS

# Ids of a busy day are about 10 MB; rewriting takes what is still of use. Open jobs with large envelopes may be more
# than that by themselves: then it must not be written anew with each record.
REWRITE_BYTES = 16 * 1024 * 1024
# Damaged files that are kept for whoever looks into it: the first ones, which are nearest to the cause.
DAMAGED_MAX = 4


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _say_nothing(_text: str) -> None:
    """Where nobody listens."""


class JournalFile:
    """See the module."""

    def __init__(
        self, path: Path, *, clock: Callable[[], int] = _wall_ms, log: Callable[[str], None] = _say_nothing
    ) -> None:
        """Read what is there and write it anew, shorter. Raises OSError where that is not possible."""
        self._path = path
        self._clock = clock
        self._log = log
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = b""
        found = salvage(data)
        self.records = self._readable(found)
        self._descriptor = -1
        self._size = 0
        # Whether part of a record that was not taken still stands behind them.
        self._torn = False
        self._rewrite_at = REWRITE_BYTES
        try:
            self._rewrite(self.records)
        except OSError:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            # What stands after a damage must not be cut off: there is no other file that holds it.
            self._size = len(data) if found.lost else found.whole
            os.ftruncate(self._descriptor, self._size)

    def append(self, records: Sequence[Record], *, sync: bool) -> int | None:
        """Append records as one group; None when they are there (and synced, if asked), else the errno."""
        data = b"".join(encode_record(record) for record in records)
        try:
            if self._torn:
                self._cut()
            written = os.write(self._descriptor, data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                os.fdatasync(self._descriptor)
        except OSError as error:
            # What was written in part must not stand before what is written next. A disk that takes no change at all,
            # as one that was set read-only after a fault, must not end the agent: its host is what one wants to reach.
            self._torn = True
            with contextlib.suppress(OSError):
                self._cut()
            return error.errno or errno.EIO
        self._size += len(data)
        if self._size > self._rewrite_at:
            self._shorten()
        return None

    def _cut(self) -> None:
        os.ftruncate(self._descriptor, self._size)
        self._torn = False

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _shorten(self) -> None:
        try:
            self._rewrite(self._readable(salvage(self._path.read_bytes())))
        except OSError:
            # The longer file still says the same; the next append tries again.
            return

    def _readable(self, found: Salvage) -> list[Record]:
        """The records, with a floor where ids are lost."""
        if not found.lost:
            return compacted(found.records)
        # The lost ids were accepted by the clock of that time: the file's date is a witness where ours was set back.
        known = [record.time_ms for record in found.records if isinstance(record, Learned)]
        floor = max(self._clock(), self._path.stat().st_mtime_ns // 1_000_000, *known) + MAX_SKEW_MS
        problem = codes.STATE_DAMAGED.error(f"{self._path}: {found.lost} bytes lost, {self._kept_aside()}")
        self._log(f"{problem}; jobs issued before {floor} ms since the epoch are refused ({codes.IDS_LOST.code})")
        return compacted([*found.records, Floor(floor)])

    def _kept_aside(self) -> str:
        """Give the damaged file a second name, which it keeps when the first goes to a new one."""
        for number in range(1, DAMAGED_MAX + 1):
            aside = self._path.with_name(f"{self._path.name}.damaged-{number}")
            try:
                os.link(self._path, aside)
            except FileExistsError:
                continue
            except OSError as error:
                return f"not kept aside: {error.strerror}"
            return f"kept as {aside.name}"
        return f"not kept aside: there are {DAMAGED_MAX} already"

    def _rewrite(self, records: Sequence[Record]) -> None:
        data = b"".join(encode_record(record) for record in records)
        draft = self._path.with_name(".journal")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
            os.replace(draft, self._path)
            directory = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError:
            os.close(descriptor)
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._size = len(data)
        self._rewrite_at = max(REWRITE_BYTES, 2 * self._size)
