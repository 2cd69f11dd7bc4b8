"""`opsconsole put | fetch`, and `opsconsole jobs output --full`: files to hosts, from hosts, and what hosts keep.

Rules: stdout names what is there now (hosts, paths), stderr tells how it goes and why something did not; progress is
shown on a terminal only; the exit status is that of `exec`.
"""

from __future__ import annotations

__all__ = ("fetch_of", "full_output", "put_of", "run")

import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from opsconsole.cli.execute import CANCELLED_AND_LEFT, STOPPED
from opsconsole.cli.failure import describe, narrate, usage
from opsconsole.cli.watchers import PlanStands

if TYPE_CHECKING:
    from libstaragent.client.files import Fetched
    from libstaragent.client.fleet import Fleet
    from libstaragent.client.job import Job
    from libstaragent.model.api import TargetView
    from libstaragent.security.acts import Fetch, Put

PROGRESS_SECONDS = 0.2


def run(options: Namespace) -> int:
    """Runs the command line; the exit status."""
    import anyio

    return anyio.run(_put if hasattr(options, "file") else _fetch, options)


async def put_of(fleet: Fleet, options: Namespace) -> Put:
    """The act that the options of `put` and of `sign put` describe; the file is read for its digest.

    :raises StarAgentError: it cannot be read, or is too large.
    """
    return await fleet.placing(
        Path(options.file),
        options.to,
        mode=options.mode,
        owner=options.owner,
        group=options.group,
        user=options.user,
        timeout=options.timeout,
    )


def fetch_of(fleet: Fleet, options: Namespace) -> Fetch:
    """The act that the options of `fetch` and of `sign fetch` describe."""
    from libstaragent.security.act_limits import MAX_FILE

    return fleet.fetching(
        options.path, max_bytes=options.max_bytes or MAX_FILE, user=options.user, timeout=options.timeout
    )


async def _put(options: Namespace) -> int:
    from libstaragent.jobs.states import exit_status
    from opsconsole.cli.follow import Left, follow_end
    from opsconsole.cli.lines_json import json_line
    from opsconsole.cli.reach import choose
    from opsconsole.cli.summary import summary
    from opsconsole.config import fleet_of
    from opsconsole.sanitize import safe

    source = Path(options.file)
    async with fleet_of(options) as fleet:
        act = await put_of(fleet, options)
        chosen = await choose(fleet, options, act, await fleet.resolve(options.targets))
        if isinstance(chosen, int):
            return chosen
        members, plan = chosen
        job = await fleet.place(
            act,
            source,
            options.targets,
            members,
            ttl=options.ttl,
            background=options.background,
            plan=plan,
            life=options.life,
            progress=_Progress() if sys.stderr.isatty() else None,
        )
        if options.background:
            return _leave(job, options)
        _name_job(job)
        stands = PlanStands()
        try:
            view, ended = await follow_end(job, lambda target: None, stands.job)
        except Left:
            narrate(f"left; see later: opsconsole jobs show {job.id}")
            return CANCELLED_AND_LEFT
    explained: set[str] = set()
    for target in sorted(ended, key=lambda target: target.host):
        if options.json:
            sys.stdout.write(json_line("target", target))
        elif target.state == "ok":
            sys.stdout.write(f"{safe(target.host)}\n")
        elif target.code not in explained:
            # Each code once, by its first host; the summary counts the others.
            explained.add(target.code or "")
            _explain(target)
    if options.json:
        sys.stdout.write(json_line("job", view))
    else:
        narrate(summary(view.counts, ended))
        if view.stopped:
            narrate(STOPPED)
    return exit_status(view.counts, stopped=view.stopped)


async def _fetch(options: Namespace) -> int:
    from libstaragent.jobs.states import exit_status
    from opsconsole.cli.follow import Left, follow_end
    from opsconsole.cli.lines_json import json_line
    from opsconsole.cli.reach import choose
    from opsconsole.config import fleet_of
    from opsconsole.sanitize import safe

    if bool(options.job) == bool(options.targets) or bool(options.job) == bool(options.path):
        raise usage("give -t EXPR and PATH, or --job JOB to go on with an earlier fetch")
    async with fleet_of(options) as fleet:
        stopped = False
        if options.job:
            identity: str = options.job
        else:
            act = fetch_of(fleet, options)
            chosen = await choose(fleet, options, act, await fleet.resolve(options.targets))
            if isinstance(chosen, int):
                return chosen
            members, plan = chosen
            _, submission = await fleet.sign(
                act,
                expression=options.targets,
                members=members,
                ttl=options.ttl,
                background=options.background,
                plan=plan,
                life=options.life,
            )
            job = await fleet.submit(submission)
            identity = job.id
            if options.background:
                return _leave(job, options)
            _name_job(job)
            try:
                view, _ = await follow_end(job, lambda target: None, PlanStands().job)
            except Left:
                narrate(f"left; see later: opsconsole fetch --job {job.id}")
                return CANCELLED_AND_LEFT
            stopped = view.stopped
        progress = _Progress() if sys.stderr.isatty() else None
        fetched = await fleet.collect(identity, Path(options.output), progress=progress)
    if stopped:
        narrate(STOPPED)
    counts: dict[str, int] = {}
    for entry in fetched:
        state = entry.target.state if entry.error is None else "exit_nonzero"
        counts[state] = counts.get(state, 0) + 1
        if options.json:
            error = None if entry.error is None else entry.error.code.code
            path = None if entry.path is None else str(entry.path)
            sys.stdout.write(json_line("fetched", entry.target, path=path, error=error))
        elif entry.path is not None:
            sys.stdout.write(f"{safe(str(entry.path))}\n")
        else:
            _why_not(entry)
    return exit_status(counts, stopped=stopped)


async def full_output(fleet: Fleet, options: Namespace) -> int:
    """`jobs output JOB HOST --full`: all that the host itself still keeps."""
    from libstaragent import codes
    from libstaragent.client.output import Piece
    from opsconsole.cli.watchers import watcher_for

    if options.host is None:
        raise usage("--full is for one host: name it after the job")
    job = await fleet.job(options.job)
    pieces = job.read_output(options.host)
    try:
        if options.output is None:
            watcher = watcher_for(options, job.id, [options.host])
            async for piece in pieces:
                watcher.pieces(options.host, [piece])
            watcher.end(options.host)
            return 0
        try:
            with open(options.output, "wb") as file:  # noqa: ASYNC230  nothing else is going on
                async for piece in pieces:
                    if isinstance(piece, Piece):
                        file.write(piece.data)
                    else:
                        narrate(f"[{piece.size} bytes omitted]")
        except OSError as error:
            raise codes.FILE_REFUSED.error(f"{options.output}: {error.strerror}", errno=error.errno) from error
        return 0
    finally:
        await pieces.aclose()


def _leave(job: Job, options: Namespace) -> int:
    from opsconsole.cli.lines_json import json_line

    sys.stdout.write(json_line("job", job.submitted) if options.json else f"{job.id}\n")
    return 0


def _name_job(job: Job) -> None:
    narrate(f"job {job.id}")


def _why_not(entry: Fetched) -> None:
    from libstaragent.errors import StarAgentError

    if isinstance(entry.error, StarAgentError):
        error = entry.error
        narrate(f"opsconsole: {describe(error.code.error(f'{entry.host}: {error.detail}', errno=error.errno))}")
    else:
        _explain(entry.target)


def _explain(target: TargetView) -> None:
    from libstaragent import codes
    from opsconsole.sanitize import safe

    code = codes.by_code(target.code) if target.code else None
    if code is None:
        narrate(safe(f"{target.host}: {target.state} {target.detail}"))
        return
    detail = f"{target.host}: {target.detail}" if target.detail else target.host
    narrate(f"opsconsole: {describe(code.error(detail, errno=target.errno))}")


class _Progress:
    """One line on a terminal, rewritten a few times a second."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, host: str, done: int, size: int) -> None:
        now = time.monotonic()
        if done < size and now - self._last < PROGRESS_SECONDS:
            return
        self._last = now
        from opsconsole.sanitize import safe

        share = 100 if size == 0 else done * 100 // size
        end = "\n" if done >= size else ""
        sys.stderr.write(f"\r\x1b[K{safe(host) or 'upload'} {done} of {size} bytes, {share} %{end}")
        sys.stderr.flush()
