"""`agentd init` and `agentd all` as processes: a fleet's birth, a real agent, kill -9, a full disk, the end."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import select
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from agentd.bootstrap import Listeners, State, prepare, read_rosters, take_rosters
from agentd.store.store import Store
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.model import api
from libstaragent.model.result import records
from libstaragent.security import login
from libstaragent.security.identity import SERVER_LIFE_MS, certificate_span
from libstaragent.security.signed import signed_to_json
from libstaragent.security.tls import client_context

AGENTD = (sys.executable, "-m", "agentd")
WITHIN_SECONDS = 40.0


def agentd(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*AGENTD, *words], capture_output=True, text=True, timeout=WITHIN_SECONDS, **options)


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line of stdout."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], WITHIN_SECONDS)[0], "it said nothing"
    return process.stdout.readline()


class Plane:
    """A control plane in a process of its own, on one state directory, started as often as the test likes."""

    def __init__(self, folder: Path, people: Any) -> None:
        self.folder = folder
        self.people = people
        self.state = folder / "control"
        self.processes: list[subprocess.Popen[str]] = []
        self.ports = ("127.0.0.1:0", "127.0.0.1:0")
        self.log = folder / "log"
        self.http = httpx.Client()

    def init(self) -> None:
        said = json.loads(agentd("init", "--state", str(self.state)).stdout)
        self.people.roster(bytes.fromhex(said["ca_sha256"]))
        self.roster = self.folder / "1.json"
        self.roster.write_bytes(signed_to_json(self.people.revisions[0]))

    def start(self, *words: str) -> dict[str, Any]:
        """Starts it; what it said."""
        listen = ("--listen-api", self.ports[0], "--listen-room", self.ports[1])
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                [*AGENTD, "all", "--state", str(self.state), *listen, *words],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.processes.append(process)
        ready = json.loads(line_of(process) or self.log.read_text())
        assert ready["ready"] is True and ready["pid"] == process.pid
        self.ports = (ready["api"].removeprefix("https://"), ready["room"])
        self.http.close()
        self.http = httpx.Client(
            base_url=ready["api"], verify=client_context((self.state / "ca.pem").read_text()), timeout=WITHIN_SECONDS
        )
        return ready

    def log_in(self) -> None:
        asked = msgspec.json.decode(
            self.http.get("/v1/login", params={"operator": "ann"}).content, type=login.Challenge
        )
        answer = login.answer(asked, fleet=self.people.fleet, operator="ann", seed=self.people.seeds["ann"])
        said = self.http.post("/v1/login", content=msgspec.json.encode(api.LoginRequest(answer))).json()
        self.bearer = {"authorization": f"Bearer {said['token']}"}

    def join(self, name: str) -> None:
        """A real agent, enrolled and running."""
        token = self.http.post("/v1/tokens", content=signed_to_json(self.people.token())).json()["token"]
        folder = self.folder / name
        done = agentd(
            "join",
            self.ports[0],
            "--pin",
            self.people.fleet,
            "--name",
            name,
            "--state",
            str(folder),
            input=token + "\n",
        )
        assert done.returncode == 0, done.stderr
        with open(self.log, "ab") as log:
            self.processes.append(
                subprocess.Popen([*AGENTD, "agent", "--state", str(folder)], stdout=log, stderr=log, text=True)
            )

    def until_up(self, name: str) -> None:
        """Waits for the host by the event stream, not by the clock."""
        with self.http.stream("GET", "/v1/events", headers=self.bearer) as stream:
            for line in stream.iter_lines():
                if line and self.http.get(f"/v1/hosts/{name}", headers=self.bearer).json()["state"] == "up":
                    return
        raise AssertionError("the stream ended")

    def submit(self, *argv: str, wait: float = 0) -> httpx.Response:
        resolved = msgspec.json.decode(
            self.http.get("/v1/resolve", params={"targets": "*"}, headers=self.bearer).content, type=api.Resolved
        )
        signed = self.people.exec(resolved.members, *argv)
        return self.http.post("/v1/jobs", params={"wait": wait}, content=signed_to_json(signed))

    def end(self) -> None:
        self.http.close()
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def plane(short_tmp: Path, people: Any) -> Iterator[Plane]:
    running = Plane(short_tmp, people)
    running.init()
    yield running
    running.end()


@pytest.mark.timeout(150)  # two starts of the control plane, an enrolment and an agent's way back
@pytest.mark.slow
def test_a_job_whose_control_plane_is_killed_before_the_result_ends_after_its_restart(plane: Plane) -> None:
    plane.start("--roster", str(plane.roster))
    plane.log_in()
    plane.join("web01")
    plane.until_up("web01")
    gate = plane.folder / "gate"
    os.mkfifo(gate)
    answer = plane.submit("/bin/sh", "-c", f"echo before; read word < {gate}; echo $word").json()
    job = answer["job"]["id"]
    # The command has opened the pipe, so it runs.
    writing = os.open(gate, os.O_WRONLY)
    control = plane.processes[0]
    control.kill()
    assert control.wait() == -signal.SIGKILL, "it was killed"
    os.write(writing, b"after\n")
    os.close(writing)
    plane.start()
    with plane.http.stream("GET", f"/v1/jobs/{job}/events", headers=plane.bearer) as stream:
        for line in stream.iter_lines():
            if line and plane.http.get(f"/v1/jobs/{job}", headers=plane.bearer).json()["finished_ms"]:
                break
    [target] = plane.http.get(f"/v1/jobs/{job}/targets", params={"output": 1}, headers=plane.bearer).json()["targets"]
    assert (target["state"], target["exit_status"], target["amendment"]) == ("ok", 0, False)
    output = msgspec.convert(target["output"], api.OutputView)
    assert b"".join(data for _, data in records(output.head)) == b"before\nafter\n"


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_a_full_disk_refuses_jobs_with_its_errno_and_takes_them_when_there_is_space(
    plane: Plane, refused: Callable[..., None]
) -> None:
    plane.start("--roster", str(plane.roster))
    plane.log_in()
    plane.join("web01")
    plane.until_up("web01")
    assert plane.submit("true", wait=20).json()["job"]["counts"] == {"ok": 1}
    pid = plane.processes[0].pid
    written = max(path.stat().st_size for path in plane.state.glob("store.db*"))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (written // 4096 * 4096, resource.RLIM_INFINITY))
    response = None
    for _ in range(200):
        response = plane.submit("true")
        if response.status_code != 202:
            break
    assert response is not None
    refused(response, codes.STORE_FAILED, 503)
    assert response.json()["errno"] in (errno.ENOSPC, errno.EFBIG, errno.EIO)
    assert plane.http.get("/v1/health").json()["store"] == "failing"
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert plane.submit("true", wait=20).json()["job"]["counts"] == {"ok": 1}
    assert plane.http.get("/v1/health").json()["store"] == "ok"


def test_it_needs_a_roster_once_keeps_its_pin_and_is_alone_on_its_state(plane: Plane, people: Any) -> None:
    local = ("--listen-api", "127.0.0.1:0", "--listen-room", "127.0.0.1:0", "--state", str(plane.state))
    done = agentd("all", *local)
    assert (done.returncode, codes.STATE_MISSING.code in done.stderr) == (1, True)
    stranger = type(people)()
    stranger.roster(bytes(32))
    (plane.folder / "bad.json").write_text("nonsense")
    done = agentd("all", *local, "--roster", str(plane.folder / "bad.json"))
    assert (done.returncode, codes.SIGNED_MALFORMED.code in done.stderr) == (1, True)

    # Put where the start looks for it.
    (plane.state / "rosters" / "1.signed").write_bytes(plane.roster.read_bytes())
    plane.start()
    done = agentd("all", *local)
    assert (done.returncode, codes.STATE_IN_USE.code in done.stderr) == (1, True)
    control = plane.processes[0]
    control.send_signal(signal.SIGINT)
    assert control.wait(WITHIN_SECONDS) == 0
    (plane.folder / "bad.json").write_bytes(signed_to_json(stranger.revisions[0]))
    done = agentd("all", *local, "--roster", str(plane.folder / "bad.json"))
    assert (done.returncode, codes.ROSTER_OTHER_FLEET.code in done.stderr) == (1, True)


def test_a_first_roster_must_be_the_roots_and_name_this_ca(tmp_path: Path, people: Any) -> None:
    state = prepare(tmp_path / "state", now_ms=time.time_ns() // 1_000_000)
    good = people.roster(state.ca_sha256)
    stranger = type(people)()
    now = time.time_ns() // 1_000_000
    with Store.open(state.database) as store:
        for signed, code in (
            (stranger.roster(bytes(32)), codes.CA_NOT_IN_ROSTER),
            (people.resign(good, people.seeds["ann"]), codes.ROSTER_SIGNER),
        ):
            with pytest.raises(StarAgentError) as refusal:
                take_rosters(state, store, [signed], now_ms=now)
            assert refusal.value.code is code
        assert store.read.rosters() == [], "nothing was taken"
        file = tmp_path / "chain.json"
        file.write_bytes(msgspec.json.encode([good, people.roster(state.ca_sha256)]))
        assert take_rosters(state, store, read_rosters([file]), now_ms=now).newest.revision == 2
        # The same files at the next start, and one that is older, change nothing.
        assert len(take_rosters(state, store, [good], now_ms=now).revisions) == 2
        with pytest.raises(StarAgentError) as refusal:
            read_rosters([tmp_path / "absent"])
        assert (refusal.value.code, refusal.value.errno) == (codes.STATE_UNREADABLE, errno.ENOENT)


def test_it_ends_with_zero_on_sigterm_also_while_somebody_waits_and_somebody_reads(plane: Plane) -> None:
    plane.start("--roster", str(plane.roster))
    plane.log_in()
    control = plane.processes[0]
    with plane.http.stream("GET", "/v1/events", headers=plane.bearer) as stream:
        lines = stream.iter_lines()
        assert next(lines) == ": subscribed"
        control.terminate()
        assert list(lines) is not None, "the stream ended"
    assert control.wait(WITHIN_SECONDS) == 0
    said = plane.log.read_text()
    assert "stopped" in said and "ERROR" not in said and "Traceback" not in said
    assert plane.bearer["authorization"].partition(" ")[2] not in said


def test_a_port_that_is_taken_is_a_coded_refusal(plane: Plane) -> None:
    plane.start("--roster", str(plane.roster))
    other = plane.folder / "other"
    said = json.loads(agentd("init", "--state", str(other)).stdout)
    people = type(plane.people)()
    (other / "rosters" / "1.signed").write_bytes(signed_to_json(people.roster(bytes.fromhex(said["ca_sha256"]))))
    for api_at, room_at in ((plane.ports[0], "127.0.0.1:0"), ("127.0.0.1:0", plane.ports[1])):
        done = agentd("all", "--state", str(other), "--listen-api", api_at, "--listen-room", room_at)
        assert (done.returncode, codes.LISTEN_FAILED.code in done.stderr) == (1, True), done.stderr


def test_a_state_directory_is_private_and_prepared_only_where_it_must_be(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    now = time.time_ns() // 1_000_000
    state = prepare(folder, advertise=["ops.example", "127.0.0.1"], fleet="f" * 64, now_ms=now)
    assert state.names == ("ops.example",)
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in folder.iterdir():
        if path.is_file() and path.suffix != ".db":
            assert path.stat().st_mode & 0o077 == 0, path
    before = {name: (folder / name).read_bytes() for name in ("ca.pem", "ca.key", "api.pem", "room.pem")}
    assert prepare(folder, now_ms=now) == state
    assert {name: (folder / name).read_bytes() for name in before} == before
    again = prepare(folder, advertise=["other.example"], now_ms=now)
    assert again.names == ("other.example",) and again.ca == state.ca
    assert (folder / "api.pem").read_bytes() != before["api.pem"]
    # Past two thirds of their life they are made new.
    listeners = Listeners(State.open(folder))
    assert not listeners.renew("api", now + SERVER_LIFE_MS // 2)
    assert listeners.renew("api", now + SERVER_LIFE_MS * 3 // 4)
    pem = (folder / "api.pem").read_bytes()
    assert certificate_span(pem[pem.index(b"-----BEGIN CERT") :])[1] > now + SERVER_LIFE_MS
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "api.pem")


def test_the_commands_say_what_they_take(tmp_path: Path) -> None:
    version = agentd("--version")
    assert (version.returncode, re.fullmatch(r"agentd \S+\n", version.stdout) is not None) == (0, True)
    done = agentd("--help")
    assert done.returncode == 0 and "init" in done.stdout and "join ADDRESS" in done.stdout
    assert agentd().returncode == 64
    assert agentd("nonsense").returncode == 64
    assert agentd("all", "--state", str(tmp_path), "--listen-api", "nowhere").returncode == 64
    assert agentd("all", "--state", str(tmp_path), "--room", "not a name").returncode == 64
    done = agentd("all", "--state", str(tmp_path / "absent"))
    assert (done.returncode, codes.STATE_MISSING.code in done.stderr, "→" in done.stderr) == (1, True, True)
    (tmp_path / "file").write_text("")
    done = agentd("init", "--state", str(tmp_path / "file"))
    assert (done.returncode, codes.STATE_UNREADABLE.code in done.stderr) == (1, True)


def test_choosing_the_agent_loads_nothing_of_the_control_plane() -> None:
    code = (
        "import sys; from agentd.__main__ import main; main(['agent', '--state', '/nonexistent'])\n"
        "heavy = {'asyncio', 'argparse', 'sqlalchemy', 'uvicorn', 'starlette', 'cryptography', 'agentd.cli'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WITHIN_SECONDS)
    assert done.stdout == "[]\n", done.stdout + done.stderr
