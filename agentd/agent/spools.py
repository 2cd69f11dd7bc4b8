"""The spools that this host still keeps: reading them, and letting go of them when their time or their room is over.

Not here: who may read (`libstaragent.roles.agent_spools`), how a spool comes here (`agentd.keeper.kept`). Rules: the
oldest go first, a few at a time; what is kept is bounded by age, bytes and count, and gives way where the disk runs
short; the environment sets the bounds (docs/operations.md).
"""

from __future__ import annotations

__all__ = ("KeptLimits", "Spools", "cut")

import contextlib
import os
from collections import OrderedDict
from pathlib import Path

from msgspec import Struct

from agentd.keeper.spoolfile import Records, SpoolReader
from libstaragent.jobs.spool import WHOLE
from libstaragent.roles.agent import AgentCore
from libstaragent.roles.agent_effects import Effect, ReadRecords

# Files deleted in one sweep, some hundredths of a millisecond each. While more are due a sweep comes with each tick:
# this is more than a host can run in that second, so what is kept stays bounded however busy it is.
SWEPT_AT_ONCE = 1024
SWEEP_EVERY = 5.0
# Spools held open for readers.
OPEN_MAX = 16
RECORD_HEAD = 5


class KeptLimits(Struct, frozen=True):
    """How long (seconds), how many bytes and how many spools a host keeps; `floor` bytes of the disk stay free."""

    seconds: int = 24 * 3600
    bytes: int = 256 * 1024 * 1024
    count: int = 1000
    floor: int = 256 * 1024 * 1024

    @classmethod
    def from_environment(cls) -> KeptLimits:
        """The defaults, or what OPSCONSOLE_KEEP_SECONDS, _BYTES, _COUNT and _FLOOR say, where that is a number."""
        given = {
            name: int(value)
            for name in cls.__struct_fields__
            if (value := os.environ.get(f"OPSCONSOLE_KEEP_{name.upper()}", "")).isascii() and value.isdigit()
        }
        return cls(**given)


class Spools:
    """See the module. `running` is the keeper's folder, `kept` the one of settled jobs."""

    def __init__(self, *, running: Path, kept: Path, limits: KeptLimits) -> None:
        self._running = running
        self._kept = kept
        self._limits = limits
        self._open: OrderedDict[str, SpoolReader] = OrderedDict()
        self._next_sweep = 0.0
        self.given_up = 0

    def carry_out(self, effect: ReadRecords, core: AgentCore, now_ms: int) -> list[Effect]:
        """Read, and tell the core; what it wants next."""
        owner, pairs, after, missed = self.read(effect)
        return core.reads.records_read(
            effect.stream,
            core.connection,
            owner=owner,
            pairs=pairs,
            next_offset=after,
            missed=missed,
            now_ms=now_ms,
        )

    def read(self, effect: ReadRecords) -> tuple[str | None, Records, int, int]:
        """(who began the job or None where nothing is kept, records, the offset after them, bytes missed before)."""
        reader = self._reader(effect.job)
        if reader is None:
            return None, [], effect.offset, 0
        found, _, missed = reader.follow(effect.offset, effect.limit)
        if not found and reader.end() == 0:
            reader.refresh()
            if reader.finished[0] == WHOLE:
                # It printed nothing: whether it has been settled yet makes no difference.
                return None, [], effect.offset, 0
        pairs, size = cut(found, effect.limit)
        owner = reader.reserved[1].get("owner")
        return owner if isinstance(owner, str) else "", pairs, effect.offset + missed + size, missed

    def _reader(self, job: str) -> SpoolReader | None:
        reader = self._open.get(job)
        if reader is not None:
            self._open.move_to_end(job)
            return reader
        for folder in (self._kept, self._running):
            try:
                reader = self._open[job] = SpoolReader(str(folder / job))
            except OSError:
                continue
            while len(self._open) > OPEN_MAX:
                self._open.popitem(last=False)[1].close()
            return reader
        return None

    def tick(self, now: float, now_s: float) -> None:
        """Let go of what is due. `now` is monotonic, `now_s` the wall clock, in seconds."""
        if now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP_EVERY
        while self._open:
            # A reader holds a deleted file's room.
            self._open.popitem()[1].close()
        # The keeper makes the folder, and may let go of a spool itself; a disk that takes no change must end nobody.
        with contextlib.suppress(OSError):
            self._sweep(now_s)

    def _sweep(self, now_s: float) -> None:
        limits = self._limits
        with os.scandir(self._kept) as entries:
            stats = [(entry.stat(follow_symlinks=False), entry.path) for entry in entries]
        found = sorted((stat.st_mtime, stat.st_blocks * 512, path) for stat, path in stats)
        if not found:
            return
        disk = os.statvfs(self._kept)
        missing = limits.floor - disk.f_bavail * disk.f_frsize
        count, size = len(found), sum(entry[1] for entry in found)
        for at, length, path in found[:SWEPT_AT_ONCE]:
            if at + limits.seconds > now_s and size <= limits.bytes and count <= limits.count and missing <= 0:
                return
            os.unlink(path)
            self.given_up += at + limits.seconds > now_s
            count, size, missing = count - 1, size - length, missing - length
        # More are due: not all at once, but soon.
        self._next_sweep = 0.0


def cut(found: Records, limit: int) -> tuple[Records, int]:
    """As many of the records as `limit` encoded bytes hold, the last one cut, and how many bytes of output they are."""
    pairs: Records = []
    room = limit
    size = 0
    for stream, data in found:
        room -= RECORD_HEAD
        if room <= 0:
            break
        pairs.append((stream, data[:room]))
        size += len(pairs[-1][1])
        room -= len(pairs[-1][1])
    return pairs, size
