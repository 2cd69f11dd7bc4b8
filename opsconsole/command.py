"""The grammar of ``:``: what one types to go somewhere or do something, with completion and history.

    :verb argument...           :jobs    :run web[01-20] -- uptime    :theme star-light    :q

It is not a shell: only the verbs of `opsconsole.actions` exist, and the one that runs a command on hosts says so
(`run`, `shell`). What the argument means is the action's business; `split_run` reads the one that has a grammar of
its own.

Rules: pure; the verbs come as an argument, so that this file and the action table need not know each other.
"""

from __future__ import annotations

__all__ = (
    "HISTORY",
    "Command",
    "History",
    "RunRequest",
    "complete",
    "parse_command",
    "read_argv",
    "request",
    "split_run",
    "written_targets",
)

import difflib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from libstaragent.codes import COMMAND_SYNTAX, RUN_SYNTAX

# Lines of history that are kept: a day of one operator's commands.
HISTORY = 200


# What the command line has and the console has not: here the nearest word by its letters would be another thing.
OF_THE_SHELL = ("audit", "fetch", "login", "operator", "policy", "put", "schedule", "sign", "token", "up")


@dataclass(frozen=True, slots=True)
class Command:
    """A verb as the table has it, and the rest of the line."""

    verb: str
    argument: str = ""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What `run` and `shell` start: a target expression and an argument vector (of one string, for a shell)."""

    targets: str
    argv: tuple[str, ...]
    shell: bool


def parse_command(line: str, verbs: Iterable[str]) -> Command | None:
    """Read what was typed after ``:``; None for an empty line.

    Raises:
        UsageError: SA-1023, no such verb; the detail names the nearest.
    """
    verb, _, argument = line.strip().partition(" ")
    if not verb:
        return None
    known = sorted(verbs)
    if verb in OF_THE_SHELL and verb not in known:
        raise COMMAND_SYNTAX.error(f"{verb} is not done in the console; in a shell: opsconsole {verb}")
    if verb not in known:
        near = difflib.get_close_matches(verb, known, n=1)
        raise COMMAND_SYNTAX.error(f"{verb}" + (f"; the nearest is :{near[0]}" if near else ""))
    return Command(verb, argument.strip())


def complete(line: str, candidates: Mapping[str, Sequence[str]]) -> list[str]:
    """The whole lines that `line` may become: its verb completed, or the last word of its argument.

    Args:
        line: what has been typed after ``:``.
        candidates: each verb, and the words its argument may have.
    """
    verb, space, argument = line.lstrip().partition(" ")
    if not space:
        return [name + (" " if candidates[name] else "") for name in sorted(candidates) if name.startswith(verb)]
    head, gap, word = argument.rpartition(" ")
    return [f"{verb} {head}{gap}{choice}" for choice in candidates.get(verb, ()) if choice.startswith(word)]


def read_argv(text: str) -> tuple[str, ...]:
    """Split a command into its argument vector the way a POSIX shell splits words, expanding nothing.

    Raises:
        UsageError: SA-1024, a quote is open or nothing is there.
    """
    try:
        argv = tuple(shlex.split(text))
    except ValueError as error:
        raise RUN_SYNTAX.error(str(error).lower()) from None
    if not argv:
        raise RUN_SYNTAX.error("there is no command")
    return argv


def split_run(argument: str, *, shell: bool) -> RunRequest:
    """Read ``TARGETS -- COMMAND``.

    Raises:
        UsageError: SA-1024.
    """
    targets, mark, command = argument.partition(" -- ")
    if not mark or not targets.strip():
        raise RUN_SYNTAX.error("write TARGETS -- COMMAND")
    return request(targets, command, shell=shell)


def request(targets: str, command: str, *, shell: bool) -> RunRequest:
    """The request for targets and a command typed apart; raises SA-1024 where either is missing or cannot be read."""
    if not targets.strip():
        raise RUN_SYNTAX.error("there are no targets")
    if not shell:
        return RunRequest(targets.strip(), read_argv(command), False)
    if not command.strip():
        raise RUN_SYNTAX.error("there is no command")
    return RunRequest(targets.strip(), (command.strip(),), True)


class History:
    """Lines typed before, walked with up and down; what was being typed waits at the end."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._at = 0
        self._draft = ""

    def add(self, line: str) -> None:
        """Remember a line; the same one again moves to the end."""
        if line.strip():
            self._lines = [*(known for known in self._lines if known != line), line][-HISTORY:]
        self._at = len(self._lines)
        self._draft = ""

    def older(self, current: str) -> str:
        if self._at == len(self._lines):
            self._draft = current
        self._at = max(0, self._at - 1)
        return self._lines[self._at] if self._lines else current

    def newer(self, current: str) -> str:
        if self._at >= len(self._lines):
            return current
        self._at += 1
        return self._draft if self._at == len(self._lines) else self._lines[self._at]


# A name that can stand in a target expression without meaning anything else there.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def written_targets(names: Sequence[str]) -> tuple[str, int]:
    """Host names as a target expression, folded (web[01-20]), and how many cannot stand in one and were left out."""
    # Imported here: it costs 60 ms, and the console paints before anybody runs anything.
    from ClusterShell.NodeSet import NodeSet

    plain = [name for name in names if _PLAIN_NAME.fullmatch(name)]
    return str(NodeSet.fromlist(plain)) if plain else "", len(names) - len(plain)
