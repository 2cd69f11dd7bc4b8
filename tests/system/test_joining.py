"""`agentd join` against a real control plane: every way in that is none, and no token is ever shown to a stranger.

That a token was never sent is proved twice: a stranger that records all that it is sent has nothing of it, and the
token is still good.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libstaragent import codes
from libstaragent.model.api import Enrolment, ErrorBody, Trust
from libstaragent.security.identity import create_agent_key, create_ca, create_csr, create_server
from libstaragent.security.tls import api_context

AGENTD = (sys.executable, "-m", "agentd")


class Stranger:
    """A TLS server that answers every request with what it was given, and keeps all that it is sent."""

    def __init__(self, folder: Path, answer: bytes, status: str) -> None:
        ca = create_ca(fleet="0" * 64, now_ms=time.time_ns() // 1_000_000)
        server = create_server(ca, names=["127.0.0.1"], now_ms=time.time_ns() // 1_000_000)
        pem = folder / "stranger.pem"
        pem.write_bytes(server.key + server.certificate)
        self._context = api_context(certificate=pem, key=pem)
        self._socket = socket.create_server(("127.0.0.1", 0))
        head = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {len(answer)}\r\n\r\n"
        self._answer = head.encode() + answer
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.heard = b""
        self.refused = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                try:
                    with self._context.wrap_socket(connection, server_side=True) as secure:
                        while b"\r\n\r\n" not in self.heard:
                            piece = secure.recv(65536)
                            if not piece:
                                break
                            self.heard += piece
                        secure.sendall(self._answer)
                except (OSError, ssl.SSLError):
                    self.refused += 1

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Callable[..., Stranger]]:
    made: list[Stranger] = []

    def make(answer: bytes, status: str = "200 OK") -> Stranger:
        made.append(Stranger(tmp_path, answer, status))
        return made[-1]

    yield make
    for each in made:
        each.close()


def refused(done: Any, code: Any, site: Any, name: str) -> None:
    """It ended with the code and its remedy, and the host has not joined."""
    assert done.returncode == 1, done
    assert f"{code.code} " in done.stderr and code.remedy in done.stderr, done.stderr
    assert done.stdout == ""
    assert files_left(site.host_state(name)) == []


def files_left(state: Path) -> list[str]:
    """What `join` left there beside a key that nobody has certified: it writes that first, to know that it can."""
    return [path.name for path in state.rglob("*") if path.is_file() and path.name != "next.key"]


def test_a_wrong_token_is_refused(site: Any) -> None:
    secret = site.issue()
    wrong = secret[:-4] + ("AAAA" if not secret.endswith("AAAA") else "BBBB")
    for token in (wrong, "nonsense", ""):
        refused(site.join("new01", token=token), codes.TOKEN_UNKNOWN, site, "new01")
    with site.fleet() as fleet:
        assert "new01" not in {host.name for host in fleet.hosts()}


def test_an_expired_token_is_refused(site: Any) -> None:
    # A millisecond of life: it is over before another process can send it.
    refused(site.join("new01", token=site.issue("--ttl", "0.001")), codes.TOKEN_EXPIRED, site, "new01")


def test_a_used_up_token_a_taken_name_and_a_second_join_are_refused(site: Any) -> None:
    token = site.issue("--uses", "1")
    refused(site.join("web01x", token=token, address="127.0.0.1"), codes.CENTRAL_UNREACHED, site, "web01x")
    # A name that is taken uses nothing up: the token admits another host after it.
    taken = site.join_at(site.host_state("twin"), "web01", token=token)
    refused(taken, codes.HOST_NAME_TAKEN, site, "twin")
    assert site.join("spare01", token=token).returncode == 0
    assert (site.host_state("spare01") / "identity.json").exists()
    refused(site.join("spare02", token=token), codes.TOKEN_USED_UP, site, "spare02")
    again = site.join("spare01", token=site.issue())
    assert again.returncode == 1 and codes.ALREADY_JOINED.code in again.stderr


def test_a_token_holds_only_for_the_names_that_it_is_for(site: Any) -> None:
    token = site.issue("--name", "rack7-*")
    refused(site.join("new01", token=token), codes.TOKEN_SCOPE, site, "new01")
    token = site.issue("--network", "192.0.2.0/24")
    refused(site.join("new01", token=token), codes.TOKEN_SCOPE, site, "new01")


def test_with_a_wrong_pin_the_token_is_never_sent(site: Any) -> None:
    token = site.issue()
    refused(site.join("pin01", token=token, pin="ab" * 32), codes.ROSTER_OTHER_FLEET, site, "pin01")
    assert site.join("pin01", token=token).returncode == 0


def test_a_stranger_that_knows_the_rosters_but_has_another_ca_gets_no_token(
    site: Any, stranger: Callable[..., Stranger]
) -> None:
    """It can tell the true chain, which is public; the true CA's certificate it cannot show."""
    token = site.issue()
    with site.http(login=False) as http:
        trust = msgspec.json.decode(http.get("/v1/trust").content, type=Trust)
    theirs = stranger(msgspec.json.encode(trust))
    refused(site.join("theft01", token=token, address=theirs.address), codes.CENTRAL_UNREADABLE, site, "theft01")
    assert theirs.heard.startswith(b"GET /v1/trust ") and theirs.refused == 1
    assert token.encode() not in theirs.heard and b"enrol" not in theirs.heard
    assert site.join("theft01", token=token).returncode == 0


def test_a_stranger_with_a_ca_of_its_own_gets_no_token(site: Any, stranger: Callable[..., Stranger]) -> None:
    token = site.issue()
    with site.http(login=False) as http:
        trust = msgspec.json.decode(http.get("/v1/trust").content, type=Trust)
    own = create_ca(fleet=site.said["fleet"], now_ms=time.time_ns() // 1_000_000)
    theirs = stranger(msgspec.json.encode(msgspec.structs.replace(trust, ca=own.certificate.decode())))
    refused(site.join("theft02", token=token, address=theirs.address), codes.CA_NOT_IN_ROSTER, site, "theft02")
    assert theirs.heard.startswith(b"GET /v1/trust ") and token.encode() not in theirs.heard


def test_what_is_no_control_plane_is_told_as_such(site: Any, stranger: Callable[..., Stranger]) -> None:
    theirs = stranger(b"<html>")
    refused(site.join("new01", token="t", address=theirs.address), codes.CENTRAL_UNREADABLE, site, "new01")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    done = site.join("new01", token="t", address=f"127.0.0.1:{port}")
    refused(done, codes.CENTRAL_UNREACHED, site, "new01")


def test_a_host_with_a_hostile_name_cannot_join(site: Any) -> None:
    csr = create_csr(create_agent_key()).decode()
    with site.http() as http:
        before = {host["name"] for host in http.get("/v1/hosts").json()["hosts"]}
        for name in ("web\x1b[31m01", "[/red]", "../etc", "-rf", "a b", "host\u202e", "x" * 300, "wéb", "", "a\nb"):
            enrolment = Enrolment(token=site.said["token"], name=name, csr=csr)
            answer = http.post("/v1/enrol", content=msgspec.json.encode(enrolment))
            assert (answer.status_code, answer.json()["code"]) == (422, codes.REQUEST_MALFORMED.code), name
        assert {host["name"] for host in http.get("/v1/hosts").json()["hosts"]} == before


def test_join_says_it_too_and_the_terminal_stays_whole(site: Any) -> None:
    state = site.folder / "hostile"
    done = site.join_at(state, "\x1b]0;owned\x07[/b]")
    assert done.returncode == 1 and codes.REQUEST_MALFORMED.code in done.stderr
    assert "\x1b" not in done.stderr and files_left(state) == []


def test_a_refusal_that_this_version_does_not_know_is_passed_on(site: Any, stranger: Callable[..., Stranger]) -> None:
    said = ErrorBody(code="SA-2777", symbol="newer", message="not on Sundays", remedy="Wait.", retryable=False)
    theirs = stranger(msgspec.json.encode(said), "403 Forbidden")
    done = site.join("new01", token="t", address=theirs.address)
    refused(done, codes.JOIN_REFUSED, site, "new01")
    assert "SA-2777 not on Sundays" in done.stderr


def test_an_agent_whose_identity_is_damaged_says_which_file(site: Any, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    file = state / "identity.json"
    file.touch(0o600)
    file.write_text('{"agent": ')
    # The keeper stays and tries again, for whoever mends the file; it is told to go.
    process = subprocess.Popen([*AGENTD, "agent", "--state", str(state)], stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stderr is not None
        said = process.stderr.readline()
        process.terminate()
        process.communicate(timeout=30)
    assert codes.STATE_DAMAGED.code in said and str(file) in said


def test_an_agent_that_never_joined_says_what_to_do(site: Any) -> None:
    done = site.agentd("agent", "--state", str(site.folder / "nobody"))
    assert done.returncode == 1 and codes.NOT_JOINED.code in done.stderr
