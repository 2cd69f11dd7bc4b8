"""Schedules for central's shell: read from the store at start, and shown.

Not here: what central believes of them (`libstaragent.roles.central_schedules`). Rules: blocking where the store is
read, so it is called in threads but for the start.
"""

from __future__ import annotations

__all__ = ("load_schedules", "schedule_view", "when_text")

from collections.abc import Iterator

from agentd.central.history import History
from agentd.central.views import command_text, expression_of
from libstaragent.errors import StarAgentError
from libstaragent.jobs.schedule import next_after
from libstaragent.model.api import JobView, ScheduleView
from libstaragent.roles.central_schedules import KeptSchedule, ScheduleBook
from libstaragent.roles.central_state import Job
from libstaragent.security.acts import At, AtBoot, Cron, Every, Member, When


def load_schedules(book: ScheduleBook, history: History) -> None:
    """Put into `book` all that the store says of schedules."""
    for job, endings in _acts(history):
        book.took(job)
        for agent, state, at_ms, code in endings:
            book.ended(job, agent, state, at_ms, code)


def _acts(history: History) -> Iterator[tuple[Job, list[tuple[str, str, int, str | None]]]]:
    for job_id in history.schedule_acts():
        found = history.job(job_id)
        if found is not None:
            yield found[0], history.endings(job_id)


def when_text(when: When) -> str:
    """When it is due, as one would type it; a time is in ms since the epoch for whoever shows it."""
    match when:
        case At():
            return f"at {when.at_ms}"
        case Every():
            return f"every {when.every_ms / 1000:g}s"
        case Cron():
            return f"cron {when.fields} ({when.zone})"
        case AtBoot():
            return "at boot"


def schedule_view(kept: KeptSchedule, last: JobView | None, now_ms: int, known: dict[str, Member]) -> ScheduleView:
    """A schedule, with its newest firing; `known` are the hosts that are enrolled now."""
    try:
        next_ms = next_after(kept.act.when, now_ms)
    except StarAgentError:
        next_ms = None
    fires = any(state in ("kept", "unknown", "missing", "waiting") for state in kept.states.values())
    if next_ms is not None and (not fires or next_ms >= kept.act.until_ms):
        next_ms = None
    counts: dict[str, int] = {}
    for state in kept.states.values():
        counts[state] = counts.get(state, 0) + 1
    present = [member for agent, member in kept.members.items() if known.get(agent) == member]
    return ScheduleView(
        id=kept.id,
        name=kept.name,
        operator=kept.operator,
        when=when_text(kept.act.when),
        at_ms=kept.act.when.at_ms if isinstance(kept.act.when, At) else None,
        until_ms=kept.act.until_ms,
        command=command_text(kept.envelope),
        expression=expression_of(kept.envelope),
        live=kept.is_live(now_ms),
        next_ms=next_ms,
        hosts=counts,
        states={kept.members[agent].name: state for agent, state in sorted(kept.states.items())},
        codes={kept.members[agent].name: code for agent, code in sorted(kept.reasons.items())},
        members=tuple(present),
        last=last,
    )
