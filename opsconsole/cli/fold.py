"""`--fold` and `--diff`: the outputs of many hosts as few groups.

    === web[01-20] (20 hosts) ok
    the text that all of them printed

Not here: what a group is (`libstaragent.jobs.folding`). Rules: every line of a host passes the sanitiser; what was cut
or not compared is said where it stands.
"""

from __future__ import annotations

__all__ = ("FOLDS", "show_folded", "wants_folding")

import sys
from argparse import Namespace
from collections.abc import Sequence

from libstaragent.client.job import Job
from libstaragent.jobs.folding import Group, GroupDiff, text_lines
from opsconsole.cli.lines_json import json_line
from opsconsole.sanitize import safe

FOLDS = ("identical", "similar")


def wants_folding(options: Namespace) -> bool:
    """Whether outputs are to be shown in groups."""
    return options.fold is not None or options.diff


async def show_folded(job: Job, options: Namespace) -> None:
    """Prints the groups of the job's ended targets.

    :raises StarAgentError: central refuses, or cannot be reached.
    """
    groups = await job.fold(similar=options.fold == "similar")
    write = sys.stdout.write
    if options.diff:
        from libstaragent.client.folded import compared

        differences = await compared(groups)
        for group in groups[:1]:
            write(_json(job.id, group) if options.json else _plain(group))
        for difference in differences:
            write(_json_diff(job.id, difference) if options.json else _plain_diff(difference))
    else:
        for group in groups:
            write(_json(job.id, group) if options.json else _plain(group))
    sys.stdout.flush()


def _heading(group: Group) -> str:
    from libstaragent.targets import fold  # late: it loads ClusterShell

    first = group.first
    count = len(group.hosts)
    parts = [f"=== {fold(group.hosts)} ({count} host{'' if count == 1 else 's'}"]
    if group.variants > 1:
        parts[0] += f", {group.variants} different outputs"
    parts[0] += f") {first.state}"
    if first.state == "exit_nonzero":
        parts.append(f"exit status {first.exit_status}")
    elif first.signal is not None:
        parts.append(f"signal {first.signal}")
    elif first.code:
        parts.append(first.code)
    if not first.stdout_bytes and not first.stderr_bytes:
        parts.append("no output")
    return safe(", ".join(parts)) + "\n"


def _plain(group: Group) -> str:
    lines = group.template.rstrip("\n").split("\n") if group.template else text_lines(group.first)
    return _heading(group) + "".join(f"{safe(line)}\n" for line in lines)


def _plain_diff(found: GroupDiff) -> str:
    text = _heading(found.group) + "".join(f"{safe(line)}\n" for line in found.lines)
    if not found.lines and found.group.first.output.head:
        text += "[the same output]\n"
    if found.skipped:
        text += "[not compared: there are too many or too large differences]\n"
    elif found.cut:
        text += "[only the first lines were compared]\n"
    return text


def _json(job: str, group: Group, **fields: object) -> str:
    from libstaragent.targets import fold

    first = group.first
    shown: dict[str, object] = {"template": group.template} if group.template else {"lines": text_lines(first)}
    return json_line(
        "group",
        job=job,
        hosts=fold(group.hosts),
        count=len(group.hosts),
        variants=group.variants,
        state=first.state,
        exit_status=first.exit_status,
        signal=first.signal,
        code=first.code,
        stdout_bytes=first.stdout_bytes,
        stderr_bytes=first.stderr_bytes,
        stdout_sha256=first.stdout_sha256,
        stderr_sha256=first.stderr_sha256,
        omitted=first.output.omitted,
        **(shown | fields),
    )


def _json_diff(job: str, found: GroupDiff) -> str:
    lines: Sequence[str] = found.lines
    return _json(job, found.group, diff=lines, cut=found.cut, skipped=found.skipped)
