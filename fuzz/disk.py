"""Fuzzed: what a broken disk may give back: the agent's journal and the keeper's spool."""

from __future__ import annotations

__all__ = ("journal", "spool")

from random import Random

from fuzz.mutate import bytes_like
from libstaragent.jobs import spool as s
from libstaragent.jobs.journal import (
    Done,
    Floor,
    Learned,
    Record,
    Refused,
    Taken,
    compacted,
    decode_records,
    encode_record,
    salvage,
)
from libstaragent.security.signed import Signed

_RECORDS: list[Record] = [
    *(Taken(f"job{number}", Signed(b"p" * 40, bytes(32), bytes(64)), 10_000 + number) for number in range(4)),
    *(Done(f"job{number}", 10_000 + number) for number in range(3)),
    Learned(5),
    Floor(7),
    Refused("job9", 10_000, "denied", "SA-4327"),
]
_ENCODED = [encode_record(record) for record in _RECORDS]
_JOURNALS = [b"".join(_ENCODED), b"".join(reversed(_ENCODED)), _ENCODED[0], b"\0" * 64]


def _spools() -> list[bytes]:
    made: list[bytes] = []
    for pieces in ([(1, b"hello\n")], [(1, b"x" * 9000), (2, b"error"), (1, b"y" * 5000)], [(2, bytes(100))] * 40):
        packer = s.BlockPacker()
        for stream, data in pieces:
            packer.feed(stream, data)
        region = bytearray()
        for index, block in packer.take():
            region[index * s.BLOCK_SIZE :] = block.ljust(s.BLOCK_SIZE, b"\0")
        made.append(bytes(region))
    return made


_SPOOLS = _spools()
_SLOTS = [s.encode_slot(s.RESERVED, {"job": "x", "argv": ["true"]}), s.encode_slot(s.FINISHED, {"state": "ok"})]


def journal(random: Random) -> None:
    """Any file: records, never an exception; and what is before the first damage is all there."""
    order = [random.randrange(len(_ENCODED)) for _ in range(random.randrange(12))]
    whole = b"".join(_ENCODED[number] for number in order)
    if random.random() < 0.5:
        data = bytes_like(random, [*_JOURNALS, whole])
        found = salvage(data)
        prefix, length = decode_records(data)
        assert found.records[: len(prefix)] == prefix and found.whole == length
    else:
        # One record damaged in one place: no other is lost. Only a length that is wrong and leads to another record by
        # chance skips those between: what stands there could be part of an envelope, so it is not looked for.
        data = bytearray(whole)
        in_length = False
        if data:
            at = random.randrange(len(data))
            data[at] ^= 1 << random.randrange(8)
            in_length = at in {start + byte for start in _starts(order) for byte in range(4)}
        found = salvage(bytes(data))
        expected = [_RECORDS[number] for number in order]
        assert all(record in expected for record in found.records), "a record that was never written"
        missing = len(expected) - len(found.records)
        assert missing <= 1 or in_length, "more is lost than was damaged"
        assert not missing or found.lost or found.whole + len(_ENCODED[order[-1]]) >= len(data), "lost without a word"
    assert 0 <= found.whole <= len(data) and 0 <= found.lost <= len(data)
    again = compacted(found.records)
    assert compacted(again) == again, "written anew twice is another thing than once"


def _starts(order: list[int]) -> list[int]:
    starts, position = [], 0
    for number in order:
        starts.append(position)
        position += len(_ENCODED[number])
    return starts


def spool(random: Random) -> None:
    """Any region: blocks whose output is in the file, in order, never more than was there."""
    region = bytes_like(random, _SPOOLS)
    tail = random.randrange(5)
    geometry = s.Geometry(random.randrange(5), tail, random.randrange(tail + 1))
    blocks = s.collect(geometry, region)
    assert [block.index for block in blocks] == sorted(block.index for block in blocks)
    head, tail = s.split_ends(geometry, blocks)
    for some in (head, tail):
        records, end, missed = s.records_from(some, random.randrange(20_000))
        assert sum(len(data) for _, data in records) <= len(region) and end >= 0 and missed >= 0
    for slot in (s.RESERVED, s.STARTED, s.FINISHED):
        state, value = s.decode_slot(slot, bytes_like(random, _SLOTS))
        assert state in (s.BLANK, s.WHOLE, s.DAMAGED) and isinstance(value, dict)
