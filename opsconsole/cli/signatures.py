"""What the command line says of results that are not their hosts' word.

Not here: judging (`libstaragent.client.verification`). Rules: one line a code, which names at most NAMED_MAX hosts.
"""

from __future__ import annotations

__all__ = ("doubts_in", "doubts_of")

from collections.abc import Sequence

from libstaragent import codes
from libstaragent.client.job import Job
from libstaragent.client.verification import Verdict, needs_signature
from libstaragent.errors import StarAgentError

# Hosts named in a line; the table and --json name all.
NAMED_MAX = 8


async def doubts_of(job: Job, *, needed: bool) -> list[StarAgentError]:
    """The same of a job that has ended."""
    return doubts_in(await job.verify(), needed=needed)


def doubts_in(verdicts: Sequence[Verdict], *, needed: bool) -> list[StarAgentError]:
    """What is wrong with these results. With `needed`, each host was to sign."""
    forged = [f"{verdict.target.host} ({verdict.detail})" for verdict in verdicts if verdict.word == "forged"]
    bare = [
        verdict.target.host
        for verdict in verdicts
        if needed and verdict.word == "unsigned" and needs_signature(verdict.target)
    ]
    found = ((codes.RESULT_FORGED, forged), (codes.RESULT_UNSIGNED, bare))
    return [code.error(_some(hosts)) for code, hosts in found if hosts]


def _some(hosts: Sequence[str]) -> str:
    rest = len(hosts) - NAMED_MAX
    return ", ".join(hosts[:NAMED_MAX]) + (f" and {rest} more" if rest > 0 else "")
