"""The life of one target of one job, as a table, and what a job's counts say.

    queued → sent → accepted → running → one of the terminal states

Every terminal state is final: what comes after is an amendment that stands beside it. Words of a report may overtake
each other (a result before its `accepted`), so a target may skip forward but never goes back; an unknown word is
refused.
"""

from __future__ import annotations

__all__ = ("EXIT_STATUS_RULES", "OPEN", "STATES", "advances", "exit_status", "is_terminal")

from collections.abc import Mapping

from libstaragent.model.result import TERMINAL

OPEN: tuple[str, ...] = ("queued", "sent", "accepted", "running")
STATES: tuple[str, ...] = OPEN + TERMINAL

_RANK = {state: rank for rank, state in enumerate(OPEN)} | {state: len(OPEN) for state in TERMINAL}


def is_terminal(state: str) -> bool:
    """Whether the target is done."""
    return _RANK[state] == len(OPEN)


def advances(current: str, reported: str) -> bool:
    """Whether `reported` moves a target on from `current`; never out of a terminal state."""
    return _RANK[reported] > _RANK[current]


# Exit statuses of `exec` (ARCHITECTURE, Jobs), the first that applies wins. 64 (usage) and 3 (no target) come before
# any job.
EXIT_STATUS_RULES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (4, ("denied", "bad_signature")),
    (5, ("cancelled",)),
    (2, ("unreachable", "agent_lost", "expired", "interrupted")),
    (1, ("exit_nonzero", "signalled", "timeout", "oom", "limit", "spawn_failed", "unsupported")),
)


# A job whose failures ended hosts that it had not begun on; only a refusal comes before it in a tie.
STOPPED_STATUS = 6
_BEFORE_STOPPED = 4


def exit_status(counts: Mapping[str, int], *, stopped: bool = False) -> int:
    """What `exec` ends with, given how many targets are in each state, and `jobs show` so far.

    In a tie the first of 4, 6, 5, 2, 1. Open targets count for nothing: 0 says that every target is ok or, of a job
    that has not ended, that none has failed yet. `stopped`: failures ended hosts that it had not begun on.
    """
    for status, states in EXIT_STATUS_RULES:
        if stopped and status != _BEFORE_STOPPED:
            return STOPPED_STATUS
        if any(counts.get(state, 0) for state in states):
            return status
    return 0
