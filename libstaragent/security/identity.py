"""Identity: the fleet's CA and the certificates it makes for rooms, central and agents. P-256 throughout.

    CA (10 years) ──▶ server certificate: DNS and IP names, may only serve
                 └──▶ agent certificate (7 days): opsconsole://agent/ROOM/AGENT, may only connect

Uses `cryptography`, 10 MB: imported by central and by short-lived enrolment processes, never by an agent.

Not here: TLS contexts (`tls`), when to renew (`rotation`), writing keys (`private_file`), tokens. Rules: no files, no
clock (now is an argument); keys and serial numbers come from the OS. Of a certificate request only the public key is
taken: what else it asks for is its sender's wish. The extended key usages keep an agent's certificate from posing as a
room and a room's from posing as an agent.
"""

from __future__ import annotations

__all__ = (
    "AGENT_LIFE_MS",
    "CA_LIFE_MS",
    "SERVER_LIFE_MS",
    "Credential",
    "certificate_span",
    "create_agent_key",
    "create_ca",
    "create_csr",
    "create_server",
    "sign_csr",
)

import datetime
import ipaddress
from collections.abc import Iterable

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from libstaragent import codes
from libstaragent.model import ids
from libstaragent.security.tls import agent_uri

DAY_MS = 24 * 3_600_000
CA_LIFE_MS = 3653 * DAY_MS
SERVER_LIFE_MS = 90 * DAY_MS
# Short, so that a stolen agent key is worthless in a week without any revocation list on the rooms.
AGENT_LIFE_MS = 7 * DAY_MS
# A certificate is valid a little before it was made: the peer's clock may be behind.
BACKDATE_MS = 5 * 60_000
# A P-256 request is about 500 bytes.
MAX_CSR_BYTES = 8 * 1024


class Credential(msgspec.Struct, frozen=True):
    """A private key (PKCS #8) and its certificate, both PEM."""

    key: bytes
    certificate: bytes


def create_ca(*, fleet: str, now_ms: int, life_ms: int = CA_LIFE_MS) -> Credential:
    """A new certificate authority for the fleet with this fingerprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(f"opsconsole fleet {fleet[:16]}")
    certificate = (
        _builder(subject, subject, key.public_key(), now_ms, life_ms)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Credential(_key_pem(key), _pem(certificate))


def create_server(ca: Credential, *, names: Iterable[str], now_ms: int, life_ms: int = SERVER_LIFE_MS) -> Credential:
    """A key and certificate for a process that is reached under `names`: host names and IP addresses.

    :raises ValueError: there is no name.
    """
    listed = [_general_name(name) for name in names]
    if not listed:
        raise ValueError("a server certificate needs a name")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _issue(
        ca, key.public_key(), "opsconsole server", listed, ExtendedKeyUsageOID.SERVER_AUTH, now_ms, life_ms
    )
    return Credential(_key_pem(key), certificate)


def create_agent_key() -> bytes:
    """A new private key, PEM. It is made on the host and never leaves it."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def create_csr(key_pem: bytes) -> bytes:
    """A certificate request for the key, PEM; it names nobody, because central decides the name.

    :raises ProtocolError: this is not a private key of the kind that `create_agent_key` makes.
    """
    key = _load_key(key_pem)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def sign_csr(
    ca: Credential, csr_pem: bytes, *, agent: str, room: str, now_ms: int, life_ms: int = AGENT_LIFE_MS
) -> bytes:
    """The certificate, PEM, for the key in the request, in the name of `agent` in `room`.

    :raises ProtocolError: the request cannot be read, is not signed by its own key, or that key is not P-256.
    """
    if not ids.is_agent_id(agent) or not ids.is_room_name(room):
        raise ValueError("an agent's certificate needs an agent's id and a room's name")
    if len(csr_pem) > MAX_CSR_BYTES:
        raise codes.CSR_REFUSED.error("it is too large")
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
        signed = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise codes.CSR_REFUSED.error("it cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise codes.CSR_REFUSED.error("its key is not P-256")
    if not signed:
        raise codes.CSR_REFUSED.error("its signature does not hold")
    name = x509.UniformResourceIdentifier(agent_uri(agent, room))
    return _issue(ca, key, agent, [name], ExtendedKeyUsageOID.CLIENT_AUTH, now_ms, life_ms)


def certificate_span(certificate_pem: bytes) -> tuple[int, int]:
    """From when to when a certificate is valid, in milliseconds since the epoch.

    :raises ProtocolError: it is no certificate.
    """
    certificate = _load_certificate(certificate_pem)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return int(begin.timestamp()) * 1000, int(end.timestamp()) * 1000


def _issue(
    ca: Credential,
    key: ec.EllipticCurvePublicKey,
    common_name: str,
    names: list[x509.GeneralName],
    usage: x509.ObjectIdentifier,
    now_ms: int,
    life_ms: int,
) -> bytes:
    ca_key, ca_certificate = _load_key(ca.key), _load_certificate(ca.certificate)
    certificate = (
        _builder(_name(common_name), ca_certificate.subject, key, now_ms, life_ms)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return _pem(certificate)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now_ms: int, life_ms: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_moment(now_ms - BACKDATE_MS))
        .not_valid_after(_moment(now_ms + life_ms))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _moment(time_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time_ms // 1000, datetime.UTC)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise codes.IDENTITY_UNREADABLE.error("the private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise codes.IDENTITY_UNREADABLE.error("the private key is not P-256")
    return key


def _load_certificate(certificate_pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate_pem)
    except ValueError as error:
        raise codes.IDENTITY_UNREADABLE.error("the certificate") from error
