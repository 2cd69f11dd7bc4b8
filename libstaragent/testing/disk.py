"""Disks of a simulated host: what was written is in the cache, what was synced is safe, and a crash tells them apart.

A lossy crash (power, or a kernel's) keeps what was synced and a random beginning of what was not: the torn tail. A
plain kill keeps the cache. Disks can be full or broken for a while, and an fsync takes its time.

`JournalDisk` is an append-only file, `SpoolDisk` a folder of spools with their header slots. Both hold real bytes of
the real codecs (`libstaragent.jobs`). Rules: a file's name is safe only once the file's `started` was synced.
"""

from __future__ import annotations

__all__ = ("DiskHealth", "DraftDisk", "JournalDisk", "SpoolDisk", "SpoolFile", "sync_time")

import errno
from collections.abc import Callable, Iterable
from hashlib import sha256
from random import Random

from libstaragent.jobs.journal import Record, compacted, decode_records, encode_record
from libstaragent.jobs.spool import FINISHED, STARTED, Slot, decode_slot, encode_slot
from libstaragent.protocol.messages import CHUNK_MAX

# Most fsyncs take milliseconds; one in so many takes up to a second, as a busy disk's do.
SLOW_SYNC = 0.08


class DiskHealth:
    """Whether writes succeed now."""

    def __init__(self) -> None:
        self.errno: int | None = None

    def fill(self) -> None:
        """No space is left."""
        self.errno = errno.ENOSPC

    def fail(self) -> None:
        """The device reports errors."""
        self.errno = errno.EIO

    def mend(self) -> None:
        """It works again."""
        self.errno = None


def sync_time(random: Random) -> float:
    """How long one fsync takes, in seconds."""
    return random.random() if random.random() < SLOW_SYNC else 0.001 + random.random() * 0.02


class JournalDisk:
    """The agent's journal file; a planted bug replaces how it is made shorter."""

    def __init__(self, compact: Callable[[Iterable[Record]], list[Record]] = compacted) -> None:
        self._compact = compact
        self._safe = 0
        self._data = b""

    @property
    def records(self) -> list[Record]:
        """What is in it."""
        return decode_records(self._data)[0]

    def open(self) -> list[Record]:
        """The records in it; it is written anew, shorter, and synced, as the agent does when it starts."""
        records = self._compact(self.records)
        self._data = b"".join(map(encode_record, records))
        self._safe = len(self._data)
        return records

    def append(self, record: Record) -> int:
        """Into the cache; how long the file is now."""
        self._data += encode_record(record)
        return len(self._data)

    def synced(self, length: int) -> None:
        """The first `length` bytes are safe."""
        self._safe = max(self._safe, length)

    def crash(self, random: Random) -> None:
        """Lose what was not synced, but for a torn beginning of it."""
        unsafe = len(self._data) - self._safe
        self._data = self._data[: self._safe + int(random.random() * (unsafe + 1))]


class DraftDisk:
    """The agent's folder of drafts, by job."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._safe: dict[str, int] = {}

    def open(self, job: str, size: int) -> int:
        """How much is there, in whole pieces; the rest is cut off."""
        data = self.files.get(job, b"")[:size]
        self.files[job] = data if len(data) == size else data[: len(data) - len(data) % CHUNK_MAX]
        return len(self.files[job])

    def write(self, job: str, offset: int, data: bytes) -> None:
        """Into the cache."""
        before = self.files[job]
        self.files[job] = before[:offset] + data + before[offset + len(data) :]

    def digest(self, job: str) -> bytes:
        """Of what is safe from now on."""
        self._safe[job] = len(self.files[job])
        return sha256(self.files[job]).digest()

    def drop(self, job: str) -> None:
        """Unlink."""
        self.files.pop(job, None)
        self._safe.pop(job, None)

    def crash(self, random: Random) -> None:
        """What was not synced is gone from somewhere on, or is zeros, which a file system may make of it."""
        for job, data in self.files.items():
            safe = self._safe.get(job, 0)
            keep = safe + int(random.random() * (len(data) - safe + 1))
            self.files[job] = data[:keep] + (bytes(len(data) - keep) if random.random() < 0.5 else b"")


class SpoolFile:
    """One spool: its `started` and `finished` slots, and the output."""

    __slots__ = ("named", "output", "safe", "slots")

    def __init__(self) -> None:
        self.slots: dict[Slot, bytes] = {}
        self.safe: dict[Slot, bytes] = {}
        self.named = False
        self.output = b""

    def write(self, slot: Slot, value: dict[str, object]) -> None:
        """Into the cache."""
        self.slots[slot] = encode_slot(slot, value)

    def sync(self) -> None:
        """What is in the cache is safe, and so is the file's name."""
        self.safe = dict(self.slots)
        self.named = True

    def read(self, slot: Slot) -> tuple[str, dict[str, object]]:
        """(blank, whole or damaged, the value)."""
        return decode_slot(slot, self.slots.get(slot, b""))

    def crash(self, random: Random) -> None:
        """Lose what was not synced, but for torn pieces of it."""
        for slot, data in self.slots.items():
            if self.safe.get(slot) != data:
                length = int(random.random() * (len(data) + 1))
                self.safe[slot] = data[:length]
        self.slots = dict(self.safe)


class SpoolDisk:
    """The keeper's folder of spools, by job."""

    def __init__(self) -> None:
        self.files: dict[str, SpoolFile] = {}
        self._removed: dict[str, SpoolFile] = {}

    def create(self, job: str) -> SpoolFile | None:
        """A new file; None where there is one of that name already."""
        if job in self.files:
            return None
        file = self.files[job] = SpoolFile()
        return file

    def remove(self, job: str) -> None:
        """Unlink; a crash soon after may bring it back."""
        file = self.files.pop(job, None)
        if file is not None and file.named:
            self._removed[job] = file

    def crash(self, random: Random) -> None:
        """Lose what was not synced: slots, new names, removals."""
        for job, file in list(self.files.items()):
            if not file.named and random.random() < 0.5:
                del self.files[job]
            else:
                file.crash(random)
        for job, file in self._removed.items():
            if random.random() < 0.5:
                self.files.setdefault(job, file)
        self._removed = {}

    def found(self) -> list[tuple[str, str, dict[str, object], dict[str, object] | None]]:
        """(job, what `started` is, its value, `finished` if whole) of each spool: what `KeeperCore.on_found` takes."""
        listed: list[tuple[str, str, dict[str, object], dict[str, object] | None]] = []
        for job in sorted(self.files):
            started, record = self.files[job].read(STARTED)
            ended, summary = self.files[job].read(FINISHED)
            what = started if ended == "blank" else "damaged"
            listed.append((job, what, record, summary if ended == "whole" else None))
        return listed
