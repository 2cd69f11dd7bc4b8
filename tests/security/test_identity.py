"""Certificates say what central decided, whatever was asked for."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from libstaragent import codes
from libstaragent.errors import Denied, ProtocolError
from libstaragent.model.ids import new_ulid
from libstaragent.security import identity, tls
from libstaragent.security.identity import Credential, create_agent_key, create_ca, create_csr, create_server, sign_csr
from libstaragent.security.roster import Operator, Roster
from libstaragent.security.rotation import renewal_time

NOW_MS = int(time.time() * 1000)
DAY_MS = 24 * 3_600_000
FLEET = "ab" * 32
AGENT = new_ulid(NOW_MS, b"agent-0001")
CA = create_ca(fleet=FLEET, now_ms=NOW_MS)
OTHER_CA = create_ca(fleet=FLEET, now_ms=NOW_MS)


def agent_credential(ca: Credential = CA, now_ms: int = NOW_MS, agent: str = AGENT) -> Credential:
    key = create_agent_key()
    return Credential(key, sign_csr(ca, create_csr(key), agent=agent, room="hz1", now_ms=now_ms))


def certificate_of(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def test_the_ca_is_a_ca_for_ten_years_and_for_leaves_only() -> None:
    certificate = certificate_of(CA.certificate)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    begin, end = identity.certificate_span(CA.certificate)
    assert end - begin >= 3652 * DAY_MS
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


def test_an_agents_certificate_names_it_for_seven_days_and_only_connects() -> None:
    certificate = certificate_of(agent_credential().certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == [f"opsconsole://agent/hz1/{AGENT}"]
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    begin, end = identity.certificate_span(agent_credential().certificate)
    assert begin < NOW_MS
    assert end == (NOW_MS + 7 * DAY_MS) // 1000 * 1000


def test_a_request_gets_nothing_that_it_asks_for_but_its_key() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    made = certificate_of(sign_csr(CA, greedy, agent=AGENT, room="hz1", now_ms=NOW_MS))
    plain = certificate_of(agent_credential().certificate)
    assert made.public_key() == key.public_key()
    assert made.subject == plain.subject
    for kind in (x509.BasicConstraints, x509.SubjectAlternativeName, x509.ExtendedKeyUsage, x509.KeyUsage):
        assert made.extensions.get_extension_for_class(kind) == plain.extensions.get_extension_for_class(kind)


def _csr(key: Any, algorithm: Any) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def _csr_with_a_broken_signature() -> bytes:
    der = bytearray(x509.load_pem_x509_csr(create_csr(create_agent_key())).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    "make",
    [
        lambda: _csr(rsa.generate_private_key(65537, 2048), hashes.SHA256()),
        lambda: _csr(ed25519.Ed25519PrivateKey.generate(), None),
        lambda: _csr(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()),
        _csr_with_a_broken_signature,
        lambda: b"",
        lambda: CA.certificate,
        lambda: b"x" * 100_000,
    ],
    ids=["rsa", "ed25519", "p384", "broken", "empty", "certificate", "large"],
)
def test_a_request_of_another_kind_is_refused(make: Callable[[], bytes]) -> None:
    with pytest.raises(ProtocolError) as caught:
        sign_csr(CA, make(), agent=AGENT, room="hz1", now_ms=NOW_MS)
    assert caught.value.code is codes.CSR_REFUSED


@given(st.binary(max_size=200))
def test_any_bytes_as_a_request_are_refused(data: bytes) -> None:
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n" + data + b"\n-----END CERTIFICATE REQUEST-----\n"
    for text in (data, pem):
        with pytest.raises(ProtocolError):
            sign_csr(CA, text, agent=AGENT, room="hz1", now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("agent", "room"), [("x", "hz1"), (AGENT, ""), (AGENT, "a/b")], ids=["agent", "no-room", "room"]
)
def test_a_certificate_for_an_impossible_name_is_a_misuse(agent: str, room: str) -> None:
    with pytest.raises(ValueError, match="agent's id"):
        sign_csr(CA, create_csr(create_agent_key()), agent=agent, room=room, now_ms=NOW_MS)


def test_a_server_without_a_name_is_a_misuse() -> None:
    with pytest.raises(ValueError, match="needs a name"):
        create_server(CA, names=[], now_ms=NOW_MS)


def test_damaged_files_are_coded_errors(tmp_path: Path) -> None:
    for act in (
        lambda: create_csr(b"no key"),
        lambda: identity.certificate_span(b"no certificate"),
        lambda: tls.client_context("no certificate"),
        lambda: tls.api_context(certificate=tmp_path / "none", key=tmp_path / "none"),
    ):
        with pytest.raises(ProtocolError) as caught:
            act()
        assert caught.value.code is codes.IDENTITY_UNREADABLE


def test_only_a_ca_that_the_roster_names_is_trusted() -> None:
    der = certificate_of(CA.certificate).public_bytes(serialization.Encoding.DER)
    roster = Roster(
        root=b"r" * 32,
        revision=1,
        previous=b"",
        issued=0,
        valid_until=1,
        ca=(b"c" * 32, hashlib.sha256(der).digest()),
        operators=(Operator("lin", b"k" * 32, ("admin",)),),
    )
    both = CA.certificate.decode() + OTHER_CA.certificate.decode()
    assert certificate_of(tls.trusted_ca(CA.certificate.decode(), roster).encode()) == certificate_of(CA.certificate)
    for text in (OTHER_CA.certificate.decode(), both, "", "no certificate"):
        with pytest.raises(Denied) as caught:
            tls.trusted_ca(text, roster)
        assert caught.value.code is codes.CA_NOT_IN_ROSTER


@given(st.integers(0, 2**40), st.integers(1, 2**40), st.floats(0, 1, exclude_max=True))
def test_renewal_falls_around_two_thirds_of_the_life(begin: int, life: int, drawn: float) -> None:
    at = renewal_time(begin, begin + life, lambda: drawn)
    assert begin + life * 0.61 - 1 <= at <= begin + life * 0.72 + 1


def test_renewal_of_a_certificate_without_life_is_a_misuse() -> None:
    with pytest.raises(ValueError, match="must end after"):
        renewal_time(1, 1, lambda: 0.5)
