"""Drafts: files that are to be placed, while they come; one a job, readable by the agent's user only.

Not here: what to ask for (`libstaragent.roles.agent_files`), the placing (`agentd.keeper.filework`). Rules: a draft is
written from its beginning without a gap, so its length says what is there; it is durable before its digest counts; a
draft whose job is over, or unknown, is deleted.
"""

from __future__ import annotations

__all__ = ("Drafts",)

import contextlib
import os
from collections.abc import Container
from pathlib import Path

from libstaragent.jobs.digest import sha256
from libstaragent.protocol.messages import CHUNK_MAX
from libstaragent.roles.agent import AgentCore
from libstaragent.roles.agent_effects import CheckDraft, DropDraft, OpenDraft, WriteDraft

READ_AT_ONCE = 256 * 1024


class Drafts:
    """The folder of drafts; each effect is answered at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # What is written is hashed as it comes; of a draft that an agent before us began, at the end.
        self._hashes: dict[str, tuple[int, object]] = {}

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
                    core.pulls.checked(effect.job, self._check(path), None, now=now)
                case DropDraft():
                    self._hashes.pop(effect.job, None)
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
        finally:
            os.close(descriptor)
        at, digest = self._hashes.get(path.name, (-1, None))
        if at == effect.offset:
            digest.update(effect.data)  # type: ignore[union-attr]
            self._hashes[path.name] = (at + len(effect.data), digest)

    def _check(self, path: Path) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fsync(descriptor)
            size = os.fstat(descriptor).st_size
            at, digest = self._hashes.pop(path.name, (-1, None))
            if at != size or digest is None:
                digest = sha256(b"")
                while data := os.read(descriptor, READ_AT_ONCE):
                    digest.update(data)
            return digest.digest()  # type: ignore[attr-defined, no-any-return]
        finally:
            os.close(descriptor)
