"""The audit in the simulated store: the real chain over jobs that are accepted and that end; and what must hold of it.

Not here: what else an entry says. Rules: in the store's commit, and nowhere else; `when` plants a mistake: entries that
are written ``before`` the commit that they tell of, or ``after`` it, as if they were no part of it.
"""

from __future__ import annotations

__all__ = ("SimAudit", "When", "check_audit")

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

from libstaragent.roles.central_state import Decision
from libstaragent.security.audit import AuditEntry, decode_entry, encode_entry, entry_hash, genesis
from libstaragent.security.audit_check import AuditCheck
from libstaragent.testing.referee import Referee

FLEET = "0" * 64
When = Literal["with", "before", "after"]


class _Stored(Protocol):
    """A job in the store, as far as its end goes."""

    @property
    def whole(self) -> bool:
        """Whether each target has ended."""
        ...


class SimAudit:
    """See the module."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, bytes, bytes]] = []

    def append(self, decision: Decision, *, known: Iterable[str], now_ms: int) -> None:
        """The entries of a decision; jobs that are `known` are there already."""
        there = set(known)
        entries = [
            AuditEntry(act="exec", outcome="accepted", subject=job.id)
            for job in decision.new_jobs
            if job.id not in there
        ]
        entries += [AuditEntry(act="end", outcome="ended", subject=job.id) for job in decision.finished]
        for entry in entries:
            previous = self.rows[-1][3] if self.rows else genesis(FLEET)
            seq, body = len(self.rows) + 1, encode_entry(entry)
            at_ms = max(now_ms, self.rows[-1][1]) if self.rows else now_ms
            self.rows.append((seq, at_ms, body, entry_hash(previous, seq, at_ms, body)))


def check_audit(audit: SimAudit, jobs: Mapping[str, _Stored], referee: Referee) -> None:
    """Whether each job that is stored has one entry, each that ended another, and no entry is without its job."""
    check = AuditCheck(FLEET)
    check.feed(audit.rows)
    for finding in check.findings:
        referee.breaks("the audit is one chain", finding.text)
    entries = [entry for row in audit.rows if (entry := decode_entry(row[2])) is not None]
    for act, expected in (
        ("exec", Counter(jobs)),
        ("end", Counter(identity for identity, stored in jobs.items() if stored.whole)),
    ):
        told = Counter(entry.subject for entry in entries if entry.act == act)
        expected = Counter(dict.fromkeys(expected, 1))
        for identity in sorted((told - expected).keys()):
            referee.breaks("no entry of the audit without its job", f"{act} of {identity}: {told[identity]} entries")
        for identity in sorted((expected - told).keys()):
            referee.breaks("no job without its entry in the audit", f"{act} of {identity}")
