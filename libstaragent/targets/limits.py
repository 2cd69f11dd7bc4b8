"""What a target expression may cost, and why each bound is where it is."""

from __future__ import annotations

__all__ = (
    "MAX_DEPTH",
    "MAX_EXPANDED",
    "MAX_GROUP_DEPTH",
    "MAX_NUMBER_DIGITS",
    "MAX_RANGES",
    "MAX_SCANS",
    "MAX_TEXT",
    "MAX_WILD_SPANS",
)

# Four thousand host names of sixteen symbols; past that an operator means a group.
MAX_TEXT = 65_536

# Parentheses and `!` nest by recursion; nobody reads deeper, and Python's stack stays far away.
MAX_DEPTH = 32

# Groups name groups: site → row → rack → role is four.
MAX_GROUP_DEPTH = 16

# Names that ranges and lists stand for, over the whole expression: four times the largest fleet planned for.
MAX_EXPANDED = 65_536

# Terms that must look at every host (globs, facts, networks, groups): 256 over 10,000 hosts is seconds, not minutes.
MAX_SCANS = 256

# Brackets in one name: row, rack, unit, and one to spare.
MAX_RANGES = 4

# Digits of a number in a range: enough for any serial number that people give hosts, and int() stays cheap.
MAX_NUMBER_DIGITS = 9

# Ranges in a name that also holds wildcards: there each place of each host's name is tried against each of them.
MAX_WILD_SPANS = 16
