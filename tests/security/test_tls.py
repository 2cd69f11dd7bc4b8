"""Contexts let in only whom they should: real handshakes over loopback."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from libstaragent import codes
from libstaragent.errors import Denied
from libstaragent.model.ids import new_ulid
from libstaragent.security import tls
from libstaragent.security.identity import Credential, create_agent_key, create_ca, create_csr, create_server, sign_csr
from libstaragent.security.private_file import write_private

NOW_MS = int(time.time() * 1000)
DAY_MS = 24 * 3_600_000
FLEET = "ab" * 32
AGENT = new_ulid(NOW_MS, b"agent-0001")
CA = create_ca(fleet=FLEET, now_ms=NOW_MS)
OTHER_CA = create_ca(fleet=FLEET, now_ms=NOW_MS)
SERVER = create_server(CA, names=["localhost", "127.0.0.1", "::1"], now_ms=NOW_MS)
DEADLINE = 20


def agent_credential(ca: Credential = CA, now_ms: int = NOW_MS, agent: str = AGENT) -> Credential:
    key = create_agent_key()
    return Credential(key, sign_csr(ca, create_csr(key), agent=agent, room="hz1", now_ms=now_ms))


class Files:
    """Credentials as files, because OpenSSL reads them by path."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0

    def put(self, credential: Credential) -> dict[str, Path]:
        self._count += 1
        paths = {
            "certificate": self._directory / f"{self._count}.crt",
            "key": self._directory / f"{self._count}.key",
        }
        write_private(paths["certificate"], credential.certificate)
        write_private(paths["key"], credential.key)
        return paths


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


class Outcome(msgspec.Struct):
    """What each side of one handshake saw: the peer's identity or the error."""

    server: Any = None
    client: Any = None


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> Outcome:
    """One TLS connection over loopback, one byte each way; in TLS 1.3 a client learns of its refusal when it reads."""
    outcome = Outcome()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)

        def serve() -> None:
            raw, _ = listener.accept()
            raw.settimeout(DEADLINE)
            try:
                with server.wrap_socket(raw, server_side=True) as connection:
                    outcome.server = tls.peer_identity(connection)
                    connection.sendall(b"s")
                    connection.recv(1)
            except (OSError, Denied) as error:
                outcome.server = error
            finally:
                raw.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=DEADLINE) as raw,
                client.wrap_socket(raw, server_hostname=name) as connection,
            ):
                connection.sendall(b"c")
                if connection.recv(1) != b"s":
                    raise ConnectionError("closed before an answer")
                outcome.client = connection.version()
        except OSError as error:
            outcome.client = error
        thread.join(DEADLINE)
        assert not thread.is_alive()
    return outcome


CA_PEM = CA.certificate.decode()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_an_agent_of_the_fleet_is_let_in_and_named(files: Files, name: str) -> None:
    room = tls.room_context(**files.put(SERVER), ca_pem=CA_PEM)
    agent = tls.agent_context(**files.put(agent_credential()), ca_pem=CA_PEM)
    assert shake(room, agent, name) == Outcome((AGENT, "hz1"), "TLSv1.3")


def test_a_client_without_a_certificate_is_refused(files: Files) -> None:
    room = tls.room_context(**files.put(SERVER), ca_pem=CA_PEM)
    outcome = shake(room, tls.client_context(CA_PEM))
    assert isinstance(outcome.server, ssl.SSLError)
    assert outcome.server.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    assert isinstance(outcome.client, OSError)


def test_an_agent_of_another_ca_is_refused(files: Files) -> None:
    room = tls.room_context(**files.put(SERVER), ca_pem=CA_PEM)
    agent = tls.agent_context(**files.put(agent_credential(OTHER_CA)), ca_pem=CA_PEM)
    outcome = shake(room, agent)
    assert isinstance(outcome.server, ssl.SSLCertVerificationError)
    assert isinstance(outcome.client, OSError)


def test_an_expired_agent_is_refused(files: Files) -> None:
    room = tls.room_context(**files.put(SERVER), ca_pem=CA_PEM)
    expired = agent_credential(now_ms=NOW_MS - 8 * DAY_MS)
    outcome = shake(room, tls.agent_context(**files.put(expired), ca_pem=CA_PEM))
    assert isinstance(outcome.server, ssl.SSLCertVerificationError)
    assert tls.is_clock_failure(outcome.server)


def test_an_agent_does_not_talk_to_a_room_of_another_ca(files: Files) -> None:
    foreign = create_server(OTHER_CA, names=["localhost"], now_ms=NOW_MS)
    room = tls.room_context(**files.put(foreign), ca_pem=CA_PEM)
    outcome = shake(room, tls.agent_context(**files.put(agent_credential()), ca_pem=CA_PEM))
    assert isinstance(outcome.client, ssl.SSLCertVerificationError)
    assert not tls.is_clock_failure(outcome.client)


def test_an_agent_does_not_talk_to_a_room_of_another_name(files: Files) -> None:
    elsewhere = create_server(CA, names=["elsewhere.example"], now_ms=NOW_MS)
    room = tls.room_context(**files.put(elsewhere), ca_pem=CA_PEM)
    outcome = shake(room, tls.agent_context(**files.put(agent_credential()), ca_pem=CA_PEM))
    assert isinstance(outcome.client, ssl.SSLCertVerificationError)


@pytest.mark.parametrize("shift_days", [-400, 400], ids=["expired", "not yet valid"])
def test_a_host_whose_clock_is_wrong_can_still_connect_when_it_says_so(files: Files, shift_days: int) -> None:
    # The clock of this machine cannot be set for a test; a certificate of another time is the same to the verifier.
    shifted = create_server(CA, names=["localhost"], now_ms=NOW_MS + shift_days * DAY_MS)
    room = tls.room_context(**files.put(shifted), ca_pem=CA_PEM)
    mine = files.put(agent_credential())
    refused = shake(room, tls.agent_context(**mine, ca_pem=CA_PEM))
    assert isinstance(refused.client, ssl.SSLCertVerificationError)
    assert tls.is_clock_failure(refused.client)
    tolerant = tls.agent_context(**mine, ca_pem=CA_PEM, check_time=False)
    assert shake(room, tolerant) == Outcome((AGENT, "hz1"), "TLSv1.3")
    foreign = create_server(OTHER_CA, names=["localhost"], now_ms=NOW_MS)
    outcome = shake(tls.room_context(**files.put(foreign), ca_pem=CA_PEM), tolerant)
    assert isinstance(outcome.client, ssl.SSLCertVerificationError)


def test_an_agents_certificate_cannot_serve_and_a_servers_cannot_connect(files: Files) -> None:
    posing = tls.api_context(**files.put(agent_credential()))
    outcome = shake(posing, tls.client_context(CA_PEM))
    assert isinstance(outcome.client, ssl.SSLCertVerificationError)
    assert "purpose" in str(outcome.client)
    room = tls.room_context(**files.put(SERVER), ca_pem=CA_PEM)
    outcome = shake(room, tls.agent_context(**files.put(SERVER), ca_pem=CA_PEM))
    assert isinstance(outcome.server, ssl.SSLCertVerificationError)
    assert "purpose" in str(outcome.server)


def test_a_certificate_that_an_agent_signed_is_refused(files: Files) -> None:
    agent = agent_credential()
    below = Credential(
        key := create_agent_key(), sign_csr(agent, create_csr(key), agent=AGENT, room="hz1", now_ms=NOW_MS)
    )
    below = msgspec.structs.replace(below, certificate=below.certificate + agent.certificate)
    room = tls.room_context(**files.put(SERVER), ca_pem=CA_PEM)
    outcome = shake(room, tls.agent_context(**files.put(below), ca_pem=CA_PEM))
    assert isinstance(outcome.server, ssl.SSLCertVerificationError)


def _client_named(names: list[x509.GeneralName]) -> Credential:
    """A certificate that the fleet's CA did sign for a client, with names that `sign_csr` never gives."""
    signer = serialization.load_pem_private_key(CA.key, password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    plain = agent_credential()
    template = x509.load_pem_x509_certificate(plain.certificate)
    builder = (
        x509.CertificateBuilder()
        .subject_name(template.subject)
        .issuer_name(template.issuer)
        .public_key(template.public_key())
        .serial_number(template.serial_number)
        .not_valid_before(template.not_valid_before_utc)
        .not_valid_after(template.not_valid_after_utc)
    )
    for extension in template.extensions:
        if not isinstance(extension.value, x509.SubjectAlternativeName):
            builder = builder.add_extension(extension.value, extension.critical)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    return Credential(plain.key, certificate.public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize(
    "names",
    [
        [],
        [x509.DNSName(f"opsconsole://agent/hz1/{AGENT}")],
        [x509.UniformResourceIdentifier(f"https://agent/hz1/{AGENT}")],
        [x509.UniformResourceIdentifier("opsconsole://agent/hz1/web01")],
        [x509.UniformResourceIdentifier(f"opsconsole://agent//{AGENT}")],
        [x509.UniformResourceIdentifier(f"opsconsole://agent/hz1/{AGENT}"), x509.DNSName("localhost")],
    ],
    ids=["none", "dns", "scheme", "agent", "room", "two"],
)
def test_a_client_of_the_fleets_ca_that_names_no_agent_is_nobody(files: Files, names: list[x509.GeneralName]) -> None:
    room = tls.room_context(**files.put(SERVER), ca_pem=CA_PEM)
    outcome = shake(room, tls.agent_context(**files.put(_client_named(names)), ca_pem=CA_PEM))
    assert isinstance(outcome.server, Denied)
    assert outcome.server.code is codes.PEER_IDENTITY


def test_older_tls_is_refused_by_both_sides(files: Files) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(cadata=CA_PEM)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    outcome = shake(tls.api_context(**files.put(SERVER)), old)
    assert isinstance(outcome.client, ssl.SSLError)
    assert isinstance(outcome.server, ssl.SSLError)


def test_an_api_client_is_pinned_on_the_fleet_and_needs_no_certificate(files: Files) -> None:
    api = tls.api_context(**files.put(SERVER))
    outcome = shake(api, tls.client_context(CA_PEM))
    assert isinstance(outcome.server, Denied)
    assert outcome.server.code is codes.PEER_IDENTITY
    outcome = shake(api, tls.client_context(OTHER_CA.certificate.decode()))
    assert isinstance(outcome.client, ssl.SSLCertVerificationError)


def test_the_first_contact_reaches_a_server_that_nothing_is_known_of(files: Files) -> None:
    stranger = create_server(OTHER_CA, names=["elsewhere.example"], now_ms=NOW_MS)
    outcome = shake(tls.api_context(**files.put(stranger)), tls.contact_context())
    assert isinstance(outcome.server, Denied)
