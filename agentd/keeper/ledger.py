"""The keeper's ledger as a file (`libstaragent.jobs.ledger` says what is in it, and why).

It is written over zeros that are there already, so that a sync is the write and nothing of the file system's own. When
they are used up, what still counts is written into a new file.

Rules: standard library only; an entry counts once `commit` has returned; a ledger that cannot be written says so with
the OSError of each commit, and is tried anew by the next one.
"""

from __future__ import annotations

import contextlib
import os

from agentd.keeper.disk import sync_data, sync_folder
from agentd.keeper.spoolfile import SpoolReader, SpoolWriter
from libstaragent.jobs.ledger import Kept, decode_entries, encode_entry, read_ledger
from libstaragent.jobs.spool import WHOLE
from libstaragent.roles.keeper_spec import is_job_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Ledger",)

# Some three hundred commands until the file is written anew, which costs what one or two commands cost.
ROOM = 256 * 1024
_ZEROS = bytes(64 * 1024)


class Ledger:
    """See the module. `counts` says of a job whether its entries are still of use."""

    def __init__(self, state_dir: str, boot: str, counts: Callable[[str], bool]) -> None:
        self._folder = state_dir
        self._path = os.path.join(state_dir, "ledger")
        self._boot = boot
        self._counts = counts
        self._descriptor = -1
        self._at = 0
        self._end = 0
        self._waiting: list[bytes] = []

    def restore(self, spool_dir: str) -> dict[str, Kept]:
        """After a loss of power: bring the spools to what was promised. Call it before they are read, once.

        Returns those whose spools could not be: they have begun all the same, and must not begin again. Raises OSError
        where there is a ledger and it cannot be read: nobody can say then what has begun.
        """
        try:
            with open(self._path, "rb") as file:
                boot, jobs = read_ledger(file.read())
        except FileNotFoundError:
            return {}
        lost: dict[str, Kept] = {}
        if boot and boot == self._boot:
            return lost
        for job, kept in jobs.items():
            if is_job_id(job):
                try:
                    _restore(os.path.join(spool_dir, job), kept)
                except OSError:
                    lost[job] = kept
        return lost

    def add(self, kind: str, job: str, value: dict[str, object], **more: object) -> None:
        """Put an entry into the next commit: `encode_entry` says what it holds."""
        self._waiting.append(encode_entry(kind, job, value, **more))

    def commit(self) -> None:
        """Make all that was added durable; OSError where that fails, and what was added is forgotten."""
        data = b"".join(self._waiting)
        self._waiting.clear()
        if self._descriptor < 0 or self._at + len(data) > self._end:
            self._write_anew(data)
            return
        if os.pwrite(self._descriptor, data, self._at) != len(data):
            raise OSError("the ledger was written in part")
        sync_data(self._descriptor)
        self._at += len(data)

    def _write_anew(self, data: bytes) -> None:
        draft = os.path.join(self._folder, ".ledger")
        parts = [encode_entry("header", self._boot, {}), *self._old(), data]
        whole = b"".join(parts)
        end = max(ROOM, 2 * len(whole))
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            at = 0
            while at < end:
                piece = whole[at : at + len(_ZEROS)]
                at += os.pwrite(descriptor, piece + _ZEROS[: len(_ZEROS) - len(piece)], at)
            os.fsync(descriptor)
            os.replace(draft, self._path)
            sync_folder(self._folder)
        except BaseException:
            os.close(descriptor)
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._at, self._end = descriptor, len(whole), end

    def _old(self) -> list[bytes]:
        try:
            with open(self._path, "rb") as file:
                entries = decode_entries(file.read())
        except OSError:
            return []
        return [
            data
            for entry, data in entries
            if entry.get("kind") in ("started", "finished") and self._counts(str(entry.get("job")))
        ]

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _restore(path: str, kept: Kept) -> None:
    try:
        with SpoolReader(path) as spool:
            found = spool.reserved[0], spool.started[0]
    except FileNotFoundError:
        found = "", ""
    if kept.finished is None and found == (WHOLE, WHOLE):
        return
    with contextlib.closing(SpoolWriter.restored(path, kept.reserved, kept.output)) as spool:
        if kept.started is not None:
            spool.write_started(kept.started)
        if kept.finished is not None:
            spool.write_finished(kept.finished)
