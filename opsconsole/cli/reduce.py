"""`--reduce`: what rooms make of the outputs, and commands of the operator's own over all of them.

A word is a reducer's name and is refused when there is none of that name; what has a blank or a character that only
shells know is a command for /bin/sh on this machine, and `--reduce-command` is one always. So no misspelt reducer is
ever run as a command.

Not here: reducing (`libstaragent.jobs.reduce`). Rules: what is not in a reduction is said on stderr, and the exit
status is then not 0; a command gets the stdout of hosts whose output is whole, each ended by a newline; what it prints
on a terminal passes the sanitiser, because hosts wrote what it was made of.
"""

from __future__ import annotations

__all__ = ("command_of", "reducer_of", "run_command", "show_reduced")

import base64
import subprocess
import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from libstaragent.client.job import Job, target_pages
from libstaragent.jobs.reduce import counts_state, parse_reducer
from libstaragent.model.api import OutputView
from libstaragent.model.gathered import ReducedView
from libstaragent.model.result import records
from opsconsole.cli.failure import narrate, usage
from opsconsole.cli.lines_json import json_line
from opsconsole.sanitize import Line, LineSanitizer, safe

if TYPE_CHECKING:
    from anyio.abc import ByteReceiveStream, Process

_SHELL_ONLY = frozenset(" \t\n|&;<>()$`\"'*?~#/{}")
_STDOUT = 1
# What is read of a command at once.
_READ = 64 * 1024


def reducer_of(options: Namespace) -> str:
    """The reducer that the rooms apply, or nothing.

    :raises UsageError: there is none of this name, or a command as well.
    """
    text: str | None = options.reduce
    if text is not None and options.reduce_command is not None:
        raise usage("--reduce and --reduce-command are two reductions: give one")
    if text is None or _is_command(text):
        return ""
    parse_reducer(text)
    return text


def command_of(options: Namespace) -> str | None:
    """The command that runs here over all outputs, or None."""
    text: str | None = options.reduce
    if options.reduce_command is not None:
        return options.reduce_command
    return text if text is not None and _is_command(text) else None


def _is_command(text: str) -> bool:
    return any(character in _SHELL_ONLY for character in text)


async def show_reduced(job: Job, *, as_json: bool) -> int:
    """Prints what the rooms have made of the outputs; 1 if that is not of all that was printed, else 0.

    :raises Conflict: NOT_REDUCED.
    """
    view = await job.reduced()
    sys.stdout.write(_json(view) if as_json else _plain(view))
    sys.stdout.flush()
    missing = _missing(view)
    for text in missing:
        narrate(f"reduced: {text}")
    return 1 if missing else 0


def _plain(view: ReducedView) -> str:
    if view.reducer == "count":
        return f"{view.lines}\n"
    if view.reducer == "sum":
        return f"{view.total}\n"
    if view.reducer == "sort-merge":
        return "".join(f"{_text(row.line)}\n" * row.count for row in view.rows)
    return "".join(f"{row.count:7} {_text(row.line)}\n" for row in view.rows)


def _json(view: ReducedView) -> str:
    rows = [{"count": row.count, **_json_text(row.line)} for row in view.rows]
    fields = {name: getattr(view, name) for name in view.__struct_fields__ if name != "rows"}
    return json_line("reduced", **fields, rows=rows)


def _json_text(line: bytes) -> dict[str, str]:
    try:
        return {"text": line.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(line).decode()}


def _text(line: bytes) -> str:
    return safe(line.decode("utf-8", "backslashreplace"))


def _missing(view: ReducedView) -> list[str]:
    """What is not in it, each as a sentence."""
    found: list[str] = []
    if view.open:
        found.append(f"{view.open} of {view.targets} targets have not ended")
    others = view.uncounted - view.cut_hosts
    if others > 0:
        found.append(f"{others} of {view.targets} targets ended without a result that counts")
    if view.cut_hosts:
        hosts, whose = ("host is", "its") if view.cut_hosts == 1 else ("hosts are", "their")
        found.append(f"{view.cut_hosts} {hosts} not counted: {view.cut_bytes} bytes of {whose} output were not kept")
    if view.left_out:
        found.append(f"{view.left_out} of {view.lines} lines are left out: too many different ones")
    if view.reducer == "sum" and view.numbers < view.lines:
        found.append(f"{view.lines - view.numbers} of {view.lines} lines are no numbers")
    return found


async def run_command(job: Job, command: str) -> int:
    """Runs `command` over the stdout of all hosts, in the order of their ids; 1 if it failed or something is missing.

    :raises StarAgentError: central refuses, or cannot be reached.
    """
    import anyio

    shown = subprocess.PIPE if sys.stdout.isatty() else None
    sys.stdout.flush()
    left_out: list[str] = []
    async with await anyio.open_process(
        ["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=shown, stderr=None
    ) as process:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_feed, job, process, left_out)
            if process.stdout is not None:
                await _show(process.stdout)
        status = await process.wait()
    if left_out:
        names = ", ".join(safe(name) for name in left_out[:8])
        more = f" and {len(left_out) - 8} more" if len(left_out) > 8 else ""
        narrate(f"reduced: not all of their output was kept, so it is not in it: {names}{more}")
    if status:
        narrate(f"reduced: the command ended with {f'signal {-status}' if status < 0 else f'exit status {status}'}")
    return 1 if status or left_out else 0


async def _feed(job: Job, process: Process, left_out: list[str]) -> None:
    import anyio

    assert process.stdin is not None
    try:
        async for page in target_pages(job, output=True):
            for target in page:
                if not counts_state(target.state) or not isinstance(target.output, OutputView):
                    continue
                if target.output.omitted:
                    left_out.append(target.host)
                    continue
                text = b"".join(
                    data
                    for part in (target.output.head, target.output.tail)
                    for stream, data in records(part)
                    if stream == _STDOUT
                )
                if text:
                    await process.stdin.send(text if text.endswith(b"\n") else text + b"\n")
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, BrokenPipeError):
        # It has read enough: `head` does so.
        pass
    finally:
        await process.stdin.aclose()


async def _show(stream: ByteReceiveStream) -> None:
    import anyio

    sanitizer = LineSanitizer(styled=False)
    while True:
        try:
            data = await stream.receive(_READ)
        except anyio.EndOfStream:
            break
        _write(sanitizer.feed(data))
    _write(sanitizer.flush())


def _write(lines: list[Line]) -> None:
    sys.stdout.write("".join(f"{line.text}\n" for line in lines))
    sys.stdout.flush()
