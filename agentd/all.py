"""The wiring page of `agentd all`: central, one room and the store in one process, joined by the bus in memory.

    API (HTTPS) ─▶ Central ⇄ store
                      ⇅ bus
    agents (TLS) ─▶ Room

Rules: parts are built here and handed the few things they need; stdout gets one line of JSON, when it serves; stderr
is the log, a line an event. The end is a drain: no new requests, those that run are answered, what was decided is on
disk.
"""

from __future__ import annotations

__all__ = ("Options", "address", "run")

import asyncio
import contextlib
import gc
import json
import logging
import os
import secrets
import signal
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from agentd.bootstrap import Listeners, State, prepare, read_rosters, take_rosters, waiting_rosters
from agentd.bus.memory import MemoryBus
from agentd.central import api
from agentd.central.hub import Hub
from agentd.central.listener import Listener
from agentd.central.retention import Retention, RetentionMetrics
from agentd.central.retention_limits import read_limits
from agentd.central.service import Central, wall_ms
from agentd.room.metrics import RoomMetrics
from agentd.room.server import Room
from agentd.store.store import Store
from libstaragent import codes
from libstaragent.protocol.limits import HEARTBEAT_DEFAULT_MS
from libstaragent.security.identity import sign_csr
from libstaragent.security.signing import public_key
from libstaragent.security.tls import api_context, room_context

log = logging.getLogger("agentd.all")

# Certificates live for weeks; looking once an hour is more than often enough.
RENEWAL_SECONDS = 3600.0
# What lives long is not looked at by the collector again and again; what a request leaves is freed by its references.
GARBAGE_THRESHOLD = 50_000


class Options(Struct, frozen=True, kw_only=True):
    """What `agentd all` is told. `rosters` are files to take at this start."""

    state: Path
    listen_api: tuple[str, int]
    listen_room: tuple[str, int]
    room: str
    rosters: Sequence[Path] = ()
    heartbeat_ms: int = HEARTBEAT_DEFAULT_MS


def run(options: Options, *, version: str) -> None:
    """Serve until told to stop.

    :raises StarAgentError: it cannot start.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    state = State.open(options.state)
    lock = state.lock()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(options, version))
    finally:
        os.close(lock)


async def _serve(options: Options, version: str) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    now_ms = wall_ms()
    state = prepare(options.state, now_ms=now_ms)
    limits = read_limits(options.state)
    listeners = Listeners(state)
    ca_pem = state.ca.certificate.decode()
    api_tls = api_context(certificate=listeners.path("api"), key=listeners.path("api"))
    room_tls = room_context(certificate=listeners.path("room"), key=listeners.path("room"), ca_pem=ca_pem)

    async with contextlib.AsyncExitStack() as parts:
        store = Store.open(state.database)
        parts.callback(store.close)
        given = read_rosters([*waiting_rosters(state.directory), *options.rosters])
        book = take_rosters(state, store, given, now_ms=now_ms)
        if now_ms >= book.newest.valid_until:
            log.warning("roster revision %d has expired: no act is taken until a new one is", book.newest.revision)
        bus = MemoryBus(loop)
        hub = Hub()
        central = Central(
            bus=bus,
            store=store,
            hub=hub,
            trust=book,
            blobs=state.directory / "blobs",
            sign=lambda agent, room, csr: sign_csr(state.ca, csr, agent=agent, room=room, now_ms=wall_ms()),
        )
        retention = Retention(
            store,
            limits,
            write=central.write,
            open_jobs=lambda: [job.id for job in central.core.jobs.values() if 0 < job.open < len(job.members)],
            now_ms=wall_ms,
            forget=central.core.forget,
            seed=state.audit_seed,
            fleet=book.fleet,
        )
        central.on_written = retention.nudge
        central.start()
        parts.push_async_callback(central.stop)
        room = Room(
            room=options.room,
            bus=bus,
            ssl_context=room_tls,
            heartbeat_ms=options.heartbeat_ms,
            # Another at each start: what the bus tells again after a failed commit is known by it.
            boot=secrets.token_hex(8),
        )
        try:
            room_host, room_port = await room.start(*options.listen_room)
        except OSError as error:
            detail = f"{options.listen_room[0]}:{options.listen_room[1]}: {error.strerror}"
            raise codes.LISTEN_FAILED.error(detail, errno=error.errno) from error
        parts.push_async_callback(room.stop)
        told = address(state.names[0] if state.names else room_host, room_port)
        application = api.build(
            central,
            store,
            ca=state.ca,
            room_address=told,
            version=version,
            audit_key=public_key(state.audit_seed),
            collectors=[RoomMetrics(room), RetentionMetrics(retention)],
        )
        listener = Listener(application, api_tls)
        api_host, api_port = await listener.start(*options.listen_api)
        parts.push_async_callback(listener.stop)
        parts.callback(hub.close)
        parts.callback(central.release)
        retention.start()
        parts.push_async_callback(retention.stop)
        renewing = asyncio.ensure_future(_renew(listeners, {"api": api_tls, "room": room_tls}))
        parts.callback(renewing.cancel)

        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)
        log.info("fleet %s, roster revision %d, %d hosts", book.fleet, book.newest.revision, len(central.hosts))
        ready = {
            "ready": True,
            "api": f"https://{address(api_host, api_port)}",
            "room": address(room_host, room_port),
            "pid": os.getpid(),
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stop.wait()
        log.info("stopping")
    log.info("stopped")


async def _renew(listeners: Listeners, contexts: dict[str, ssl.SSLContext]) -> None:
    while True:
        await asyncio.sleep(RENEWAL_SECONDS)
        for listener, context in contexts.items():
            try:
                if listeners.renew(listener, time.time_ns() // 1_000_000):
                    # New handshakes show it; those who are connected stay.
                    context.load_cert_chain(listeners.path(listener))
                    log.info("the certificate of the %s listener was renewed", listener)
            except Exception:
                log.exception("the certificate of the %s listener could not be renewed", listener)


def address(host: str, port: int) -> str:
    """HOST:PORT, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
