"""Forking a command that waits at a gate, and what the child does once the gate is open.

A small process forks for us (`forker`); where there is none, or a job is a task, we fork ourselves.

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
import marshal
import os
import pwd
import resource
import signal
from errno import EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR

from agentd.keeper import filework
from agentd.keeper.forker import REQUEST_MAX, Forker, ForkerGone, be_ordinary_to_oom, can_fork_for_parent
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
from libstaragent.roles.keeper_task import PlaceTask, Task

__all__ = ("COOKIE", "GatedChild", "Spawner", "code_of_step", "cookie_of")

# In the environment of every process of a job that did not clear it: how a leftover is recognised after a crash.
COOKIE = "OPSCONSOLE_KEEPER"
# What a command may read to know itself.
JOB_VARIABLE = "OPSCONSOLE_JOB"

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GATE_OPEN = b"1"
# What a child has to know: argv, environment, directory, home, umask, user, limits.
Birth = tuple[tuple[str, ...], dict[str, str], str | None, str, int, str | None, dict[str, int]]
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


def code_of_step(step: str, errno: int | None) -> str:
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

    def failure(self) -> tuple[str, int | None, str] | None:
        """(step, errno or None, detail) of a child that has ended without exec; None where exec succeeded."""
        if self.errors is None:
            return None
        try:
            report = os.read(self.errors, 4096)
        except BlockingIOError:
            # Who forked it still has its copy of the other end. What the child had to say is written before it ends.
            report = b""
        os.close(self.errors)
        self.errors = None
        if not report:
            return None
        step, errno, detail = report.decode("utf-8", "replace").split("\0", 2)
        return step, int(errno) or None, detail


def cookie_of(owner: str, job: str) -> str:
    """The value that marks a job's processes: its id is the same on all its hosts, and two may share a machine."""
    return f"{owner}/{job}"


class Spawner:
    """Forks commands. What is the same for each is looked up once: a child is slow at it, and our own user stays.

    Attributes:
        forker: the pid of the process that forks for us, None where there is none (now).
    """

    def __init__(self, *, owner: str, drafts: str, private: tuple[int, ...]) -> None:
        """`owner` tells this keeper's jobs from those of another on the machine; `drafts` is the folder of the files
        that are to be placed; `private` descriptors (lock, socket) are closed in a child at once. Make it after the
        signal handlers.
        """
        self._drafts = drafts
        self._owner = owner
        self._private = private
        self._changed = _changed_signals()
        self._forker: Forker | None = None
        self._may_forker = can_fork_for_parent()
        try:
            self._own = pwd.getpwuid(os.geteuid())
        except KeyError:
            self._own = None

    @property
    def forker(self) -> int | None:
        """See the class."""
        return None if self._forker is None else self._forker.pid

    def lost_forker(self) -> None:
        """It has ended and was reaped: the next command gets a new one."""
        if self._forker is not None:
            self._forker.close()
            self._forker = None

    def fork(self, job: str, spec: JobSpec) -> GatedChild:
        """Fork a child that waits at its gate; OSError where the kernel refuses."""
        if self._may_forker and spec.task is None:
            request = marshal.dumps(self._birth(job, spec))
            if len(request) <= REQUEST_MAX:
                try:
                    return self._fork(job, spec, request)
                except ForkerGone:
                    # What it may have forked finds its gate closed; a gate of its own is for the child that we fork.
                    self.close()
        return self._fork(job, spec, None)

    def _fork(self, job: str, spec: JobSpec, request: bytes | None) -> GatedChild:
        opened: list[int] = []

        def pipe() -> tuple[int, int]:
            ends = os.pipe()
            opened.extend(ends)
            return ends

        try:
            gate, gate_write = pipe()
            errors_read, errors = pipe()
            stdout_read, stdout = pipe()
            stderr_read, stderr = pipe()
            stdin = stdin_write = None
            if isinstance(spec.task, PlaceTask):
                stdin = os.open(os.path.join(self._drafts, job), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                opened.append(stdin)
            elif spec.stdin is not None:
                stdin, stdin_write = pipe()
            theirs = [gate, errors, stdout, stderr] if stdin is None else [gate, errors, stdout, stderr, stdin]
            if request is None:
                pid = self._fork_here(job, spec, theirs, [end for end in opened if end not in theirs])
            else:
                if self._forker is None:
                    self._forker = Forker(_born)
                pid = self._forker.fork(request, theirs)
        except BaseException:
            for descriptor in opened:
                os.close(descriptor)
            raise
        for descriptor in theirs:
            os.close(descriptor)
        for descriptor in (stdout_read, stderr_read, errors_read, stdin_write):
            if descriptor is not None:
                os.set_blocking(descriptor, False)
        return GatedChild(pid, gate_write, errors_read, stdin_write, stdout_read, stderr_read)

    def _birth(self, job: str, spec: JobSpec) -> Birth:
        cookie = {JOB_VARIABLE: job, COOKIE: cookie_of(self._owner, job)}
        environment = {"PATH": _DEFAULT_PATH, "LANG": "C.UTF-8"}
        if spec.user is None:
            environment |= _of_user(self._own)
        home = self._own.pw_dir if self._own is not None else "/"
        environment |= spec.env | cookie
        return spec.argv, environment, spec.cwd, home, spec.umask, spec.user, spec.limits

    def _fork_here(self, job: str, spec: JobSpec, theirs: list[int], ours: list[int]) -> int:
        birth = self._birth(job, spec)
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                for number in self._changed:
                    signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                for descriptor in (*ours, *self._private):
                    os.close(descriptor)
                be_ordinary_to_oom()
                _be(birth, theirs, None if spec.task is None else (spec.task, job))
            finally:
                os._exit(_EXIT_FAILED)
        return pid

    def close(self) -> None:
        """End the forker, if there is one."""
        if self._forker is not None:
            self._forker.end()
            self.lost_forker()


def _born(request: memoryview, descriptors: list[int]) -> None:
    """In a child of the forker."""
    _be(marshal.loads(request), descriptors, None)


def _be(birth: Birth, descriptors: list[int], task: tuple[Task, str] | None) -> None:
    """In the child: wait at the gate, then become the command. Never returns."""
    gate, errors, stdout, stderr, *stdin = descriptors
    step = "session"
    try:
        argv, environment, cwd, home, umask, user, limits = birth
        os.setsid()
        if os.read(gate, 1) != _GATE_OPEN:
            os._exit(_EXIT_UNRELEASED)
        entry = None
        if user is not None:
            step = "user"
            entry = pwd.getpwnam(user)
            home = entry.pw_dir
            environment = _of_user(entry) | environment
        if limits:
            step = "limits"
            _apply_limits(limits)
        if entry is not None:
            step = "switch"
            _become(entry, (stdout, stderr))
        step = "cwd"
        os.umask(umask)
        _enter(cwd, home)
        step = "exec"
        streams = [stdin[0] if stdin else os.open(os.devnull, os.O_RDONLY), stdout, stderr]
        if min(streams) < 3:
            # So that no dup2 overwrites one that is still to be moved.
            streams = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3) for descriptor in streams]
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        if task is not None:
            # No exec closes what is the keeper's and its other commands'.
            kept = os.dup2(errors, _ERRORS_OF_TASK, inheritable=False)
            os.closerange(3, kept)
            os.closerange(kept + 1, _highest_descriptor())
            errors = kept
            filework.do(task[0], task[1], umask)
            os._exit(0)
        _execute(argv, environment)
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


def _become(entry: pwd.struct_passwd, outputs: tuple[int, int]) -> None:
    if entry.pw_uid == os.geteuid() == os.getuid() and os.geteuid() != 0:
        return
    if os.geteuid() == 0:
        # A pipe belongs to who made it; without this the user could not open /dev/stdout.
        for descriptor in outputs:
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


def _of_user(entry: pwd.struct_passwd | None) -> dict[str, str]:
    if entry is None:
        return {}
    named = {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name}
    return named | {"SHELL": entry.pw_shell or "/bin/sh"}
