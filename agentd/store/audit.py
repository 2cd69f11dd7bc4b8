"""Writing the audit: number, time and hash of entries, given in the transaction that holds what they tell of.

Not here: what an entry says (`central.audit`), the chain's definition (`libstaragent.security.audit`). Rules: the
writer's thread alone appends, so the chain's end is remembered between commits; what was not committed is forgotten,
and the end read again. A number that is there already fails the statement: another process appends to this store.
"""

from __future__ import annotations

__all__ = (
    "FLEET_KEY",
    "AuditWriter",
    "ChainEnd",
    "read_end",
)

from collections.abc import Iterable

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Dialect, select

from agentd.store import ops, schema
from agentd.store.statements import BulkInsert
from libstaragent.security.audit import encode_entry, entry_hash, genesis, open_checkpoint
from libstaragent.security.signed import Signed

# Where `meta` has the fleet's fingerprint, to which the first entry is bound.
FLEET_KEY = "root"

_signed = msgspec.msgpack.Decoder(Signed)


class ChainEnd(Struct, frozen=True):
    """The newest entry: its number, when it was written, and its hash; number 0 is the genesis."""

    seq: int
    at_ms: int
    hash: bytes


class AuditWriter:
    """See the module. `end` is the committed end of the chain, None before it was first looked at; any thread reads
    it.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._insert = BulkInsert(dialect, schema.audit, ignoring=False)
        self.end: ChainEnd | None = None
        self._next: ChainEnd | None = None

    @property
    def is_known(self) -> bool:
        """Whether the end of the chain need not be read."""
        return self.end is not None and self.end.seq > 0

    def append(self, connection: Connection, written: Iterable[ops.InsertAudit]) -> None:
        """Chain these entries, in their order, to the end."""
        # Before the first entry the fleet may not have been known.
        end = self.end
        if end is None or not self.is_known:
            end = read_end(connection)
        seq, at_ms, digest = end.seq, end.at_ms, end.hash
        rows: list[tuple[object, ...]] = []
        for op in written:
            entry = op.entry
            body = encode_entry(entry)
            seq += 1
            at_ms = max(at_ms, op.at_ms)
            digest = entry_hash(digest, seq, at_ms, body)
            rows.append((seq, at_ms, entry.operator, entry.subject, entry.outcome == "refused", body, digest))
        self._insert.in_order(connection, rows)
        self._next = ChainEnd(seq, at_ms, digest)

    def committed(self) -> None:
        """What was appended is on disk."""
        if self._next is not None:
            self.end, self._next = self._next, None

    def undone(self) -> None:
        """It is not, or nobody knows: the end is read again."""
        self.end = self._next = None


def read_end(connection: Connection) -> ChainEnd:
    """The end of the chain as the database has it."""
    audit = schema.audit
    newest = select(audit.c.seq, audit.c.at_ms, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)
    row = connection.execute(newest).first()
    if row is not None:
        return ChainEnd(row[0], row[1], row[2])
    pruned = select(schema.checkpoints.c.signed).order_by(schema.checkpoints.c.upto.desc()).limit(1)
    signed = connection.execute(pruned).scalar_one_or_none()
    if signed is not None:
        checkpoint = open_checkpoint(_signed.decode(signed))
        return ChainEnd(checkpoint.upto, checkpoint.upto_ms, checkpoint.hash)
    fleet = connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == FLEET_KEY)).scalar_one_or_none()
    return ChainEnd(0, 0, genesis((fleet or b"").decode()))
