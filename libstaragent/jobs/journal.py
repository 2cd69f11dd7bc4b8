"""The agent's journal: what must survive its crash, as records in one append-only file.

    u32 length | u32 CRC-32 of the body | body (MessagePack of one record)

`Taken` is on disk before anything starts; `Done` before the keeper's spool of that job is deleted.

What cannot be read is either of two things. A torn tail is the beginning of a record at the end of the file (or zeros
there): its sync was never acknowledged, so nothing was built on it, and it is cut off. All else is damage: ids that
counted are lost. What stands after it is found again, and a `Floor` says from then on that ids from before may be
missing.

Not here: the file. Rules: pure; a record's size is bounded before it is decoded, and so is the work of finding the
next one.
"""

from __future__ import annotations

__all__ = (
    "Done",
    "Fired",
    "Floor",
    "Kept",
    "Learned",
    "Record",
    "Refused",
    "Removed",
    "Rested",
    "Salvage",
    "Taken",
    "compacted",
    "decode_records",
    "encode_record",
    "not_before",
    "note_schedule",
    "salvage",
)

import re
import zlib
from collections.abc import Iterable
from struct import Struct as _Layout

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from libstaragent.security.act_limits import MAX_AHEAD_MS, MAX_WINDOW_MS
from libstaragent.security.clock import TimeJudge
from libstaragent.security.membership import Proof
from libstaragent.security.signed import Signed

_HEADER = _Layout(">II")

# A record is an envelope and a path: what fits a frame, and a little for the record itself.
RECORD_MAX = 300 * 1024
# How a body begins: an array of two to eight, and one of our tags. Only such places are worth a checksum.
_BODY = re.compile(rb"[\x92-\x98][\x01-\x09]")
# Bytes of checksums that the search for records after a damage may cost: about a second.
SEARCH_MAX = 512 * 1024 * 1024


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


class Floor(Struct, frozen=True, array_like=True, tag=4):
    """The journal was found damaged: the id of an envelope that was issued at this time or before it may be lost, and
    so may be the end of a job whose `Taken` stands before this record.
    """

    time_ms: int


class Refused(Struct, frozen=True, array_like=True, tag=5):
    """The host said no, in this state and with this code, and will not say otherwise when the order comes again."""

    job: str
    expires_ms: int
    state: str
    code: str


class Kept(Struct, frozen=True, array_like=True, tag=6):
    """A schedule, verified when it came, with this host's path. What was due at `last_ms` or before it fires no more;
    `boot` is the boot of the host in which an at-boot last fired, or was taken. `doubtful`: the journal was damaged
    since, and what removed or paused it may be among what is lost: it runs nothing until somebody lets it go on.
    """

    schedule: str
    signed: Signed
    proof: Proof | None
    last_ms: int
    paused: bool
    boot: str
    doubtful: bool = False


class Fired(Struct, frozen=True, array_like=True, tag=7):
    """A schedule's firing, which is a job from now on: on disk before it starts, so no firing runs twice."""

    schedule: str
    job: str
    at_ms: int
    expires_ms: int
    operator: str
    boot: str


class Rested(Struct, frozen=True, array_like=True, tag=8):
    """The schedule is paused, or goes on: then what was due until `at_ms`, or in `boot`, is not made up
    for.
    """

    schedule: str
    paused: bool
    at_ms: int
    boot: str


class Removed(Struct, frozen=True, array_like=True, tag=9):
    """The schedule is over or taken away. Its firings that have no end yet stay."""

    schedule: str
    at_ms: int


Record = Taken | Done | Learned | Floor | Refused | Kept | Fired | Rested | Removed


class Salvage(Struct, frozen=True):
    """What a journal still says: its records, the bytes of its readable beginning, and how many bytes amid or after
    it are lost (a torn tail is none of them).
    """

    records: list[Record]
    whole: int
    lost: int


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
    while (next_one := _record_at(data, position)) is not None:
        record, position = next_one
        found.append(record)
    return found, position


def salvage(data: bytes) -> Salvage:
    """All that can be read of a journal, whatever became of it."""
    found, position = decode_records(data)
    whole, lost, budget = position, 0, SEARCH_MAX
    while position < len(data):
        resumed, budget = _resume(data, position, budget)
        if resumed is None:
            lost += 0 if _torn(data, position) else len(data) - position
            break
        lost += resumed - position
        more, length = decode_records(data[resumed:])
        found += more
        position = resumed + length
    return Salvage(found, whole, lost)


def _record_at(data: bytes, position: int) -> tuple[Record, int] | None:
    """The record that begins at `position`, and where it ends."""
    start = position + _HEADER.size
    if start > len(data):
        return None
    length, checksum = _HEADER.unpack_from(data, position)
    if length > RECORD_MAX or start + length > len(data) or zlib.crc32(data[start : start + length]) != checksum:
        return None
    try:
        return _decoder.decode(data[start : start + length]), start + length
    except msgspec.MsgspecError:
        return None


def _resume(data: bytes, damaged: int, budget: int) -> tuple[int | None, int]:
    """Where the next record begins after an unreadable one, and what is left of the search's budget."""
    if damaged + _HEADER.size <= len(data):
        # Mostly the header is whole and a byte of the body is not. To believe it first also keeps what an envelope
        # carries from being taken for a record.
        (length, _) = _HEADER.unpack_from(data, damaged)
        behind = damaged + _HEADER.size + length
        if length <= RECORD_MAX and _record_at(data, behind) is not None:
            return behind, budget
    for match in _BODY.finditer(data, damaged + 1 + _HEADER.size):
        position = match.start() - _HEADER.size
        length = int.from_bytes(data[position : position + 4], "big")
        if length > RECORD_MAX:
            continue
        budget -= length
        if budget < 0:
            break
        if _record_at(data, position) is not None:
            return position, budget
    return None, budget


def _torn(data: bytes, position: int) -> bool:
    """Whether what begins here is a write that did not come to its end."""
    start = position + _HEADER.size
    if start > len(data) or not any(data[position:]):
        return True
    length, checksum = _HEADER.unpack_from(data, position)
    # All of a last record whose length was hurt is there: it was acknowledged, and is lost.
    return length <= RECORD_MAX and start + length > len(data) and zlib.crc32(data[start:]) != checksum


def note_schedule(kept: dict[str, Kept], record: Kept | Fired | Rested | Removed) -> None:
    """What a record changes of the schedules that are kept."""
    before = kept.get(record.schedule)
    if type(record) is Kept:
        kept[record.schedule] = record
    elif before is None:
        return
    elif type(record) is Fired:
        kept[record.schedule] = replace(
            before, last_ms=max(before.last_ms, record.at_ms), boot=record.boot or before.boot
        )
    elif type(record) is Rested:
        if record.paused:
            kept[record.schedule] = replace(before, paused=True)
        else:
            last_ms = max(before.last_ms, record.at_ms)
            kept[record.schedule] = replace(before, paused=False, last_ms=last_ms, boot=record.boot, doubtful=False)
    else:
        del kept[record.schedule]


def not_before(kept: dict[str, Kept], time_ms: int) -> None:
    """Of a damaged journal: what was due until then may have fired, so it does not fire again; and what is kept may
    have been paused or taken away, so it is in doubt.
    """
    for schedule, record in kept.items():
        kept[schedule] = replace(record, last_ms=max(record.last_ms, time_ms), doubtful=True)


def compacted(found: Iterable[Record]) -> list[Record]:
    """The least records that say the same: open jobs whole, finished ones by id while that must be known, one time,
    and one floor, after what was taken before it.
    """
    taken: dict[str, Taken | Fired] = {}
    kept_schedules: dict[str, Kept] = {}
    done: dict[str, Done | Refused] = {}
    doubtful: set[str] = set()
    learned = floor = 0
    for record in found:
        if type(record) is Taken:
            taken[record.job] = record
        elif type(record) is Kept or type(record) is Fired or type(record) is Rested or type(record) is Removed:
            note_schedule(kept_schedules, record)
            if type(record) is Fired:
                taken[record.job] = record
        elif type(record) is Done or type(record) is Refused:
            done[record.job] = record
        elif type(record) is Learned:
            learned = max(learned, record.time_ms)
        elif type(record) is Floor:
            floor = max(floor, record.time_ms)
            doubtful = set(taken)
            not_before(kept_schedules, record.time_ms)
    kept: list[Record] = [Learned(learned)] if learned else []
    judge = TimeJudge(learned)
    kept += [record for job, record in taken.items() if job in doubtful and job not in done]
    if floor and (doubtful - done.keys() or not judge.may_forget(floor + MAX_AHEAD_MS + MAX_WINDOW_MS)):
        kept.append(Floor(floor))
    # Behind the floor: what it means for each of them is in their own records by now.
    kept += kept_schedules.values()
    kept += [record for job, record in taken.items() if job not in doubtful and job not in done]
    kept += [record for record in done.values() if not judge.may_forget(record.expires_ms)]
    return kept
