"""What the benchmarks measure: a control plane as it is shipped, in its own process, and a fleet of simulated agents.

    with ControlPlane(folder) as plane:          agentd init, a roster, agentd all
        plane.enrol(1000)                        a token, a CSR each, over the API
        with Agents(plane, processes=1):         bench/agents.py, connected and welcomed
            plane.submit(...)

All agents share one P-256 key (making thousands costs minutes and measures nothing); each has a certificate of its own.
Nothing is outside `folder`, and every process that was started here is ended here.
"""

from __future__ import annotations

__all__ = ("Agents", "Client", "ControlPlane", "Refused", "cpu_seconds", "end", "new_id", "wall_ms")

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from bench.simulated import AgentPlan, Plan
from libstaragent.model.api import (
    Challenge,
    Enrolled,
    Enrolment,
    JobAnswer,
    JobSubmission,
    LoginRequest,
    Session,
    TokenIssued,
)
from libstaragent.model.ids import ULID_RANDOM_BYTES, new_ulid
from libstaragent.security.acts import Act, Exec, IssueToken, Member, TargetList, TargetRoot, Targets
from libstaragent.security.envelope import Envelope, Signed, sign, signed_to_json
from libstaragent.security.identity import create_agent_key, create_csr
from libstaragent.security.login import answer
from libstaragent.security.membership import MembershipTree
from libstaragent.security.policy.model import FOUNDERS
from libstaragent.security.roster import Operator, Roster, sign_roster
from libstaragent.security.signing import SEED_BYTES, fingerprint, public_key
from libstaragent.security.tls import client_context

HERE = Path(__file__).resolve().parent
ROOM = "main"
DAY_MS = 86_400_000
# Up to so many targets an envelope lists them; the clients of opsconsole do the same.
LISTED_MAX = 16
# A control plane that does not answer within this is broken, not slow.
PATIENCE_SECONDS = 120


def wall_ms() -> int:
    """Now, in ms since the epoch."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """An id for a job."""
    return new_ulid(wall_ms(), os.urandom(ULID_RANDOM_BYTES))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Refused(RuntimeError):
    """An answer that is no success."""

    def __init__(self, path: str, status: int, body: bytes) -> None:
        super().__init__(f"{path}: {status} {body[:500]!r}")
        self.status = status


class Client:
    """One HTTPS connection to the API, kept open."""

    def __init__(self, address: str, ca_pem: str) -> None:
        host, _, port = address.rpartition(":")
        self.bearer = ""
        self._http = http.client.HTTPSConnection(
            host, int(port), context=client_context(ca_pem), timeout=PATIENCE_SECONDS
        )

    def post(self, path: str, body: bytes) -> bytes:
        """The answer's body; anything but success raises."""
        self._http.request("POST", path, body, {"Content-Type": "application/json"})
        return self._answer(path)

    def get(self, path: str) -> bytes:
        """The same of a GET."""
        self._http.request("GET", path, headers={"Authorization": f"Bearer {self.bearer}"} if self.bearer else {})
        return self._answer(path)

    def _answer(self, path: str) -> bytes:
        answered = self._http.getresponse()
        data = answered.read()
        if answered.status >= 300:
            raise Refused(path, answered.status, data)
        return data

    def run(self, body: bytes) -> JobAnswer:
        """Submit a job and wait until every result is committed."""
        done = msgspec.json.decode(self.post(f"/v1/jobs?wait={PATIENCE_SECONDS}", body), type=JobAnswer)
        if done.job.counts != {"ok": done.job.targets}:
            raise RuntimeError(f"the job did not end well: {done.job}")
        return done

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


UPTIME = Exec(argv=("uptime",))


class ControlPlane:
    """`agentd all` with a fleet of its own. See the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state = folder / "state"
        self._root_seed, self._operator_seed = os.urandom(SEED_BYTES), os.urandom(SEED_BYTES)
        self.root = public_key(self._root_seed)
        self.fleet = fingerprint(self.root)
        self.members: tuple[Member, ...] = ()
        self.api = "127.0.0.1:0"
        self.room = ("127.0.0.1", 0)
        self._certificates: dict[str, Path] = {}

    def __enter__(self) -> Self:
        now = wall_ms()
        init = [sys.executable, "-m", "agentd", "init", "--state", str(self._state)]
        said = json.loads(subprocess.run(init, check=True, capture_output=True).stdout)
        self.roster = sign_roster(
            Roster(
                root=self.root,
                revision=1,
                previous=b"",
                issued=now,
                valid_until=now + 30 * DAY_MS,
                ca=(bytes.fromhex(said["ca_sha256"]),),
                operators=(Operator("bench", public_key(self._operator_seed), ("admin", "operator", "read")),),
                rules=(FOUNDERS,),
            ),
            self._root_seed,
        )
        (self._state / "rosters" / "1.signed").write_bytes(signed_to_json(self.roster))
        self.ca_path = self._state / "ca.pem"
        self.ca_pem = self.ca_path.read_text()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self._process)

    def start(self) -> None:
        """`agentd all`: at first on any ports, later on the same."""
        room = ":".join(str(word) for word in self.room)
        with open(self.folder / "agentd.log", "ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "agentd", "all", "--state", str(self._state)),
                    *("--listen-api", self.api, "--listen-room", room, "--room", ROOM),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=HERE.parent,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            end(self._process)
            raise RuntimeError("agentd all did not start: " + (self.folder / "agentd.log").read_text()[-2000:])
        ready = json.loads(line)
        self.api = ready["api"].removeprefix("https://")
        host, _, port = ready["room"].rpartition(":")
        self.room = (host, int(port))

    def kill(self) -> None:
        """`kill -9`; `start` starts it again."""
        self._process.kill()
        if self._process.wait(PATIENCE_SECONDS) != -signal.SIGKILL:
            raise RuntimeError("the control plane had ended by itself: " + self.log[-2000:])
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def log(self) -> str:
        """What it wrote to its log."""
        return (self.folder / "agentd.log").read_text()

    @property
    def pid(self) -> int:
        """Of the control plane's one process."""
        return self._process.pid

    def client(self) -> Client:
        """One more connection to the API."""
        return Client(self.api, self.ca_pem)

    def enrol(self, hosts: int) -> None:
        """Take so many hosts into the fleet, as `agentd join` does it."""
        client = self.client()
        key = create_agent_key()
        request = create_csr(key).decode()
        self._key = self._write("agent.key", key)
        members: list[Member] = []
        token = self.token(hosts)
        for number in range(hosts):
            enrolment = Enrolment(token=token, name=f"host{number:05}", csr=request)
            enrolled = msgspec.json.decode(client.post("/v1/enrol", msgspec.json.encode(enrolment)), type=Enrolled)
            self._certificates[enrolled.agent] = self._write(f"{enrolled.name}.crt", enrolled.certificate.encode())
            members.append(Member(enrolled.agent, enrolled.name, enrolled.room))
        client.close()
        self.members = tuple(members)

    def token(self, uses: int) -> str:
        """An enrolment token."""
        client = self.client()
        order = self.sign(IssueToken(room=ROOM, uses=uses, ttl_ms=3_600_000), None)
        issued = msgspec.json.decode(client.post("/v1/tokens", signed_to_json(order)), type=TokenIssued)
        client.close()
        return issued.token

    def reader(self) -> Client:
        """A connection that may read: it shows a bearer token, as after `opsconsole login`."""
        client = self.client()
        asked = msgspec.json.decode(client.get("/v1/login?operator=bench"), type=Challenge)
        signed = answer(asked, fleet=self.fleet, operator="bench", seed=self._operator_seed)
        said = client.post("/v1/login", msgspec.json.encode(LoginRequest(answer=signed)))
        client.bearer = msgspec.json.decode(said, type=Session).token
        return client

    @property
    def resident_kb(self) -> int:
        """Its memory now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

    def plans(self, processes: int) -> list[Path]:
        """One file for each process of simulated agents."""
        paths: list[Path] = []
        for number in range(processes):
            agents = tuple(
                AgentPlan(member.agent, member.name, member.room, str(self._certificates[member.agent]))
                for member in self.members[number::processes]
            )
            plan = Plan(
                host=self.room[0],
                port=self.room[1],
                ca=str(self.ca_path),
                key=str(self._key),
                fleet=self.fleet,
                rosters=(self.roster,),
                agents=agents,
            )
            paths.append(self._write(f"plan{number}.json", msgspec.json.encode(plan)))
        return paths

    def job(self, members: Sequence[Member], tree: MembershipTree | None = None, *, act: Exec = UPTIME) -> bytes:
        """The body of POST /v1/jobs for a signed `act` on these hosts; `tree` spares hashing them again."""
        if len(members) <= LISTED_MAX:
            listed = TargetList(",".join(member.name for member in members), tuple(members))
            return signed_to_json(self.sign(act, listed))
        root = (tree or MembershipTree(members)).root
        signed = self.sign(act, TargetRoot("*", len(members), root))
        return msgspec.json.encode(JobSubmission(signed, tuple(members)))

    def sign(self, act: Act, targets: Targets | None, *, job: str = "", ttl_ms: int = 600_000) -> Signed:
        """The operator's envelope; `job` is its id, or a new one."""
        now = wall_ms()
        envelope = Envelope(
            id=job or new_id(),
            fleet=self.fleet,
            operator="bench",
            act=act,
            targets=targets,
            issued=now,
            not_before=now,
            expires=now + ttl_ms,
            roster=1,
        )
        return sign(envelope, self._operator_seed)

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(data)
        return path


class Agents:
    """Processes of simulated agents, all of them connected. See the module."""

    def __init__(self, plane: ControlPlane, *, processes: int = 1) -> None:
        self._plans = plane.plans(processes)
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for plan in self._plans:
            command = [sys.executable, "-m", "bench.agents", str(plan)]
            self._processes.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE.parent)
            )
        for process in self._processes:
            assert process.stdout is not None
            if not process.stdout.readline().startswith(b"up "):
                self.__exit__(None, None, None)
                raise RuntimeError("the simulated agents did not connect")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            end(process)

    def ask(self) -> int:
        """How often they tried to connect since this was asked last."""
        tries = 0
        for process in self._processes:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"?")
            process.stdin.flush()
            tries += int(process.stdout.readline().split()[1])
        return tries

    @property
    def cpu(self) -> float:
        """CPU seconds of all of them so far."""
        return sum(cpu_seconds(process.pid) for process in self._processes)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process of ours, kindly first."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
