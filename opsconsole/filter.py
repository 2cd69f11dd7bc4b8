"""The grammar of ``/``: what one types to see fewer rows or lines.

    /web        lines where the regular expression matches, in any case; an upper-case letter makes case count
    /!web       lines where it does not match
    /-f wb1     fuzzy: the letters in this order, with anything between

It is not the target expression language: it only narrows what is shown and never what is acted on.

Rules: pure; a pattern that cannot be read is SA-1022 with its reason, and the filter before it stays in force.
Patterns are the operator's own, and lines are at most `sanitize.MAX_LINE` long.
"""

from __future__ import annotations

__all__ = ("NO_FILTER", "Filter", "parse_filter")

import re
from collections.abc import Callable
from dataclasses import dataclass

from libstaragent.codes import FILTER_SYNTAX


@dataclass(frozen=True, slots=True)
class Filter:
    """`source` as it was typed, and whether a text passes it."""

    source: str
    matches: Callable[[str], bool]

    def __bool__(self) -> bool:
        return bool(self.source)


def _everything(_text: str) -> bool:
    return True


NO_FILTER = Filter("", _everything)


def parse_filter(source: str) -> Filter:
    """Read what was typed after ``/``.

    Raises:
        UsageError: SA-1022, the pattern cannot be read.
    """
    typed = source.strip()
    if not typed or typed == "!":
        return NO_FILTER
    if typed == "-f" or typed.startswith("-f "):
        letters = typed[2:].strip()
        if not letters:
            return NO_FILTER
        pattern = ".*?".join(re.escape(letter) for letter in letters if not letter.isspace())
        return Filter(typed, _searcher(pattern, letters, inverted=False))
    inverted = typed.startswith("!")
    pattern = typed[1:] if inverted else typed
    return Filter(typed, _searcher(pattern, pattern, inverted=inverted))


def _searcher(pattern: str, typed: str, *, inverted: bool) -> Callable[[str], bool]:
    # A backslash class (\W) is no upper-case letter.
    case_counts = any(letter.isupper() for letter in re.sub(r"\\.", "", typed))
    try:
        search = re.compile(pattern, 0 if case_counts else re.IGNORECASE).search
    except (re.error, OverflowError, RecursionError) as error:
        raise FILTER_SYNTAX.error(f"{pattern}: {error}") from None
    if inverted:
        return lambda text: search(text) is None
    return lambda text: search(text) is not None
