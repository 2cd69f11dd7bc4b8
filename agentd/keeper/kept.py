"""Spools whose results are in the store: kept apart, for who reads them later, until their time or their room is over.

The keeper moves a spool here when the agent says that its result is settled: from then on it counts for nothing but
reading. How long they stay is the agent's business (`agentd.agent.spools`); only where a new command finds no room on
the disk, the oldest go at once.

Rules: standard library only; what printed nothing is not kept; a move is not made durable, because a spool that is
found in its old place after a crash is moved again.
"""

from __future__ import annotations

import contextlib
import errno
import os

from libstaragent.jobs.spool import HEADER_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ("KeptSpools",)

# Spools given up at once for a command that finds no room: some may be small.
GIVEN_UP_AT_ONCE = 64
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class KeptSpools:
    """The folder of kept spools."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def take(self, path: str, job: str) -> None:
        """Keep the spool at `path`; that it is gone is as good. What cannot be kept goes: a full disk, or a folder that
        somebody took away, must not end the keeper and with it all that runs.
        """
        try:
            if os.stat(path).st_size > HEADER_SIZE:
                os.rename(path, os.path.join(self._folder, job))
                return
        except OSError:
            pass
        with contextlib.suppress(OSError):
            os.unlink(path)

    def made_room(self, make: Callable[[], T]) -> T:
        """What `make` makes; where the disk has no room for it, the oldest kept spools go and it is tried once more.

        Raises OSError where that does not help.
        """
        try:
            return make()
        except OSError as problem:
            if problem.errno not in _NO_ROOM or not self._give_up():
                raise
        return make()

    def _give_up(self) -> bool:
        found: list[tuple[int, str]] = []
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                # The agent lets go of some at the same time.
                with contextlib.suppress(FileNotFoundError):
                    found.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.path))
        for _, path in sorted(found)[:GIVEN_UP_AT_ONCE]:
            with contextlib.suppress(OSError):
                os.unlink(path)
        return bool(found)
