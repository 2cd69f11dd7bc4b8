"""The writer's transactions: one connection for its life, and on SQLite no more around a transaction than BEGIN and
COMMIT.

SQLAlchemy's own way (check a connection out, its events, check it in with a rollback) is 75 µs a commit, more than what
a small commit writes; a control plane that answers one job at a time makes two commits a job.

Not here: what is written (`transaction`). Rules: used by the writer's thread alone; after any fault the connection is
let go, and the next transaction has a new one.
"""

from __future__ import annotations

__all__ = ("Writing",)

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from agentd.store.dialect import BEGIN


class Writing:
    """See the module."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lean = engine.dialect.name == "sqlite"
        self._connection: Connection | None = None

    @contextmanager
    def begin(self, *, lean: bool) -> Iterator[Connection]:
        """A transaction, committed at the end or undone by an exception. In a `lean` one nothing is executed through
        SQLAlchemy, only through the driver's cursors.
        """
        connection = self._connection
        if connection is None:
            connection = self._connection = self._engine.connect()
        try:
            if not (lean and self._lean):
                with connection.begin():
                    yield connection
                return
            driver = connection.connection.dbapi_connection
            assert driver is not None
            driver.execute(BEGIN).close()  # type: ignore[attr-defined]
            yield connection
            driver.commit()
        except BaseException:
            self._connection = None
            # Its return to the pool rolls back.
            connection.close()
            raise

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
