"""A fleet on paper for the benchmarks: root, operator, roster, CA, a room's certificate and N agents' certificates.

All agents share one P-256 key (making thousands costs minutes and measures nothing); each has a certificate of its own.
"""

from __future__ import annotations

__all__ = ("ROOM", "Fleet", "wall_ms")

import os
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.agents import AgentPlan, Plan
from libstaragent.model.ids import ULID_RANDOM_BYTES, new_ulid
from libstaragent.security.acts import Exec, Member, TargetList, TargetRoot
from libstaragent.security.envelope import Envelope, Signed, sign
from libstaragent.security.identity import Credential, create_agent_key, create_ca, create_csr, create_server, sign_csr
from libstaragent.security.membership import MembershipTree
from libstaragent.security.roster import Operator, Roster, sign_roster
from libstaragent.security.signing import SEED_BYTES, fingerprint, public_key
from libstaragent.security.tls import trusted_ca

ROOM = "main"
DAY_MS = 86_400_000
# Up to so many targets an envelope lists them; the clients of opsconsole do the same.
LISTED_MAX = 16


def wall_ms() -> int:
    """Now, in ms since the epoch."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """An id for an agent or a job."""
    return new_ulid(wall_ms(), os.urandom(ULID_RANDOM_BYTES))


class Fleet:
    """See the module; everything it writes is below `folder`."""

    def __init__(self, folder: Path, hosts: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        now = wall_ms()
        root_seed, self.operator_seed = os.urandom(SEED_BYTES), os.urandom(SEED_BYTES)
        self.root = public_key(root_seed)
        self.id = fingerprint(self.root)
        self.ca = create_ca(fleet=self.id, now_ms=now)
        self.room = create_server(self.ca, names=["127.0.0.1", "localhost"], now_ms=now)
        import hashlib
        import ssl

        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.ca.certificate.decode())).digest()
        roster = Roster(
            root=self.root,
            revision=1,
            previous=b"",
            issued=now,
            valid_until=now + 30 * DAY_MS,
            ca=(digest,),
            operators=(
                Operator(name="bench", key=public_key(self.operator_seed), roles=("admin", "operator", "read")),
            ),
        )
        trusted_ca(self.ca.certificate.decode(), roster)
        self.roster = sign_roster(roster, root_seed)
        self.members = tuple(Member(new_id(), f"host{number:05}", ROOM) for number in range(hosts))
        self.write("ca.crt", self.ca.certificate)
        self.write("room.crt", self.room.certificate)
        self.write("room.key", self.room.key)
        self._certify()

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(data)
        return path

    def _certify(self) -> None:
        key = create_agent_key()
        request = create_csr(key)
        self.write("agent.key", key)
        for member in self.members:
            certificate = sign_csr(self.ca, request, agent=member.agent, room=ROOM, now_ms=wall_ms())
            self.write(f"{member.agent}.crt", certificate)

    def plans(self, address: tuple[str, int], processes: int) -> list[Path]:
        """One file for each process of simulated agents."""
        paths: list[Path] = []
        for number in range(processes):
            agents = tuple(
                AgentPlan(member.agent, member.name, member.room, str(self.folder / f"{member.agent}.crt"))
                for member in self.members[number::processes]
            )
            plan = Plan(
                host=address[0],
                port=address[1],
                ca=str(self.folder / "ca.crt"),
                key=str(self.folder / "agent.key"),
                fleet=self.id,
                rosters=(self.roster,),
                agents=agents,
            )
            paths.append(self.write(f"plan{number}.json", msgspec.json.encode(plan)))
        return paths

    def job(self, members: Sequence[Member]) -> Signed:
        """A signed `uptime` for these hosts."""
        now = wall_ms()
        if len(members) <= LISTED_MAX:
            targets = TargetList(",".join(member.name for member in members), tuple(members))
        else:
            targets = TargetRoot("*", len(members), MembershipTree(members).root)
        envelope = Envelope(
            id=new_id(),
            fleet=self.id,
            operator="bench",
            act=Exec(argv=("uptime",)),
            targets=targets,
            issued=now,
            not_before=now,
            expires=now + 120_000,
            roster=1,
        )
        return sign(envelope, self.operator_seed)

    @property
    def credential(self) -> Credential:
        """The room's."""
        return self.room
