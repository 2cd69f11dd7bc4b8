"""What the keeper asks of a file system beyond reading and writing: room that is there later, and that it is on disk.

Rules: standard library only; errors of the OS are raised as OSError.
"""

from __future__ import annotations

import errno
import os

__all__ = ("reserve", "sync_data", "sync_folder")

# A file system that cannot reserve space says so; where the C library does not write zeros then, we do.
_CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)

# macOS has only the stronger one.
sync_data = getattr(os, "fdatasync", os.fsync)


def reserve(descriptor: int, offset: int, length: int) -> None:
    """Make so many bytes ours from `offset` on; they read as zeros."""
    if length and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, offset, length)
        except OSError as problem:
            if problem.errno not in _CANNOT_RESERVE:
                raise
        else:
            return
    if length and os.pwrite(descriptor, bytes(length), offset) != length:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
