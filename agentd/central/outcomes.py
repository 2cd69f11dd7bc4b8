"""Errors as data: how many targets ended how, by state, code, room and version of the agent, over time.

    target ends ─▶ minute bucket (kept an hour) and hour bucket (kept 30 days), in the commit that stores the target
                └▶ totals since the start, for /metrics

Not here: SQL (`agentd.store`), the answers (`api.outcomes`). Rules: counted when a target gets its one terminal state,
by whoever gives it: host, room or central; a later amendment changes no count. Versions and codes are what hosts say:
a code counts as itself only if the catalogue has it, and of versions and of combinations only so many are told apart;
the rest is `other`. So neither the table nor the labels grow with what a hostile host says.
"""

from __future__ import annotations

__all__ = ("COMBINATIONS_MAX", "HOUR_MS", "KEPT_MS", "MINUTE_MS", "OTHER", "VERSIONS_MAX", "Key", "Outcomes")

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from agentd.central.directory import Directory
from agentd.store.ops import CountOutcomes, Op, PruneOutcomes
from libstaragent import codes
from libstaragent.roles.central_state import Ended, HostState

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
# How long a bucket of each width is kept: an hour in minutes, 30 days in hours. 780 buckets at most.
KEPT_MS = {MINUTE_MS: HOUR_MS, HOUR_MS: 30 * 24 * HOUR_MS}
# Versions that are told apart: a fleet that is being upgraded has two or three, one that is neglected ten.
VERSIONS_MAX = 32
VERSION_LENGTH_MAX = 64
# Combinations of state, code, room and version that this process tells apart. A bad day of a large fleet has some
# dozens; 780 buckets of so many rows are at worst 40 MB.
COMBINATIONS_MAX = 512
OTHER = "other"


class Key(NamedTuple):
    """What is counted apart. `code` is empty for a target that ended without one."""

    room: str
    version: str
    state: str
    code: str


class Outcomes:
    """See the module. `totals` are counts since this process started."""

    def __init__(self, hosts: Directory, states: Mapping[str, HostState]) -> None:
        self._hosts = hosts
        self._states = states
        self._codes = frozenset(codes.catalogue())
        self._versions: dict[str, None] = {}
        self._combinations: set[Key] = set()
        self.totals: Counter[Key] = Counter()

    def ops(self, ended: Iterable[Ended], now_ms: int) -> list[Op]:
        """What the end of these targets adds to the buckets of now."""
        counts = Counter(self._key(entry) for entry in ended)
        if not counts:
            return []
        rows = tuple((key.room, key.version, key.state, key.code, count) for key, count in sorted(counts.items()))
        ops: list[Op] = [CountOutcomes(span, now_ms - now_ms % span, rows) for span in KEPT_MS]
        return ops

    def committed(self, ended: Iterable[Ended]) -> None:
        """The same targets, once that is on disk."""
        for entry in ended:
            self.totals[self._key(entry)] += 1

    @staticmethod
    def pruning(now_ms: int) -> Op:
        """What takes away the buckets whose time is over."""
        return PruneOutcomes(tuple((span, now_ms - kept) for span, kept in KEPT_MS.items()))

    def _key(self, entry: Ended) -> Key:
        record = self._hosts.get(entry.agent)
        state = self._states.get(entry.agent)
        code = entry.result.code or ""
        key = Key(
            room="" if record is None else record.room,
            version=self._version("" if state is None else state.version),
            state=entry.result.state,
            code=code if not code or code in self._codes else OTHER,
        )
        if key in self._combinations:
            return key
        if len(self._combinations) >= COMBINATIONS_MAX:
            return Key(OTHER, OTHER, key.state, OTHER)
        self._combinations.add(key)
        return key

    def _version(self, version: str) -> str:
        if version in self._versions or not version:
            return version
        if len(self._versions) >= VERSIONS_MAX or len(version) > VERSION_LENGTH_MAX or not version.isprintable():
            return OTHER
        self._versions[version] = None
        return version
