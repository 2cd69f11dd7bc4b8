"""Many names as few words: ``web01 web02 web03`` → ``web[01-03]``. Reading them back is `libstaragent.targets.parse`.

The folding of numbers is ClusterShell's RangeSet. Not its RangeSetND: that takes 12 s for 3,000 scattered names with
two numbers. Not its NodeSet: that reads a configuration file of the machine's on import, would fold by it, and gives
``@ ! & [`` in a host's name a meaning. Imported on the first call, since the agent never folds; by name, since it has
no types to check against.
"""

from __future__ import annotations

__all__ = ("fold",)

from collections.abc import Iterable
from importlib import import_module
from itertools import groupby

from libstaragent.targets.grammar import is_reserved
from libstaragent.targets.limits import MAX_NUMBER_DIGITS, MAX_RANGES

_DIGITS = frozenset("0123456789")


def fold(names: Iterable[str]) -> str:
    """The names, each once, as one target expression with ranges, sorted; the empty string for none."""
    shapes: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for name in set(names):
        shape, numbers = _split(name)
        shapes.setdefault(shape, []).append(numbers)
    words: list[str] = []
    for shape in sorted(shapes):
        words.extend(_folded(shape, shapes[shape]))
    return ",".join(f"name={word}" if is_reserved(word) else word for word in words)


def _split(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """``web01-3`` as ("web", "-", "") and ("01", "3"): only the last numbers of a name that has many."""
    pieces = [(digits, "".join(run)) for digits, run in groupby(name, _DIGITS.__contains__)]
    foldable = [i for i, (digits, run) in enumerate(pieces) if digits and len(run) <= MAX_NUMBER_DIGITS][-MAX_RANGES:]
    shape = [""]
    numbers: list[str] = []
    for index, (_, run) in enumerate(pieces):
        if index in foldable:
            numbers.append(run)
            shape.append("")
        else:
            shape[-1] += run
    return tuple(shape), tuple(numbers)


def _folded(shape: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """One number after the other, from the last: names that differ in it alone become one, and then may agree."""
    if len(rows) == 1:
        return [_written(shape, rows[0])]
    range_set = import_module("ClusterShell.RangeSet").RangeSet
    for axis in range(len(shape) - 2, -1, -1):
        alike: dict[tuple[str, ...], list[str]] = {}
        for row in sorted(rows):
            alike.setdefault((*row[:axis], *row[axis + 1 :]), []).append(row[axis])
        rows = [(*others[:axis], str(range_set.fromlist(numbers)), *others[axis:]) for others, numbers in alike.items()]
    return [_written(shape, row) for row in rows]


def _written(shape: tuple[str, ...], numbers: tuple[str, ...]) -> str:
    text = shape[0]
    for number, after in zip(numbers, shape[1:], strict=True):
        text += (number if number.isdecimal() else f"[{number}]") + after
    return text
