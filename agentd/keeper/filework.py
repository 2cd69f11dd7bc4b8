"""What a child of the keeper does with one file, with the rights of the user that it has become: read it to stdout, or
place what it has on stdin.

Which file: the signed path and no other. No link is followed, neither at the end of the path nor on the way, so what a
rule allowed is what is touched; a link is refused with the path that it leads to. What is placed replaces a link that
bears the last name, and never what the link points to.

Placing is all or nothing: the bytes go to a file without a name (or, where the file system knows none, beside the
target under a name of ours), are checked, made durable, given owner and mode, and take the name in one step. Whatever
fails, whoever is killed: at the path is the old file or the new one, whole. Only a file or a link is replaced: a folder
is no file, and in place of a device or a pipe a file would be a trap for whoever uses it.

Reading gives what the file held when it was opened: what is appended meanwhile (a log) is left for the next time, and a
file that is cut or written over meanwhile is refused, because what was read of it was never a file.

Not here: becoming the user (`spawn`). Rules: standard library only and imported before the fork; a failure is a
`FileFailed`, which the keeper turns into a code.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat

from libstaragent.codes import (
    FILE_CHANGED,
    FILE_ELSEWHERE,
    FILE_FAILED,
    FILE_NOT_REGULAR,
    FILE_OWNER_UNKNOWN,
    FILE_TOO_LARGE,
)
from libstaragent.jobs.digest import sha256
from libstaragent.roles.keeper_task import PlaceTask, ReadTask, Task

__all__ = ("FileFailed", "do")

# A pipe's usual capacity.
CHUNK = 64 * 1024
# A name of ours beside the target: a look at the folder says which job's it is. The rest makes it unique, because hosts
# of one job may share a file system.
DRAFT_PREFIX = ".opsconsole-"
DRAFT_RANDOM_BYTES = 8


class FileFailed(Exception):
    """It could not be done: the code of the catalogue, the OS's number (0: none) and the detail."""

    def __init__(self, code: str, errno: int, detail: str) -> None:
        super().__init__(code, errno, detail)
        self.code = code
        self.errno = errno
        self.detail = detail


def do(task: Task, job: str, umask: int) -> None:
    """Carry it out. Raises FileFailed."""
    try:
        if isinstance(task, ReadTask):
            _read(task)
        else:
            _place(task, job, umask)
    except OSError as problem:
        raise FileFailed(FILE_FAILED.code, problem.errno or 0, problem.strerror or str(problem)) from None


def _read(task: ReadTask) -> None:
    folder, name = _folder_of(task.path)
    try:
        # A FIFO must not hold us up, and a terminal must not become ours.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=folder)
    except OSError as problem:
        if problem.errno != errno.ELOOP:
            raise
        raise FileFailed(FILE_ELSEWHERE.code, 0, f"a link to {os.path.realpath(task.path)}") from None
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        raise FileFailed(FILE_NOT_REGULAR.code, 0, task.path)
    if found.st_size > task.max_bytes:
        raise FileFailed(FILE_TOO_LARGE.code, 0, f"{found.st_size} bytes, {task.max_bytes} allowed")
    # What the kernel makes up as it is read (/proc) says 0 and ends when it ends.
    left = found.st_size or task.max_bytes + 1
    while left and (data := os.read(file, min(CHUNK, left))):
        left -= len(data)
        if not found.st_size and not left:
            raise FileFailed(FILE_TOO_LARGE.code, 0, f"it grew beyond {task.max_bytes} bytes")
        _write(1, data)
    _check_unchanged(found, os.fstat(file))


def _check_unchanged(before: os.stat_result, after: os.stat_result) -> None:
    """Raises FileFailed where a file was cut, or written to without growing, between the two looks at it."""
    if after.st_size < before.st_size:
        raise FileFailed(FILE_CHANGED.code, 0, f"it shrank from {before.st_size} to {after.st_size} bytes")
    if before.st_size and after.st_size == before.st_size and after.st_mtime_ns != before.st_mtime_ns:
        raise FileFailed(FILE_CHANGED.code, 0, "it was written to")


def _place(task: PlaceTask, job: str, umask: int) -> None:
    owner, group = _ids(task)
    folder, name = _folder_of(task.path)
    _check_replaceable(folder, name, task.path)
    draft = f"{DRAFT_PREFIX}{job}-{os.urandom(DRAFT_RANDOM_BYTES).hex()}"
    file, named = _open_draft(folder, draft)
    try:
        digest = sha256(b"")
        size = 0
        while data := os.read(0, CHUNK):
            digest.update(data)
            size += len(data)
            _write(file, data)
        if size != task.size or digest.hexdigest() != task.sha256:
            raise FileFailed(FILE_FAILED.code, errno.EIO, "the draft is not what was received")
        if owner != -1 or group != -1:
            os.fchown(file, owner, group)
        os.fchmod(file, 0o666 & ~umask if task.mode is None else task.mode)
        os.fsync(file)
        if not named:
            os.link(f"/proc/self/fd/{file}", draft, dst_dir_fd=folder, follow_symlinks=True)
            named = True
        # Once more: what took so long may have come in between.
        _check_replaceable(folder, name, task.path)
        os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
        named = False
        # Who may go through a folder but not list it cannot make the new name durable; the kernel does, soon.
        with contextlib.suppress(PermissionError):
            os.fsync(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder))
    finally:
        if named:
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=folder)


def _check_replaceable(folder: int, name: str, path: str) -> None:
    """Raises FileFailed where something stands that a file must not take the place of."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISLNK(found.st_mode):
        raise FileFailed(FILE_NOT_REGULAR.code, 0, path)


def _open_draft(folder: int, draft: str) -> tuple[int, bool]:
    """A new file in `folder`, and whether it has the name already."""
    if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):
        try:
            return os.open(f"/proc/self/fd/{folder}", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), False
        except OSError as problem:
            if problem.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
                raise
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(draft, flags, 0o600, dir_fd=folder), True


def _folder_of(path: str) -> tuple[int, str]:
    """The folder of `path`, open, and the name in it. Raises FileFailed where a link leads there."""
    above, _, name = path.rpartition("/")
    folder = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in above.split("/")[1:]:
        try:
            below = os.open(part, _SEARCH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except OSError as problem:
            if problem.errno not in (errno.ELOOP, errno.ENOTDIR) or not _is_link(part, folder):
                raise
            real = os.path.realpath(path)
            raise FileFailed(FILE_ELSEWHERE.code, 0, f"a link leads to {real}") from None
        os.close(folder)
        folder = below
    if not name or name in (".", ".."):
        raise FileFailed(FILE_NOT_REGULAR.code, 0, path)
    return folder, name


# To go through a folder one need not be allowed to list it.
_SEARCH = getattr(os, "O_PATH", os.O_RDONLY)


def _is_link(part: str, folder: int) -> bool:
    return stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode)


def _ids(task: PlaceTask) -> tuple[int, int]:
    owner = group = -1
    try:
        if task.owner is not None:
            owner = pwd.getpwnam(task.owner).pw_uid
        if task.group is not None:
            group = grp.getgrnam(task.group).gr_gid
    except KeyError as problem:
        raise FileFailed(FILE_OWNER_UNKNOWN.code, 0, str(problem)) from None
    return owner, group


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
