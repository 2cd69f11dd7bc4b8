"""What a child of the keeper does itself instead of executing a command: read one file, or place one. Values only.

Not here: doing it (`agentd.keeper.filework`). Rules: standard library only; a wrong field is SA-6001 with its name.
"""

from __future__ import annotations

from libstaragent.codes import COMMAND_SPEC
from libstaragent.jobs.shapes import is_object

__all__ = ("PlaceTask", "ReadTask", "Task", "task_of")

PATH_MAX = 4096
NAME_MAX = 256


class ReadTask:
    """Write the regular file at `path` to stdout, if it is at most `max_bytes` long."""

    __slots__ = ("max_bytes", "path")

    def __init__(self, path: str, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes


class PlaceTask:
    """Put what the draft of the job holds, `size` bytes with this SHA-256 (hex), at `path`: whole, or not at all."""

    __slots__ = ("group", "mode", "owner", "path", "sha256", "size")

    def __init__(
        self, path: str, *, size: int, sha256: str, mode: int | None, owner: str | None, group: str | None
    ) -> None:
        self.path = path
        self.size = size
        self.sha256 = sha256
        self.mode = mode
        self.owner = owner
        self.group = group


Task = ReadTask | PlaceTask


def task_of(value: object) -> Task | None:
    """The task as it came in a frame; None for none. SA-6001 names the first field that is wrong."""
    if value is None:
        return None
    if not is_object(value):
        raise COMMAND_SPEC.error("task must be an object")
    path = _text(value, "path", PATH_MAX)
    if not path.startswith("/"):
        raise COMMAND_SPEC.error("path is not absolute")
    if any(part in ("", ".", "..") for part in path[1:].split("/")):
        raise COMMAND_SPEC.error("path is not plain")
    if value.get("kind") == "read":
        return ReadTask(path, _whole(value, "max_bytes"))
    if value.get("kind") != "place":
        raise COMMAND_SPEC.error("task is neither read nor place")
    return PlaceTask(
        path,
        size=_whole(value, "size"),
        sha256=_text(value, "sha256", 64),
        mode=None if value.get("mode") is None else _whole(value, "mode"),
        owner=None if value.get("owner") is None else _text(value, "owner", NAME_MAX),
        group=None if value.get("group") is None else _text(value, "group", NAME_MAX),
    )


def _text(fields: dict[str, object], name: str, most: int) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value or "\0" in value or len(value.encode("utf-8", "replace")) > most:
        raise COMMAND_SPEC.error(f"{name} must be text of at most {most} bytes without NUL")
    return value


def _whole(fields: dict[str, object], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise COMMAND_SPEC.error(f"{name} must be a whole number")
    return value
