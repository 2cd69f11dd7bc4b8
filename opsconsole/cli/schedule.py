"""`opsconsole schedule add | list | show | pause | resume | remove`: what hosts run by themselves.

Rules: what changes hosts is a job, whose id is printed; its end is awaited a little, because hosts that are away have
an hour to hear of it.
"""

from __future__ import annotations

__all__ = ("run",)

import sys
import time
from argparse import Namespace
from typing import TYPE_CHECKING

from opsconsole.cli.failure import narrate, usage

if TYPE_CHECKING:
    from libstaragent.client.fleet import Fleet
    from libstaragent.client.job import Job
    from libstaragent.model.api import ScheduleView

# Who is there answers within a second.
AWAITED_SECONDS = 10.0


def run(options: Namespace) -> int:
    """Runs the command line; the exit status."""
    import anyio

    return anyio.run(_run, options)


async def _run(options: Namespace) -> int:
    from opsconsole.config import fleet_of

    async with fleet_of(options) as fleet:
        return await _VERBS[options.verb](fleet, options)


async def _add(fleet: Fleet, options: Namespace) -> int:
    from opsconsole.cli.execute import variables
    from opsconsole.cli.reach import choose

    words: list[str] = options.command_words
    if (options.shell is None) == (not words):
        raise usage("give a command after --, or --shell LINE")
    act = fleet.scheduling(
        options.name,
        words if options.shell is None else [options.shell],
        at=_moment(options.at, "--at"),
        every=options.every,
        cron=options.cron,
        zone=options.zone,
        at_boot=options.at_boot,
        until=_moment(options.until, "--until"),
        timeout=options.timeout,
        shell=options.shell is not None,
        user=options.user,
        cwd=options.cwd,
        env=variables(options.env, "--env"),
        signed=options.signed,
    )
    chosen = await choose(fleet, options, act, await fleet.resolve(options.targets))
    if isinstance(chosen, int):
        return chosen
    _, submission = await fleet.sign(
        act, expression=options.targets, members=chosen[0], ttl=options.ttl, background=True
    )
    return await _told(fleet, await fleet.submit(submission), options)


async def _list(fleet: Fleet, options: Namespace) -> int:
    from opsconsole.cli.jobs import shortened
    from opsconsole.cli.lines_json import json_line
    from opsconsole.cli.table import table

    found = await fleet.schedules(ended=options.all)
    if options.json:
        sys.stdout.write("".join(json_line("schedule", view) for view in found))
        return 0
    rows = [
        (
            view.name,
            _when(view),
            view.operator,
            "-" if view.next_ms is None else _clock(view.next_ms),
            "-" if view.last is None else _clock(view.last.submitted_ms),
            "-" if view.last is None else _counts(view.last.counts),
            _counts(view.hosts),
            shortened(_command(view)),
        )
        for view in found
    ]
    sys.stdout.write(table(("NAME", "WHEN", "OPERATOR", "NEXT", "LAST", "ENDED", "HOSTS", "COMMAND"), rows))
    return 0


async def _show(fleet: Fleet, options: Namespace) -> int:
    from opsconsole.cli.lines_json import json_line
    from opsconsole.cli.table import table
    from opsconsole.sanitize import safe

    view = await fleet.find_schedule(options.name)
    if options.json:
        sys.stdout.write(json_line("schedule", view))
        return 0
    last = "none" if view.last is None else f"job {view.last.id}: {_counts(view.last.counts)}"
    for name, text in (
        ("schedule", f"{view.name} ({view.id})"),
        ("command", _command(view)),
        ("targets", view.expression),
        ("operator", view.operator),
        ("when", f"{_when(view)}, until {_clock(view.until_ms)}{'' if view.live else ', over'}"),
        ("next", "-" if view.next_ms is None else _clock(view.next_ms)),
        ("last", last),
    ):
        sys.stdout.write(f"{name + ':':<11}{safe(text)}\n")
    rows = [(host, state, view.codes.get(host, "")) for host, state in sorted(view.states.items())]
    sys.stdout.write("\n" + table(("HOST", "STATE", "WHY"), rows))
    return 0


async def _pause(fleet: Fleet, options: Namespace) -> int:
    return await _told(fleet, await fleet.pause_schedule(options.name), options)


async def _resume(fleet: Fleet, options: Namespace) -> int:
    return await _told(fleet, await fleet.resume_schedule(options.name), options)


async def _remove(fleet: Fleet, options: Namespace) -> int:
    return await _told(fleet, await fleet.remove_schedule(options.name), options)


_VERBS = {"add": _add, "list": _list, "show": _show, "pause": _pause, "resume": _resume, "remove": _remove}


async def _told(fleet: Fleet, job: Job, options: Namespace) -> int:
    import anyio

    from libstaragent.jobs.states import exit_status
    from opsconsole.cli.lines_json import json_line
    from opsconsole.cli.summary import summary
    from opsconsole.cli.watchers import explain_each

    with anyio.move_on_after(AWAITED_SECONDS):
        await job.result()
    view = (await fleet.job(job.id)).submitted
    if options.json:
        sys.stdout.write(json_line("job", view))
    else:
        sys.stdout.write(f"{view.id}\n")
        targets = await job.targets()
        explain_each(targets)
        narrate(summary(view.counts, targets))
        if view.finished_ms is None:
            narrate("those that are away have until the job expires; see: opsconsole jobs show " + view.id)
    return exit_status(view.counts) if view.finished_ms is not None else 0


def _command(view: ScheduleView) -> str:
    """The command alone; which schedule it is stands beside it."""
    return view.command.removeprefix(f"schedule {view.name}: ")


def _when(view: ScheduleView) -> str:
    return view.when if view.at_ms is None else f"at {_clock(view.at_ms)}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def _clock(time_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ms / 1000))


def _moment(text: str | None, option: str) -> float | None:
    """Seconds since the epoch."""
    if text is None:
        return None
    from argparse import ArgumentTypeError
    from datetime import datetime

    from opsconsole.cli.tree.scheduling import span

    try:
        return time.time() + span(text[1:]) if text.startswith("+") else datetime.fromisoformat(text).timestamp()
    except (ArgumentTypeError, ValueError, OverflowError):
        raise usage(f"{option} {text!r} is neither a date such as 2026-01-31T03:00 nor +90s, +15m, +2h, +3d") from None
