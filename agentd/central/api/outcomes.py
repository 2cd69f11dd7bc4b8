"""Errors as data over HTTP: how targets ended, by code, room, version, state and time.

Not here: counting (`central.outcomes`). Rules: read from the store, beside the loop; times up to an hour ago are told
by the minute, longer ones by the hour, so `since` is answered from the beginning of its bucket.
"""

from __future__ import annotations

__all__ = ("OutcomesApi",)

import asyncio

from agentd.central.api.call import Call, Reply
from agentd.central.outcomes import HOUR_MS, KEPT_MS, MINUTE_MS
from agentd.central.service import Central
from agentd.store.reader import Reader
from libstaragent import codes
from libstaragent.model.api import OUTCOME_GROUPS, OutcomeRow, Outcomes

# 30 days by the hour, of some thirty rooms and versions.
ROWS_MAX = 20_000
COLUMNS = {"time": "start_ms"}


class OutcomesApi:
    """See the module."""

    def __init__(self, central: Central, read: Reader) -> None:
        self._central = central
        self._read = read

    async def listed(self, call: Call) -> Reply:
        """GET /v1/outcomes"""
        now_ms = self._central.now_ms()
        since_ms = call.number("since", max(0, now_ms - HOUR_MS), low=0, high=(1 << 53) - 1)
        by = tuple(name for name in call.text("by", "code").split(",") if name)
        if not by or len(set(by)) != len(by) or not set(by) <= set(OUTCOME_GROUPS):
            raise codes.REQUEST_MALFORMED.error(f"by is not some of {', '.join(OUTCOME_GROUPS)}")
        span_ms = MINUTE_MS if now_ms - since_ms <= KEPT_MS[MINUTE_MS] else HOUR_MS
        since_ms = max(since_ms, now_ms - KEPT_MS[span_ms])
        begin_ms = since_ms - since_ms % span_ms
        found = await asyncio.to_thread(
            self._read.outcomes, span_ms, begin_ms, [COLUMNS.get(name, name) for name in by], limit=ROWS_MAX + 1
        )
        rows = tuple(
            OutcomeRow(
                start_ms=row.start_ms,
                room=row.room,
                version=row.version,
                state=row.state,
                code=row.code,
                targets=row.targets or 0,
                ok=row.ok or 0,
            )
            for row in found[:ROWS_MAX]
        )
        return Reply(
            Outcomes(since_ms=begin_ms, until_ms=now_ms, span_ms=span_ms, rows=rows, cut=len(found) > ROWS_MAX)
        )
