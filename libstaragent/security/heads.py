"""Heads of the audit that somebody saw and keeps: 64 of them, so spread that they reach back as far as they can. Pure.

A head is number and hash of the newest entry at some time. Each entry's hash covers all entries before it, so one head
is a witness for the whole audit up to it, and says by its mere number that so many entries were there.

Were only the last 64 kept, a thief who makes the chain anew would wait until all of them are of his own making: a
quarter of an hour. So when there is no room, that one goes whose neighbours are nearest to each other, by their age:
the recent ones are dense, the old ones sparse, and the oldest always stays. A head that contradicts another (the same
number, another hash) or goes back to a lower number is kept like any other; that is what it is kept for.

Not here: files. Used by agents and by clients; imports nothing that an agent does not have.
"""

from __future__ import annotations

__all__ = ("HEADS_KEPT", "Head", "HeadRing", "decode_heads", "encode_heads")

from collections.abc import Iterable

import msgspec

# 64 heads of some 50 bytes: from the last minute back over years, each gap a tenth of its age.
HEADS_KEPT = 64
# A file of ours is some 4 KiB.
MAX_HEADS_BYTES = 16 * 1024


class Head(msgspec.Struct, frozen=True, array_like=True):
    """The newest entry at a time: its number, its hash, and when the keeper of this head saw it first, by its clock."""

    seq: int
    hash: bytes
    seen_ms: int


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(tuple[Head, ...])


class HeadRing:
    """The heads that are kept, in the order in which they were seen."""

    def __init__(self, heads: Iterable[Head] = ()) -> None:
        self.heads: list[Head] = list(heads)[-HEADS_KEPT:]
        self.changed = False

    @property
    def newest(self) -> Head | None:
        """The one that was seen last."""
        return self.heads[-1] if self.heads else None

    def see(self, seq: int, digest: bytes, now_ms: int) -> bool:
        """A head was told; whether it goes back before one that was seen earlier, or contradicts it."""
        newest = self.newest
        if newest is not None and newest.seq == seq and newest.hash == digest:
            return False
        strange = any(seq < head.seq or (seq == head.seq and digest != head.hash) for head in self.heads)
        if strange and any(head.seq == seq and head.hash == digest for head in self.heads):
            return True
        self.heads.append(Head(seq, digest, now_ms))
        self.changed = True
        if len(self.heads) > HEADS_KEPT:
            del self.heads[_least_missed([head.seen_ms for head in self.heads], now_ms)]
        return strange


def encode_heads(heads: Iterable[Head]) -> bytes:
    """The bytes of a file."""
    return _encode(tuple(heads))


def decode_heads(data: bytes) -> tuple[Head, ...]:
    """What is in such a file; nothing where it cannot be read: it is a witness, and a broken one says nothing."""
    try:
        return _decoder.decode(data) if len(data) <= MAX_HEADS_BYTES else ()
    except (msgspec.MsgspecError, ValueError):
        return ()


def _least_missed(seen: list[int], now_ms: int) -> int:
    """Which of these times may go: neither the first nor the last, and the one that leaves the smallest gap for its
    age.
    """
    return min(
        range(1, len(seen) - 1),
        key=lambda at: (seen[at + 1] - seen[at - 1]) / (max(now_ms - seen[at], 0) + 1),
    )
