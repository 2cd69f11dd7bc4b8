"""Forking a command that waits at a gate, and what the child does once the gate is open.

The child gets a session of its own and blocks on a pipe. One byte lets it through; a pipe that closes makes it leave
without exec, so a keeper that dies has started nothing. Then it becomes the user, applies limits, umask and
directory, and execs. What fails on the way goes back on a pipe that exec closes: step, errno, detail.

A job with a task executes nothing: the child does it itself (`filework`), because the user that it has become may be
unable to read our program, and a fork is all it costs.

Not here: when the gate is opened (the core's business), and who may run what (the agent's).

Rules: between fork and exec nothing but system calls and the user database (no import: the user that it has become
may be unable to read our files); no descriptor but 0, 1 and 2 is inherited.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import resource
import signal
from errno import EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR

from agentd.keeper import filework
from agentd.keeper.processes import start_time_of
from libstaragent.codes import (
    COMMAND_MISSING,
    COMMAND_NOT_EXECUTABLE,
    RUN_AS_DENIED,
    RUN_AS_UNKNOWN,
    SPAWN_FAILED,
    WORKING_DIRECTORY,
)
from libstaragent.roles.keeper_spec import JobSpec
from libstaragent.roles.keeper_task import PlaceTask

__all__ = ("COOKIE", "GatedChild", "Spawner", "code_of_step", "cookie_of")

# In the environment of every process of a job that did not clear it: how a leftover is recognised after a crash.
COOKIE = "OPSCONSOLE_KEEPER"
# What a command may read to know itself.
JOB_VARIABLE = "OPSCONSOLE_JOB"

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GATE_OPEN = b"1"
# Seen by nobody but a curious `strace`: the error pipe carries what happened.
_EXIT_UNRELEASED = 125
_EXIT_FAILED = 127
_EXIT_TASK_FAILED = 1
# Where a task's child keeps the pipe of its errors: above its streams' copies, which are closed.
_ERRORS_OF_TASK = 64
# Python's own names for setrlimit(2), by the names that a spec uses.
_RESOURCES = {
    "address_space": resource.RLIMIT_AS,
    "core": resource.RLIMIT_CORE,
    "cpu": resource.RLIMIT_CPU,
    "file_size": resource.RLIMIT_FSIZE,
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "stack": resource.RLIMIT_STACK,
}


def code_of_step(step: str, errno: int) -> str:
    """The code of the catalogue for a failure at this step of the way to exec."""
    if step == "user":
        return RUN_AS_UNKNOWN.code
    if step == "switch":
        return RUN_AS_DENIED.code
    if step == "cwd":
        return WORKING_DIRECTORY.code
    if step == "exec" and errno in (ENOENT, ENOTDIR, ENAMETOOLONG, ELOOP):
        return COMMAND_MISSING.code
    if step == "exec" and errno == EACCES:
        return COMMAND_NOT_EXECUTABLE.code
    if step.startswith("SA-"):
        return step
    return SPAWN_FAILED.code


class GatedChild:
    """A forked child and our ends of its pipes: `gate`, `errors`, `stdin` (None: /dev/null), `stdout`, `stderr`."""

    __slots__ = ("errors", "gate", "pid", "start_time", "stderr", "stdin", "stdout")

    def __init__(self, pid: int, gate: int, errors: int, stdin: int | None, stdout: int, stderr: int) -> None:
        self.pid = pid
        self.start_time = start_time_of(pid)
        self.gate: int | None = gate
        self.errors: int | None = errors
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr

    def release(self) -> None:
        """Open the gate. A child that is dead already is noticed by its exit."""
        if self.gate is not None:
            try:
                os.write(self.gate, _GATE_OPEN)
            except BrokenPipeError:
                pass
            self.abort()

    def abort(self) -> None:
        """Close the gate."""
        if self.gate is not None:
            os.close(self.gate)
            self.gate = None

    def failure(self) -> tuple[str, int, str] | None:
        """(step, errno, detail) of a child that has ended without exec; None where exec succeeded."""
        if self.errors is None:
            return None
        report = os.read(self.errors, 4096)
        os.close(self.errors)
        self.errors = None
        if not report:
            return None
        step, errno, detail = report.decode("utf-8", "replace").split("\0", 2)
        return step, int(errno), detail


def cookie_of(owner: str, job: str) -> str:
    """The value that marks a job's processes: its id is the same on all its hosts, and two may share a machine."""
    return f"{owner}/{job}"


class Spawner:
    """Forks commands. What is the same for each is looked up once: a child is slow at it, and our own user stays."""

    def __init__(self, *, owner: str, drafts: str, private: tuple[int, ...]) -> None:
        """`owner` tells this keeper's jobs from those of another on the machine; `drafts` is the folder of the files
        that are to be placed; `private` descriptors (lock, socket) are closed in a child at once. Make it after the
        signal handlers.
        """
        self._drafts = drafts
        self._owner = owner
        self._private = private
        self._changed = _changed_signals()
        try:
            self._own = pwd.getpwuid(os.geteuid())
        except KeyError:
            self._own = None

    def fork(self, job: str, spec: JobSpec) -> GatedChild:
        """Fork a child that waits at its gate; OSError where the kernel refuses."""
        return _fork(self._owner, self._drafts, job, spec, self._own, self._changed, self._private)


def _fork(
    owner: str,
    drafts: str,
    job: str,
    spec: JobSpec,
    own: pwd.struct_passwd | None,
    changed: list[int],
    private: tuple[int, ...],
) -> GatedChild:
    opened: list[int] = []

    def pipe() -> tuple[int, int]:
        ends = os.pipe()
        opened.extend(ends)
        return ends

    try:
        gate_read, gate_write = pipe()
        errors_read, errors_write = pipe()
        stdout_read, stdout_write = pipe()
        stderr_read, stderr_write = pipe()
        stdin_write: int | None = None
        if isinstance(spec.task, PlaceTask):
            stdin_read = os.open(os.path.join(drafts, job), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            opened.append(stdin_read)
        elif spec.stdin is None:
            stdin_read = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            opened.append(stdin_read)
        else:
            stdin_read, stdin_write = pipe()
        pid = os.fork()
    except BaseException:
        for descriptor in opened:
            os.close(descriptor)
        raise
    if pid == 0:
        ours = [gate_write, errors_read, stdout_read, stderr_read, *private]
        if stdin_write is not None:
            ours.append(stdin_write)
        _child(owner, job, spec, own, changed, gate_read, errors_write, (stdin_read, stdout_write, stderr_write), ours)
    for descriptor in (gate_read, errors_write, stdin_read, stdout_write, stderr_write):
        os.close(descriptor)
    for descriptor in (stdout_read, stderr_read, errors_read, stdin_write):
        if descriptor is not None:
            os.set_blocking(descriptor, False)
    return GatedChild(pid, gate_write, errors_read, stdin_write, stdout_read, stderr_read)


def _child(
    owner: str,
    job: str,
    spec: JobSpec,
    own: pwd.struct_passwd | None,
    changed: list[int],
    gate: int,
    errors: int,
    streams: tuple[int, int, int],
    ours: list[int],
) -> None:
    step = "session"
    try:
        signal.set_wakeup_fd(-1)
        for number in changed:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for descriptor in ours:
            os.close(descriptor)
        os.setsid()
        _be_ordinary_to_oom()
        if os.read(gate, 1) != _GATE_OPEN:
            os._exit(_EXIT_UNRELEASED)
        step = "user"
        entry = own if spec.user is None else pwd.getpwnam(spec.user)
        step = "limits"
        _apply_limits(spec.limits)
        step = "switch"
        if spec.user is not None:
            _become(entry, streams)
        step = "cwd"
        home = entry.pw_dir if entry is not None else "/"
        os.umask(spec.umask)
        _enter(spec.cwd, home)
        step = "exec"
        for number, descriptor in enumerate(_above(streams)):
            os.dup2(descriptor, number, inheritable=True)
        if spec.task is not None:
            # No exec closes what is the keeper's and its other commands'.
            kept = os.dup2(errors, _ERRORS_OF_TASK, inheritable=False)
            os.closerange(3, kept)
            os.closerange(kept + 1, _highest_descriptor())
            errors = kept
            filework.do(spec.task, job, spec.umask)
            os._exit(0)
        _execute(spec.argv, _environment(owner, job, spec, entry))
    except filework.FileFailed as problem:
        _report(errors, problem.code, problem.errno, problem.detail)
        os._exit(_EXIT_TASK_FAILED)
    except KeyError as problem:
        _report(errors, step, 0, str(problem))
    except OSError as problem:
        _report(errors, step, problem.errno or 0, problem.strerror or str(problem))
    except (
        BaseException
    ) as problem:  # whatever it is, the child must neither return into the keeper's loop nor be silent
        _report(errors, step, 0, repr(problem))
    finally:
        os._exit(_EXIT_FAILED)


def _report(errors: int, step: str, errno: int, detail: str) -> None:
    os.write(errors, f"{step}\0{errno}\0{detail[:500]}".encode("utf-8", "replace"))


def _be_ordinary_to_oom() -> None:
    """A service manager may have told the kernel to spare the agent; that was not meant for what it runs."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/oom_score_adj", "r+b", buffering=0) as file:
        if int(file.read()) < 0:
            file.write(b"0")


def _highest_descriptor() -> int:
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1 << 16)


def _changed_signals() -> list[int]:
    """The signals that are not at their default here: ours, Python's, and what we were started with."""
    changed: list[int] = []
    for number in range(1, signal.NSIG):
        # What cannot be asked about (the C library's own) is not ours to reset either.
        with contextlib.suppress(ValueError):
            if signal.getsignal(number) not in (signal.SIG_DFL, None):
                changed.append(number)
    return changed


def _become(entry: pwd.struct_passwd | None, streams: tuple[int, int, int]) -> None:
    if entry is None or (entry.pw_uid == os.geteuid() == os.getuid() and os.geteuid() != 0):
        return
    if os.geteuid() == 0:
        # A pipe belongs to who made it; without this the user could not open /dev/stdout.
        for descriptor in streams[1:]:
            os.fchown(descriptor, entry.pw_uid, entry.pw_gid)
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def _apply_limits(limits: dict[str, int]) -> None:
    for name, amount in limits.items():
        kind = _RESOURCES.get(name)
        if kind is None:
            continue
        hard = resource.getrlimit(kind)[1]
        wanted = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(kind, (wanted, wanted))


def _enter(cwd: str | None, home: str) -> None:
    if cwd is not None:
        os.chdir(cwd)
        return
    try:
        os.chdir(home)
    except OSError:
        os.chdir("/")


def _above(streams: tuple[int, int, int]) -> list[int]:
    """The same streams on descriptors above 2, so that no dup2 overwrites one that is still to be moved."""
    return [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3) for descriptor in streams]


def _execute(argv: tuple[str, ...], environment: dict[str, str]) -> None:
    """Exec by the command's own PATH, as execvp(3) does; the error is of the best candidate."""
    if "/" in argv[0]:
        os.execve(argv[0], argv, environment)
    missing = OSError(ENOENT, os.strerror(ENOENT))
    for directory in environment["PATH"].split(":"):
        try:
            os.execve(os.path.join(directory or ".", argv[0]), argv, environment)
        except OSError as problem:
            if problem.errno not in (ENOENT, ENOTDIR, EACCES):
                raise
            if problem.errno == EACCES:
                missing = problem
    raise missing


def _environment(owner: str, job: str, spec: JobSpec, entry: pwd.struct_passwd | None) -> dict[str, str]:
    environment = {"PATH": _DEFAULT_PATH, "LANG": "C.UTF-8"}
    if entry is not None:
        environment |= {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name}
        environment["SHELL"] = entry.pw_shell or "/bin/sh"
    return environment | spec.env | {JOB_VARIABLE: job, COOKIE: cookie_of(owner, job)}
