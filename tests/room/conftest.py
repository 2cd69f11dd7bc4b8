"""A real room on a loopback socket, and agents that talk to it with the real `Connection` over real TLS."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentd.bus import LIVE, REPORTS, Delivery, orders_subject
from agentd.bus.memory import MemoryBus
from agentd.room.server import Room
from libstaragent.model.ids import new_ulid
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t
from libstaragent.protocol.connection import AGENT, Connection
from libstaragent.security.identity import Credential, create_agent_key, create_ca, create_csr, create_server, sign_csr
from libstaragent.security.signed import Signed
from libstaragent.security.tls import agent_context, room_context
from libstaragent.testing.told_results import ToldResults

WITHIN = 10.0
HEARTBEAT_MS = 15_000
SIGNED = Signed(payload=b"an envelope", key=b"k" * 32, signature=b"s" * 64)


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def name(number: int) -> str:
    """An id of an agent or a job."""
    return new_ulid(1_700_000_000_000, number.to_bytes(10, "big"))


class Clock:
    """Both clocks of a room, moved by the test alone."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return int(self.now * 1000) + 1_700_000_000_000


class Pki:
    """A CA, a room's certificate, and agents' certificates as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = create_ca(fleet="0" * 64, now_ms=wall_ms())
        self.room_files = self.write("room", create_server(self.ca, names=["127.0.0.1"], now_ms=wall_ms()))
        self.key = create_agent_key()
        self.csr = create_csr(self.key)

    def write(self, stem: str, credential: Credential) -> tuple[Path, Path]:
        certificate, key = self.folder / f"{stem}.crt", self.folder / f"{stem}.key"
        certificate.write_bytes(credential.certificate)
        key.write_bytes(credential.key)
        return certificate, key

    def room_context(self) -> ssl.SSLContext:
        certificate, key = self.room_files
        return room_context(certificate=certificate, key=key, ca_pem=self.ca.certificate.decode())

    def agent_context(
        self, agent: str, *, room: str = "main", ca: Credential | None = None, made_ms: int | None = None
    ) -> ssl.SSLContext:
        at = wall_ms() if made_ms is None else made_ms
        certificate = sign_csr(ca or self.ca, self.csr, agent=agent, room=room, now_ms=at, life_ms=3_600_000)
        files = self.write(f"agent-{agent}", Credential(self.key, certificate))
        return agent_context(certificate=files[0], key=files[1], ca_pem=self.ca.certificate.decode())


class Central:
    """The other end of the bus: keeps what the room reports, and lets a test wait for it."""

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self.reports: list[t.Report] = []
        self.batches: list[Sequence[Any]] = []
        self._told = ToldResults()
        self.live: list[t.LiveChunk | t.LiveDropped] = []
        self.hold = False
        self.held: list[Delivery] = []
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        bus.subscribe(REPORTS, self._take)
        bus.subscribe_lossy(LIVE, self._take_live)

    def _take(self, delivery: Delivery) -> None:
        self.batches.append(delivery.batch)
        self.reports += self._told.one_by_one(delivery.batch)
        if self.hold:
            self.held.append(delivery)
        else:
            delivery.acknowledge()
        self._tell()

    def _take_live(self, batch: Sequence[Any]) -> None:
        self.live += batch
        self._tell()

    def _tell(self) -> None:
        async def tell() -> None:
            async with self._news:
                self._news.notify_all()

        task = asyncio.get_running_loop().create_task(tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def until(self, holds: Callable[[], Any]) -> Any:
        """Waits until `holds()` is true, and gives it."""
        async with asyncio.timeout(WITHIN), self._news:
            while not (found := holds()):
                await self._news.wait()
            return found

    async def report(self, kind: type, **fields: Any) -> Any:
        """Waits for a report of this kind with these fields."""

        def found() -> Any:
            for report in self.reports:
                if type(report) is kind and all(getattr(report, field) == value for field, value in fields.items()):
                    return report
            return None

        return await self.until(found)

    def of(self, kind: type) -> list[Any]:
        return [report for report in self.reports if type(report) is kind]

    def order(self, *orders: t.Order, room: str = "main") -> None:
        self.bus.publish(orders_subject(room), list(orders))


class Client:
    """An agent's end: the real connection core over a real TLS socket."""

    def __init__(self, agent: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, now: float) -> None:
        self.agent = agent
        self.reader = reader
        self.writer = writer
        self.connection = Connection(AGENT, now=now)
        self.heard: list[Any] = []

    def hello(self, **changes: Any) -> m.Hello:
        values: dict[str, Any] = {
            "protocol_min": 1,
            "protocol_max": 1,
            "features": (),
            "version": "0",
            "agent": self.agent,
            "boot_nonce": b"n" * 16,
            "connects": 1,
            "clock_ms": wall_ms(),
            "roster": 0,
            "hostname": "web01",
            "addresses": ("127.0.0.1",),
            "facts": {},
        }
        return m.Hello(**(values | changes))

    def say(self, *messages: m.AgentMessage) -> None:
        for message in messages:
            self.connection.send(message)
        self.writer.write(self.connection.take())

    def send_live(self, stream: int, offset: int, data: bytes) -> None:
        self.connection.send_live(stream, offset, data)
        self.writer.write(self.connection.take())

    async def hear(self, kind: type) -> Any:
        """Waits for the next message of this kind; the ones before it are passed over."""
        async with asyncio.timeout(WITHIN):
            while True:
                for position, message in enumerate(self.heard):
                    if type(message) is kind:
                        del self.heard[: position + 1]
                        return message
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError(f"closed while waiting for {kind.__name__}; heard {self.heard}")
                self.heard += self.connection.receive(data, 0)

    async def more(self) -> None:
        """Hears what comes next."""
        async with asyncio.timeout(WITHIN):
            data = await self.reader.read(65536)
        if not data:
            raise EOFError("the room closed")
        self.heard += self.connection.receive(data, 0)

    async def until_closed(self) -> None:
        async with asyncio.timeout(WITHIN):
            try:
                while data := await self.reader.read(65536):
                    self.heard += self.connection.receive(data, 0)
            except (ConnectionError, ssl.SSLError):
                return

    async def close(self) -> None:
        self.writer.transport.abort()
        try:
            async with asyncio.timeout(WITHIN):
                await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            pass


class Place:
    """A running room with its central, its clock and its clients."""

    name = staticmethod(name)
    signed = SIGNED

    def __init__(self, pki: Pki, clock: Clock, central: Central, room: Room, address: tuple[str, int]) -> None:
        self.pki = pki
        self.clock = clock
        self.central = central
        self.room = room
        self.address = address
        self.clients: list[Client] = []

    async def connect(self, agent: str, context: ssl.SSLContext | None = None) -> Client:
        """A TLS connection; nothing said yet."""
        host, port = self.address
        context = context or self.pki.agent_context(agent)
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
        client = Client(agent, reader, writer, self.clock.now)
        self.clients.append(client)
        return client

    async def up(self, agent: str) -> Client:
        """An agent that said HELLO and was welcomed."""
        client = await self.connect(agent)
        client.say(client.hello())
        await client.hear(m.Welcome)
        await self.central.report(t.HostUp, agent=agent)
        return client

    def dispatch(self, job: str, *agents: str, seconds: float = 60, watch: bool = False, again: bool = False) -> None:
        expires = self.clock.wall_ms() + int(seconds * 1000)
        targets = tuple((agent, None) for agent in agents)
        self.central.order(
            t.Dispatch(
                job=job,
                signed=SIGNED,
                expires_ms=expires,
                deadline_ms=expires + 60_000,
                targets=targets,
                watch=watch,
                again=again,
            )
        )

    @staticmethod
    def now_ms() -> int:
        """The machine's clock, which certificates are judged by."""
        return wall_ms()

    async def until(self, holds: Callable[[], Any]) -> None:
        """Waits for what has no event of its own: the loop turns, and nothing but sockets and timers moves it."""
        async with asyncio.timeout(WITHIN):
            while not holds():
                turned = asyncio.Event()
                asyncio.get_running_loop().call_later(0.001, turned.set)
                await turned.wait()

    def move(self, seconds: float) -> None:
        """Let time pass, and the room notice."""
        self.clock.now += seconds
        self.room.tick()


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def place(pki: Pki) -> AsyncIterator[Place]:
    clock = Clock()
    bus = MemoryBus(asyncio.get_running_loop())
    central = Central(bus)
    room = Room(
        room="main",
        bus=bus,
        ssl_context=pki.room_context(),
        heartbeat_ms=HEARTBEAT_MS,
        clock=clock.monotonic,
        wall_ms=clock.wall_ms,
    )
    address = await room.start("127.0.0.1", 0)
    place = Place(pki, clock, central, room, address)
    yield place
    await room.stop()
    for client in place.clients:
        await client.close()
