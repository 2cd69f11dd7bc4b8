"""A central on loopback: real HTTPS, a real store on disk, the real bus; behind the bus a double of room and agents.

The double stands where a room would: it takes orders, keeps them for the test to look at, and answers dispatches as the
test says. Everything else is what runs in production.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from agentd.bootstrap import Listeners, State, prepare, take_rosters
from agentd.bus import LIVE, REPORTS, Delivery, orders_subject
from agentd.bus.memory import MemoryBus
from agentd.central import api as central_api
from agentd.central.directory import HostRecord
from agentd.central.hub import Hub
from agentd.central.listener import Listener
from agentd.central.service import Central
from agentd.store.ops import UpsertHost
from agentd.store.store import Store
from libstaragent.model import api
from libstaragent.model.ids import ULID_RANDOM_BYTES, new_ulid
from libstaragent.model.result import Output, TargetResult, encode_records
from libstaragent.protocol import trunk as t
from libstaragent.security import login
from libstaragent.security.acts import Act, Cancel, Envelope, Exec, IssueToken, Member, TargetList, TargetRoot
from libstaragent.security.envelope import open_signed, sign
from libstaragent.security.identity import sign_csr
from libstaragent.security.membership import MembershipTree
from libstaragent.security.policy.model import FOUNDERS, Rule
from libstaragent.security.roster import Operator, Roster, digest, open_roster, sign_roster
from libstaragent.security.signed import Signed, signed_to_json
from libstaragent.security.signing import SEED_BYTES, public_key
from libstaragent.security.tls import api_context, client_context

ROOM = "main"
DAY_MS = 86_400_000
WITHIN_SECONDS = 20.0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def new_id() -> str:
    return new_ulid(now_ms(), secrets.token_bytes(ULID_RANDOM_BYTES))


class People:
    """The root, three operators with their roles, and what they sign."""

    def __init__(self) -> None:
        self.root = secrets.token_bytes(SEED_BYTES)
        self.seeds = {name: secrets.token_bytes(SEED_BYTES) for name in ("ann", "bob", "eve")}
        self.roles: dict[str, tuple[str, ...]] = {
            "ann": ("admin", "operator", "read"),
            "bob": ("read",),
            "eve": ("operator",),
        }
        self.revisions: list[Signed] = []

    def roster(
        self,
        ca_sha256: bytes,
        *,
        operators: Sequence[str] | None = None,
        valid_ms: int = 300 * DAY_MS,
        groups: dict[str, str] | None = None,
        rules: tuple[Rule, ...] = (FOUNDERS,),
        **fields: Any,
    ) -> Signed:
        named = self.roles if operators is None else operators
        roster = Roster(
            root=public_key(self.root),
            revision=len(self.revisions) + 1,
            previous=digest(self.revisions[-1]) if self.revisions else b"",
            issued=now_ms(),
            valid_until=now_ms() + valid_ms,
            ca=(ca_sha256,),
            operators=tuple(Operator(name, public_key(self.seeds[name]), self.roles[name]) for name in named),
            groups=groups or {"front": "web*"},
            rules=rules,
            **fields,
        )
        self.fleet = roster.fleet
        self.revisions.append(sign_roster(roster, self.root))
        return self.revisions[-1]

    def envelope(self, act: Act, targets: Any = None, **changes: Any) -> Envelope:
        now = now_ms()
        fields: dict[str, Any] = {
            "id": new_id(),
            "fleet": self.fleet,
            "operator": "ann",
            "act": act,
            "targets": targets,
            "issued": now,
            "not_before": now,
            "expires": now + 60_000,
            "roster": 1,
        }
        return Envelope(**{**fields, **changes})

    def sign(self, envelope: Envelope, *, by: str | None = None) -> Signed:
        return sign(envelope, self.seeds[by or envelope.operator])

    def exec(self, members: Sequence[Member], *argv: str, **changes: Any) -> Signed:
        return self.sign(self.exec_envelope(members, *argv, **changes))

    def exec_envelope(self, members: Sequence[Member], *argv: str, expression: str = "*", **changes: Any) -> Envelope:
        targets = (
            TargetList(expression, tuple(members))
            if len(members) <= 16
            else TargetRoot(expression, len(members), MembershipTree(members).root)
        )
        return self.envelope(Exec(argv=argv or ("true",)), targets, **changes)

    def open(self, signed: Signed) -> Envelope:
        return open_signed(signed)

    def resign(self, signed: Signed, seed: bytes) -> Signed:
        """The same roster, signed by another."""
        return sign_roster(open_roster(signed), seed)

    def cancel(self, job: str) -> Signed:
        return self.sign(self.envelope(Cancel(job)))

    def token(self, **terms: Any) -> Signed:
        act = IssueToken(**{"room": ROOM, "uses": 1, "ttl_ms": 600_000, **terms})
        return self.sign(self.envelope(act))


def ok(job: str, text: bytes = b"done\n") -> TargetResult:
    """The result of a command that printed `text` and succeeded."""
    return TargetResult(
        job=job,
        state="ok",
        exit_status=0,
        ran="yes",
        started_ms=now_ms(),
        finished_ms=now_ms(),
        stdout_bytes=len(text),
        output=Output(head=encode_records([(1, text)])),
    )


class RoomDouble:
    """Where a room would be. `answers` makes the reports for one dispatched target; `None` leaves it open."""

    def __init__(self, bus: Any) -> None:
        self.bus = bus
        self.orders: list[Any] = []
        self.settled: set[tuple[str, str]] = set()
        self.answers: Callable[[str, str], TargetResult | None] = lambda agent, job: ok(job)
        self._changed = asyncio.Event()
        bus.subscribe(orders_subject(ROOM), self._ordered)

    def _ordered(self, delivery: Delivery) -> None:
        reports: list[Any] = []
        for order in delivery.batch:
            self.orders.append(order)
            if isinstance(order, t.Dispatch):
                results = ((agent, self.answers(agent, order.job)) for agent, _ in order.targets)
                reports.extend(t.TargetEnded(agent, result) for agent, result in results if result is not None)
            elif isinstance(order, t.SettledTargets):
                self.settled.update(order.pairs)
        delivery.acknowledge()
        self.bus.publish(REPORTS, reports)
        self._changed.set()

    def report(self, *reports: Any) -> None:
        self.bus.publish(REPORTS, list(reports))

    def live(self, *chunks: Any) -> None:
        self.bus.publish_lossy(LIVE, list(chunks))

    def of(self, kind: type) -> list[Any]:
        return [order for order in self.orders if isinstance(order, kind)]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Returns when orders have come that make `holds` true."""
        async with asyncio.timeout(WITHIN_SECONDS):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


class Stack:
    """A running central and a client of it."""

    def __init__(self, people: People, state: State, store: Store, central: Central, room: RoomDouble) -> None:
        self.people = people
        self.state = state
        self.store = store
        self.central = central
        self.room = room
        self.application: Any = None
        self.http: httpx.AsyncClient
        self.address: tuple[str, int]
        self.members: list[Member] = []
        self.bearer: dict[str, str] = {}

    async def add_hosts(self, *names: str) -> list[Member]:
        """Hosts that are enrolled on disk."""
        for name in names:
            host = UpsertHost(id=new_id(), name=name, room=ROOM, enrolled_ms=now_ms())
            await self.central.write([host])
            self.central.admitted(
                HostRecord(
                    id=host.id, name=name, room=ROOM, labels={}, facts={}, addresses=(), enrolled_ms=host.enrolled_ms
                )
            )
            self.members.append(Member(host.id, name, ROOM))
        return self.members[-len(names) :]

    async def log_in(self, operator: str = "ann") -> dict[str, str]:
        """Headers of an operator who may read."""
        asked = msgspec.json.decode(
            (await self.http.get("/v1/login", params={"operator": operator})).content, type=login.Challenge
        )
        answer = login.answer(asked, fleet=self.people.fleet, operator=operator, seed=self.people.seeds[operator])
        said = await self.http.post("/v1/login", content=msgspec.json.encode(api.LoginRequest(answer)))
        assert said.status_code == 201, said.text
        self.bearer = {"authorization": f"Bearer {said.json()['token']}"}
        return self.bearer

    async def get(self, path: str, **parameters: Any) -> httpx.Response:
        return await self.http.get(path, params=parameters, headers=self.bearer)

    async def post(self, path: str, signed: Signed, members: Sequence[Member] | None = None) -> httpx.Response:
        content = (
            signed_to_json(signed)
            if members is None
            else msgspec.json.encode(api.JobSubmission(signed, tuple(members)))
        )
        return await self.http.post(path, content=content)


@asynccontextmanager
async def run_stack(
    folder: Path,
    people: People,
    *,
    bus: Callable[[asyncio.AbstractEventLoop], Any] = MemoryBus,
    clock: Callable[[], int] = now_ms,
    answers: Callable[[str, str], TargetResult | None] = lambda agent, job: ok(job),
) -> AsyncIterator[Stack]:
    """A central on the state in `folder`, made if it is not there."""
    state = prepare(folder, now_ms=now_ms())
    if not people.revisions:
        people.roster(state.ca_sha256)
    store = Store.open(state.database)
    book = take_rosters(state, store, people.revisions, now_ms=now_ms())
    trunk = bus(asyncio.get_running_loop())
    central = Central(
        bus=trunk,
        store=store,
        hub=Hub(),
        trust=book,
        blobs=folder / "blobs",
        sign=lambda agent, room, csr: sign_csr(state.ca, csr, agent=agent, room=room, now_ms=now_ms()),
        now_ms=clock,
    )
    listeners = Listeners(state)
    tls = api_context(certificate=listeners.path("api"), key=listeners.path("api"))
    application = central_api.build(
        central,
        store,
        ca=state.ca,
        room_address="127.0.0.1:1",
        version="0",
        audit_key=public_key(state.audit_seed),
    )
    listener = Listener(application, tls)
    stack = Stack(people, state, store, central, RoomDouble(trunk))
    stack.room.answers = answers
    stack.application = application
    central.start()
    stack.address = await listener.start("127.0.0.1", 0)
    try:
        async with httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{stack.address[1]}",
            verify=client_context(state.ca.certificate.decode()),
            timeout=WITHIN_SECONDS,
        ) as http:
            stack.http = http
            yield stack
    finally:
        central.release()
        central.hub.close()
        await listener.stop()
        await central.stop()
        store.close()


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
async def stack(tmp_path: Path, people: People) -> AsyncIterator[Stack]:
    async with run_stack(tmp_path / "state", people) as running:
        yield running


@pytest.fixture
def make_stack(tmp_path: Path, people: People) -> Callable[..., Any]:
    """`run_stack` on one folder, as often as the test starts it."""

    def make(**options: Any) -> Any:
        return run_stack(tmp_path / "state", people, **options)

    return make


@pytest.fixture
def result_ok() -> Callable[..., TargetResult]:
    return ok


@pytest.fixture
def refused() -> Callable[..., None]:
    """Asserts that an answer is this refusal, in the API's one form."""

    def check(response: httpx.Response, code: Any, status: int) -> None:
        assert response.status_code == status, response.text
        body = msgspec.json.decode(response.content, type=api.ErrorBody)
        assert (body.code, body.symbol, body.remedy) == (code.code, code.symbol, code.remedy)
        assert "Traceback" not in response.text

    return check
