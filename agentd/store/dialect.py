"""The seam to the database under the store: its engines, the inserts that ignore what is there, and its errors as
codes.

All that SQLite and PostgreSQL do differently is here. On SQLite: WAL, so that readers and the writer never wait for
each other; `synchronous=FULL`, so that a commit is on disk when it returns; one connection that writes.
"""

from __future__ import annotations

__all__ = ("BEGIN", "increment", "insert_or_ignore", "insert_or_refresh", "open_engines", "store_error", "upsert")

import errno
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Dialect, Engine, Insert, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from libstaragent import codes
from libstaragent.errors import StarAgentError

# As many reads at once as the API's thread pool is given; more wait for a connection.
READERS = 8

# How long to wait for another process that writes (a backup, a second central started by mistake).
BUSY_TIMEOUT_S = 5.0

# Between two tries of what SQLite does not wait for itself.
_BUSY_PAUSE_S = 0.01

# Twice SQLite's own: a batch of wide rows then costs a quarter less CPU, and a single row still writes little.
PAGE_BYTES = 8192

# 64 MiB: the inner pages of the large tables stay in memory.
CACHE_KIB = 65_536

# A transaction that turns from reading to writing may fail where one that begins as a writer waits.
BEGIN = "BEGIN IMMEDIATE"

# Statements that stay compiled in a connection: each bulk insert in each of its sizes, and the reads.
STATEMENTS = 256

_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.ENOENT,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_LOCKED: errno.EBUSY,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
}


def open_engines(url_or_path: str | os.PathLike[str]) -> tuple[Engine, Engine]:
    """The engine that writes, and the one that reads. A path is a SQLite file, made for its owner only if it is new.

    :raises DependencyFailed: STORE_FAILED, the file cannot be opened or made.
    """
    if isinstance(url_or_path, str) and "://" in url_or_path:
        url = make_url(url_or_path)
    else:
        url = URL.create("sqlite", database=os.fspath(url_or_path))
    if url.get_backend_name() != "sqlite":
        # Positional parameters, so that a row is a tuple on both.
        writer = create_engine(url, pool_size=1, max_overflow=0, paramstyle="format")
        return writer, create_engine(url, pool_size=READERS, max_overflow=0)
    _make_private(Path(url.database or ""))
    writer = _sqlite_engine(url, connections=1, begin=BEGIN, mode="journal_mode=WAL")
    return writer, _sqlite_engine(url, connections=READERS, begin="BEGIN", mode="query_only=ON")


def _make_private(path: Path) -> None:
    # Only a new file is touched: to close a descriptor of one that this process has open drops SQLite's locks on it.
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise codes.STORE_FAILED.error(f"{path}: {error.strerror}", errno=error.errno) from error


def _sqlite_engine(url: URL, *, connections: int, begin: str, mode: str) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        connect_args={
            "check_same_thread": False,
            "isolation_level": None,
            "timeout": BUSY_TIMEOUT_S,
            "cached_statements": STATEMENTS,
        },
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: Any) -> None:
        for pragma in (
            f"page_size={PAGE_BYTES}",
            mode,
            "synchronous=FULL",
            "foreign_keys=ON",
            f"cache_size=-{CACHE_KIB}",
        ):
            _patiently(connection, f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin_as_told(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _patiently(connection: sqlite3.Connection, statement: str) -> None:
    """Run what SQLite does not wait for by itself: turning to WAL while another process opens the same new file."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute(statement).close()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(_BUSY_PAUSE_S)


def insert_or_ignore(dialect: Dialect, table: Table, columns: Sequence[str]) -> Insert:
    """An insert of `columns` that does nothing for a row whose key, or other unique value, is there."""
    return _insert(dialect)(table).values(dict.fromkeys(columns)).on_conflict_do_nothing()


def insert_or_refresh(dialect: Dialect, table: Table, columns: Sequence[str], newest: str) -> Insert:
    """An insert of `columns` that gives a row whose key is there the new value of the column `newest` alone."""
    statement = _insert(dialect)(table).values(dict.fromkeys(columns))
    refreshed = {newest: statement.excluded[newest]}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=refreshed)


def upsert(dialect: Dialect, table: Table, key: str, values: dict[str, Any]) -> Insert:
    """An insert of `values` that updates the row with the same `key`, leaving columns that are not named."""
    rest = {name: value for name, value in values.items() if name != key}
    return _insert(dialect)(table).values(values).on_conflict_do_update(index_elements=[key], set_=rest)


def increment(dialect: Dialect, table: Table, counter: str) -> Insert:
    """An insert of one row that adds its `counter` to that of the row with the same primary key."""
    statement = _insert(dialect)(table)
    total = table.c[counter] + statement.excluded[counter]
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_={counter: total})


def _insert(dialect: Dialect) -> Any:
    return postgresql.insert if dialect.name == "postgresql" else sqlite.insert


def store_error(error: Exception) -> StarAgentError:
    """What the database refused, as a coded error; SQLite's own words are the detail."""
    if isinstance(error, StarAgentError):
        return error
    origin = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(origin, sqlite3.Error):
        primary = getattr(origin, "sqlite_errorcode", 0) & 0xFF
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return codes.STORE_DAMAGED.error(str(origin))
        if primary in _ERRNO:
            return codes.STORE_FAILED.error(str(origin), errno=_ERRNO[primary])
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return codes.STORE_FAILED.error(str(origin), errno=errno.ECONNRESET)
    return codes.STORE_REFUSED.error(f"{type(origin).__name__}: {origin}")
