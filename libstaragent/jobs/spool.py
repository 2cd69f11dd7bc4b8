"""The spool: one file a job, in which its output and its end outlive everyone who watches it.

    0        reserved   what was asked for, by digest, and the geometry of the file
    4096     started    pid, start time, boot id: on disk (in the ledger) before the command may run
    8192     finished   the summary: likewise before it is told to anyone
    16384    head       blocks 0 … head-1, written once
             tail       a ring of the blocks after them

A header slot is ``tag | crc32 | length | JSON``: never written (blank), whole, or damaged, and a reader can tell
which. A block is 4 KiB: ``crc32 | used | index | offset`` and records ``stream | length | bytes`` in the order of
arrival, where `offset` counts the bytes of output before it. So a block says by itself where it belongs: a torn one
fails its checksum, one that the ring has overwritten bears another index, and a follower that was lapped is told how
many bytes it missed.

Not here: files. This is the codec, pure; `agentd.keeper.spoolfile` does the reading and writing.

Rules: offsets count output bytes of both streams together, framing excluded; whatever bytes are read, nothing raises.
"""

from __future__ import annotations

import json
import struct
from zlib import crc32

from libstaragent.jobs.shapes import is_object

__all__ = (
    "BLANK",
    "BLOCK_CAPACITY",
    "BLOCK_SIZE",
    "DAMAGED",
    "FINISHED",
    "HEADER_SIZE",
    "OUTPUT_MAX",
    "RESERVED",
    "STARTED",
    "STDERR",
    "STDOUT",
    "WHOLE",
    "Block",
    "BlockPacker",
    "Geometry",
    "Slot",
    "collect",
    "decode_block",
    "decode_slot",
    "encode_slot",
    "records_from",
    "split_ends",
)

# What is kept of one command's output, head and tail together: a whole result fits one frame of the wire (256 KiB)
# with the records' headers and all else that it says, so it is never half received.
OUTPUT_MAX = 192 * 1024

STDOUT = 1
STDERR = 2

# A page: the unit in which disks and the page cache tear.
BLOCK_SIZE = 4096
HEADER_SIZE = 4 * BLOCK_SIZE

_BLOCK_HEAD = struct.Struct(">IIQQ")
_RECORD_HEAD = struct.Struct(">BH")
_SLOT_HEAD = struct.Struct(">4sII")

BLOCK_CAPACITY = BLOCK_SIZE - _BLOCK_HEAD.size
# A record of fewer bytes than this is not begun at the end of a block; the block is closed instead.
_SMALLEST_RECORD = _RECORD_HEAD.size + 1

BLANK = "blank"
WHOLE = "whole"
DAMAGED = "damaged"


class Slot:
    """One place of the header: where it lies, how long it may be, and the four bytes that it begins with."""

    __slots__ = ("offset", "size", "tag")

    def __init__(self, tag: bytes, offset: int, size: int) -> None:
        self.tag = tag
        self.offset = offset
        self.size = size


RESERVED = Slot(b"OCR1", 0, BLOCK_SIZE)
STARTED = Slot(b"OCS1", BLOCK_SIZE, BLOCK_SIZE)
FINISHED = Slot(b"OCF1", 2 * BLOCK_SIZE, 2 * BLOCK_SIZE)


def encode_slot(slot: Slot, value: dict[str, object]) -> bytes:
    """The bytes of a header slot that hold `value`; at most `slot.size` long, or ValueError."""
    body = json.dumps(value, separators=(",", ":")).encode("ascii")
    if _SLOT_HEAD.size + len(body) > slot.size:
        raise ValueError(f"{len(body)} bytes do not fit in a slot of {slot.size}")
    return _SLOT_HEAD.pack(slot.tag, crc32(body, crc32(slot.tag)), len(body)) + body


def decode_slot(slot: Slot, data: bytes) -> tuple[str, dict[str, object]]:
    """What a slot's bytes are (BLANK, WHOLE, DAMAGED) and, where whole, the value in them."""
    if not any(data):
        return BLANK, {}
    if len(data) < _SLOT_HEAD.size:
        return DAMAGED, {}
    tag, checksum, length = _SLOT_HEAD.unpack_from(data)
    body = data[_SLOT_HEAD.size : _SLOT_HEAD.size + length]
    if tag != slot.tag or len(body) != length or crc32(body, crc32(slot.tag)) != checksum:
        return DAMAGED, {}
    try:
        value = json.loads(body)
    except ValueError:
        return DAMAGED, {}
    return (WHOLE, value) if is_object(value) else (DAMAGED, {})


class Geometry:
    """How many blocks the head and the tail have, and so where in the file a block lies; the newest `shown` of the tail
    travel with the result.
    """

    __slots__ = ("head", "shown", "tail")

    def __init__(self, head: int, tail: int, shown: int) -> None:
        self.head = head
        self.tail = tail
        self.shown = shown

    @classmethod
    def for_bytes(cls, head: int, shown: int, spool: int = 0) -> Geometry:
        """Room for at least so many bytes of output, rounded up to whole blocks; a tail of `spool` if that is more than
        what is shown of it.
        """
        return cls(-(-head // BLOCK_CAPACITY), -(-max(shown, spool) // BLOCK_CAPACITY), -(-shown // BLOCK_CAPACITY))

    @property
    def head_end(self) -> int:
        """The file offset at which the head ends and the tail begins."""
        return HEADER_SIZE + self.head * BLOCK_SIZE

    @property
    def file_end(self) -> int:
        """The file offset at which the tail ends."""
        return self.head_end + self.tail * BLOCK_SIZE

    def position(self, index: int) -> int | None:
        """The file offset of block `index`; None where there is no tail to hold it."""
        if index < self.head:
            return HEADER_SIZE + index * BLOCK_SIZE
        if not self.tail:
            return None
        return self.head_end + (index - self.head) % self.tail * BLOCK_SIZE


class Block:
    """One block as read: `offset` output bytes came before it, `payload` holds its records."""

    __slots__ = ("index", "length", "offset", "payload")

    def __init__(self, index: int, offset: int, payload: bytes, length: int) -> None:
        self.index = index
        self.offset = offset
        self.payload = payload
        self.length = length

    @property
    def end(self) -> int:
        """The offset just after its last byte of output."""
        return self.offset + self.length

    def records(self) -> list[tuple[int, bytes]]:
        """Its records as (stream, bytes), in the order of arrival."""
        found: list[tuple[int, bytes]] = []
        at = 0
        while at < len(self.payload):
            stream, length = _RECORD_HEAD.unpack_from(self.payload, at)
            at += _RECORD_HEAD.size
            found.append((stream, self.payload[at : at + length]))
            at += length
        return found


def _output_length(payload: bytes) -> int | None:
    """How many bytes of output the records hold; None where they are not records to the last byte."""
    at = total = 0
    while at < len(payload):
        if at + _RECORD_HEAD.size > len(payload):
            return None
        stream, length = _RECORD_HEAD.unpack_from(payload, at)
        at += _RECORD_HEAD.size + length
        total += length
        if stream not in (STDOUT, STDERR) or at > len(payload):
            return None
    return total


def decode_block(data: bytes) -> Block | None:
    """The block in these bytes; None where they are blank, torn or anything else."""
    if len(data) < _BLOCK_HEAD.size:
        return None
    checksum, used, index, offset = _BLOCK_HEAD.unpack_from(data)
    if not 0 < used <= BLOCK_CAPACITY or len(data) < _BLOCK_HEAD.size + used:
        return None
    if crc32(data[4 : _BLOCK_HEAD.size + used]) != checksum:
        return None
    payload = bytes(data[_BLOCK_HEAD.size : _BLOCK_HEAD.size + used])
    length = _output_length(payload)
    return None if length is None else Block(index, offset, payload, length)


class BlockPacker:
    """Turns arriving output into blocks. `feed` takes bytes, `take` gives the blocks that have to be written."""

    def __init__(self) -> None:
        self.end = 0
        self._index = 0
        self._offset = 0
        self._payload = bytearray()
        self._last_head = -1
        self._last_stream = 0
        self._full: list[tuple[int, bytes]] = []
        self._dirty = False

    def feed(self, stream: int, data: bytes) -> None:
        """Append output of one stream; bytes that follow bytes of the same stream extend the same record."""
        view = memoryview(data)
        while view:
            room = BLOCK_CAPACITY - len(self._payload)
            extends = self._last_head >= 0 and stream == self._last_stream
            if room < (1 if extends else _SMALLEST_RECORD):
                self._close()
                continue
            if extends:
                piece = view[:room]
                length = _RECORD_HEAD.unpack_from(self._payload, self._last_head)[1] + len(piece)
                _RECORD_HEAD.pack_into(self._payload, self._last_head, stream, length)
            else:
                piece = view[: room - _RECORD_HEAD.size]
                self._last_head = len(self._payload)
                self._last_stream = stream
                self._payload += _RECORD_HEAD.pack(stream, len(piece))
            self._payload += piece
            self.end += len(piece)
            self._dirty = True
            view = view[len(piece) :]

    def take(self) -> list[tuple[int, bytes]]:
        """The blocks (index, bytes) that changed since the last call, in order; the last may be partly filled."""
        changed = self._full
        self._full = []
        if self._dirty:
            changed.append((self._index, self._encoded()))
            self._dirty = False
        return changed

    def _close(self) -> None:
        self._full.append((self._index, self._encoded()))
        self._dirty = False
        self._index += 1
        self._offset = self.end
        self._payload = bytearray()
        self._last_head = -1

    def _encoded(self) -> bytes:
        body = _BLOCK_HEAD.pack(0, len(self._payload), self._index, self._offset)[4:] + self._payload
        return crc32(body).to_bytes(4, "big") + body


def collect(geometry: Geometry, region: bytes) -> list[Block]:
    """The sound blocks of a file's output region (everything after the header), by index."""
    found: list[Block] = []
    view = memoryview(region)
    for at in range(0, len(region), BLOCK_SIZE):
        block = decode_block(bytes(view[at : at + BLOCK_SIZE]))
        if block is not None and geometry.position(block.index) == HEADER_SIZE + at:
            found.append(block)
    found.sort(key=lambda block: block.index)
    return found


def split_ends(geometry: Geometry, blocks: list[Block]) -> tuple[list[Block], list[Block]]:
    """The blocks that can be shown: (from the beginning without a gap, then the newest without a gap)."""
    head: list[Block] = []
    for block in blocks:
        if block.index != len(head):
            break
        head.append(block)
    rest = blocks[len(head) :]
    start = len(rest)
    while start > 0 and (start == len(rest) or rest[start - 1].index + 1 == rest[start].index):
        start -= 1
    return head, rest[start:]


def records_from(blocks: list[Block], offset: int) -> tuple[list[tuple[int, bytes]], int, int]:
    """(records from `offset` on, the offset after them, bytes missed before them or between them)."""
    records: list[tuple[int, bytes]] = []
    missed = 0
    for block in blocks:
        if block.end <= offset:
            continue
        missed += max(0, block.offset - offset)
        skip = max(0, offset - block.offset)
        for stream, data in block.records():
            if skip >= len(data):
                skip -= len(data)
                continue
            records.append((stream, data[skip:]))
            skip = 0
        offset = block.end
    return records, offset, missed
