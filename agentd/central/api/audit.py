"""The audit over HTTP: pages of entries, and its head. And what of each request's answer goes with it: the header with
the head, the entry of a refusal.

Not here: checking the chain, which is the client's to do (`libstaragent.client.audit`): it has the bytes that are
hashed. Rules: reads need a login like all others; a page that looks for something may be short, and `next` says where
it goes on.
"""

from __future__ import annotations

__all__ = ("AuditApi",)

import asyncio
import logging

from agentd.central.api.call import Call, Reply
from agentd.central.service import Central
from agentd.store.audit_reader import AuditPageRows, AuditSought
from agentd.store.store import Store
from libstaragent import codes
from libstaragent.errors import Bug, DependencyFailed, ResourceShort, StarAgentError
from libstaragent.model.api import AUDIT_HEAD_HEADER, AuditHead, AuditPage, AuditRow

log = logging.getLogger("agentd.central.api")

# These say nothing about who asked or what for.
_NOT_JUDGED = (Bug, DependencyFailed, ResourceShort)

DEFAULT_PAGE = 100
# Some 600 bytes of JSON an entry.
MAX_PAGE = 5000
MAX_SEQ = 1 << 53

_HEADER_NAME = AUDIT_HEAD_HEADER.encode()


class AuditApi:
    """See the module. `key` is the public audit key, which signs checkpoints."""

    def __init__(self, central: Central, store: Store, *, key: bytes) -> None:
        self._central = central
        self._store = store
        self._key = key
        self._header: tuple[int, tuple[bytes, bytes]] = (-1, (_HEADER_NAME, b""))

    async def listed(self, call: Call) -> Reply:
        """GET /v1/audit"""
        limit = call.number("limit", DEFAULT_PAGE, low=1, high=MAX_PAGE)
        after = call.number("after", -1, low=0, high=MAX_SEQ)
        if after >= 0:
            page = await asyncio.to_thread(self._store.audit.after, after, limit)
        else:
            before = call.number("before", 0, low=1, high=MAX_SEQ) or None
            page = await asyncio.to_thread(self._store.audit.before, before, limit, self._sought(call))
        return Reply(_page(page))

    async def head(self, call: Call) -> Reply:
        """GET /v1/audit/head"""
        checkpoints = await asyncio.to_thread(self._store.audit.checkpoints)
        end = self._store.audit_end
        if end is None:
            raise codes.STORE_BUSY.error("the audit's end is being read again")
        return Reply(
            AuditHead(seq=end.seq, hash=end.hash, at_ms=end.at_ms, key=self._key, checkpoints=tuple(checkpoints))
        )

    def header(self) -> tuple[bytes, bytes]:
        """The newest entry as a header of an answer."""
        end = self._store.audit_end
        if end is not None and end.seq != self._header[0]:
            self._header = (end.seq, (_HEADER_NAME, b"%d:%s" % (end.seq, end.hash.hex().encode())))
        return self._header[1]

    async def refused(self, call: Call, error: StarAgentError) -> None:
        """What was asked for by proof or envelope is not done; what central had no means to judge is no refusal."""
        if call.claim is None or isinstance(error, _NOT_JUDGED):
            return
        try:
            await self._central.refused.tell(call.claim, error, source=call.address)
        except Exception:
            # Whoever asked hears why it was refused, whatever becomes of our books.
            log.exception("%s: a refusal is not in the audit", codes.CENTRAL_BUG.code)

    def _sought(self, call: Call) -> AuditSought:
        agent, jobs = "", ()
        host = call.text("host")
        if host:
            agent = self._central.hosts.find(host).id
            jobs = tuple(job.id for job in self._central.core.jobs.values() if job.open and agent in job.members)
        return AuditSought(
            since_ms=call.number("since_ms", 0, low=0, high=MAX_SEQ),
            operator=call.text("operator"),
            refused=call.flag("refused"),
            agent=agent,
            open_jobs=jobs,
        )


def _page(page: AuditPageRows) -> AuditPage:
    rows = tuple(
        AuditRow(
            seq=row.seq,
            at_ms=row.at_ms,
            body=row.body,
            hash=row.hash,
            # A database keeps in a column whatever was put there.
            operator=str(row.operator),
            subject=str(row.subject),
            refused=bool(row.refused),
        )
        for row in page.rows
    )
    return AuditPage(entries=rows, next=page.next)
