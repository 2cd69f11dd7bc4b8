"""`opsconsole sign exec | put | fetch | cancel | pause | resume | token`: the signed act as JSON, for other senders.

For up to 16 hosts it is the bare envelope; for more, the envelope with the hosts under its Merkle root. What was signed
runs when it is sent, until it expires: `--ttl` says for how long.
"""

from __future__ import annotations

__all__ = ("run",)

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from opsconsole.cli.execute import command_of

if TYPE_CHECKING:
    from libstaragent.client.fleet import Fleet
    from libstaragent.model.api import JobSubmission
    from libstaragent.security.acts import HostAct

# It goes through a person's hands before it is sent.
SIGNED_TTL = 300.0


def run(options: Namespace) -> int:
    """Runs the command line; the exit status."""
    import anyio

    return anyio.run(_run, options)


async def _run(options: Namespace) -> int:
    import msgspec

    from opsconsole.cli.failure import narrate
    from opsconsole.config import fleet_of

    async with fleet_of(options) as fleet:
        identity, submission = await _ACTS[options.act](fleet, options)
    narrate(f"signed {identity}")
    value = submission.envelope if submission.members is None else submission
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    return 0


async def _exec(fleet: Fleet, options: Namespace) -> tuple[str, JobSubmission]:
    from opsconsole.cli.failure import usage
    from opsconsole.cli.reduce import command_of as reduce_command_of

    act = command_of(options)
    if reduce_command_of(options) is not None:
        raise usage("a command of --reduce runs where outputs are read, and is not signed")
    return await _signed(fleet, options, act)


async def _put(fleet: Fleet, options: Namespace) -> tuple[str, JobSubmission]:
    from opsconsole.cli.files import put_of

    return await _signed(fleet, options, await put_of(fleet, options))


async def _fetch(fleet: Fleet, options: Namespace) -> tuple[str, JobSubmission]:
    from opsconsole.cli.files import fetch_of

    return await _signed(fleet, options, fetch_of(fleet, options))


async def _signed(fleet: Fleet, options: Namespace, act: HostAct) -> tuple[str, JobSubmission]:
    from libstaragent.client.plans import in_order
    from opsconsole.cli.failure import usage
    from opsconsole.cli.reach import confirmed, plan_of

    members = await fleet.resolve(options.targets)
    if not confirmed(options, len(members), above=fleet.context.confirm_above):
        raise usage("nothing was signed")
    plan = plan_of(options, len(members))
    if plan is not None:
        members = in_order(members)
    ttl = SIGNED_TTL if options.ttl is None and not options.background else options.ttl
    return await fleet.sign(
        act,
        expression=options.targets,
        members=members,
        ttl=ttl,
        background=options.background,
        plan=plan,
        life=options.life,
    )


async def _about_job(fleet: Fleet, options: Namespace) -> tuple[str, JobSubmission]:
    from libstaragent.security import acts

    act = {"cancel": acts.Cancel, "pause": acts.Pause, "resume": acts.Resume}[options.act]
    return await fleet.sign(act(options.job), ttl=SIGNED_TTL)


async def _token(fleet: Fleet, options: Namespace) -> tuple[str, JobSubmission]:
    from opsconsole.cli.token import terms_of

    return await fleet.sign(terms_of(options), ttl=SIGNED_TTL)


_ACTS = {
    "exec": _exec,
    "put": _put,
    "fetch": _fetch,
    "cancel": _about_job,
    "pause": _about_job,
    "resume": _about_job,
    "token": _token,
}
