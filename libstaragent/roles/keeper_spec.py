"""What a command is to be started with, read from an agent's `spawn` and checked field by field.

Not here: whether it may run at all. The agent has verified envelope, policy and veto before it asks; the keeper
obeys, and only refuses what cannot be carried out.

Rules: frozen in use; a wrong field is SA-6001 with its name; unknown fields are refused, so that a newer agent's wish
is never silently dropped.
"""

from __future__ import annotations

import json
from binascii import Error as Base64Error
from binascii import a2b_base64

from libstaragent.codes import COMMAND_SPEC
from libstaragent.jobs.digest import sha256
from libstaragent.jobs.shapes import is_array, is_object
from libstaragent.jobs.spool import OUTPUT_MAX
from libstaragent.roles.keeper_task import Task, task_of

__all__ = ("JOB_ID_LENGTH", "LIMITS", "STDIN_MAX", "JobSpec", "is_job_id")

JOB_ID_LENGTH = 26
_ULID_ALPHABET = frozenset("0123456789ABCDEFGHJKMNPQRSTVWXYZ")

# What an envelope may carry inline; it also fits a pipe's buffer, so a command that never reads it blocks nobody.
STDIN_MAX = 64 * 1024
OUTPUT_HEAD = 64 * 1024
OUTPUT_TAIL = 128 * 1024
# What a host keeps of one command's output, and of one file that is fetched, with room for the blocks' own heads.
SPOOL_MAX = 66 * 1024 * 1024
OWNER_MAX = 256
# A year: longer than any command, and small enough that no clock overflows.
TIMEOUT_MAX_MS = 366 * 86_400_000
KILL_GRACE_MS = 5_000
KILL_GRACE_MAX_MS = 3_600_000

# The resource limits that a spec may set, named as `ulimit` and setrlimit(2) name them; `memory` is the cgroup's.
LIMITS = ("address_space", "core", "cpu", "file_size", "memory", "nofile", "nproc", "stack")

_FIELDS = frozenset(
    {"argv", "cwd", "env", "kill_grace_ms", "limits", "output_head", "output_spool", "output_tail", "owner"}
    | {"stdin_b64", "task", "timeout_ms", "umask", "user"}
)


def is_job_id(value: object) -> bool:
    """Whether it is a ULID in canonical form: it becomes a file name, so nothing else may pass."""
    return isinstance(value, str) and len(value) == JOB_ID_LENGTH and _ULID_ALPHABET.issuperset(value)


def _integer(spec: dict[str, object], name: str, default: int, least: int, most: int) -> int:
    value = spec.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise COMMAND_SPEC.error(f"{name} must be a whole number from {least} to {most}")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise COMMAND_SPEC.error(f"{name} must be text without NUL")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise COMMAND_SPEC.error(f"{name} holds text that is no file-system string") from None
    return value


def _optional_text(spec: dict[str, object], name: str) -> str | None:
    value = spec.get(name)
    return None if value is None else _text(value, name)


def _argv(value: object) -> tuple[str, ...]:
    if not is_array(value) or not value:
        raise COMMAND_SPEC.error("argv must be a list of at least one text")
    argv = tuple(_text(item, "argv") for item in value)
    if not argv[0]:
        raise COMMAND_SPEC.error("argv names no command")
    return argv


def _env(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not is_object(value):
        raise COMMAND_SPEC.error("env must be an object of texts")
    env = {_text(name, "env"): _text(setting, "env") for name, setting in value.items()}
    if any(not name or "=" in name for name in env):
        raise COMMAND_SPEC.error("env has a name that is empty or holds '='")
    return env


def _limits(value: object) -> dict[str, int]:
    if value is None:
        return {}
    if not is_object(value):
        raise COMMAND_SPEC.error("limits must be an object of numbers")
    limits: dict[str, int] = {}
    for name, amount in value.items():
        if name not in LIMITS or not isinstance(amount, int) or isinstance(amount, bool) or not 0 <= amount < 2**62:
            raise COMMAND_SPEC.error(f"limits may hold whole numbers for {', '.join(LIMITS)}")
        limits[name] = amount
    return limits


def _stdin(value: object) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise COMMAND_SPEC.error("stdin_b64 must be base64")
    try:
        data = a2b_base64(value.encode("ascii"), strict_mode=True) if value else b""
    except (Base64Error, ValueError):
        raise COMMAND_SPEC.error("stdin_b64 must be base64") from None
    if len(data) > STDIN_MAX:
        raise COMMAND_SPEC.error(f"stdin is {len(data)} bytes, {STDIN_MAX} allowed")
    return data


class JobSpec:
    """One command: what to run, as whom, where, with which limits, and for how long (seconds). With a `task` nothing is
    executed: the child does that itself. `owner` is who ordered it, for who asks for its spool later.
    """

    __slots__ = (
        "argv",
        "cwd",
        "digest",
        "env",
        "kill_grace",
        "limits",
        "output_head",
        "output_spool",
        "output_tail",
        "owner",
        "stdin",
        "task",
        "timeout",
        "umask",
        "user",
    )

    def __init__(self, spec: object) -> None:
        """Read a spec as it came in a frame; SA-6001 names the first field that is wrong."""
        if not is_object(spec):
            raise COMMAND_SPEC.error("spec must be an object")
        fields = spec
        unknown = sorted(name for name in fields if name not in _FIELDS)
        if unknown:
            raise COMMAND_SPEC.error(f"unknown field {unknown[0]}")
        if fields.get("timeout_ms") is None:
            raise COMMAND_SPEC.error("timeout_ms is required: every job has an end")
        self.argv = _argv(fields.get("argv"))
        self.env = _env(fields.get("env"))
        self.cwd = _optional_text(fields, "cwd")
        self.user = _optional_text(fields, "user")
        self.umask = _integer(fields, "umask", 0o022, 0, 0o777)
        self.stdin = _stdin(fields.get("stdin_b64"))
        self.timeout = _integer(fields, "timeout_ms", 0, 1, TIMEOUT_MAX_MS) / 1000
        self.kill_grace = _integer(fields, "kill_grace_ms", KILL_GRACE_MS, 0, KILL_GRACE_MAX_MS) / 1000
        self.output_head = _integer(fields, "output_head", OUTPUT_HEAD, 0, OUTPUT_MAX)
        self.output_tail = _integer(fields, "output_tail", OUTPUT_TAIL, 0, OUTPUT_MAX)
        if self.output_head + self.output_tail > OUTPUT_MAX:
            raise COMMAND_SPEC.error(f"output_head and output_tail together may be {OUTPUT_MAX} bytes")
        self.output_spool = _integer(fields, "output_spool", 0, 0, SPOOL_MAX)
        self.owner = _text(fields.get("owner", ""), "owner")
        if len(self.owner) > OWNER_MAX:
            raise COMMAND_SPEC.error(f"owner may be {OWNER_MAX} characters")
        self.task: Task | None = task_of(fields.get("task"))
        self.limits = _limits(fields.get("limits"))
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")
        self.digest = sha256(canonical).hexdigest()
