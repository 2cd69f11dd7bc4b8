"""Hosts over HTTP: list, look, and what an expression means now.

Rules: answered from memory; choosing may take long, so it is done beside the loop, one at a time. A client freezes and
signs what `resolve` says; it is the list it shows its operator, and agents do not rely on it.
"""

from __future__ import annotations

__all__ = ("HostsApi",)

import asyncio
from bisect import bisect_right

from agentd.central.api.call import Call, Reply
from agentd.central.service import Central
from libstaragent import targets
from libstaragent.model.api import HostPage, Resolved

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

    async def resolve(self, call: Call) -> Reply:
        """GET /v1/resolve"""
        roster = self._central.trust.newest
        hosts = self._central.hosts
        expression = targets.parse(call.text("targets"))
        async with self._choosing:
            found = await asyncio.to_thread(targets.select, expression, hosts.facts(), roster.groups)
        return Reply(Resolved(members=tuple(hosts.members[host.id] for host in found), revision=roster.revision))
