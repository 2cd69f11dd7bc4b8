"""The store: what the control plane must not forget. This page wires it: engines, migrations, the writer's thread,
the readers.

Not here: the parts themselves. Rules: `open` brings the tables up to date or refuses; writes go through `submit` or a
lane and are answered after their commit; reads are methods of `read`, for use in threads.
"""

from __future__ import annotations

__all__ = ("Store",)

import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from agentd.store.audit import ChainEnd, read_end
from agentd.store.audit_reader import AuditReader
from agentd.store.dialect import open_engines, store_error
from agentd.store.migrate import migrate
from agentd.store.reader import Reader
from agentd.store.retention import Prunable
from agentd.store.transaction import Submission, Transaction
from agentd.store.writer import MAX_QUEUED_BYTES, MAX_QUEUED_OPS, Lane, Writer
from libstaragent.errors import StarAgentError


class Store:
    """An open store. Made by `Store.open`; closed by `close` or by leaving its `with`."""

    def __init__(self, writer: Writer, transaction: Transaction, reading: Engine, dispose: Callable[[], None]) -> None:
        self._writer = writer
        self._transaction = transaction
        self._dispose = dispose
        self.read = Reader(reading)
        self.audit = AuditReader(reading)
        self.prunable = Prunable(reading)

    @classmethod
    def open(
        cls,
        url_or_path: str | os.PathLike[str],
        *,
        max_queued_ops: int = MAX_QUEUED_OPS,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
    ) -> Store:
        """Open the SQLite file at a path, or the database at a SQLAlchemy URL, and bring its tables up to date.

        :raises DependencyFailed: STORE_FAILED, with errno.
        :raises IntegrityError: STORE_DAMAGED, the file is damaged or is something else.
        :raises ProtocolError: STORE_NEWER, a later version has written it.
        """
        writing, reading = open_engines(url_or_path)

        transaction: Transaction | None = None

        def dispose() -> None:
            if transaction is not None:
                transaction.close()
            reading.dispose()
            writing.dispose()

        try:
            with writing.begin() as connection:
                migrate(connection)
            transaction = Transaction(writing)
            with reading.connect() as connection:
                transaction.audit.end = read_end(connection)
        except (DBAPIError, StarAgentError) as error:
            dispose()
            raise store_error(error) from error
        writer = Writer(transaction, max_ops=max_queued_ops, max_bytes=max_queued_bytes)
        return cls(writer, transaction, reading, dispose)

    def submit(self, submission: Submission) -> Future[None]:
        """Write all of `submission` or nothing. The future is resolved after the commit, in the writer's thread.

        :raises ResourceShort: STORE_BUSY, more is queued than may be held; nothing was taken.
        :raises DependencyFailed: STORE_CLOSED.
        """
        return self._writer.submit(submission)

    def lane(self, post: Callable[..., Any]) -> Lane:
        """A way to submit from an event loop; `post` is its ``call_soon_threadsafe``."""
        return Lane(self._writer, post)

    @property
    def audit_end(self) -> ChainEnd | None:
        """The newest entry of the audit that is on disk; None for a moment after a failed commit."""
        return self._transaction.audit.end

    @property
    def inserted(self) -> tuple[int, int, int]:
        """Jobs, bytes of outputs and entries of the audit that were written since the start; never too few."""
        end = self._transaction.audit.end
        return self._transaction.jobs, self._transaction.output_bytes, end.seq if end is not None else 0

    @property
    def queued(self) -> tuple[int, int]:
        """Ops and bytes that wait to be written, for metrics."""
        return self._writer.queued

    def close(self) -> None:
        """Write what is queued, then let go of the database. Closing twice does nothing more."""
        self._writer.close()
        self._dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
