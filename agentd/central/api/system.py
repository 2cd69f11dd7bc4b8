"""Health, metrics and the API's own description over HTTP.

Rules: metrics are read when they are asked for, from counters that are there anyway; nothing on the hot path knows of
them; they need a login. Health needs none, and says no more of hosts and jobs than how many are up or open.
"""

from __future__ import annotations

__all__ = ("SystemApi",)

import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agentd.central.api.call import Call, Reply
from agentd.central.hub import Hub
from agentd.central.service import Central
from agentd.store.store import Store
from libstaragent.model.api import Health

_TEXT = b"text/plain; version=1.0.0; charset=utf-8"

_COUNTED = {
    "submitted": "Jobs accepted",
    "ended": "Targets ended",
    "amended": "Results that came after their target had ended",
    "finished": "Jobs ended",
    "reports": "Reports of rooms heard",
    "refused": "Writes that were undone",
    "passed_over": "Results of unknown jobs not looked up",
    "asked_again": "Results that rooms had to tell again",
}


class SystemApi:
    """See the module. It is its own collector; `collectors` are those of other parts of this process."""

    def __init__(
        self, central: Central, hub: Hub, store: Store, *, version: str, collectors: Iterable[Collector] = ()
    ) -> None:
        self._central = central
        self._hub = hub
        self._store = store
        self._version = version
        self._started = time.monotonic()
        self._registry = CollectorRegistry()
        for collector in (self, *collectors):
            self._registry.register(collector)
        self.openapi = b"{}"

    async def health(self, call: Call) -> Reply:
        """GET /v1/health"""
        return Reply(
            Health(
                version=self._version,
                hosts_up=self._hosts_up(),
                open_jobs=self._open_jobs(),
                store="failing" if self._central.store_failing else "ok",
                uptime_ms=int((time.monotonic() - self._started) * 1000),
            )
        )

    async def metrics(self, call: Call) -> Reply:
        """GET /metrics"""
        return Reply(generate_latest(self._registry), content_type=_TEXT)

    async def described(self, call: Call) -> Reply:
        """GET /v1/openapi.json"""
        return Reply(self.openapi)

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks for."""
        for name, text in _COUNTED.items():
            yield CounterMetricFamily(f"opsconsole_central_{name}", text, value=self._central.counters[name])
        yield CounterMetricFamily(
            "opsconsole_central_events_dropped", "Events that slow readers missed", value=self._hub.dropped
        )
        ended = CounterMetricFamily(
            "opsconsole_central_targets",
            "Targets ended, since the start of this process",
            labels=("state", "code", "room", "version"),
        )
        for key, count in self._central.outcomes.totals.items():
            ended.add_metric((key.state, key.code, key.room, key.version), count)
        yield ended
        ops, size = self._store.queued
        for name, text, value in (
            ("hosts", "Hosts enrolled", len(self._central.hosts)),
            ("roster_seconds_left", "Until the roster ends and no host acts any more", self._roster_seconds_left()),
            ("hosts_up", "Hosts connected", self._hosts_up()),
            ("jobs_open", "Jobs that have not ended", self._open_jobs()),
            ("event_readers", "Open event streams", len(self._hub)),
            ("store_queued_ops", "Writes that wait", ops),
            ("store_queued_bytes", "Bytes that wait to be written", size),
        ):
            yield GaugeMetricFamily(f"opsconsole_central_{name}", text, value=value)

    def _roster_seconds_left(self) -> int:
        return (self._central.trust.newest.valid_until - self._central.now_ms()) // 1000

    def _hosts_up(self) -> int:
        return sum(host.up for host in self._central.core.hosts.values())

    def _open_jobs(self) -> int:
        return sum(job.open > 0 for job in self._central.core.jobs.values())
