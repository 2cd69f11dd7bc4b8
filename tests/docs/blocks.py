"""What a document asks its reader to type: the fenced blocks, the commands in them, and what they are said to print.

A block of ```console has lines that begin with `$ ` (a trailing backslash goes on) and, below each, lines that its
output must contain, in any order; `…` stands for anything, `JOB` for the job that was started last. A comment
`# exit status N` says how a command ends, 0 if there is none. A block of ```python is a program. Other blocks (```text,
```toml, ```ini) are not run; the document says so where it matters.

Not here: running them (`reader`). Rules: pure.
"""

from __future__ import annotations

__all__ = ("Block", "Command", "blocks_of", "commands_of", "says")

import re
from typing import NamedTuple

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STATUS = re.compile(r"#.*\bexit status (\d+)")


class Block(NamedTuple):
    """One fenced block: `line` is where its text begins."""

    language: str
    text: str
    line: int


class Command(NamedTuple):
    """One command, the exit status it is said to have, and lines of what it is said to print."""

    text: str
    status: int
    output: tuple[str, ...]


def blocks_of(document: str) -> list[Block]:
    """Every fenced block that names a language, in order."""
    return [
        Block(found[1], found[2], document.count("\n", 0, found.start(2)) + 1) for found in _FENCE.finditer(document)
    ]


def commands_of(block: Block) -> list[Command]:
    """The commands of a console block."""
    found: list[tuple[list[str], list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
        elif not found:
            raise ValueError(f"line {block.line}: output before any command: {line}")
        elif not found[-1][1] and found[-1][0][-1].endswith("\\"):
            found[-1][0].append(line)
        else:
            found[-1][1].append(line)
    return [Command("\n".join(typed), _status("\n".join(typed)), tuple(shown)) for typed, shown in found]


def says(output: str, shown: str) -> bool:
    """Whether a line of `output` is what the document shows; any run of spaces is one."""
    pattern = ".*".join(r"\s+".join(map(re.escape, piece.split())) for piece in shown.split("…"))
    return re.search(pattern, output, re.MULTILINE) is not None


def _status(text: str) -> int:
    found = _STATUS.search(text)
    return int(found[1]) if found else 0
