"""Rows as aligned text columns.

Rules: every cell passes the sanitiser; no colour, no borders: it is read by `awk` too.
"""

from __future__ import annotations

__all__ = ("age", "table")

from collections.abc import Sequence

from opsconsole.sanitize import safe


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows under their heading, each column as wide as its widest cell; a dash where a cell is empty."""
    cells = [tuple(heading), *(tuple(safe(cell) or "-" for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heading))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "".join(f"{line}\n" for line in lines)


def age(then_ms: int, now_ms: int) -> str:
    """How long ago, in the largest unit that fits."""
    seconds = max(0, now_ms - then_ms) // 1000
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
