"""How often a rule was used: the last jobs of each operator under each rule that has a rate.

Not here: which rule an act needs (`decision`). Rules: pure, `now_ms` is an argument. In memory alone: a control plane
that starts again has counted nothing, so a rate is a brake for people and programs that run away, not a wall. The same
envelope again is counted once. What was used is counted when it is allowed, also if it comes to nothing afterwards.
"""

from __future__ import annotations

__all__ = ("MAX_COUNTED", "Rates")

from collections import OrderedDict, deque

from libstaragent.security.policy.model import Rate, Rule

# Pairs of operator and rule that are counted; the one that was used longest ago is forgotten first.
MAX_COUNTED = 8192


class Rates:
    """See the module."""

    def __init__(self) -> None:
        self._used: OrderedDict[tuple[str, str], deque[tuple[int, str]]] = OrderedDict()

    def has_room(self, rule: Rule, operator: str, envelope: str, now_ms: int) -> bool:
        """Whether `operator` may use `rule` once more, for `envelope`."""
        rate = rule.limits.rate
        used = self._used.get((rule.name, operator))
        if rate is None or used is None:
            return True
        _drop(used, rate, now_ms)
        return len(used) < rate.count or any(identity == envelope for _, identity in used)

    def count(self, rule: Rule, operator: str, envelope: str, now_ms: int) -> None:
        """It was used."""
        rate = rule.limits.rate
        if rate is None:
            return
        key = (rule.name, operator)
        used = self._used.setdefault(key, deque(maxlen=rate.count))
        self._used.move_to_end(key)
        if used.maxlen != rate.count:
            used = self._used[key] = deque(used, maxlen=rate.count)
        if not any(identity == envelope for _, identity in used):
            used.append((now_ms, envelope))
        if len(self._used) > MAX_COUNTED:
            self._used.popitem(last=False)


def _drop(used: deque[tuple[int, str]], rate: Rate, now_ms: int) -> None:
    while used and used[0][0] <= now_ms - rate.per_ms:
        used.popleft()
