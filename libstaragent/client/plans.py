"""From how a person says that a job is to spread to the plan that is signed: waves, window, failures, and how long it
may take.

Not here: pacing (`libstaragent.roles.pacing`), signing (`submission`). Rules: pure; a percentage of waves is rounded up
so that no wave is empty, one of failures down, to be careful; the last wave is all hosts; a default stands here alone.
"""

from __future__ import annotations

__all__ = ("in_order", "plan_for", "plan_life", "plan_progress")

import re
from collections.abc import Sequence

from libstaragent import codes
from libstaragent.model.api import JobView
from libstaragent.security.acts import Member, Plan

# The life of a plan is its longest way, at least an hour and at most a day: what an envelope may.
SHORTEST_LIFE = 3600.0
LONGEST_LIFE = 24 * 3600.0
# People look at a wave before they confirm it.
CONFIRM_SECONDS = 3600.0
# The kill's grace and the way of a result.
SLACK = 10.0

_DIGITS = re.compile(r"[0-9]{1,9}")


def in_order(members: Sequence[Member]) -> tuple[Member, ...]:
    """Hosts in the order in which a plan begins on them: by name, numbers as numbers, web2 before web10."""
    return tuple(sorted(members, key=lambda member: _natural(member.name)))


def plan_for(
    count: int,
    *,
    waves: str | Sequence[int | str] | None = None,
    window: int | None = None,
    max_failures: int | str | None = None,
    wait: float = 0.0,
    confirm: bool = False,
    turn: float,
) -> Plan | None:
    """The plan for `count` hosts; None where nothing of one was asked for.

    :param waves: how many hosts have been begun on by the end of each wave: ``"1,10%,100%"`` or ``[1, "10%"]``.
    :param max_failures: hosts that may fail, or ``"5%"``.
    :param wait: seconds of rest between waves. turn: seconds that a host may take to begin.
    :raises UsageError: PLAN_INVALID, it makes no plan; the detail says why.
    """
    if waves is None and window is None and max_failures is None and not wait and not confirm:
        return None
    ends = _wave_ends(waves, count)
    if len(ends) < 2 and waves is None and (wait or confirm):
        raise codes.PLAN_INVALID.error("a rest or a confirmation is between waves, and there is one wave")
    if window is not None and window < 1:
        raise codes.PLAN_INVALID.error("a window is at least 1")
    return Plan(
        waves=ends,
        window=window,
        max_failures=None if max_failures is None else _share(max_failures, count, up=False),
        wait_ms=int(wait * 1000),
        confirm=confirm,
        turn_ms=int(turn * 1000),
    )


def plan_life(plan: Plan, count: int, *, timeout: float) -> float:
    """How long the envelope of a plan holds unless told, in seconds: as long as it takes when every host uses its whole
    turn and its whole timeout; an hour more for each wave to be confirmed; within an hour and a day.
    """
    ends = plan.waves or (count,)
    sizes = [end - start for start, end in zip((0, *ends), ends, strict=False)]
    steps = sum(-(-size // (plan.window or size)) for size in sizes)
    between = plan.wait_ms / 1000 + (CONFIRM_SECONDS if plan.confirm else 0.0)
    longest = steps * (plan.turn_ms / 1000 + timeout + SLACK) + (len(sizes) - 1) * between
    return min(max(longest, SHORTEST_LIFE), LONGEST_LIFE)


def plan_progress(view: JobView) -> str:
    """Where a planned job stands, in a few words; empty for one without a plan, or that has nothing held."""
    plan = view.plan
    if view.stopped:
        return "stopped by its failures"
    if plan is None or not view.held or view.finished_ms is not None:
        return ""
    ends = plan.waves or (view.targets,)
    text = f"{view.held} held back" if len(ends) == 1 else f"wave {view.wave} of {len(ends)}, {view.held} held back"
    if view.paused:
        return text + ", paused"
    if view.waits == "resume":
        return text + f", waits for `opsconsole jobs resume {view.id}`"
    return text + (", rests" if view.waits == "rest" else "")


def _wave_ends(waves: str | Sequence[int | str] | None, count: int) -> tuple[int, ...]:
    if waves is None:
        return ()
    parts = waves.split(",") if isinstance(waves, str) else waves
    ends: list[int] = []
    for part in parts:
        end = min(max(_share(part, count, up=True), 1), count)
        if ends and end < ends[-1]:
            raise codes.PLAN_INVALID.error(f"waves rise, and {part} is less than the one before")
        if not ends or end > ends[-1]:
            ends.append(end)
    if not ends:
        raise codes.PLAN_INVALID.error("there is no wave")
    if ends[-1] < count:
        ends.append(count)
    return tuple(ends)


def _share(part: int | str, count: int, *, up: bool) -> int:
    """A number of hosts: given, or a percentage of `count`."""
    text = str(part).strip()
    number = text.removesuffix("%")
    if not _DIGITS.fullmatch(number):
        raise codes.PLAN_INVALID.error(f"{text[:40]!r} is neither a number nor a percentage")
    if number == text:
        return int(number)
    if int(number) > 100:
        raise codes.PLAN_INVALID.error(f"{text} is more than all")
    return -(-int(number) * count // 100) if up else int(number) * count // 100


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    return tuple(
        (int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)
    )
