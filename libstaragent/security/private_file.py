"""Private files: secrets on disk, mode 0600 from their first byte on, whole or not there.

Not here: what is in them. A shell (it opens files), stdlib only, so that agents use it too.

Rules: a file is created narrow, never narrowed later; it takes its name only when its bytes are on disk; a name that is
taken is not overwritten unless asked. What others could read or change is not read: a warning would be read by nobody.
"""

from __future__ import annotations

__all__ = ("read_private", "write_private")

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from libstaragent import codes
from libstaragent.errors import StarAgentError

PRIVATE_MODE = 0o600
OTHERS = 0o077
# A PEM key, a token or a seed is a few hundred bytes; more is a wrong path.
MAX_PRIVATE_BYTES = 64 * 1024
# Windows has neither owners nor modes in this sense; there the profile directory's ACL protects the file.
_HAS_MODES = os.name == "posix"


def write_private(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Makes `path` hold `data`, durable, readable by its owner only.

    :raises Conflict: it exists, and `overwrite` was not asked for.
    :raises DependencyFailed: the OS refused.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if overwrite:
                os.replace(draft, path)
            else:
                # Unlike a rename, a link fails when the name is taken.
                os.link(draft, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
        _sync_directory(path.parent)
    except OSError as error:
        raise _coded(error, path) from error


def read_private(path: Path, *, at_most: int = MAX_PRIVATE_BYTES) -> bytes:
    """What `path` holds, of `at_most` bytes.

    :raises NotFound: it is not there.
    :raises Denied: others can read or change it, it belongs to another user, or it is no regular file.
    :raises DependencyFailed: the OS refused, or it is larger.
    """
    try:
        # Non-blocking, so that a FIFO at this path cannot hang its reader before it is recognised.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            _refuse_exposed(os.fstat(descriptor), path)
            data = file.read(at_most + 1)
    except OSError as error:
        raise _coded(error, path) from error
    if len(data) > at_most:
        raise codes.KEY_FILE_FAILED.error(f"{path} is larger than {at_most // 1024} KiB", errno=errno.EFBIG)
    return data


def _refuse_exposed(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise codes.KEY_EXPOSED.error(f"{path} is not a regular file")
    if not _HAS_MODES:
        return
    if found.st_mode & OTHERS:
        raise codes.KEY_EXPOSED.error(f"{path} has mode {stat.S_IMODE(found.st_mode):04o}")
    if found.st_uid != os.geteuid():
        raise codes.KEY_EXPOSED.error(f"{path} belongs to user {found.st_uid}")


def _sync_directory(directory: Path) -> None:
    if not _HAS_MODES:
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _coded(error: OSError, path: Path) -> StarAgentError:
    code = {errno.ENOENT: codes.KEY_MISSING, errno.EEXIST: codes.KEY_EXISTS}.get(
        error.errno or 0, codes.KEY_FILE_FAILED
    )
    return code.error(f"{path}: {error.strerror}", errno=error.errno)
