"""Hosts over HTTP: list, look, and what an expression means now.

Rules: answered from memory; choosing may take long, so it is done beside the loop, one at a time. A client freezes and
signs what `resolve` says; it is the list it shows its operator, and agents do not rely on it.
"""

from __future__ import annotations

__all__ = ("HostsApi",)

import asyncio
import logging
from bisect import bisect_right

from agentd.central.api.call import Call, Reply
from agentd.central.audit import Claim, act_entry
from agentd.central.service import Central
from agentd.store.ops import InsertAudit
from libstaragent import codes, targets
from libstaragent.model.api import HostPage, Resolved
from libstaragent.security.acts import ResolveClone, act_name
from libstaragent.security.signed import MAX_JSON, signed_from_json

log = logging.getLogger("agentd.central")

DEFAULT_PAGE = 1000
# About 500 bytes of JSON a host: the fleet of 10,000 in one answer of 5 MB, which a console asks for once.
MAX_PAGE = 10_000


class HostsApi:
    """See the module."""

    def __init__(self, central: Central) -> None:
        self._central = central
        # The worst expression over the largest fleet takes a minute: it may hold up the next, and nothing else.
        self._choosing = asyncio.Lock()

    async def listed(self, call: Call) -> Reply:
        """GET /v1/hosts"""
        limit = call.number("limit", DEFAULT_PAGE, low=1, high=MAX_PAGE)
        hosts = self._central.hosts
        records = hosts.ordered()
        start = bisect_right(records, call.text("after"), key=lambda record: record.name)
        chosen = records[start : start + limit]
        more = start + limit < len(records)
        return Reply(HostPage(hosts=hosts.views(chosen), next=chosen[-1].name if more else None))

    async def one(self, call: Call) -> Reply:
        """GET /v1/hosts/{id}"""
        hosts = self._central.hosts
        return Reply(hosts.view(hosts.find(call.part("id"))))

    async def choose(self, call: Call) -> Reply:
        """POST /v1/hosts/{id}/choose"""
        central = self._central
        signed = signed_from_json(await call.body(MAX_JSON))
        call.claim = Claim(signed)
        now_ms = central.now_ms()
        envelope = central.trust.verify(signed, now_ms)
        act = envelope.act
        record = central.hosts.find(call.part("id"))
        if not isinstance(act, ResolveClone) or act.host != record.id:
            raise codes.ACT_UNSUPPORTED.error(f"{act_name(act)} does not resolve {record.name}")
        guards = central.core.guards
        audited = InsertAudit(act_entry(envelope, signed, source=call.address, subject=record.id), now_ms)
        await central.guard(lambda: guards.resolve(record.id, act.keep or b"", now_ms=now_ms), audited)
        log.warning(
            "%s resolved host %s: %s", envelope.operator, record.name, "newest" if act.keep is None else act.keep.hex()
        )
        return Reply(central.hosts.view(record))

    async def resolve(self, call: Call) -> Reply:
        """GET /v1/resolve"""
        roster = self._central.trust.newest
        hosts = self._central.hosts
        expression = targets.parse(call.text("targets"))
        async with self._choosing:
            found = await asyncio.to_thread(targets.select, expression, hosts.facts(), roster.groups)
        # One that was there when the choice began may have been revoked since.
        members = tuple(member for host in found if (member := hosts.members.get(host.id)) is not None)
        return Reply(Resolved(members=members, revision=roster.revision, clock_ms=self._central.now_ms()))
