"""Refused acts into the audit: each before it is answered, or counted and told later (`refusals` says which).

Not here: what an entry says (`audit`). Rules: whoever is refused is answered whether or not the store takes the entry.
"""

from __future__ import annotations

__all__ = ("RefusedActs",)

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from agentd.central.audit import Claim, refused_entry
from agentd.central.refusals import REFUSALS_EVERY, Refusals
from agentd.central.trust import RosterBook
from agentd.store.ops import InsertAudit, Op
from libstaragent.errors import StarAgentError
from libstaragent.security.signed import Signed

# Acts on jobs that are recognised when they come again: they hold for a minute.
MAX_TAKEN = 4096

log = logging.getLogger("agentd.central")


class RefusedActs:
    """See the module. `write` puts ops into the store."""

    def __init__(
        self, trust: RosterBook, *, write: Callable[[Sequence[Op]], Awaitable[None]], now_ms: Callable[[], int]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._trust = trust
        self._write = write
        self._now_ms = now_ms
        self._refusals = Refusals()
        self._taken: dict[bytes, None] = {}
        self._told = self._loop.time()
        self._telling: asyncio.Task[None] | None = None

    async def tell(self, claim: Claim, error: StarAgentError, *, source: str) -> None:
        """Something was asked for and is not done."""
        known = self._trust.newest.operator_by_key(claim.signed.key) if claim.signed is not None else None
        operator = known.name if known is not None and claim.holds else ""
        if self._refusals.may_tell(operator=operator, source=source, code=error.code.code, now=self._loop.time()):
            await self._try([InsertAudit(refused_entry(claim, error, source=source), self._now_ms())])

    def was_taken(self, signed: Signed) -> bool:
        """Whether just this was taken before, as far as is known: whoever has it may send it again for as long as it
        holds, and has one entry for it.
        """
        return signed.signature in self._taken

    def taken(self, signed: Signed) -> None:
        """It is on disk."""
        self._taken[signed.signature] = None
        if len(self._taken) > MAX_TAKEN:
            del self._taken[next(iter(self._taken))]

    def tick(self) -> None:
        """Some time has passed."""
        if self._loop.time() - self._told >= REFUSALS_EVERY:
            self._told = self._loop.time()
            self._telling = self._loop.create_task(self.flush())

    async def flush(self) -> None:
        """Tell what was counted."""
        counted = self._refusals.counted()
        if counted:
            await self._try([InsertAudit(entry, self._now_ms()) for entry in counted])

    async def _try(self, ops: Sequence[Op]) -> None:
        try:
            await self._write(ops)
        except StarAgentError as failure:
            log.warning("refusals are not in the audit: %s", failure)
