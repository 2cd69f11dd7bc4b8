"""`opsconsole exec`: run a command on hosts, show its output as it comes, end as it ended.

Not here: following (`follow`), how lines look (`watchers`), plan and confirmation (`reach`). Rules: nothing is sent
before the hosts are known and many of them confirmed by their number; with --async only the job's id is printed.
"""

from __future__ import annotations

__all__ = ("CANCELLED_AND_LEFT", "STOPPED", "command_of", "run", "variables")

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from opsconsole.cli.failure import describe, narrate, usage

if TYPE_CHECKING:
    from libstaragent.security.acts import Exec

CANCELLED_AND_LEFT = 130
STOPPED = "stopped by its failures: the others were never begun on"


def run(options: Namespace) -> int:
    """Runs the command line; the exit status."""
    import anyio

    return anyio.run(_run, options)


def command_of(options: Namespace) -> Exec:
    """The act that the options of `exec` and of `sign exec` describe.

    :raises UsageError: there is no command, or two.
    """
    from libstaragent.client.fleet import Fleet
    from opsconsole.cli.reduce import reducer_of

    words: list[str] = options.command_words
    if options.shell is not None:
        if words:
            raise usage("--shell LINE and a command after -- are two commands: give one")
        words = [options.shell]
    if not words:
        raise usage("there is no command: put it after --")
    return Fleet.command(
        words,
        shell=options.shell is not None,
        timeout=options.timeout,
        background=options.background,
        user=options.user,
        cwd=options.cwd,
        env=variables(options.env, "--env"),
        stdin=_standard_input(options.stdin),
        reduce=reducer_of(options),
        signed=options.signed,
    )


def variables(pairs: Sequence[str], option: str) -> dict[str, str]:
    """What ``K=V`` pairs say.

    :raises UsageError: one has no ``=``.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise usage(f"{option} {pair!r} is not NAME=VALUE")
        found[name] = value
    return found


async def _run(options: Namespace) -> int:
    from libstaragent.jobs.states import exit_status
    from opsconsole.cli.follow import Left
    from opsconsole.cli.gathering import check_gathering, follow_as_asked, show_gathered
    from opsconsole.cli.lines_json import json_line
    from opsconsole.cli.reach import choose
    from opsconsole.cli.signatures import doubts_of
    from opsconsole.cli.summary import summary
    from opsconsole.config import fleet_of

    check_gathering(options)
    act = command_of(options)
    async with fleet_of(options) as fleet:
        members = await fleet.resolve(options.targets)
        if options.raw and len(members) != 1:
            raise usage(f"--raw is for one host, and {options.targets} means {len(members)}")
        chosen = await choose(fleet, options, act, members)
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
            boot_nonce=await fleet.boot_of(members) if options.bind_boot else None,
        )
        job = await fleet.submit(submission)
        if options.background:
            sys.stdout.write(json_line("job", job.submitted) if options.json else f"{job.id}\n")
            return 0
        try:
            view, targets = await follow_as_asked(job, options, [member.name for member in members])
        except Left:
            narrate(f"left; see later: opsconsole jobs show {job.id}")
            return CANCELLED_AND_LEFT
        doubts = await doubts_of(job, needed=True) if options.signed else []
        incomplete = await show_gathered(job, options)
    status = exit_status(view.counts, stopped=view.stopped) or (1 if doubts else 0) or incomplete
    if options.json:
        sys.stdout.write(json_line("result", job=view.id, targets=view.targets, counts=view.counts, exit_status=status))
    else:
        narrate(summary(view.counts, targets))
        if view.stopped:
            narrate(STOPPED)
    for doubt in doubts:
        narrate(f"opsconsole: {describe(doubt)}")
    return status


def _standard_input(path: str | None) -> bytes:
    if path is None:
        return b""
    from libstaragent import codes
    from libstaragent.security.act_limits import MAX_STDIN

    try:
        if path == "-":
            data = sys.stdin.buffer.read(MAX_STDIN + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(MAX_STDIN + 1)
    except OSError as error:
        raise codes.FILE_REFUSED.error(f"{path}: {error.strerror}", errno=error.errno) from error
    if len(data) > MAX_STDIN:
        raise usage(f"--stdin {path} is larger than 64 KiB")
    return data
