"""Where something stands in a TOML text, so that a complaint has a line and a column.

tomllib gives values and no places. This walks the lines once and notes where each table and key begins; a string that
goes over lines is skipped as a whole. Where it loses its way the place is that of the table: a complaint is never
about another one.

Not here: reading TOML. Rules: pure; any text gives places, in one pass.
"""

from __future__ import annotations

__all__ = ("Place", "Places", "half_character")

from msgspec import Struct

_QUOTES = ('"""', "'''")


class Place(Struct, frozen=True):
    """A position in the text, both from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


class Places:
    """See the module. Tables are counted by name: the second ``[[rule]]`` is ("rule", 1)."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._tables: dict[tuple[str, int], Place] = {}
        self._keys: dict[tuple[str, int, str], Place] = {}
        self._read()

    def of(self, table: str, index: int, key: str = "", value: str = "") -> Place:
        """Where `key` of the table stands, or `value` at or after it; the table where neither is found."""
        found = self._keys.get((table, index, key)) or self._tables.get((table, index)) or Place(1, 1)
        if value:
            for number in range(found.line, min(found.line + 200, len(self._lines) + 1)):
                start = found.column - 1 if number == found.line else 0
                at = self._lines[number - 1].find(value, start)
                if at >= 0:
                    return Place(number, at + 1)
                if number > found.line and self._lines[number - 1].lstrip().startswith("["):
                    break
        return found

    def _read(self) -> None:
        counts: dict[str, int] = {}
        table, index = "", 0
        inside = ""
        for number, line in enumerate(self._lines, 1):
            if inside:
                if inside in line:
                    inside = ""
                continue
            text = line.strip()
            column = len(line) - len(line.lstrip()) + 1
            if text.startswith("[[") or (text.startswith("[") and "=" not in text.partition("]")[0]):
                name = text.strip("[] \t").partition("]")[0].strip()
                top = name.partition(".")[0].strip()
                if text.startswith("[[") and "." not in name:
                    counts[name] = counts.get(name, -1) + 1
                # A table below another belongs to its last one.
                index = counts.get(top, 0)
                table = name
                self._tables.setdefault((table, index), Place(number, column))
                continue
            key, sign, rest = text.partition("=")
            if sign and not text.startswith("#"):
                name = key.strip().strip("\"'")
                self._keys.setdefault((table, index, name), Place(number, column))
                inside = next((quote for quote in _QUOTES if rest.count(quote) % 2), "")


def half_character(text: str) -> str:
    """Where half of a character stands, which could neither be written down again nor signed; empty where none does."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line, column = text.count("\n", 0, error.start) + 1, error.start - text.rfind("\n", 0, error.start)
        return f"line {line}, column {column}"
    return ""
