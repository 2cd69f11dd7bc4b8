"""Drafts: files that are to be placed, while they come; one a job, readable by the agent's user only.

Not here: what to ask for (`libstaragent.roles.agent_files`), the placing (`agentd.keeper.filework`). Rules: a draft is
written from its beginning without a gap, so its length says what is there; it is durable before its digest counts; a
draft whose job is over, or unknown, is deleted. No effect takes long: what is written is made durable every few MiB,
and what an agent before us wrote, which has no running digest, is read in steps, one each turn of the loop.
"""

from __future__ import annotations

__all__ = ("Drafts",)

import contextlib
import os
from collections.abc import Container
from pathlib import Path
from typing import Any

from libstaragent.jobs.digest import sha256
from libstaragent.protocol.messages import CHUNK_MAX
from libstaragent.roles.agent import AgentCore
from libstaragent.roles.agent_effects import CheckDraft, DropDraft, OpenDraft, WriteDraft

READ_AT_ONCE = 256 * 1024
# What is hashed in one turn of the loop: 4 ms of a core by the interpreter's own SHA-256 (`libstaragent.jobs.digest`).
HASHED_AT_ONCE = 1024 * 1024
# What is not durable yet: a disk of 50 MB/s has that in 80 ms, and 64 MiB at the end would be more than a second.
UNSYNCED_MAX = 4 * 1024 * 1024


class Drafts:
    """The folder of drafts; each effect is answered at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # What is written is hashed as it comes; of a draft that an agent before us began, at the end.
        self._hashes: dict[str, tuple[int, Any]] = {}
        # Drafts that are being read, from where: `work` goes on with them.
        self._checking: dict[str, tuple[int, Any]] = {}

    @property
    def busy(self) -> bool:
        """Whether `work` has something to do now."""
        return bool(self._checking)

    def work(self, core: AgentCore, now: float) -> None:
        """One step of each draft that is being read; the core is told of those that are through."""
        for job, (at, digest) in list(self._checking.items()):
            try:
                read, through = _hash_some(self._folder / job, at, digest)
            except OSError as error:
                del self._checking[job]
                core.pulls.checked(job, b"", error.errno or 0, now=now)
                continue
            if through:
                del self._checking[job]
                core.pulls.checked(job, digest.digest(), None, now=now)
            else:
                self._checking[job] = (at + read, digest)

    def sweep(self, wanted: Container[str]) -> None:
        """Delete drafts of jobs that are not open; at the start."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for entry in list(os.scandir(self._folder)):
            if entry.name not in wanted:
                os.unlink(entry.path)

    def carry_out(self, effect: OpenDraft | WriteDraft | CheckDraft | DropDraft, core: AgentCore, now: float) -> None:
        """Do it, and tell the core."""
        path = self._folder / effect.job
        try:
            match effect:
                case OpenDraft():
                    core.pulls.opened(effect.job, self._open(path, effect.size), None, now=now)
                case WriteDraft():
                    self._write(path, effect)
                    core.pulls.written(effect.job, None, now=now)
                case CheckDraft():
                    digest = self._check(path)
                    if digest is not None:
                        core.pulls.checked(effect.job, digest, None, now=now)
                case DropDraft():
                    self._hashes.pop(effect.job, None)
                    self._checking.pop(effect.job, None)
                    with contextlib.suppress(FileNotFoundError):
                        path.unlink()
        except OSError as error:
            errno = error.errno or 0
            if isinstance(effect, OpenDraft):
                core.pulls.opened(effect.job, 0, errno, now=now)
            elif isinstance(effect, WriteDraft):
                core.pulls.written(effect.job, errno, now=now)
            elif isinstance(effect, CheckDraft):
                core.pulls.checked(effect.job, b"", errno, now=now)

    def _open(self, path: Path, size: int) -> int:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            have = min(os.fstat(descriptor).st_size, size)
            if have < size:
                have -= have % CHUNK_MAX
            os.ftruncate(descriptor, have)
        finally:
            os.close(descriptor)
        if have == 0:
            self._hashes[path.name] = (0, sha256(b""))
        return have

    def _write(self, path: Path, effect: WriteDraft) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            # A disk that fills up takes a part; the next write says why.
            left, offset = memoryview(effect.data), effect.offset
            while left:
                written = os.pwrite(descriptor, left, offset)
                left, offset = left[written:], offset + written
            if offset % UNSYNCED_MAX == 0:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        at, digest = self._hashes.get(path.name, (-1, None))
        if at == effect.offset:
            digest.update(effect.data)
            self._hashes[path.name] = (at + len(effect.data), digest)

    def _check(self, path: Path) -> bytes | None:
        """Its digest, durable; None where it has to be read for that."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fsync(descriptor)
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        at, digest = self._hashes.pop(path.name, (-1, None))
        if at == size and digest is not None:
            return bytes(digest.digest())
        self._checking[path.name] = (0, sha256(b""))
        return None


def _hash_some(path: Path, at: int, digest: Any) -> tuple[int, bool]:
    """Feed the next bytes of a file to `digest`: how many they were, and whether they were the last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        read = 0
        while read < HASHED_AT_ONCE:
            data = os.pread(descriptor, min(READ_AT_ONCE, HASHED_AT_ONCE - read), at + read)
            if not data:
                return read, True
            digest.update(data)
            read += len(data)
        return read, False
    finally:
        os.close(descriptor)
