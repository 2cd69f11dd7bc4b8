"""Spools as files: the keeper writes them, the agent reads them, at the same time and without a lock.

The layout and why it needs no lock: `libstaragent.jobs.spool`. A reader may see a block while it is being
overwritten; its checksum fails then, and the reader looks again. The keeper is the only writer.

Rules: standard library only; mode 0600; errors of the OS are raised as OSError, damage in a file never is.
"""

from __future__ import annotations

import contextlib
import os

from agentd.keeper.disk import reserve, sync_data
from libstaragent.jobs.ledger import OUTPUT_MAX as SHORT_OUTPUT
from libstaragent.jobs.spool import (
    BLOCK_SIZE,
    FINISHED,
    HEADER_SIZE,
    OUTPUT_MAX,
    RESERVED,
    STARTED,
    WHOLE,
    Block,
    BlockPacker,
    Geometry,
    Slot,
    collect,
    decode_block,
    decode_slot,
    encode_slot,
    records_from,
    split_ends,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Records", "SpoolReader", "SpoolWriter", "follow", "read_output")

Records = list[tuple[int, bytes]]
# How often a reader looks again where the writer is just passing through the ring.
_LOOKS = 4
# The ring is reserved in steps of this many blocks (1 MiB) while it fills for the first time: a command that prints
# little costs little, whatever it was allowed.
_RESERVE_STEP = 256


class SpoolWriter:
    """One open spool, written by the keeper."""

    def __init__(self, path: str, descriptor: int, geometry: Geometry) -> None:
        self.path = path
        self.geometry = geometry
        self.packer = BlockPacker()
        self._descriptor = descriptor
        self._reserved: dict[str, object] = {}
        self._reserved_tail = 0
        self._newest = -1
        self._torn = False
        self._first = b""

    @classmethod
    def create(cls, path: str, reserved: dict[str, object], geometry: Geometry) -> SpoolWriter:
        """Create the file and reserve header and head; OSError (and no file) where there is no room or it exists."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            reserve(descriptor, 0, geometry.head_end)
            # Real zeros, so that a later slot overwrites blocks in place and needs nothing more from the file system.
            os.pwrite(descriptor, _reserved_slot(reserved, geometry).ljust(HEADER_SIZE, b"\0"), 0)
        except BaseException:
            os.close(descriptor)
            os.unlink(path)
            raise
        writer = cls(path, descriptor, geometry)
        writer._reserved = reserved
        return writer

    @classmethod
    def reopen(cls, path: str) -> SpoolWriter:
        """Open a spool that a keeper before left behind, to write its end into it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        return cls(path, descriptor, Geometry(0, 0, 0))

    @classmethod
    def restored(cls, path: str, reserved: dict[str, object], output: bytes) -> SpoolWriter:
        """Open a spool that was lost, or of which parts were: with this header slot, and this first block if any."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.pwrite(descriptor, encode_slot(RESERVED, reserved).ljust(RESERVED.size, b"\0"), 0)
        if os.fstat(descriptor).st_size < HEADER_SIZE:
            os.ftruncate(descriptor, HEADER_SIZE)
        if output:
            os.pwrite(descriptor, output.ljust(BLOCK_SIZE, b"\0"), HEADER_SIZE)
        return cls(path, descriptor, Geometry(0, 0, 0))

    @property
    def reserved(self) -> dict[str, object]:
        """What the header says of what was asked for, the geometry included."""
        return _reserved_value(self._reserved, self.geometry)

    def write_started(self, record: dict[str, object]) -> None:
        """Write the record: it outlives us, not yet the system."""
        self._write_slot(STARTED, record)

    def write_finished(self, summary: dict[str, object]) -> None:
        """Write the summary, likewise."""
        self._write_slot(FINISHED, summary)

    def short_output(self) -> bytes | None:
        """The one block that holds all the output, if there is little of it; empty if there is none."""
        whole = self._newest == 0 and self.geometry.head and not self._torn
        return b"" if self._newest < 0 else (self._first or None if whole else None)

    def sync(self) -> None:
        """Make all that was written durable, but for the file's name."""
        sync_data(self._descriptor)

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
            if index == 0:
                self._first = data if len(data) <= SHORT_OUTPUT else b""
            if not run:
                start = position
            run.append(data if len(data) == BLOCK_SIZE else data.ljust(BLOCK_SIZE, b"\0"))
        self._write_run(run, start)

    def _position(self, index: int) -> int | None:
        self._newest = index
        into = index - self.geometry.head
        if self._reserved_tail <= into < self.geometry.tail:
            self._reserve_tail()
        return self.geometry.position(index)

    def _reserve_tail(self) -> None:
        """One step more of the ring, before its first lap comes there; where the disk has no room it ends here."""
        geometry = self.geometry
        step = min(_RESERVE_STEP, geometry.tail - self._reserved_tail)
        try:
            reserve(self._descriptor, geometry.head_end + self._reserved_tail * BLOCK_SIZE, step * BLOCK_SIZE)
        except OSError:
            self.geometry = Geometry(geometry.head, self._reserved_tail, min(geometry.shown, self._reserved_tail))
            # Readers find blocks by it; the header's space is ours since the beginning.
            os.pwrite(self._descriptor, _reserved_slot(self._reserved, self.geometry), RESERVED.offset)
        else:
            self._reserved_tail += step

    def _write_run(self, run: list[bytes], start: int) -> None:
        if not run:
            return
        try:
            os.pwritev(self._descriptor, run, start)
        except OSError:
            self._torn = True

    def omitted(self) -> int:
        """How many bytes of output the file does not hold."""
        geometry = self.geometry
        if self._torn:
            region = os.pread(self._descriptor, geometry.file_end - HEADER_SIZE, HEADER_SIZE)
            head, tail = split_ends(geometry, collect(geometry, region))
            return self.packer.end - sum(block.length for block in head + tail)
        oldest = self._newest - geometry.tail + 1
        if oldest <= geometry.head:
            return 0
        start = self._block(oldest).offset if geometry.tail else self.packer.end
        return start - (self._block(geometry.head - 1).end if geometry.head else 0)

    def _block(self, index: int) -> Block:
        position = self.geometry.position(index)
        assert position is not None
        block = decode_block(os.pread(self._descriptor, BLOCK_SIZE, position))
        assert block is not None
        return block

    def trim(self) -> None:
        """Give back what was reserved and never written to; call it at the end."""
        geometry = self.geometry
        used = self._newest + 1
        if used <= geometry.head:
            os.ftruncate(self._descriptor, HEADER_SIZE + used * BLOCK_SIZE)
        elif used <= geometry.head + geometry.tail:
            os.ftruncate(self._descriptor, geometry.head_end + (used - geometry.head) * BLOCK_SIZE)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _reserved_slot(reserved: dict[str, object], geometry: Geometry) -> bytes:
    return encode_slot(RESERVED, _reserved_value(reserved, geometry))


def _reserved_value(reserved: dict[str, object], geometry: Geometry) -> dict[str, object]:
    return {**reserved, "head": geometry.head, "tail": geometry.tail, "shown": geometry.shown}


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
        sizes = [self.reserved[1].get(name) for name in ("head", "tail", "shown")]
        head, tail, shown = (size if isinstance(size, int) else 0 for size in sizes)
        self.geometry = Geometry(head, tail, shown)

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

    def _at(self, index: int) -> Block | None:
        """Block `index`, if it is there and whole."""
        position = self.geometry.position(index)
        if position is None:
            return None
        block = decode_block(os.pread(self._descriptor, BLOCK_SIZE, position))
        return block if block is not None and self.geometry.position(block.index) == position else None

    def _newest(self) -> int:
        """The index of the newest block, -1 where there is none: a search of some ten blocks, not of all."""
        geometry = self.geometry
        first = self._at(geometry.head) if geometry.tail else None
        if first is None:
            return _last(lambda at: self._holds(at, at), geometry.head) if geometry.head else -1
        lap = first.index - geometry.head
        into = _last(lambda at: self._holds(geometry.head + at, geometry.head + lap + at), geometry.tail)
        return geometry.head + lap + into

    def _holds(self, place: int, index: int) -> bool:
        block = self._at(place)
        return block is not None and block.index == index

    def read_output(self) -> tuple[Records, int, Records]:
        """What travels with the result: (records from the beginning, bytes left out, records to the end); the last list
        is empty if all is there.
        """
        head, tail = self._shown_ends()
        first, end, _ = records_from(head, 0)
        last, end, omitted = records_from(tail, end)
        if self.finished[0] == WHOLE:
            total = [self.finished[1].get(name) for name in ("stdout_bytes", "stderr_bytes")]
            omitted += max(0, sum(count for count in total if isinstance(count, int)) - end)
        return first, omitted, last

    def _shown_ends(self) -> tuple[list[Block], list[Block]]:
        geometry = self.geometry
        newest = self._newest()
        head = [self._at(index) for index in range(min(geometry.head, newest + 1))]
        tail = [self._at(index) for index in range(max(geometry.head, newest + 1 - geometry.shown), newest + 1)]
        if None in head or None in tail or newest < 0:
            # The disk refused some of it, or the writer is passing: what is whole counts.
            whole_head, whole_tail = self._ends()
            return whole_head, whole_tail[len(whole_tail) - geometry.shown :] if geometry.shown else []
        found = [block for block in head if block], [block for block in tail if block]
        return found if found[1] and found[1][0].index > geometry.head else (found[0] + found[1], [])

    def follow(self, offset: int, most: int = OUTPUT_MAX) -> tuple[Records, int, int]:
        """(records from `offset` on, of at most about `most` bytes; the offset to ask for next; bytes missed before
        them because the ring went on).

        They end where the next gap is, so that all that was missed was missed before the first of them.
        """
        unbroken: list[Block] = []
        at = offset
        index = self._index_of(offset)
        held = 0
        while index is not None and held < most + BLOCK_SIZE:
            block = self._at(index)
            if block is None or block.index != index or (unbroken and block.offset > at):
                break
            if block.end > at:
                unbroken.append(block)
                held += block.length
                at = block.end
            index += 1
            if not unbroken and index > self._newest():
                break
        if not unbroken:
            # Between head and ring, or where a block is torn, the search sees nothing: look at all.
            head, tail = self._ends()
            for block in head + tail:
                if block.end <= at:
                    continue
                if (unbroken and block.offset > at) or sum(one.length for one in unbroken) > most:
                    break
                unbroken.append(block)
                at = block.end
        return records_from(unbroken, offset)

    def _index_of(self, offset: int) -> int | None:
        """The first block that ends after `offset`, as far as a search can tell."""
        newest = self._newest()
        if newest < 0:
            return None
        oldest = max(self.geometry.head, newest - self.geometry.tail + 1)
        low, high = (oldest, newest) if newest >= self.geometry.head else (0, newest)
        if low > 0 and self.geometry.head:
            last = self._at(self.geometry.head - 1)
            if last is not None and last.end > offset:
                low, high = 0, self.geometry.head - 1
        while low < high:
            middle = (low + high) // 2
            block = self._at(middle)
            if block is None or block.index != middle:
                return None
            if block.end > offset:
                high = middle
            else:
                low = middle + 1
        return low

    def end(self) -> int:
        """The offset after the newest output."""
        newest = self._newest()
        block = self._at(newest) if newest >= 0 else None
        if block is not None:
            return block.end
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


def _last(holds: Callable[[int], bool], count: int) -> int:
    """The last of 0 … count-1 for which `holds` is true, where it is true up to somewhere; -1 where it never is."""
    low, high = -1, count - 1
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def read_output(path: str) -> tuple[Records, int, Records]:
    """`SpoolReader.read_output` for one file."""
    with contextlib.closing(SpoolReader(path)) as spool:
        return spool.read_output()


def follow(path: str, offset: int, most: int = OUTPUT_MAX) -> tuple[Records, int, int]:
    """`SpoolReader.follow` for one file; keep a SpoolReader open to follow it for longer."""
    with contextlib.closing(SpoolReader(path)) as spool:
        return spool.follow(offset, most)
