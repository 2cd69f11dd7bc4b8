"""Spools as files: the keeper writes them, the agent reads them, at the same time and without a lock.

The layout and why it needs no lock: `libstaragent.jobs.spool`. A reader may see a block while it is being
overwritten; its checksum fails then, and the reader looks again. The keeper is the only writer.

Rules: standard library only; mode 0600; errors of the OS are raised as OSError, damage in a file never is.
"""

from __future__ import annotations

import contextlib
import errno
import os

from libstaragent.jobs.spool import (
    BLOCK_SIZE,
    FINISHED,
    HEADER_SIZE,
    RESERVED,
    STARTED,
    WHOLE,
    Block,
    BlockPacker,
    Geometry,
    Slot,
    collect,
    decode_slot,
    encode_slot,
    records_from,
    split_ends,
)

__all__ = ("Records", "SpoolReader", "SpoolWriter", "follow", "read_output")

Records = list[tuple[int, bytes]]

# How often a reader looks again where the writer is just passing through the ring.
_LOOKS = 4


# A file system that cannot reserve space says so; where the C library does not write zeros then, we do.
_CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


def _reserve(descriptor: int, offset: int, length: int) -> None:
    if length and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, offset, length)
        except OSError as problem:
            if problem.errno not in _CANNOT_RESERVE:
                raise
        else:
            return
    if length and os.pwrite(descriptor, bytes(length), offset) != length:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# macOS has only the stronger one.
_sync_data = getattr(os, "fdatasync", os.fsync)


class SpoolWriter:
    """One open spool, written by the keeper."""

    def __init__(self, path: str, descriptor: int, geometry: Geometry) -> None:
        self.path = path
        self.geometry = geometry
        self.packer = BlockPacker()
        self._descriptor = descriptor
        self._tail_reserved = False
        self._lossy = False

    @classmethod
    def create(cls, path: str, reserved: dict[str, object], geometry: Geometry) -> SpoolWriter:
        """Create the file and reserve header and head; OSError (and no file) where there is no room or it exists."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _reserve(descriptor, 0, geometry.head_end)
            value = {**reserved, "head": geometry.head, "tail": geometry.tail}
            # Real zeros, so that a later slot overwrites blocks in place and needs nothing more from the file system.
            os.pwrite(descriptor, encode_slot(RESERVED, value).ljust(HEADER_SIZE, b"\0"), 0)
        except BaseException:
            os.close(descriptor)
            os.unlink(path)
            raise
        return cls(path, descriptor, geometry)

    @classmethod
    def reopen(cls, path: str) -> SpoolWriter:
        """Open a spool that a keeper before left behind, to write its end into it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        return cls(path, descriptor, Geometry(0, 0))

    def write_started(self, record: dict[str, object]) -> None:
        """Make record, file and the file's name durable."""
        self._write_slot(STARTED, record)
        os.fsync(self._descriptor)
        directory = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def write_finished(self, summary: dict[str, object]) -> None:
        """Make the summary durable, and the output with it."""
        self._write_slot(FINISHED, summary)
        _sync_data(self._descriptor)

    def _write_slot(self, slot: Slot, value: dict[str, object]) -> None:
        os.pwrite(self._descriptor, encode_slot(slot, value), slot.offset)

    def append(self, stream: int, data: bytes) -> None:
        """Take output; `flush` makes it visible to readers."""
        self.packer.feed(stream, data)

    def flush(self) -> None:
        """Write what was appended. A disk that refuses costs output, which is counted, and never the command."""
        run: list[bytes] = []
        start = 0
        for index, data in self.packer.take():
            position = self._position(index)
            if run and position != start + len(run) * BLOCK_SIZE:
                self._write_run(run, start)
                run = []
            if position is None:
                continue
            if not run:
                start = position
            run.append(data if len(data) == BLOCK_SIZE else data.ljust(BLOCK_SIZE, b"\0"))
        self._write_run(run, start)

    def _position(self, index: int) -> int | None:
        if index >= self.geometry.head:
            self._lossy = self._lossy or index >= self.geometry.head + self.geometry.tail
            if self.geometry.tail and not self._tail_reserved:
                try:
                    _reserve(self._descriptor, self.geometry.head_end, self.geometry.tail * BLOCK_SIZE)
                    self._tail_reserved = True
                except OSError:
                    self.geometry = Geometry(self.geometry.head, 0)
                    self._lossy = True
        return self.geometry.position(index)

    def _write_run(self, run: list[bytes], start: int) -> None:
        if not run:
            return
        try:
            os.pwritev(self._descriptor, run, start)
        except OSError:
            self._lossy = True

    def omitted(self) -> int:
        """How many bytes of output the file does not hold."""
        if not self._lossy:
            return 0
        region = os.pread(self._descriptor, self.geometry.file_end - HEADER_SIZE, HEADER_SIZE)
        head, tail = split_ends(self.geometry, collect(self.geometry, region))
        return self.packer.end - sum(block.length for block in head + tail)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class SpoolReader:
    """One spool, read by the agent while it is written or later.

    Attributes:
        reserved, started, finished: each (blank | whole | damaged, value), as they were at the last `refresh`.
    """

    def __init__(self, path: str) -> None:
        """Open it; OSError where that is not possible."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self.refresh()

    def __enter__(self) -> SpoolReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def refresh(self) -> None:
        """Read the header again."""
        header = os.pread(self._descriptor, HEADER_SIZE, 0)

        def slot(place: Slot) -> tuple[str, dict[str, object]]:
            return decode_slot(place, header[place.offset : place.offset + place.size])

        self.reserved, self.started, self.finished = slot(RESERVED), slot(STARTED), slot(FINISHED)
        head, tail = self.reserved[1].get("head"), self.reserved[1].get("tail")
        if not isinstance(head, int) or not isinstance(tail, int):
            head = tail = 0
        self.geometry = Geometry(head, tail)

    def _ends(self) -> tuple[list[Block], list[Block]]:
        head: list[Block] = []
        tail: list[Block] = []
        for _ in range(_LOOKS):
            region = os.pread(self._descriptor, self.geometry.file_end - HEADER_SIZE, HEADER_SIZE)
            blocks = collect(self.geometry, region)
            head, tail = split_ends(self.geometry, blocks)
            if len(head) + len(tail) == len(blocks):
                break
        return head, tail

    def read_output(self) -> tuple[Records, int, Records]:
        """(records from the beginning, bytes left out, records to the end); the last list is empty if all is there."""
        head, tail = self._ends()
        first, end, _ = records_from(head, 0)
        last, end, omitted = records_from(tail, end)
        if self.finished[0] == WHOLE:
            total = [self.finished[1].get(name) for name in ("stdout_bytes", "stderr_bytes")]
            omitted += max(0, sum(count for count in total if isinstance(count, int)) - end)
        return first, omitted, last

    def follow(self, offset: int) -> tuple[Records, int, int]:
        """(records from `offset` on, the offset to ask for next, bytes missed before them because the ring went on).

        They end where the next gap is, so that all that was missed was missed before the first of them.
        """
        head, tail = self._ends()
        unbroken: list[Block] = []
        at = offset
        for block in head + tail:
            if block.end <= at:
                continue
            if unbroken and block.offset > at:
                break
            unbroken.append(block)
            at = block.end
        return records_from(unbroken, offset)

    def end(self) -> int:
        """The offset after the newest output."""
        head, tail = self._ends()
        return max((block.end for block in head + tail), default=0)

    def stream_bytes(self) -> tuple[int, int]:
        """How many bytes of stdout and of stderr the file holds."""
        counts = [0, 0, 0]
        head, tail = self._ends()
        for block in head + tail:
            for stream, data in block.records():
                counts[stream] += len(data)
        return counts[1], counts[2]


def read_output(path: str) -> tuple[Records, int, Records]:
    """`SpoolReader.read_output` for one file."""
    with contextlib.closing(SpoolReader(path)) as spool:
        return spool.read_output()


def follow(path: str, offset: int) -> tuple[Records, int, int]:
    """`SpoolReader.follow` for one file; keep a SpoolReader open to follow it for longer."""
    with contextlib.closing(SpoolReader(path)) as spool:
        return spool.follow(offset)
