"""A real agent process under a real room, with the other end of the bus in the test's hands."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentd.agent.state import AgentState, Identity, write_whole
from agentd.bus import LIVE, REPORTS, Delivery, orders_subject
from agentd.bus.memory import MemoryBus
from agentd.room.server import Room
from libstaragent.model.ids import new_ulid
from libstaragent.model.result import TargetResult
from libstaragent.protocol import trunk as t
from libstaragent.security import identity as x509
from libstaragent.security.acts import Act
from libstaragent.security.envelope import Envelope, Exec, Member, Signed, TargetList, sign
from libstaragent.security.membership import Proof
from libstaragent.security.policy.model import FOUNDERS
from libstaragent.security.private_file import write_private
from libstaragent.security.roster import Operator, Roster, sign_roster
from libstaragent.security.signing import fingerprint, public_key
from libstaragent.security.tls import room_context
from libstaragent.testing.told_results import ToldResults

PATIENCE = 20.0
ROOM = "main"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def new_id() -> str:
    return new_ulid(now_ms(), os.urandom(10))


class Fleet:
    """Keys of a fleet: root, one operator, CA."""

    def __init__(self) -> None:
        self.root, self.operator = os.urandom(32), os.urandom(32)
        self.fingerprint = fingerprint(public_key(self.root))
        self.ca = x509.create_ca(fleet=self.fingerprint, now_ms=now_ms())
        self.ca_pem = self.ca.certificate.decode()
        self.roster = self.signed_roster(1, b"")

    def signed_roster(self, revision: int, previous: bytes, *operators: Operator) -> Signed:
        listed = operators or (Operator("li", public_key(self.operator), ("admin", "operator", "read")),)
        roster = Roster(
            root=public_key(self.root),
            revision=revision,
            previous=previous,
            issued=now_ms(),
            valid_until=now_ms() + 86_400_000,
            ca=(hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.ca_pem)).digest(),),
            operators=listed,
            rules=(FOUNDERS,),
        )
        return sign_roster(roster, self.root)


class AgentUnderTest:
    """One agent process, its room, and what the room reports."""

    def __init__(self, fleet: Fleet, directory: Path, *, name: str = "web01") -> None:
        self.fleet = fleet
        self.directory = directory
        self.state = AgentState(directory / "agent")
        self.member = Member(new_id(), name, ROOM)
        self.reports: list[Any] = []
        self._told = ToldResults()
        self.live: list[Any] = []
        self.settle = True
        self._news = asyncio.Event()
        self.bus = MemoryBus(asyncio.get_running_loop())
        self.bus.subscribe(REPORTS, self._on_reports)
        self.bus.subscribe_lossy(LIVE, self.live.extend)
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.room = self._new_room()

    def _new_room(self) -> Room:
        key, certificate = self.directory / "room.key", self.directory / "room.pem"
        if not key.exists():
            server = x509.create_server(self.fleet.ca, names=["127.0.0.1"], now_ms=now_ms())
            write_private(key, server.key)
            certificate.write_bytes(server.certificate)
        context = room_context(certificate=certificate, key=key, ca_pem=self.fleet.ca_pem)
        return Room(room=ROOM, bus=self.bus, ssl_context=context)

    async def open_room(self) -> None:
        _, self.port = await self.room.start("127.0.0.1", self.port)

    async def restart_room(self) -> None:
        """A new room process in all but name: another Room object that knows nothing."""
        await self.room.stop()
        self.room = self._new_room()
        await self.open_room()

    def enrol(self, *, renew_at_ms: int | None = None) -> None:
        self.state.directory.mkdir(mode=0o700, exist_ok=True)
        self.state.write_ca(self.fleet.ca_pem)
        self.state.write_roster(self.fleet.roster)
        key = x509.create_agent_key()
        certificate = x509.sign_csr(
            self.fleet.ca, x509.create_csr(key), agent=self.member.agent, room=ROOM, now_ms=now_ms()
        )
        write_whole(self.state.identity_pem, key + certificate)
        self.state.write_identity(
            Identity(
                agent=self.member.agent,
                name=self.member.name,
                room=ROOM,
                fleet=self.fleet.fingerprint,
                api="127.0.0.1:1",
                room_address=f"127.0.0.1:{self.port}",
                renew_at_ms=renew_at_ms or now_ms() + 86_400_000,
            )
        )

    def start(self) -> None:
        command = [sys.executable, "-m", "agentd", "agent", "--state", str(self.state.directory)]
        with (self.directory / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(PATIENCE)
            self.process = None

    @property
    def log(self) -> str:
        return (self.directory / "agent.log").read_text()

    @property
    def agent_process(self) -> psutil.Process:
        """The agent itself: the keeper's child that runs the same program."""
        assert self.process is not None
        keeper = psutil.Process(self.process.pid)
        # The one that forks commands for the keeper has a session of its own.
        same = [child for child in keeper.children() if child.cmdline() == keeper.cmdline()]
        return next(child for child in same if os.getsid(child.pid) == os.getsid(keeper.pid))

    def envelope(self, act: Act, **changes: Any) -> Envelope:
        values: dict[str, Any] = {
            "id": new_id(),
            "fleet": self.fleet.fingerprint,
            "operator": "li",
            "act": act,
            "targets": TargetList(self.member.name, (self.member,)),
            "issued": now_ms(),
            "not_before": now_ms(),
            "expires": now_ms() + 60_000,
            "roster": 1,
        }
        return Envelope(**(values | changes))

    def dispatch(self, signed: Signed, job: str, *, proof: Proof | None = None, watch: bool = False) -> None:
        targets = ((self.member.agent, proof),)
        order = t.Dispatch(job, signed, now_ms() + 60_000, now_ms() + 120_000, targets, watch, False)
        self.bus.publish(orders_subject(ROOM), [order])

    def run(self, *argv: str, watch: bool = False, **act: Any) -> str:
        """Order a command; the job's id."""
        envelope = self.envelope(Exec(argv=argv, **act))
        self.dispatch(sign(envelope, self.fleet.operator), envelope.id, watch=watch)
        return envelope.id

    async def result(self, job: str) -> TargetResult:
        ended = await self.report(lambda report: isinstance(report, t.TargetEnded) and report.result.job == job)
        return ended.result

    async def progress(self, job: str, state: str) -> None:
        await self.report(
            lambda report: isinstance(report, t.TargetProgress) and report.job == job and report.state == state
        )

    async def up(self, times: int = 1) -> t.HostUp:
        await self.until(lambda: sum(isinstance(report, t.HostUp) for report in self.reports) >= times)
        return [report for report in self.reports if isinstance(report, t.HostUp)][-1]

    async def report(self, wanted: Callable[[Any], bool]) -> Any:
        await self.until(lambda: any(wanted(report) for report in self.reports))
        return next(report for report in self.reports if wanted(report))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for reports until `holds`."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not holds():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pytest.fail(f"not within {PATIENCE} s; reports: {self.reports[-8:]}\nagent:\n{self.log}", pytrace=False)

    def results_of(self, job: str) -> list[TargetResult]:
        return [r.result for r in self.reports if isinstance(r, t.TargetEnded) and r.result.job == job]

    def _on_reports(self, delivery: Delivery) -> None:
        reports = self._told.one_by_one(delivery.batch)
        self.reports.extend(reports)
        delivery.acknowledge()
        ended = tuple((r.agent, r.result.job) for r in reports if isinstance(r, t.TargetEnded))
        if ended and self.settle:
            self.bus.publish(orders_subject(ROOM), [t.SettledTargets(ended)])
        self._news.set()


@pytest.fixture
async def agent(short_tmp: Path) -> AsyncIterator[AgentUnderTest]:
    under_test = AgentUnderTest(Fleet(), short_tmp)
    await under_test.open_room()
    under_test.enrol()
    try:
        yield under_test
    finally:
        under_test.stop()
        await under_test.room.stop()
