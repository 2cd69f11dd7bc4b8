"""Bulk inserts: SQL compiled once by SQLAlchemy, then given many rows in one statement.

Not here: what to insert, and when. Rules: rows are tuples in the order of the table's columns; of two rows with one
key the first stays, in a statement as in the table.

Many rows a statement and not `executemany`: the driver lets go of the interpreter's lock once a statement, and
executemany is a statement a row. Beside a busy event loop each row then waits for its turn: 3,500 rows/s were
measured where one statement for hundreds of rows makes 16,000 to 46,000; alone, 100,000 and 175,000.

The driver's cursor and not SQLAlchemy's: around a statement that is compiled already that is 40 µs of nothing.

Rows go in the order of their keys, which halves the work in the tree, and those whose last columns are at their
defaults (`usual` counts the columns before) go without them, which halves it again: binding a value costs a tenth of
a µs.
"""

from __future__ import annotations

__all__ = ("LADDER", "BulkInsert", "Increment")

from collections.abc import Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Dialect, Insert, Table

from agentd.store.dialect import increment, insert_or_ignore, insert_or_refresh

# Rows a statement. The largest times the widest table's 25 columns stays below SQLite's 32,766 variables; each is a
# quarter of the one before, so any number of rows is few statements and few shapes to keep compiled.
LADDER = (1024, 256, 64, 16, 4, 1)

_Row = tuple[Any, ...]


class BulkInsert:
    """Inserts into one table, ignoring what is there.

    :param returning: a column; the call gives its value in each row that was new.
    :param ignoring: whether a row that is there already is left as it is; else the database refuses the statement.
    :param newest: a column of a row that is there already, which gets the new row's value.
    :param usual: how many columns to write of a row whose others equal `defaults`.
    """

    def __init__(
        self,
        dialect: Dialect,
        table: Table,
        *,
        returning: str | None = None,
        ignoring: bool = True,
        newest: str | None = None,
        usual: int | None = None,
        defaults: _Row = (),
    ) -> None:
        self._key = [column.name for column in table.columns].index(list(table.primary_key)[-1].name) + 1
        self._returning = returning is not None
        self._usual = usual
        self._defaults = defaults
        self._whole_shapes = _shapes(dialect, table, len(table.columns), returning, ignoring, newest)
        self._usual_shapes = _shapes(dialect, table, usual, returning, ignoring, newest) if usual is not None else {}

    def __call__(self, connection: Connection, rows: Sequence[_Row]) -> list[Any]:
        """Insert `rows`; what was new, if that was asked for."""
        if not rows:
            return []
        by_key = {row[: self._key]: row for row in reversed(rows)}
        ordered = [row for _, row in sorted(by_key.items())]
        usual = self._usual
        if usual is None:
            return self._insert(connection, ordered, self._whole_shapes)
        lean = [row[:usual] for row in ordered if row[usual:] == self._defaults]
        whole = [row for row in ordered if row[usual:] != self._defaults] if len(lean) < len(ordered) else []
        new = self._insert(connection, lean, self._usual_shapes)
        return new + self._insert(connection, whole, self._whole_shapes)

    def in_order(self, connection: Connection, rows: list[_Row]) -> None:
        """Insert whole `rows` that are in the order of their keys, each once."""
        self._insert(connection, rows, self._whole_shapes)

    def _insert(self, connection: Connection, rows: list[_Row], shapes: dict[int, str]) -> list[Any]:
        new: list[Any] = []
        at = 0
        cursor = connection.connection.cursor()
        try:
            for size in LADDER:
                while len(rows) - at >= size:
                    cursor.execute(shapes[size], tuple(chain.from_iterable(rows[at : at + size])))
                    if self._returning:
                        new.extend(row[0] for row in cursor.fetchall())
                    at += size
        finally:
            cursor.close()
        return new


class Increment:
    """Adds `counter` of each row to that of the row with the same primary key, or inserts it."""

    def __init__(self, dialect: Dialect, table: Table, counter: str) -> None:
        names = [column.name for column in table.columns]
        self._statement = _positional(increment(dialect, table, counter), dialect, table, names)

    def __call__(self, connection: Connection, rows: Sequence[_Row]) -> None:
        """Add them; no key twice."""
        cursor = connection.connection.cursor()
        try:
            for row in rows:
                cursor.execute(self._statement, row)
        finally:
            cursor.close()


def _shapes(
    dialect: Dialect, table: Table, count: int, returning: str | None, ignoring: bool, newest: str | None
) -> dict[int, str]:
    """The statement for each size of LADDER, with the first `count` columns."""
    names = [column.name for column in table.columns][:count]
    if newest is not None:
        insert = insert_or_refresh(dialect, table, names, newest)
    else:
        insert = insert_or_ignore(dialect, table, names) if ignoring else table.insert().values(dict.fromkeys(names))
    if returning is not None:
        insert = insert.returning(table.c[returning])
    head, values, rest = _positional(insert, dialect, table, names).partition(" VALUES (")
    row, conflict, tail = rest.rpartition(") ON CONFLICT" if ignoring else ")")
    return {rows: f"{head}{values}{'), ('.join([row] * rows)}{conflict}{tail}" for rows in LADDER}


def _positional(insert: Insert, dialect: Dialect, table: Table, names: list[str]) -> str:
    compiled = insert.compile(dialect=dialect, column_keys=names)
    if list(compiled.positiontup or ()) != names:
        raise AssertionError(f"parameters of {table.name} are not in the order of its columns: {compiled.positiontup}")
    return str(compiled)
