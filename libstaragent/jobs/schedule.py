"""When a schedule is due, and the id of the job that a firing is.

    at        once
    every     at `start_ms` and each `every_ms` after it
    cron      five fields in a time zone (`cron`)
    at_boot   once in each boot of the host that began after the host took the schedule

A firing of hosts that are due at one time is one job: its id is made of the schedule's id and that time, so no host
has to ask. At-boot is a job a host and boot. The first part of the id is the time of the firing, as in every ULID.

Not here: whether it may run, and what a host remembers (`roles.agent_schedules`). Rules: pure; times are ms since the
epoch; whoever hears of a firing checks `is_due_at` and `firing_id`, so nobody can name another job as one.
"""

from __future__ import annotations

__all__ = (
    "AT_GRACE_MS",
    "FIRINGS_MAX",
    "LATE_MS",
    "check_when",
    "firing_id",
    "is_due_at",
    "latest_due",
    "next_after",
    "shortest_ms",
)

from hashlib import sha256

from libstaragent.jobs.cron import read_cron
from libstaragent.model.ids import ULID_RANDOM_BYTES, new_ulid
from libstaragent.security.acts import At, AtBoot, Cron, Every, When

# A repeated firing that is later than this was missed, and the next one comes: an agent that starts again takes a
# second or two, a host that was down for an hour is not to do at noon what was meant for the night.
LATE_MS = 10_000
# What is due once is done late rather than never, within the hour; later it is said to be missed.
AT_GRACE_MS = 3_600_000
# Firings that have no place in the store yet. A host that is cut off goes on for so many; then it rests rather than
# take all places of what operators order (`agent.OPEN_MAX`).
FIRINGS_MAX = 256
# The least between two firings that cron's fields can name, and between two boots that do something.
MINUTE_MS = 60_000


def next_after(when: When, after_ms: int) -> int | None:
    """The first time after `after_ms` at which it is due; None for no more, and for at-boot, which no clock tells."""
    match when:
        case At():
            return when.at_ms if when.at_ms > after_ms else None
        case Every():
            periods = max(0, (after_ms - when.start_ms) // when.every_ms + 1)
            return when.start_ms + periods * when.every_ms
        case Cron():
            return read_cron(when.fields, when.zone).next_after(after_ms)
        case AtBoot():
            return None


def latest_due(when: When, after_ms: int, now_ms: int) -> int | None:
    """The newest time in (`after_ms`, `now_ms`] at which it is due and not yet missed; earlier ones are passed over."""
    if isinstance(when, At):
        return when.at_ms if after_ms < when.at_ms <= now_ms else None
    found = None
    due = next_after(when, max(after_ms, now_ms - LATE_MS))
    while due is not None and due <= now_ms:
        found, due = due, next_after(when, due)
    return found


def is_due_at(when: When, at_ms: int) -> bool:
    """Whether `at_ms` is one of its times; any is for at-boot."""
    match when:
        case At():
            return at_ms == when.at_ms
        case Every():
            return at_ms >= when.start_ms and (at_ms - when.start_ms) % when.every_ms == 0
        case Cron():
            return read_cron(when.fields, when.zone).is_due_at(at_ms)
        case AtBoot():
            return True


def shortest_ms(when: When) -> int:
    """The least time between two firings; of what is due once, that of cron."""
    return when.every_ms if isinstance(when, Every) else MINUTE_MS


def check_when(when: When) -> None:
    """Nothing, if it can be judged on this machine.

    :raises UsageError: the fields cannot be read, or the zone is unknown here.
    """
    if isinstance(when, Cron):
        read_cron(when.fields, when.zone)


def firing_id(schedule: str, at_ms: int, agent: str = "", boot: str = "") -> str:
    """The id of the job that the firing at `at_ms` is; `agent` and `boot` for at-boot only."""
    digest = sha256(b"opsconsole firing 1\0")
    for text in (schedule, str(at_ms), agent, boot):
        data = text.encode()
        digest.update(len(data).to_bytes(2, "big") + data)
    return new_ulid(at_ms, digest.digest()[:ULID_RANDOM_BYTES])
