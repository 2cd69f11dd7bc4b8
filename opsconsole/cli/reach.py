"""How far an act reaches: the plan that the options ask for, the preview, and the confirmation of many hosts.

Not here: what is done. Rules: nothing is sent unless the number of hosts was confirmed where it must be; a number that
was confirmed and is not that of the hosts stops the act, however small; the preview signs and sends nothing.
"""

from __future__ import annotations

__all__ = ("CONFIRM_VARIABLE", "choose", "confirmed", "plan_of", "preview")

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from opsconsole.cli.failure import narrate, usage

if TYPE_CHECKING:
    from libstaragent.client.fleet import Fleet
    from libstaragent.security.acts import Act, Member, Plan

# How many hosts are not asked about; else what the context says.
CONFIRM_VARIABLE = "OPSCONSOLE_CONFIRM_ABOVE"
# Hosts of a wave that are named in the preview, folded, in characters.
LONGEST_FOLDED = 300


# What a command ends with whose hosts were not confirmed: nothing was begun.
NOT_CONFIRMED = 5


async def choose(
    fleet: Fleet, options: Namespace, act: Act, members: Sequence[Member]
) -> tuple[tuple[Member, ...], Plan | None] | int:
    """The hosts in the order in which they are begun on, and the plan, confirmed where they must be; or, where nothing
    is to be sent, what the command ends with. Options of a plan count where the command has them.

    :raises UsageError: there is no such plan, or the number of hosts was not confirmed.
    """
    from libstaragent.client.plans import in_order

    plan = plan_of(options, len(members)) if hasattr(options, "waves") else None
    chosen = tuple(members) if plan is None else in_order(members)
    if options.preview:
        await preview(fleet, options, act, chosen, plan, options.targets)
        return 0
    if not confirmed(options, len(chosen), above=fleet.context.confirm_above):
        narrate("nothing was sent")
        return NOT_CONFIRMED
    return chosen, plan


def plan_of(options: Namespace, count: int) -> Plan | None:
    """The plan for `count` hosts; None where no option asks for one.

    :raises UsageError: it makes no plan.
    """
    from libstaragent.client.fleet import Fleet

    plan = Fleet.plan(
        count,
        waves=options.waves,
        window=options.window,
        max_failures=options.max_failures,
        wait=options.wait,
        confirm_waves=options.confirm_waves,
        ttl=options.ttl,
        background=options.background,
    )
    if plan is None and options.life is not None:
        raise usage("--life is for a plan: without one, --ttl says when a host must have begun")
    return plan


def confirmed(options: Namespace, count: int, *, above: int) -> bool:
    """Whether to go on; False where somebody at a terminal typed another number.

    :raises UsageError: COUNT_WRONG, --yes says another number; COUNT_UNCONFIRMED, nobody can be asked.
    """
    from libstaragent import codes

    if options.yes is not None:
        if options.yes != count:
            raise codes.COUNT_WRONG.error(f"{options.targets} means {count}, --yes says {options.yes}")
        return True
    if count <= _above(above):
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise codes.COUNT_UNCONFIRMED.error(f"{options.targets} means {_number(count)}; --yes={count} confirms that")
    sys.stderr.write(f"{options.targets} means {_number(count)}; type {count} to go on: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() == str(count)


async def preview(
    fleet: Fleet, options: Namespace, act: Act, members: Sequence[Member], plan: Plan | None, expression: str
) -> None:
    """Print whom the act would reach, when, and which rule would let it pass.

    :raises StarAgentError: central refuses to say.
    """
    from opsconsole.cli.lines_json import json_line
    from opsconsole.sanitize import safe

    hosts = await fleet.hosts(expression)
    states: dict[str, int] = {}
    for host in hosts:
        states[host.state] = states.get(host.state, 0) + 1
    ends = () if plan is None else plan.waves or (len(members),)
    waves = [members[start:end] for start, end in zip((0, *ends), ends, strict=False)]
    rule, refusal = await _rule(fleet, options, act, members, plan, expression)
    if options.json:
        sys.stdout.write(
            json_line(
                "preview",
                targets=expression,
                hosts=[member.name for member in members],
                states=states,
                rooms=sorted({member.room for member in members}),
                waves=[[member.name for member in wave] for wave in waves],
                rule=rule,
                refusal=refusal,
            )
        )
        return
    lines = [
        ("targets", expression),
        ("hosts", f"{_number(len(members))}: {_folded(members)}"),
        ("rooms", ", ".join(sorted({member.room for member in members}))),
        ("now", ", ".join(f"{count} {state}" for state, count in sorted(states.items(), reverse=True))),
    ]
    lines += [(f"wave {number}", f"{_number(len(wave))}: {_folded(wave)}") for number, wave in enumerate(waves, 1)]
    if plan is not None:
        lines.append(("plan", _terms(plan)))
    lines.append(("refused", refusal) if refusal else ("rule", rule or "none is needed"))
    sys.stdout.write("".join(f"{name + ':':<11}{safe(text)}\n" for name, text in lines))


async def _rule(
    fleet: Fleet, options: Namespace, act: Act, members: Sequence[Member], plan: Plan | None, expression: str
) -> tuple[str, str]:
    """The rule that would let it pass, or why none does; from where it comes and its rate only central knows."""
    import time

    from libstaragent import codes
    from libstaragent.client.submission import unsigned
    from libstaragent.model.host import HostFacts
    from libstaragent.model.ids import ULID_RANDOM_BYTES
    from libstaragent.security.authority import missing_role
    from libstaragent.security.policy.permits import Permits

    roster = await fleet.roster()
    operator = fleet.context.operator
    me = next((known for known in roster.operators if known.name == operator), None)
    if me is None:
        return "", f"{codes.SIGNER_UNKNOWN.code} {codes.SIGNER_UNKNOWN.sentence}: {operator}"
    role = missing_role(act, me.roles)
    if role:
        return "", f"{codes.SIGNER_ROLE.code} {codes.SIGNER_ROLE.sentence}: {operator} has not the role {role}"
    now_ms = time.time_ns() // 1_000_000
    envelope = unsigned(
        act,
        operator=operator,
        roster=roster,
        ttl=60.0,
        now_ms=now_ms,
        random=os.urandom(ULID_RANDOM_BYTES),
        expression=expression,
        members=members,
        plan=plan,
    )
    known = {host.id: host for host in await fleet.hosts(expression)}
    hosts = [
        HostFacts(
            id=member.agent,
            name=member.name,
            room=member.room,
            addresses=known[member.agent].addresses if member.agent in known else (),
            facts=known[member.agent].facts if member.agent in known else {},
        )
        for member in members
    ]
    verdict = Permits().judge(envelope, roster, hosts=hosts, source=None, now_ms=now_ms)
    refusal = "" if verdict.code is None else f"{verdict.code.code} {verdict.code.sentence}: {verdict.detail}"
    return verdict.rule, refusal


def _above(context: int) -> int:
    text = os.environ.get(CONFIRM_VARIABLE, "")
    if not text:
        return context
    if not (text.isascii() and text.isdigit()):
        raise usage(f"{CONFIRM_VARIABLE} is {text!r}, not a number of hosts")
    return int(text)


def _terms(plan: Plan) -> str:
    parts = [f"at most {plan.window} at once" if plan.window is not None else "all of a wave at once"]
    if plan.max_failures is not None:
        parts.append(f"stops after more than {_number(plan.max_failures, 'failure')}")
    if plan.wait_ms:
        parts.append(f"{plan.wait_ms / 1000:g} s of rest between waves")
    if plan.confirm:
        parts.append("waits for `jobs resume` after each wave")
    return ", ".join(parts)


def _number(count: int, word: str = "host") -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _folded(members: Sequence[Member]) -> str:
    from libstaragent.targets import fold  # late: it loads ClusterShell

    text = fold([member.name for member in members])
    return text if len(text) <= LONGEST_FOLDED else text[:LONGEST_FOLDED] + "…"
