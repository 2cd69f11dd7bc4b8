"""A thief of the control plane, who has every key and file of it and none of an operator's, makes no host run anything.

The fleet is real; then its control plane is stopped and a thief runs a room with the stolen keys, where hosts come back
to. It sends what it could send, over the agents' real connections. The referee is a file that the commands write.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentd.bootstrap import Listeners, prepare
from agentd.bus import REPORTS, Delivery, orders_subject
from agentd.bus.memory import MemoryBus
from agentd.room.server import Room
from libstaragent import codes
from libstaragent.model.api import JobSubmission
from libstaragent.model.ids import new_ulid
from libstaragent.protocol import trunk as t
from libstaragent.security import identity as x509
from libstaragent.security.acts import (
    AtBoot,
    Cancel,
    Envelope,
    Exec,
    Fetch,
    Put,
    ReadSpool,
    Schedule,
    TargetList,
    TargetRoot,
    Unschedule,
)
from libstaragent.security.envelope import sign
from libstaragent.security.membership import MembershipTree, Proof
from libstaragent.security.policy.model import FOUNDERS, Rule
from libstaragent.security.roster import Operator, RosterChain, digest, open_roster, sign_roster
from libstaragent.security.signed import Signed
from libstaragent.security.signing import public_key
from libstaragent.security.tls import room_context

PATIENCE = 30.0
HOUR_MS = 3_600_000
THIEF = os.urandom(32)
KIM = os.urandom(32)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Thief:
    """A room with the stolen keys; what its hosts report."""

    def __init__(self, site: Any, port: int) -> None:
        state = prepare(site.state, now_ms=now_ms())
        pem = Listeners(state).path("room")
        context = room_context(certificate=pem, key=pem, ca_pem=state.ca.certificate.decode())
        self.bus = MemoryBus(asyncio.get_running_loop())
        self.bus.subscribe(REPORTS, self._heard)
        self.room = Room(room="main", bus=self.bus, ssl_context=context)
        self.port = port
        self.reports: list[Any] = []
        self.results: dict[str, Any] = {}
        self._news = asyncio.Event()

    async def until(self, holds: Callable[[], Any]) -> Any:
        try:
            async with asyncio.timeout(PATIENCE):
                while not holds():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pytest.fail(f"not within {PATIENCE} s; {self.reports[-6:]}", pytrace=False)
        return holds()

    def say(self, *orders: Any) -> None:
        self.bus.publish(orders_subject("main"), list(orders))

    async def ends(self, agent: str, job: str, signed: Signed, proof: Proof | None = None) -> Any:
        """What the host says to an order."""
        self.say(
            t.Dispatch(job, signed, now_ms() + HOUR_MS, now_ms() + HOUR_MS, ((agent, proof),), False, False, self.boot)
        )
        return await self.until(lambda: self.result_of(job))

    def result_of(self, job: str) -> Any:
        return self.results.get(job)

    @property
    def boot(self) -> str:
        return next(report.boot for report in self.reports if isinstance(report, t.RoomStarted))

    def _heard(self, delivery: Delivery) -> None:
        self.reports.extend(delivery.batch)
        for report in delivery.batch:
            if isinstance(report, t.TargetsEnded):
                self.results.update({result.job: result for _, result in report.ended})
            elif isinstance(report, t.TargetEnded):
                self.results[report.result.job] = report.result
        delivery.acknowledge()
        self._news.set()


def changed(signed: Signed, **fields: Any) -> Signed:
    """What was signed, with other words under the old signature."""
    plain = msgspec.msgpack.decode(signed.payload)
    plain.update(fields)
    return msgspec.structs.replace(signed, payload=msgspec.msgpack.encode(plain, order="deterministic"))


@pytest.mark.skipif(os.name != "posix", reason="fifos")
def test_a_thief_of_the_control_plane_makes_no_host_run_or_hand_over_anything(
    new_site: Callable[..., Any], tmp_path: Path
) -> None:
    site = new_site("web01", "web02")
    referee = tmp_path / "referee"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    wrote = ("sh", "-c", f"echo ran >> {referee}")
    admins = msgspec.structs.replace(FOUNDERS, who=("role:admin",))
    kim_may = Rule(name="kim", effect="allow", who=("kim",), run=(("true",),))
    with site.fleet() as fleet:
        admin = fleet.administration
        admin.revise(lambda roster: msgspec.structs.replace(roster, rules=(admins, kim_may)))
        admin.add_operator("kim", public_key(KIM), ("operator",))
        web01 = fleet.resolve("web01")[0]
        web02 = fleet.resolve("web02")[0]
        with site.http() as http:
            old_chain = msgspec.json.decode(
                msgspec.json.encode(http.get("/v1/trust").json()["rosters"]), type=list[Signed]
            )
        seen = sign(site.envelope(*wrote, roster=3), site.seed)
        assert fleet.submit(JobSubmission(seen)).result().ok
        running = fleet.run("web01", ["sh", "-c", f"read x < {fifo}; echo let >> {referee}"], timeout=600)
    long_ago = now_ms() - 2 * HOUR_MS
    # Two of each: a room passes an id on only once.
    expired, expired_too = (
        sign(site.envelope(*wrote, issued=long_ago, not_before=long_ago, expires=long_ago + HOUR_MS), site.seed)
        for _ in range(2)
    )
    for_web02, for_web02_too = (sign(site.envelope(*wrote, hosts="web02"), site.seed) for _ in range(2))
    site.until_target(running.id, "running")
    by_kim = [sign(site.envelope(*words, operator="kim"), KIM) for words in (("true",), wrote)]
    assert referee.read_text() == "ran\n"
    site.down()

    def forged(act: Any, seed: bytes = THIEF, **fields: Any) -> tuple[str, Signed]:
        now = now_ms()
        envelope = Envelope(
            id=new_ulid(now, os.urandom(10)),
            fleet=site.said["fleet"],
            operator=fields.pop("operator", "li"),
            act=act,
            targets=TargetList("web01", (web01,)),
            issued=now,
            not_before=now,
            expires=now + 60_000,
            roster=fields.pop("roster", 1),
            **fields,
        )
        return envelope.id, sign(envelope, seed)

    def read(signed: Signed) -> str:
        return msgspec.msgpack.decode(signed.payload)["id"]

    async def steal() -> None:
        port = int(site.said["room"].rpartition(":")[2])
        _strangers_ca(tmp_path, port)
        thief = Thief(site, port)
        await thief.room.start("127.0.0.1", port)
        try:
            await thief.until(lambda: sum(isinstance(report, t.HostUp) for report in thief.reports) >= 2)
            thief.say(t.RosterRevisions(1, tuple(old_chain)))
            command = Exec(argv=wrote)
            orders: dict[str, tuple[str, Signed, set[str]]] = {}
            refused = {"bad_signature", "denied", "expired"}
            for act in (
                command,
                Put(path=str(referee), size=0, sha256=bytes(32)),
                Fetch(path="/etc/hostname", max_bytes=1000),
                Schedule("s", AtBoot(), command, now_ms() + HOUR_MS),
                Unschedule(running.id),
                ReadSpool(running.id),
            ):
                orders[f"forged {type(act).__name__}"] = (*forged(act), refused)
            orders["a forged order in a name of its own"] = (*forged(command, operator="thief"), refused)
            here = msgspec.to_builtins(TargetList("web01", (web01,)))
            orders["other words under an old signature"] = (
                read(for_web02_too),
                changed(for_web02_too, targets=here),
                refused,
            )
            longer = changed(expired_too, expires=now_ms() + HOUR_MS)
            orders["a longer life under an old signature"] = (read(expired_too), longer, refused)
            orders["what is too old"] = (read(expired), expired, refused)
            orders["what is another host's"] = (read(for_web02), for_web02, refused)
            orders["what ran before"] = (read(seen), seen, {"ok", "interrupted"})
            orders["an id that is another's"] = (new_ulid(now_ms(), os.urandom(10)), by_kim[0], refused)
            for name, (job, signed, states) in orders.items():
                result = await thief.ends(web01.agent, job, signed)
                assert result.state in states, (name, result)
                assert referee.read_text() == "ran\n", name
            # Many hosts stand under a root, and the operator's list has no web01. Its paths are the thief's to make.
            named = [
                msgspec.structs.replace(web01, agent=new_ulid(at, bytes(10)), name=f"web{at}") for at in range(10, 29)
            ]
            listed = [web02, *named]
            theirs, wider = MembershipTree(listed), MembershipTree([*listed, web01])
            swapped = MembershipTree([web01, *named])
            proofs: dict[str, tuple[Proof | None, dict[str, Any]]] = {
                "no path": (None, {}),
                "another host's path": (theirs.proof(web02.agent), {}),
                "a path in a wider list": (wider.proof(web01.agent), {}),
                "a path in a list of the same length": (swapped.proof(web01.agent), {}),
                "the leaf itself": (Proof(0, b""), {}),
                "the root as a neighbour": (Proof(0, theirs.root), {}),
                "a wider list's root under the old signature": (
                    wider.proof(web01.agent),
                    {"root": wider.root, "count": 21},
                ),
            }
            for name, (proof, other) in proofs.items():
                targets = TargetRoot("web*", theirs.count, theirs.root)
                many = sign(msgspec.structs.replace(operators(site, web01, wrote), targets=targets), site.seed)
                order = changed(many, targets=msgspec.to_builtins(targets) | other) if other else many
                result = await thief.ends(web01.agent, read(many), order, proof)
                expected = codes.SIGNATURE_INVALID if other else codes.ENVELOPE_NOT_MEMBER
                assert result.code == expected.code, (name, result)
                assert referee.read_text() == "ran\n", name
            # A roster of its own, by its own key, by its own root, and one that goes back.
            newest = open_roster(old_chain[-1])
            own = msgspec.structs.replace(
                newest,
                revision=newest.revision + 1,
                previous=digest(old_chain[-1]),
                issued=now_ms(),
                operators=(*newest.operators, Operator("thief", public_key(THIEF), ("admin", "operator"))),
                rules=(FOUNDERS,),
            )
            other_root = msgspec.structs.replace(own, root=public_key(THIEF))
            for roster in (own, other_root):
                thief.say(t.RosterRevisions(1, (*old_chain, sign_roster(roster, THIEF))))
                job, signed = forged(command, operator="thief", roster=1)
                assert (await thief.ends(web01.agent, job, signed)).code == codes.SIGNER_UNKNOWN.code
            thief.say(t.RosterRevisions(1, tuple(old_chain[:1])))
            # An operator who helps the thief gets past central, and not past the host.
            result = await thief.ends(web01.agent, read(by_kim[1]), by_kim[1])
            assert (result.state, result.code) == ("denied", codes.POLICY_DENIED.code), "the rules went back"
            # A job that runs is not the thief's to stop.
            thief.say(t.CancelTargets(running.id, forged(Cancel(running.id))[1], (web01.agent,)))
            thief.say(t.CancelTargets(running.id, sign_cancel(site, running.id), (web01.agent,)))
            job, signed = forged(command)
            await thief.ends(web01.agent, job, signed)
            with fifo.open("w") as opened:
                opened.write("\n")
            result = await thief.until(lambda: thief.result_of(running.id))
            assert result.state == "ok"
            assert referee.read_text() == "ran\nlet\n"
            # That the referee can be reached: what an operator did sign and nobody has seen runs here too.
            honest = sign(operators(site, web01, wrote), site.seed)
            assert (await thief.ends(web01.agent, read(honest), honest)).state == "ok"
            # So does what stands under a root with it, by the path that is its own.
            targets = TargetRoot("web*", wider.count, wider.root)
            honest = sign(msgspec.structs.replace(operators(site, web01, wrote), targets=targets), site.seed)
            assert (await thief.ends(web01.agent, read(honest), honest, wider.proof(web01.agent))).state == "ok"
            assert referee.read_text() == "ran\nlet\nran\nran\n"
        finally:
            await thief.room.stop()

    asyncio.run(steal())
    assert RosterChain(site.said["fleet"]).accept_all(old_chain, now_ms()).revision == 3


def operators(site: Any, member: Any, argv: tuple[str, ...]) -> Envelope:
    """An order that an operator signs, without asking central for anything."""
    now = now_ms()
    return Envelope(
        id=new_ulid(now, os.urandom(10)),
        fleet=site.said["fleet"],
        operator="li",
        act=Exec(argv=argv),
        targets=TargetList(member.name, (member,)),
        issued=now,
        not_before=now,
        expires=now + 60_000,
        roster=3,
    )


def sign_cancel(site: Any, job: str) -> Signed:
    """A cancel by kim, who has no right to manage others' jobs."""
    now = now_ms()
    return sign(
        Envelope(
            id=new_ulid(now, os.urandom(10)),
            fleet=site.said["fleet"],
            operator="kim",
            act=Cancel(job),
            targets=None,
            issued=now,
            not_before=now,
            expires=now + 60_000,
            roster=3,
        ),
        KIM,
    )


def _strangers_ca(folder: Path, port: int) -> None:
    """A listener of another CA where hosts look for their room: none finishes its handshake."""
    ca = x509.create_ca(fleet="0" * 64, now_ms=now_ms())
    server = x509.create_server(ca, names=["127.0.0.1"], now_ms=now_ms())
    pem = folder / "stranger.pem"
    pem.write_bytes(server.key + server.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(PATIENCE)
        connection, _ = listener.accept()
        connection.settimeout(PATIENCE)
        with connection, pytest.raises((ssl.SSLError, ConnectionError)):
            with context.wrap_socket(connection, server_side=True) as secured:
                # TLS 1.3: the server is done before it hears that it is not believed.
                assert secured.recv(1) != b"" or _refused()


def _refused() -> bool:
    raise ConnectionAbortedError
