"""The HTTP API: central for whoever has a network and a signature. `build` wires it; `routes` has every path."""

from __future__ import annotations

__all__ = ("build",)

from collections.abc import Iterable

from prometheus_client.registry import Collector

from agentd.central.access import Access
from agentd.central.api.access import AccessApi
from agentd.central.api.app import Application
from agentd.central.api.audit import AuditApi
from agentd.central.api.events import EventsApi
from agentd.central.api.files import FilesApi
from agentd.central.api.hosts import HostsApi
from agentd.central.api.jobs import JobsApi
from agentd.central.api.openapi import document
from agentd.central.api.outcomes import OutcomesApi
from agentd.central.api.outputs import OutputsApi
from agentd.central.api.policy import PolicyApi
from agentd.central.api.routes import table
from agentd.central.api.schedules import SchedulesApi
from agentd.central.api.system import SystemApi
from agentd.central.file_acts import FileActs
from agentd.central.joining import Joining
from agentd.central.service import Central
from agentd.store.store import Store
from libstaragent.security.identity import Credential


def build(
    central: Central,
    store: Store,
    *,
    ca: Credential,
    room_address: str,
    version: str,
    audit_key: bytes,
    collectors: Iterable[Collector] = (),
) -> Application:
    """The application. `room_address` is what joining hosts are told, `audit_key` the public key of checkpoints,
    `collectors` are metrics of other parts.
    """
    access = Access(central, store.read, now_ms=central.now_ms)
    joining = Joining(central, store.read, ca, now_ms=central.now_ms)
    system = SystemApi(central, central.hub, store, version=version, collectors=collectors)
    audit = AuditApi(central, store, key=audit_key)
    routes = table(
        JobsApi(central, central.history),
        HostsApi(central),
        AccessApi(central, access, joining, ca=ca.certificate.decode(), room_address=room_address, version=version),
        EventsApi(central, central.hub, central.history),
        system,
        OutcomesApi(central, store.read),
        audit,
        OutputsApi(central, store.read),
        PolicyApi(central),
        SchedulesApi(central, central.history),
        FilesApi(FileActs(central), central.blobs, central.reads),
    )
    system.openapi = document(routes, version=version)
    return Application(routes, reader=access.reader, refused=audit.refused, head=audit.header)
