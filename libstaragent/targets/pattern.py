"""A host name with ranges and wildcards in it: ``web[01-20].dc*``.

Not here: where such a pattern stands in an expression (`libstaragent.targets.grammar`).

Ranges mean what ClusterShell's do: ``[1-3,7,10-20/5]``, and a leading zero fixes the width (``[08-12]``). The
matcher is our own and not NodeSet, for two reasons: the agent judges one name on each signed envelope and NodeSet
costs it 34 ms and a configuration file of the machine's; and NodeSet expands first and asks later, so
``[0-999999999]`` would be a way to stop anyone. Here a pattern holds bounds, and matching walks the set of positions
reached so far: no backtracking, so the time is at most the product of the two lengths whatever is written.
"""

from __future__ import annotations

__all__ = ("ANY", "ONE", "Part", "Pattern", "Span")

from collections.abc import Iterator
from itertools import product

from msgspec import Struct

from libstaragent.targets.limits import MAX_NUMBER_DIGITS

_DIGITS = "0123456789"


class Span(Struct, frozen=True):
    """``first-last/step``; `width` is the fixed number of digits, 0 where numbers are written without leading zeros."""

    first: int
    last: int
    step: int
    width: int

    def __len__(self) -> int:
        return (self.last - self.first) // self.step + 1

    def __contains__(self, digits: str) -> bool:
        if self.width:
            if len(digits) != self.width:
                return False
        elif digits[0] == "0" and digits != "0":
            return False
        number = int(digits)
        return self.first <= number <= self.last and (number - self.first) % self.step == 0

    def numbers(self) -> Iterator[str]:
        """Each number as it is written."""
        for number in range(self.first, self.last + 1, self.step):
            yield str(number).zfill(self.width)


class _Wildcard(Struct, frozen=True):
    symbol: str


ANY = _Wildcard("*")
ONE = _Wildcard("?")

# Literal text, a bracket's spans, or a wildcard.
Part = str | tuple[Span, ...] | _Wildcard


class Pattern(Struct, frozen=True):
    """The parts of a name in their order."""

    parts: tuple[Part, ...]

    @property
    def literal(self) -> bool:
        """Whether it names each host that it means, so that an unknown one can be told."""
        return not any(isinstance(part, _Wildcard) for part in self.parts)

    def count(self) -> int:
        """How many names a literal pattern stands for, at most (two spans may overlap)."""
        total = 1
        for part in self.parts:
            if isinstance(part, tuple):
                total *= sum(len(span) for span in part)
        return total

    def names(self) -> Iterator[str]:
        """Each name that a literal pattern stands for; a name may come twice where spans overlap."""
        for combination in product(*(_written(part) for part in self.parts)):
            yield "".join(combination)

    def matches(self, name: str) -> bool:
        """Whether `name` is one of those meant."""
        reached = {0}
        for part in self.parts:
            reached = _step(part, name, reached)
            if not reached:
                return False
        return len(name) in reached


def _written(part: Part) -> list[str]:
    if isinstance(part, tuple):
        return [number for span in part for number in span.numbers()]
    return [part] if isinstance(part, str) else []


def _step(part: Part, name: str, reached: set[int]) -> set[int]:
    if isinstance(part, str):
        return {at + len(part) for at in reached if name.startswith(part, at)}
    if part is ANY or part == ANY:
        return set(range(min(reached), len(name) + 1))
    if isinstance(part, _Wildcard):
        return {at + 1 for at in reached if at < len(name)}
    ends: set[int] = set()
    for at in reached:
        end = at
        while end < len(name) and end - at < MAX_NUMBER_DIGITS and name[end] in _DIGITS:
            end += 1
            digits = name[at:end]
            if any(digits in span for span in part):
                ends.add(end)
    return ends
