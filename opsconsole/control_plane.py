"""The control plane as processes of this machine: `agentd init`, `agentd all`, its ready line and its end.

Not here: keys (`founding`). The console knows `agentd` by its command line only. Rules: a child is in a session of its
own, so that Ctrl-C reaches it through us and in order; its log goes to a file; if it will not start, its own coded
error is raised here.
"""

from __future__ import annotations

__all__ = ("Ready", "end", "initialise", "last_words", "log_file", "log_size", "running_here", "start")

import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from libstaragent import codes
from libstaragent.errors import StarAgentError

# Making a CA and opening a store takes a second; a loaded machine some more.
READY_SECONDS = 60.0
# Of a log that says why it would not start.
LAST_WORDS = 4096

_CODED = re.compile(r"^agentd: (SA-[0-9A-C][0-9]{3}) (.*)$", re.MULTILINE)


class Ready(msgspec.Struct, frozen=True):
    """What `agentd all` says when it serves; kept in the state directory while it does."""

    api: str
    room: str
    pid: int


class _Prepared(msgspec.Struct, frozen=True):
    ca_sha256: str


def log_file(state: Path) -> Path:
    """Where the control plane writes its log."""
    return state / "agentd.log"


def initialise(state: Path, *, advertise: tuple[str, ...], fleet: str) -> bytes:
    """Makes the state directory and the CA, or looks after them; SHA-256 of the CA's certificate.

    :raises StarAgentError: it could not be done.
    """
    command = [sys.executable, "-m", "agentd", "init", "--state", str(state), "--fleet", fleet]
    if advertise:
        command += ["--advertise", ",".join(advertise)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise _failure(done.stderr.decode("utf-8", "replace"))
    return bytes.fromhex(msgspec.json.decode(done.stdout, type=_Prepared).ca_sha256)


def start(state: Path, *, listen: str, room_listen: str) -> tuple[subprocess.Popen[bytes], Ready]:
    """Starts the control plane and waits until it serves.

    :raises StarAgentError: it does not; STATE_IN_USE if one runs on `state` already.
    """
    log = log_file(state)
    before = log_size(state)
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as errors:
        child = subprocess.Popen(
            [
                *(sys.executable, "-m", "agentd", "all", "--state", str(state)),
                *("--listen-api", listen, "--listen-room", room_listen),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        line = _ready_line(child)
        ready = msgspec.json.decode(line, type=Ready)
    except (msgspec.MsgspecError, TimeoutError) as error:
        end(child)
        raise _failure(last_words(state, since=before)) from error
    except BaseException:
        end(child)
        raise
    (state / "ready.json").write_bytes(msgspec.json.encode(ready))
    return child, ready


def running_here(state: Path) -> Ready | None:
    """What the control plane that runs on `state` said when it started."""
    try:
        return msgspec.json.decode((state / "ready.json").read_bytes(), type=Ready)
    except (OSError, msgspec.MsgspecError):
        return None


def end(child: subprocess.Popen[bytes]) -> int:
    """Asks it to stop, waits until it has, and gives its exit status."""
    if child.poll() is None:
        child.terminate()
    status = child.wait()
    if child.stdout is not None:
        child.stdout.close()
    return status


def log_size(state: Path) -> int:
    """Bytes of the log that were written until now."""
    try:
        return log_file(state).stat().st_size
    except OSError:
        return 0


def last_words(state: Path, *, since: int = 0) -> str:
    """The end of the log, at most what was written after `since` bytes of it."""
    try:
        with log_file(state).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since, size - LAST_WORDS))
            return file.read(LAST_WORDS).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _ready_line(child: subprocess.Popen[bytes]) -> bytes:
    assert child.stdout is not None
    descriptor = child.stdout.fileno()
    deadline = time.monotonic() + READY_SECONDS
    line = b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            raise TimeoutError
        piece = os.read(descriptor, 4096)
        if not piece:
            break
        line += piece
    return line


def _failure(said: str) -> StarAgentError:
    """The coded error in what agentd said, or all of it under a code of ours."""
    found = _CODED.findall(said)
    code = codes.by_code(found[-1][0]) if found else None
    if code is None:
        lines = said.strip().splitlines()
        return codes.CONTROL_PLANE_FAILED.error(" / ".join(lines[-3:]) or "it said nothing")
    return code.error(found[-1][1].removeprefix(code.sentence).removeprefix(": "))
