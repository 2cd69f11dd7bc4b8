"""The veto of the host's owner: a file on the host that says what no operator may do here, whatever the roster allows.

    # /etc/opsconsole/veto.toml, and veto.toml in the agent's state directory: each that is there counts
    operators = ["eve"]              nothing from them
    acts = ["put", "schedule"]       none of these kinds, by their names in the audit log
    commands = ["rm **", "reboot"]   argv patterns, as in rules; also inside of schedules
    paths = ["/etc/**"]              neither placed nor read
    shell = true                     no lines for the shell
    max_jobs = 8                     at once; more are refused, not queued

The file must belong to root or to the agent's own user, and nobody else may be able to write it; else, or when it
cannot be read, or has a key or a pattern that is none, everything is denied and the log says why: a veto that was
mistyped must not be none. A cancel passes even then, since it only stops what runs. It is read again when it changes.

Not here: the roster's rules. A shell: it looks at files. tomllib is loaded only where there is such a file.
"""

from __future__ import annotations

__all__ = ("SYSTEM_VETO", "Veto", "Vetoes")

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

from msgspec import Struct

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.security.acts import Cancel, Envelope
from libstaragent.security.policy.ask import asked
from libstaragent.security.policy.paths import check_path_pattern, is_plain_path, matches_path
from libstaragent.security.policy.words import ArgvPattern, check_argv_pattern, matches_argv, split_words

SYSTEM_VETO = Path("/etc/opsconsole/veto.toml")
# Some hundred patterns.
MAX_VETO_BYTES = 64 * 1024
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_KEYS = ("operators", "acts", "commands", "paths", "shell", "max_jobs")


class Veto(Struct, frozen=True, kw_only=True):
    """What one file says."""

    operators: tuple[str, ...] = ()
    acts: tuple[str, ...] = ()
    commands: tuple[ArgvPattern, ...] = ()
    paths: tuple[str, ...] = ()
    shell: bool = False
    max_jobs: int | None = None

    def objection(self, envelope: Envelope, open_jobs: int) -> StarAgentError | None:
        """Why the act of `envelope` is not done; None where nothing stands against it."""
        ask = asked(envelope)
        if envelope.operator in self.operators:
            return codes.VETO_DENIED.error(f"operator {envelope.operator}")
        if ask.act in self.acts or (ask.right in self.acts and ask.right):
            return codes.VETO_DENIED.error(f"act {ask.act}")
        if ask.right == "shell" and self.shell:
            return codes.VETO_DENIED.error("shell")
        if any(matches_argv(pattern, ask.argv) for pattern in self.commands if ask.argv):
            return codes.VETO_DENIED.error("command")
        if ask.path and (self.paths and not is_plain_path(ask.path)):
            return codes.VETO_DENIED.error("the path is not plain")
        if ask.path and any(matches_path(pattern, ask.path) for pattern in self.paths):
            return codes.VETO_DENIED.error(f"path {ask.path}")
        if self.max_jobs is not None and ask.right != "manage" and open_jobs >= self.max_jobs:
            return codes.VETO_BUSY.error(f"{self.max_jobs} at once")
        return None


class Vetoes:
    """The files of one host, read again when they change. `open_jobs` says how many jobs are open here."""

    def __init__(self, files: Iterable[Path], *, log: Callable[[str], None]) -> None:
        self._files = {file: _File(file) for file in files}
        self._log = log
        self.open_jobs: Callable[[], int] = lambda: 0

    def check(self, envelope: Envelope) -> None:
        """Nothing, if no file stands against the act of `envelope`.

        :raises StarAgentError: one does, or cannot be read.
        """
        for file in self._files.values():
            if file.read_anew() and file.broken is not None:
                self._log(str(file.broken))
            if file.broken is not None and not isinstance(envelope.act, Cancel):
                raise file.broken.code.error(file.broken.detail)
            objection = file.veto.objection(envelope, self.open_jobs())
            if objection is not None:
                raise objection.code.error(f"{file.path}: {objection.detail}")


class _File:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.veto = Veto()
        self.broken: StarAgentError | None = None
        self._seen: tuple[int, ...] | None = None

    def read_anew(self) -> bool:
        """Whether the file is another than before; then it was read."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            changed = self._seen is not None
            self.veto, self.broken, self._seen = Veto(), None, None
            return changed
        except OSError as error:
            changed = self._seen != (error.errno or 0,)
            self._break(error.strerror or "", (error.errno or 0,))
            return changed
        mark = (found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size, found.st_uid, found.st_mode)
        if mark == self._seen:
            return False
        try:
            self.veto, self.broken, self._seen = _read(self.path), None, mark
        except (OSError, ValueError) as error:
            self._break(str(error), mark)
        return True

    def _break(self, why: str, mark: tuple[int, ...]) -> None:
        self.veto = Veto()
        self.broken = codes.VETO_BROKEN.error(f"{self.path}: {why}")
        self._seen = mark


def _read(path: Path) -> Veto:
    """What the file says. Raises OSError or ValueError, with what is wrong about it."""
    import tomllib  # late: most hosts have no such file

    # What was opened is what is judged: the name may be another file's a moment later.
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no file")
        if found.st_uid not in (0, os.geteuid()):
            raise ValueError(f"it belongs to user {found.st_uid}, neither to root nor to the agent's own")
        if found.st_mode & _OTHERS_WRITE:
            raise ValueError("others than its owner may write it")
        data = file.read(MAX_VETO_BYTES + 1)
    if len(data) > MAX_VETO_BYTES:
        raise ValueError("it is larger than 64 KiB")
    said = tomllib.loads(data.decode())
    for key in said:
        if key not in _KEYS:
            raise ValueError(f"unknown key {key!r}; there are {', '.join(_KEYS)}")
    commands = tuple(split_words(text) for text in _texts(said, "commands"))
    for command in commands:
        check_argv_pattern(command)
    paths = _texts(said, "paths")
    for pattern in paths:
        check_path_pattern(pattern)
    shell, most = said.get("shell", False), said.get("max_jobs")
    if not isinstance(shell, bool):
        raise ValueError("shell is true or false")
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 0):
        raise ValueError("max_jobs is a whole number from 0")
    return Veto(
        operators=_texts(said, "operators"),
        acts=_texts(said, "acts"),
        commands=commands,
        paths=paths,
        shell=shell,
        max_jobs=most,
    )


def _texts(said: dict[str, Any], key: str) -> tuple[str, ...]:
    given = said.get(key, [])
    entries = cast("list[Any]", given) if isinstance(given, list) else None
    if entries is None or not all(isinstance(entry, str) for entry in entries):
        raise ValueError(f"{key} is a list of texts")
    return tuple(cast("list[str]", entries))
