"""The agent's journal: what must survive its crash, as records in one append-only file.

    u32 length | u32 CRC-32 of the body | body (MessagePack of one record)

`Taken` is on disk before anything starts; `Done` before the keeper's spool of that job is deleted. Whoever reads a
journal back gets every whole record up to the first that is torn or damaged; what follows a torn record was never
acknowledged by a sync, so nothing was built on it.

Not here: the file. Rules: pure; a record's size is bounded before it is decoded.
"""

from __future__ import annotations

__all__ = ("Done", "Learned", "Record", "Taken", "compacted", "decode_records", "encode_record")

import zlib
from collections.abc import Iterable
from struct import Struct as _Layout

import msgspec
from msgspec import Struct

from libstaragent.security.clock import TimeJudge
from libstaragent.security.signed import Signed

_HEADER = _Layout(">II")

# A record is an envelope and a path: what fits a frame, and a little for the record itself.
RECORD_MAX = 300 * 1024


class Taken(Struct, frozen=True, array_like=True, tag=1):
    """The job was verified and will have a result. Its id stays known while `TimeJudge.may_forget(expires_ms)` is
    not true.
    """

    job: str
    signed: Signed
    expires_ms: int


class Done(Struct, frozen=True, array_like=True, tag=2):
    """The job's result is in the store; only its id is still of use."""

    job: str
    expires_ms: int


class Learned(Struct, frozen=True, array_like=True, tag=3):
    """The highest time in a verified operator's signature."""

    time_ms: int


Record = Taken | Done | Learned

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """The record as it is appended."""
    body = _encoder.encode(record)
    return _HEADER.pack(len(body), zlib.crc32(body)) + body


def decode_records(data: bytes) -> tuple[list[Record], int]:
    """The whole records, and how many bytes of `data` they take; the rest is torn and may be cut off."""
    found: list[Record] = []
    position = 0
    while position + _HEADER.size <= len(data):
        length, checksum = _HEADER.unpack_from(data, position)
        start = position + _HEADER.size
        body = data[start : start + length]
        if length > RECORD_MAX or len(body) < length or zlib.crc32(body) != checksum:
            break
        try:
            found.append(_decoder.decode(body))
        except msgspec.MsgspecError:
            break
        position = start + length
    return found, position


def compacted(found: Iterable[Record]) -> list[Record]:
    """The least records that say the same: open jobs whole, finished ones by id while that must be known, one time."""
    taken: dict[str, Taken] = {}
    done: dict[str, Done] = {}
    learned = 0
    for record in found:
        if type(record) is Taken:
            taken[record.job] = record
        elif type(record) is Done:
            done[record.job] = record
        elif type(record) is Learned:
            learned = max(learned, record.time_ms)
    kept: list[Record] = [Learned(learned)] if learned else []
    kept += [record for job, record in taken.items() if job not in done]
    judge = TimeJudge(learned)
    kept += [record for record in done.values() if not judge.may_forget(record.expires_ms)]
    return kept
