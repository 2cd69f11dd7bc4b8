"""The journal on disk (`libstaragent.jobs.journal` says what is in it): appended in groups, one fsync a group.

Rules: a torn end is cut off when the file is opened; a failed append leaves the file as it was before; it is written
anew when it is opened, and when it has grown past REWRITE_BYTES and to twice what it was when last written anew. On a
full disk it is opened all the same: the host must stay reachable, and say of each command that it cannot be journaled.
"""

from __future__ import annotations

__all__ = ("JournalFile",)

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from libstaragent.jobs.journal import Record, compacted, decode_records, encode_record

# Ids of a busy day are about 10 MB; rewriting takes what is still of use. Open jobs with large envelopes may be more
# than that by themselves: then it must not be written anew with each record.
REWRITE_BYTES = 16 * 1024 * 1024


class JournalFile:
    """See the module."""

    def __init__(self, path: Path) -> None:
        """Read what is there and write it anew, shorter. Raises OSError where that is not possible."""
        self._path = path
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = b""
        found, whole = decode_records(data)
        self.records: list[Record] = compacted(found)
        self._descriptor = -1
        self._size = 0
        self._rewrite_at = REWRITE_BYTES
        try:
            self._rewrite(self.records)
        except OSError:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._descriptor, whole)
            self._size = whole

    def append(self, records: Sequence[Record], *, sync: bool) -> int | None:
        """Append records as one group; None when they are there (and synced, if asked), else the errno."""
        data = b"".join(encode_record(record) for record in records)
        try:
            written = os.write(self._descriptor, data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                os.fdatasync(self._descriptor)
        except OSError as error:
            # What was written in part must not stand before what is written next.
            os.ftruncate(self._descriptor, self._size)
            return error.errno or errno.EIO
        self._size += len(data)
        if self._size > self._rewrite_at:
            self._shorten()
        return None

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _shorten(self) -> None:
        try:
            self._rewrite(compacted(decode_records(self._path.read_bytes())[0]))
        except OSError:
            # The longer file still says the same; the next append tries again.
            return

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
