"""The agents' port of a real fleet: strangers, the wrong fleet, other versions, garbage. Seen on both sides."""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libstaragent import codes
from libstaragent.model.api import Enrolled, Enrolment
from libstaragent.protocol import messages as m
from libstaragent.protocol.connection import AGENT, Connection
from libstaragent.protocol.frames import CONTROL, encode_frame
from libstaragent.protocol.limits import FRAME_MAX
from libstaragent.security.identity import create_agent_key, create_csr
from libstaragent.security.private_file import write_private
from libstaragent.security.tls import agent_context


class Peer:
    """An agent written by hand: enrolled as any host, then saying what the test wants it to say."""

    def __init__(self, site: Any, folder: Path, name: str) -> None:
        self.site = site
        key = create_agent_key()
        with site.http(login=False) as http:
            request = Enrolment(token=site.issue(), name=name, csr=create_csr(key).decode())
            answer = http.post("/v1/enrol", content=msgspec.json.encode(request))
            self.agent = msgspec.json.decode(answer.content, type=Enrolled)
        pem = folder / f"{name}.pem"
        write_private(pem, key + self.agent.certificate.encode())
        self._context = agent_context(certificate=pem, key=pem, ca_pem=(site.state / "ca.pem").read_text())
        self.connection = Connection(AGENT, now=0.0)

    def connect(self) -> ssl.SSLSocket:
        host, _, port = self.site.said["room"].rpartition(":")
        plain = socket.create_connection((host, int(port)), timeout=20)
        return self._context.wrap_socket(plain, server_hostname=host)

    def hello(self, **changes: Any) -> bytes:
        values: dict[str, Any] = {
            "protocol_min": 1, "protocol_max": 1, "features": (), "version": "0.0.0", "agent": self.agent.agent,
            "boot_nonce": os.urandom(16), "connects": 1, "clock_ms": time.time_ns() // 1_000_000, "roster": 1,
            "hostname": "byhand", "addresses": (), "facts": {},
        }  # fmt: skip
        self.connection = Connection(AGENT, now=0.0)
        self.connection.send(m.Hello(**(values | changes)))
        return self.connection.take()

    def answer_to(self, data: bytes) -> list[Any]:
        """Everything that the room says to `data` on a new connection, until it closes it."""
        heard: list[Any] = []
        with self.connect() as tls:
            tls.sendall(data)
            while True:
                try:
                    piece = tls.recv(65536)
                except (ConnectionResetError, ssl.SSLEOFError):
                    break
                if not piece:
                    break
                heard += self.connection.receive(piece, 0.0)
        return heard


@pytest.fixture
def by_hand(site: Any, tmp_path: Path) -> Iterator[Callable[[str], Peer]]:
    yield lambda name: Peer(site, tmp_path, name)


def test_another_version_of_the_protocol_is_refused_and_the_operator_sees_it(
    site: Any, by_hand: Callable[[str], Peer]
) -> None:
    peer = by_hand("future01")
    (refuse,) = peer.answer_to(peer.hello(protocol_min=99, protocol_max=99))
    assert isinstance(refuse, m.Refuse) and refuse.code == codes.VERSION_MISMATCH.code
    assert "99" in refuse.detail and refuse.retry_after_ms > 0
    site.until_hosts(lambda hosts: hosts["future01"].code == codes.VERSION_MISMATCH.code)
    listed = site.run("hosts", "future01")
    assert codes.VERSION_MISMATCH.code in listed.stdout and " up" not in listed.stdout


def test_an_agent_that_says_it_is_another_is_refused(site: Any, by_hand: Callable[[str], Peer]) -> None:
    peer = by_hand("liar01")
    with site.fleet() as fleet:
        victim = fleet.host("web01")
    (refuse,) = peer.answer_to(peer.hello(agent=victim.id))
    assert refuse.code == codes.IDENTITY_MISMATCH.code
    with site.fleet() as fleet:
        assert fleet.host("web01").state == "up"


def test_garbage_and_frames_too_large_are_answered_with_their_codes(site: Any, by_hand: Callable[[str], Peer]) -> None:
    peer = by_hand("noise01")
    for data, code in (
        (b"GET / HTTP/1.1\r\n\r\n", codes.FRAME_TOO_LARGE),
        ((FRAME_MAX + 1).to_bytes(4, "big") + b"\x01\x00\x00\x00\x00", codes.FRAME_TOO_LARGE),
        (b"\x00\x00\x00\x06\x77\x00\x00\x00\x00x", codes.FRAME_MALFORMED),
        (encode_frame(CONTROL, 0, b"\xc1"), codes.MESSAGE_MALFORMED),
        (encode_frame(CONTROL, 0, msgspec.msgpack.encode([7, 1])), codes.MESSAGE_UNEXPECTED),
    ):
        peer.connection = Connection(AGENT, now=0.0)
        heard = peer.answer_to(data)
        assert [answer.code for answer in heard] == [code.code], data
    assert site.run("exec", "-t", "all & !(noise*|future*|liar*)", "--ttl", "1", "--", "true").returncode in (0, 2)
    assert site.run("exec", "-t", "web01,web02,db01", "--", "true").returncode == 0


def test_what_is_no_tls_and_who_has_no_certificate_get_nothing(site: Any) -> None:
    host, _, port = site.said["room"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as plain:
        plain.sendall(b"hello, is anybody there?\r\n\r\n")
        try:
            heard = plain.recv(65536)
        except ConnectionResetError:
            heard = b""
    # At most an alert of TLS.
    assert len(heard) <= 7
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(str(site.state / "ca.pem"))
    with socket.create_connection((host, int(port)), timeout=20) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=host) as tls:
                heard = tls.recv(1)
        except (ssl.SSLError, ConnectionResetError):
            heard = b""
    assert heard == b""
    assert site.run("exec", "-t", "web01", "--", "true").returncode == 0


def test_an_agent_of_another_fleet_never_comes_up_and_both_sides_say_why(site: Any, new_site: Any) -> None:
    other = new_site()
    assert site.join("lost01").returncode == 0
    file = site.host_state("lost01") / "identity.json"
    identity = json.loads(file.read_text())
    write_private(file, json.dumps(identity | {"room_address": other.said["room"]}).encode(), overwrite=True)
    site.start_agent("lost01", log_to_pipe=True)
    try:
        assert other.said["room"] in site.log_line("lost01", codes.CERTIFICATE_REFUSED.code)
        # It tries again; the second refusal is after the other side's word on the first.
        site.log_line("lost01", codes.CERTIFICATE_REFUSED.code)
        assert codes.CERTIFICATE_REFUSED.code in other.central_log
        for fleet_site in (site, other):
            with fleet_site.fleet() as fleet:
                assert "up" not in {host.state for host in fleet.hosts() if host.name == "lost01"}
    finally:
        site.stop_agent("lost01")


def test_a_silent_port_scan_does_not_fill_the_log(site: Any) -> None:
    host, _, port = site.said["room"].rpartition(":")
    before = len(site.central_log)
    for _ in range(100):
        with socket.create_connection((host, int(port)), timeout=20) as plain:
            plain.sendall(b"x" * 100)
            select.select([plain], [], [], 20)
    assert len(site.central_log) - before < 4096
    assert site.run("exec", "-t", "web01", "--", "true").returncode == 0
