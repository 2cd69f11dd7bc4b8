"""A small process that forks commands for the keeper, so that the keeper itself never forks one.

A fork write-protects all memory of who forks; each page that it writes afterwards is copied or given back by a fault.
A keeper writes some three hundred pages a command, which was most of its CPU (docs/decisions/0014). This process writes
some thirty. It asks the kernel to make its children the keeper's (CLONE_PARENT): the keeper waits for them, is told
of their end, and reads their raw status, as if it had forked them.

It is forked from the keeper at the first command, keeps nothing open but its socket, and ends when that closes or no
command came for a while. It gets the child's ends of the pipes with each request and closes them at once, so a gate
closes with the keeper.

Not here: what a child does (`spawn`). Rules: whoever cannot use it forks by itself; a request that got no answer
started nothing, because its child's gate is closed by who asked.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import struct
import sys
from errno import EMFILE, EPIPE, ETIMEDOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("REQUEST_MAX", "Forker", "ForkerGone", "be_ordinary_to_oom", "can_fork_for_parent")

# More in argv and environment than this is forked by the keeper itself: under a socket's usual buffer (208 KiB).
REQUEST_MAX = 64 * 1024
# Descriptors that come with a request: gate, errors, stdout, stderr, and stdin where it is not /dev/null.
DESCRIPTORS_MAX = 5
# Seconds: a fork takes a fraction of a millisecond; a machine that is out of memory takes its time.
ANSWER_WITHIN = 10.0

# Of a child that failed before it could say so: never 0, which is a command's success.
_EXIT_NOT_BEGUN = 127
# Seconds without a command after which it ends: its 3 MB are worth more to an idle host than the millisecond that the
# next one takes.
IDLE_SECONDS = 10

_CLONE_PARENT = 0x8000
_PR_SET_NAME = 15
_NAME = b"agentd-forker"
_ANSWER = struct.Struct("=q")
_DESCRIPTOR = struct.Struct("=i")
# The number of clone(2), and that its first argument is the flags, differ by machine.
_CLONE = {"x86_64": 56, "aarch64": 220}


class ForkerGone(OSError):
    """It did not answer: nothing was started."""


def can_fork_for_parent() -> bool:
    """Whether this system is one where the fork is known to work."""
    return sys.platform == "linux" and sys.maxsize > 2**32 and os.uname().machine in _CLONE


class Forker:
    """The keeper's end. `be` is called in each child with the request's bytes and descriptors, and never returns."""

    def __init__(self, be: Callable[[memoryview, list[int]], None]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            _serve(theirs.fileno(), be)
        theirs.close()
        self._socket.settimeout(ANSWER_WITHIN)

    def fork(self, request: bytes, descriptors: list[int]) -> int:
        """The pid of a new child of ours. Raises `ForkerGone`, or the OSError with which the kernel refused."""
        rights = b"".join(map(_DESCRIPTOR.pack, descriptors))
        try:
            self._socket.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            answer = self._socket.recv(_ANSWER.size)
        except TimeoutError as problem:
            raise ForkerGone(ETIMEDOUT, os.strerror(ETIMEDOUT)) from problem
        except OSError as problem:
            raise ForkerGone(problem.errno or EPIPE, problem.strerror or "") from problem
        if len(answer) != _ANSWER.size:
            raise ForkerGone(EPIPE, os.strerror(EPIPE))
        pid = _ANSWER.unpack(answer)[0]
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def end(self) -> None:
        """End it, that has not been reaped yet; whoever reaps the keeper's children does that."""
        os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of it; it ends if it has not."""
        self._socket.close()


def _serve(descriptor: int, be: Callable[[memoryview, list[int]], None]) -> None:
    """In the new process: fork at each request until the socket closes. Never returns."""
    try:
        _become_small(descriptor)
        with contextlib.suppress(BlockingIOError):
            _fork_on_request(socket.socket(fileno=descriptor), be)
    finally:
        os._exit(0)


def _become_small(keep: int) -> None:
    signal.set_wakeup_fd(-1)
    for number in range(1, signal.NSIG):
        # What cannot be asked about (the C library's own) is not ours to reset either.
        with contextlib.suppress(ValueError, OSError):
            if signal.getsignal(number) not in (signal.SIG_DFL, None):
                signal.signal(number, signal.SIG_DFL)
    # A key pressed in the keeper's terminal is the keeper's matter.
    os.setsid()
    be_ordinary_to_oom()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.closerange(3, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
    # A collection would write every object's page.
    gc.disable()


def be_ordinary_to_oom() -> None:
    """A service manager may have told the kernel to spare the agent; that was not meant for what it runs."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/oom_score_adj", "r+b", buffering=0) as file:
        if int(file.read()) < 0:
            file.write(b"0")


def _fork_on_request(keeper: socket.socket, be: Callable[[memoryview, list[int]], None]) -> None:
    import ctypes

    # The variant that keeps the interpreter's lock: the child goes on in this very state.
    libc = ctypes.PyDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NAME, _NAME, 0, 0, 0)
    syscall = libc.syscall
    syscall.restype = ctypes.c_long
    zero = ctypes.c_long(0)
    arguments = (ctypes.c_long(_CLONE[os.uname().machine]), ctypes.c_long(_CLONE_PARENT | signal.SIGCHLD))
    buffer = bytearray(REQUEST_MAX)
    view = memoryview(buffer)
    room = socket.CMSG_SPACE(DESCRIPTORS_MAX * _DESCRIPTOR.size)
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", IDLE_SECONDS, 0))
    while True:
        length, ancillary, flags, _ = keeper.recvmsg_into([buffer], room, socket.MSG_CMSG_CLOEXEC)
        if not length:
            return
        descriptors = [number for _, _, data in ancillary for (number,) in _DESCRIPTOR.iter_unpack(data)]
        # Without one of its descriptors a command would be another than the one that was ordered.
        whole = not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        pid = syscall(*arguments, zero, zero, zero, zero) if whole else -1
        if pid == 0:
            try:
                os.close(keeper.fileno())
                be(view[:length], descriptors)
            finally:
                os._exit(_EXIT_NOT_BEGUN)
        answer = _ANSWER.pack(pid if pid > 0 else -(ctypes.get_errno() if whole else EMFILE))
        # First, so that the end of a child is the end of its pipes, too.
        for number in descriptors:
            os.close(number)
        keeper.send(answer)
