"""Bulk inserts: SQL compiled once by SQLAlchemy, then given many rows in one statement.

Not here: what to insert, and when. Rules: rows are tuples in the order of the table's columns.

Many rows a statement and not `executemany`: the driver lets go of the interpreter's lock once a statement, and
executemany is a statement a row. Beside a busy event loop each row then waits for its turn: 3,500 rows/s were
measured where one statement a thousand rows makes 26,000 to 46,000; alone, 100,000 and 175,000.
"""

from __future__ import annotations

__all__ = ("LADDER", "BulkInsert")

from collections.abc import Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Dialect, Table

from agentd.store.dialect import insert_or_ignore

# Rows a statement. The largest times the widest table's 25 columns stays below SQLite's 32,766 variables; each is a
# quarter of the one before, so any number of rows is few statements and few shapes to keep compiled.
LADDER = (1024, 256, 64, 16, 4, 1)


class BulkInsert:
    """Inserts into one table, ignoring what is there; with `returning`, gives that column of each row that was new."""

    def __init__(self, dialect: Dialect, table: Table, *, returning: str | None = None) -> None:
        insert = insert_or_ignore(dialect, table)
        if returning is not None:
            insert = insert.returning(table.c[returning])
        compiled = insert.compile(dialect=dialect)
        order = list(compiled.positiontup or ())
        if order != [column.name for column in table.columns]:
            raise AssertionError(f"parameters of {table.name} are not in the order of its columns: {order}")
        head, values, rest = str(compiled).partition(" VALUES (")
        row, conflict, tail = rest.rpartition(") ON CONFLICT")
        self._shapes = {rows: f"{head}{values}{'), ('.join([row] * rows)}{conflict}{tail}" for rows in LADDER}
        self._returning = returning is not None

    def __call__(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Insert `rows`; what was new, if that was asked for."""
        new: list[Any] = []
        at = 0
        for size in LADDER:
            while len(rows) - at >= size:
                parameters = tuple(chain.from_iterable(rows[at : at + size]))
                result = connection.exec_driver_sql(self._shapes[size], parameters)
                if self._returning:
                    new.extend(value for (value,) in result)
                at += size
        return new
