"""`opsconsole jobs list | show | output | cancel | pause | resume`: what ran, how it ended, what it printed; and
stopping it.
"""

from __future__ import annotations

__all__ = ("run", "shortened")

import sys
import time
from argparse import Namespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from libstaragent.client.fleet import Fleet
    from libstaragent.client.job import Job
    from libstaragent.model.api import JobView, TargetView

# Codes of a command line are short; more of it is in --json.
LONGEST_COMMAND = 60


def run(options: Namespace) -> int:
    """Runs the command line; the exit status."""
    import anyio

    return anyio.run(_run, options)


async def _run(options: Namespace) -> int:
    from opsconsole.config import fleet_of

    async with fleet_of(options) as fleet:
        return await _VERBS[options.verb](fleet, options)


async def _list(fleet: Fleet, options: Namespace) -> int:
    from opsconsole.cli.lines_json import json_line
    from opsconsole.cli.table import age, table

    jobs = await fleet.jobs(options.limit)
    if options.json:
        sys.stdout.write("".join(json_line("job", job) for job in jobs))
        return 0
    now_ms = time.time_ns() // 1_000_000
    rows = [
        (
            job.id,
            age(job.submitted_ms, now_ms),
            job.operator,
            _state(job),
            " ".join(f"{count} {state}" for state, count in job.counts.items() if count),
            job.expression,
            shortened(job.command),
        )
        for job in jobs
    ]
    sys.stdout.write(table(("JOB", "AGE", "OPERATOR", "STATE", "TARGETS", "EXPRESSION", "COMMAND"), rows))
    return 0


async def _show(fleet: Fleet, options: Namespace) -> int:
    import msgspec

    from libstaragent.client.job import MAX_WHOLE_TARGETS
    from libstaragent.client.plans import plan_progress
    from libstaragent.jobs.states import exit_status
    from opsconsole.cli.failure import describe, narrate
    from opsconsole.cli.lines_json import json_line
    from opsconsole.cli.signatures import doubts_in
    from opsconsole.cli.summary import reason, summary
    from opsconsole.cli.table import table
    from opsconsole.sanitize import safe

    job = await fleet.job(options.job)
    view = job.submitted
    targets = await job.targets(output=view.targets <= MAX_WHOLE_TARGETS)
    verdicts = await job.verify(targets)
    words = {(verdict.target.agent, verdict.target.amendment): verdict.word for verdict in verdicts}
    doubts = doubts_in(verdicts, needed=options.signed)
    status = exit_status(view.counts, stopped=view.stopped) or (1 if doubts else 0)
    for doubt in doubts:
        narrate(f"opsconsole: {describe(doubt)}")
    if options.json:
        sys.stdout.write(json_line("job", view))
        for target in targets:
            word = words.get((target.agent, target.amendment), "")
            sys.stdout.write(json_line("target", msgspec.structs.replace(target, output=msgspec.UNSET), result=word))
        return status
    ended = "running" if view.finished_ms is None else f"ended {_moment(view.finished_ms)}"
    for name, text in (
        ("job", view.id),
        ("command", view.command),
        ("targets", view.expression),
        ("operator", f"{view.operator}{f' from {view.source}' if view.source else ''}"),
        ("schedule", view.schedule),
        ("submitted", f"{_moment(view.submitted_ms)}, {ended}{', cancelled' if view.cancelled else ''}"),
        ("plan", plan_progress(view)),
        ("summary", summary(view.counts, [target for target in targets if not target.amendment])),
    ):
        if text or name not in ("schedule", "plan"):
            sys.stdout.write(f"{name + ':':<11}{safe(text)}\n")
    rows = [
        (
            target.host + (" (later)" if target.amendment else ""),
            target.state,
            reason(target),
            _took(target),
            f"{target.stdout_bytes}+{target.stderr_bytes}",
            _word(words.get((target.agent, target.amendment))),
            target.detail or ", ".join(target.left_running),
        )
        for target in targets
    ]
    sys.stdout.write("\n" + table(("HOST", "STATE", "WHY", "TOOK", "OUT+ERR", "RESULT", "DETAIL"), rows))
    return status


async def _output(fleet: Fleet, options: Namespace) -> int:
    from libstaragent import codes
    from libstaragent.client.output import output_pieces
    from libstaragent.model.api import OutputView
    from libstaragent.model.result import TERMINAL
    from opsconsole.cli.failure import narrate, usage
    from opsconsole.cli.gathering import check_gathering, gathers, show_gathered
    from opsconsole.cli.watchers import watcher_for

    if options.full:
        from opsconsole.cli.files import full_output

        return await full_output(fleet, options)
    if options.output is not None:
        raise usage("-o is for --full")
    if options.raw and options.host is None:
        raise usage("--raw is for one host: name it after the job")
    check_gathering(options)
    job = await fleet.job(options.job)
    if gathers(options):
        if options.host is not None:
            raise usage("one host is neither folded nor reduced: name only the job")
        return await show_gathered(job, options)
    if options.host is not None:
        stored = await job.stored_output(options.host)
        watcher = watcher_for(options, job.id, [options.host])
        watcher.pieces(options.host, output_pieces(stored))
        watcher.end(options.host)
        return 0
    # What a host brought later than its deadline is its output as well; it comes after the word that it was lost.
    targets = sorted(await job.targets(output=True), key=lambda target: target.amendment)
    outputs = {target.host: target.output for target in targets if isinstance(target.output, OutputView)}
    gone = sum(target.output_pruned for target in targets)
    if gone:
        if await _is_reduced(job):
            narrate(f"the outputs were reduced, and stayed on the hosts: opsconsole jobs reduced {job.id}")
        else:
            narrate(f"{codes.OUTPUT_PRUNED.code}: the outputs of {gone} targets are not kept any longer")
    elif (view := job.submitted).finished_ms is None:
        left = sum(count for state, count in view.counts.items() if state not in TERMINAL)
        narrate(f"{left} of {view.targets} targets have not ended; what they print is here when they have")
    watcher = watcher_for(options, job.id, list(outputs))
    for host, stored in sorted(outputs.items()):
        watcher.pieces(host, output_pieces(stored))
        watcher.end(host)
    return 0


async def _is_reduced(job: Job) -> bool:
    from libstaragent import codes
    from libstaragent.errors import StarAgentError

    try:
        await job.reduced()
    except StarAgentError as error:
        if error.code is not codes.NOT_REDUCED:
            raise
        return False
    return True


async def _reduced(fleet: Fleet, options: Namespace) -> int:
    from opsconsole.cli.reduce import show_reduced

    return await show_reduced(await fleet.job(options.job), as_json=options.json)


async def _cancel(fleet: Fleet, options: Namespace) -> int:
    from opsconsole.cli.failure import narrate
    from opsconsole.cli.lines_json import json_line

    view = await (await fleet.job(options.job)).cancel()
    if options.json:
        sys.stdout.write(json_line("job", view))
    else:
        narrate(f"cancelling {view.id}" if view.finished_ms is None else f"{view.id} had ended")
    return 0


async def _pause(fleet: Fleet, options: Namespace) -> int:
    from libstaragent.client.plans import plan_progress
    from opsconsole.cli.failure import narrate
    from opsconsole.cli.lines_json import json_line

    job = await fleet.job(options.job)
    view = await (job.pause() if options.verb == "pause" else job.resume())
    if options.json:
        sys.stdout.write(json_line("job", view))
    else:
        word = "pausing" if options.verb == "pause" else "going on with"
        narrate(f"{word} {view.id}: {plan_progress(view) or 'all of its hosts are begun on'}")
    return 0


_VERBS = {
    "list": _list,
    "show": _show,
    "output": _output,
    "reduced": _reduced,
    "cancel": _cancel,
    "pause": _pause,
    "resume": _pause,
}


def shortened(command: str) -> str:
    """A command for a column of a table."""
    return command if len(command) <= LONGEST_COMMAND else command[:LONGEST_COMMAND] + "…"


def _state(job: JobView) -> str:
    if job.stopped or job.cancelled:
        return "stopped" if job.stopped else "cancelled"
    if job.finished_ms is not None:
        return "done"
    return "paused" if job.paused else "waiting" if job.waits == "resume" else "running"


def _moment(time_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ms / 1000))


def _word(word: str | None) -> str:
    """What of a verdict is worth a place: most results are unsigned, because nobody asked for more."""
    return "" if word in (None, "unsigned") else word


def _took(target: TargetView) -> str:
    if target.started_ms is None or target.finished_ms is None:
        return ""
    return f"{(target.finished_ms - target.started_ms) / 1000:.1f}s"
