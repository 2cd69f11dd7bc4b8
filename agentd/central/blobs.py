"""Files that wait here for the hosts that are to place them, by their digest.

A file is expected once an operator's signed `Put` names its digest and size; only what is expected is taken, piece by
piece from where it stands, so an upload that was cut goes on. What is whole has been hashed. Hosts ask for pieces by
their job; a room asks once for all of its hosts.

Not here: HTTP (`api.files`), who may put what (`RosterBook`). Rules: a file is named by its digest and nothing else,
mode 0600; bounded in bytes, and deleted a day after it was last wanted, because no envelope lives longer.
"""

from __future__ import annotations

__all__ = ("BLOBS_BYTES_MAX", "Blobs")

import asyncio
import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agentd.bus import WANTS, Bus, pieces_subject
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.protocol import trunk as t
from libstaragent.protocol.messages import CHUNK_MAX
from libstaragent.roles.central_plans import Permit
from libstaragent.roles.central_state import Job
from libstaragent.security.acts import Envelope, Member, Put

log = logging.getLogger("agentd.central.blobs")

# All files that wait, whole or not: 64 of the largest.
BLOBS_BYTES_MAX = 4 * 1024 * 1024 * 1024
# An envelope lives for a day at most; an hour more for what was under way at its end.
KEPT_SECONDS = 25 * 3600
SWEEP_SECONDS = 60.0
PART = ".part"


class Blobs:
    """See the module. `job` finds a job that is in memory."""

    def __init__(self, folder: Path, bus: Bus, *, job: Callable[[str], Job | None]) -> None:
        self._folder = folder
        self._bus = bus
        self._job = job
        self._taking: set[str] = set()
        self._expected: dict[str, tuple[int, float]] = {}
        self._used = 0
        self._swept = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        folder.mkdir(mode=0o700, exist_ok=True)
        self.sweep()

    def guarded(self, permit: Permit) -> Permit:
        """`permit`, which says no to a put whose file is not here."""

        def judge(envelope: Envelope, members: Sequence[Member], source: str, now_ms: int, owner: str | None) -> str:
            if isinstance(envelope.act, Put) and not self.has(envelope.act):
                raise codes.BLOB_GONE.error(envelope.act.sha256.hex())
            return permit(envelope, members, source, now_ms, owner)

        return judge

    def listen(self) -> None:
        """Answer the rooms from now on."""
        self._bus.subscribe_lossy(WANTS, self._wanted)

    def has(self, act: Put) -> bool:
        """Whether the file is here, whole; it is kept for another day then."""
        if act.size == 0:
            return True
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._folder / act.sha256.hex())
            return True
        return False

    def expect(self, act: Put) -> int:
        """Take this file from now on; how much of it is here.

        :raises ResourceShort: there is no room for it.
        """
        if self.has(act):
            return act.size
        name = act.sha256.hex()
        if name not in self._expected and self._used + act.size > BLOBS_BYTES_MAX:
            self.sweep()
            if self._used + act.size > BLOBS_BYTES_MAX:
                raise _full(self._used)
        self._expected[name] = (act.size, time.monotonic())
        return self._stands(name)

    async def take(self, name: str, offset: int, data: bytes) -> tuple[int, int]:
        """The next bytes of an expected file; its size, and how much of it is here now.

        :raises NotFound: it is not expected. Conflict: it stands elsewhere. IntegrityError: whole, it is another.
        :raises ResourceShort: others that were expected as well have taken the room.
        """
        expected = self._expected.get(name)
        if expected is None:
            raise codes.BLOB_UNEXPECTED.error(name[:64])
        size = expected[0]
        if name in self._taking or offset != self._stands(name) or offset + len(data) > size:
            raise codes.BLOB_OFFSET.error(f"it stands at {self._stands(name)} of {size}")
        if self._used + len(data) > BLOBS_BYTES_MAX:
            raise _full(self._used)
        self._taking.add(name)
        # Before it is written: many uploads may be on their way to the disk at once.
        self._used += len(data)
        try:
            await asyncio.to_thread(self._append, name, size, offset, data)
        except OSError as error:
            self._used -= len(data)
            raise codes.STORE_FAILED.error(f"the file: {error.strerror}", errno=error.errno) from error
        except StarAgentError:
            self._used -= offset + len(data)
            raise
        finally:
            self._taking.discard(name)
        return size, offset + len(data)

    def _stands(self, name: str) -> int:
        try:
            return os.stat(self._folder / (name + PART)).st_size
        except FileNotFoundError:
            return 0

    def _append(self, name: str, size: int, offset: int, data: bytes) -> None:
        part = self._folder / (name + PART)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            try:
                view = memoryview(data)
                file.seek(offset)
                while view:
                    view = view[file.write(view) :]
            except OSError:
                file.truncate(offset)
                raise
            if offset + len(data) < size:
                return
            os.fsync(descriptor)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != name:
            part.unlink()
            raise codes.BLOB_DIGEST.error(f"it is {digest}")
        os.replace(part, self._folder / name)

    def _wanted(self, batch: Sequence[t.WantPiece]) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(tuple(batch)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, wants: tuple[t.WantPiece, ...]) -> None:
        for want in wants:
            job = self._job(want.job)
            if job is None or want.agent not in job.members or not isinstance(job.envelope.act, Put):
                continue
            act = job.envelope.act
            path = self._folder / act.sha256.hex()
            try:
                data = await asyncio.to_thread(_piece, path, want.offset)
            except FileNotFoundError:
                piece = t.BlobPiece(want.job, want.offset, b"", codes.BLOB_GONE.code)
            except OSError as error:
                # The host asks again.
                log.warning("%s: %s", path, error.strerror)
                continue
            else:
                if len(data) != min(CHUNK_MAX, max(0, act.size - want.offset)):
                    # Somebody cut it here: a room would keep the short piece for all its hosts.
                    log.warning("%s is shorter than it was when it was whole", path)
                    path.unlink(missing_ok=True)
                    data = b""
                code = "" if data else codes.BLOB_GONE.code
                piece = t.BlobPiece(want.job, want.offset, data, code)
            self._bus.publish_lossy(pieces_subject(want.room), [piece])

    def tick(self, now: float) -> None:
        """Let go of what nobody wants any more, now and then."""
        if now - self._swept >= SWEEP_SECONDS:
            self._swept = now
            self.sweep()

    def sweep(self) -> None:
        """Let go of what nobody wants any more."""
        oldest = time.time() - KEPT_SECONDS
        used = 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                # One that was whole a moment ago has another name now.
                with contextlib.suppress(FileNotFoundError):
                    stat = entry.stat(follow_symlinks=False)
                    if stat.st_mtime < oldest:
                        os.unlink(entry.path)
                    else:
                        used += stat.st_size
        self._used = used
        since = time.monotonic() - KEPT_SECONDS
        self._expected = {name: entry for name, entry in self._expected.items() if entry[1] > since}


def _full(used: int) -> StarAgentError:
    return codes.BLOBS_FULL.error(f"{used} bytes wait, {BLOBS_BYTES_MAX} allowed")


def _piece(path: Path, offset: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return os.pread(descriptor, CHUNK_MAX, offset)
    finally:
        os.close(descriptor)
