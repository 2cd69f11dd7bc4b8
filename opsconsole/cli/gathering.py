"""What is shown of a job at its end instead of its output line by line: groups, differences, a reduction.

Not here: groups (`fold`), reductions (`reduce`), following (`follow`). Rules: one way of showing at a time; what is
only wanted at the end is not sent live by the hosts.
"""

from __future__ import annotations

__all__ = ("check_gathering", "follow_as_asked", "gathers", "show_gathered")

import sys
from argparse import Namespace
from collections.abc import Sequence

from libstaragent.client.job import Job
from libstaragent.model.api import JobView, TargetView
from opsconsole.cli.failure import usage
from opsconsole.cli.fold import show_folded, wants_folding
from opsconsole.cli.follow import follow, follow_end
from opsconsole.cli.reduce import command_of, reducer_of, run_command, show_reduced
from opsconsole.cli.watchers import watcher_for


def gathers(options: Namespace) -> bool:
    """Whether the output is not shown line by line."""
    return wants_folding(options) or bool(reducer_of(options)) or command_of(options) is not None


def check_gathering(options: Namespace) -> None:
    """Nothing, if what is asked for can be shown.

    :raises UsageError: it cannot; nothing was sent.
    """
    reduces = bool(reducer_of(options)) or command_of(options) is not None
    if wants_folding(options) and reduces:
        raise usage("--reduce leaves no outputs to be folded: give one of the two")
    if options.raw and (wants_folding(options) or reduces):
        raise usage("--raw shows one host as it is; it cannot be folded or reduced")
    if options.json and command_of(options) is not None:
        raise usage("what a command of --reduce prints is no JSON: leave --json out")
    if options.background and (wants_folding(options) or command_of(options) is not None):
        raise usage("--async does not wait for outputs; later there is: opsconsole jobs output JOB")


async def follow_as_asked(job: Job, options: Namespace, names: Sequence[str]) -> tuple[JobView, list[TargetView]]:
    """The job and its targets as they ended; its output is shown as it comes, unless it is gathered.

    :raises StarAgentError: central refuses, or cannot be reached any more.
    :raises Left: Ctrl-C, twice.
    """
    watcher = watcher_for(options, job.id, names)
    if gathers(options):
        return await follow_end(job, watcher.target, watcher.job)
    return await follow(job, watcher)


async def show_gathered(job: Job, options: Namespace) -> int:
    """Shows what was asked for; 1 if that is not of all that was printed, else 0.

    :raises StarAgentError: central refuses, or cannot be reached.
    """
    if wants_folding(options):
        await show_folded(job, options)
    elif reducer_of(options):
        return await show_reduced(job, as_json=options.json)
    elif (command := command_of(options)) is not None:
        sys.stdout.flush()
        return await run_command(job, command)
    return 0
