"""How many refusals are told one by one: what strangers send must not fill the audit.

A refusal is an entry of its own while there is a token for it in two buckets: that of who asked (an operator whose
signature held, or else the address), and, for strangers, that of all strangers together. What finds none is counted by
its address and told in one entry every few minutes: "1234 refused from 192.0.2.7". So a flood costs the disk some
11,000 entries a day, and an operator's own mistakes are told one by one.

Not here: entries (`audit`), writing. Rules: pure; `now` is monotonic seconds.
"""

from __future__ import annotations

__all__ = ("REFUSALS_EVERY", "Refusals")

from collections import Counter

from libstaragent.security.audit import AuditEntry

# Of one operator: a script that is wrong for a while, told call by call; then one in two seconds.
OPERATOR_BURST, OPERATOR_RATE = 60.0, 0.5
# Of one address that is no operator, and of all of them.
SOURCE_BURST, SOURCE_RATE = 10.0, 1 / 60
STRANGERS_BURST, STRANGERS_RATE = 30.0, 0.1
# Buckets that are kept; the one that was used longest ago is forgotten, full.
MAX_BUCKETS = 1024
# Addresses that are counted apart until the next telling; the others together.
MAX_COUNTED = 1024
# Told together at once: the worst addresses, and the rest in one.
MAX_TOLD = 8
REFUSALS_EVERY = 300.0
OTHERS = "others"


class Refusals:
    """See the module."""

    def __init__(self) -> None:
        self._buckets: dict[str, tuple[float, float]] = {}
        self._counted: Counter[str] = Counter()
        self._codes: dict[str, str] = {}

    def may_tell(self, *, operator: str, source: str, code: str, now: float) -> bool:
        """Whether this one is an entry of its own; else it is counted. `operator` is empty for strangers."""
        if operator:
            told = self._take(f"operator {operator}", OPERATOR_BURST, OPERATOR_RATE, now)
        else:
            told = self._take(f"source {source}", SOURCE_BURST, SOURCE_RATE, now) and self._take(
                "strangers", STRANGERS_BURST, STRANGERS_RATE, now
            )
        if not told:
            key = source if source in self._counted or len(self._counted) < MAX_COUNTED else OTHERS
            self._counted[key] += 1
            self._codes[key] = code
        return told

    def counted(self) -> list[AuditEntry]:
        """What was only counted since the last call, as few entries."""
        if not self._counted:
            return []
        worst = [(source, count) for source, count in self._counted.most_common() if source != OTHERS]
        rest = sum(count for _, count in worst[MAX_TOLD - 1 :]) + self._counted[OTHERS]
        told = worst[: MAX_TOLD - 1] + ([(OTHERS, rest)] if rest else [])
        entries = [
            AuditEntry(
                act="refusals",
                outcome="refused",
                code=self._codes.get(source, ""),
                source=source,
                text=f"{count} refused from {source}",
                count=count,
            )
            for source, count in told
        ]
        self._counted.clear()
        self._codes.clear()
        return entries

    def _take(self, key: str, burst: float, rate: float, now: float) -> bool:
        left, at = self._buckets.pop(key, (burst, now))
        left = min(burst, left + (now - at) * rate)
        self._buckets[key] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        return left >= 1
