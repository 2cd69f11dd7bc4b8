"""TLS contexts, and who is at the other end. TLS 1.3 only; stdlib only, because agents use it.

    room     serves agents: a client certificate of the fleet's CA is required
    api      serves operators: bearer tokens and envelopes say who they are, so no client certificate
    agent    connects to a room: pinned on the fleet's CA, shows its own certificate
    client   connects to the API: pinned on the fleet's CA, on nothing the OS trusts
    contact  the first connection of `join`, before anything is known: nothing read from it counts until it is verified

How a stranger becomes trusted: over `contact` come the roster and a CA certificate; the roster must hold by the pinned
root (`roster.RosterChain`), and `trusted_ca` takes the CA only if that roster names its digest. Then comes a connection
pinned on that CA, and only over this one a token is sent.

A host whose clock is wrong must stay reachable by envelopes bound to its boot (`clock`), but to it every certificate
looks expired or not yet valid. So an agent that failed for that reason may connect with ``check_time=False``: what the
room says is not believed without an operator's signature anyway, and the connection only carries it.

Not here: making certificates (`identity`). A shell: it reads the files that OpenSSL wants by path.
"""

from __future__ import annotations

__all__ = (
    "agent_context",
    "agent_uri",
    "api_context",
    "client_context",
    "contact_context",
    "is_clock_failure",
    "peer_certificate",
    "peer_identity",
    "room_context",
    "trusted_ca",
)

import hashlib
import ssl
from pathlib import Path
from typing import cast

from libstaragent import codes
from libstaragent.model import ids
from libstaragent.security.roster import Roster

_URI = "opsconsole://agent/"

# OpenSSL, <openssl/x509_vfy.h>: X509_V_FLAG_NO_CHECK_TIME and the two errors that it silences. `ssl` has no names for
# them.
NO_CHECK_TIME = 0x200000
CERT_NOT_YET_VALID = 9
CERT_HAS_EXPIRED = 10


def room_context(*, certificate: Path, key: Path, ca_pem: str) -> ssl.SSLContext:
    """For a room: agents show a certificate of the fleet's CA, or the handshake fails.

    :raises ProtocolError: a file or the CA cannot be read.
    """
    context = api_context(certificate=certificate, key=key)
    context.verify_mode = ssl.CERT_REQUIRED
    _trust(context, ca_pem)
    return context


def api_context(*, certificate: Path, key: Path) -> ssl.SSLContext:
    """For central's API.

    :raises ProtocolError: a file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _show(context, certificate, key)
    return context


def agent_context(*, certificate: Path, key: Path, ca_pem: str, check_time: bool = True) -> ssl.SSLContext:
    """For an agent; name and CA of the room are always checked, its dates unless `check_time` is off.

    :raises ProtocolError: a file or the CA cannot be read.
    """
    context = client_context(ca_pem)
    _show(context, certificate, key)
    if not check_time:
        context.verify_flags = cast(ssl.VerifyFlags, int(context.verify_flags) | NO_CHECK_TIME)
    return context


def client_context(ca_pem: str) -> ssl.SSLContext:
    """For whoever calls the API: only this fleet's CA counts.

    :raises ProtocolError: the CA cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _trust(context, ca_pem)
    return context


def contact_context() -> ssl.SSLContext:
    """For the first connection of `join`: encrypted towards somebody. Send no token over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def trusted_ca(ca_pem: str, roster: Roster) -> str:
    """`ca_pem`, if it is one certificate that the roster names.

    :raises Denied: it is not.
    """
    if ca_pem.count(ssl.PEM_HEADER) != 1:
        raise codes.CA_NOT_IN_ROSTER.error("it is not one certificate")
    try:
        certificate = ssl.PEM_cert_to_DER_cert(ca_pem)
    except ValueError as error:
        raise codes.CA_NOT_IN_ROSTER.error("it cannot be read") from error
    if hashlib.sha256(certificate).digest() not in roster.ca:
        raise codes.CA_NOT_IN_ROSTER.error(f"its SHA-256 is {hashlib.sha256(certificate).hexdigest()}")
    # Written anew: text around the certificate was not judged.
    return ssl.DER_cert_to_PEM_cert(certificate)


def is_clock_failure(error: ssl.SSLCertVerificationError) -> bool:
    """Whether a handshake failed only because a certificate's dates do not fit the local clock."""
    return error.verify_code in (CERT_NOT_YET_VALID, CERT_HAS_EXPIRED)


def agent_uri(agent: str, room: str) -> str:
    """How an agent's certificate names it."""
    return f"{_URI}{room}/{agent}"


def peer_identity(connection: ssl.SSLSocket | ssl.SSLObject) -> tuple[str, str]:
    """Agent id and room in the certificate that the peer has shown and OpenSSL has verified.

    :raises Denied: it has shown none, or one that names no agent.
    """
    return peer_certificate(connection)[:2]


def peer_certificate(connection: ssl.SSLSocket | ssl.SSLObject) -> tuple[str, str, int]:
    """The same, and from when the certificate is, in seconds since the epoch.

    :raises Denied: as `peer_identity`.
    """
    certificate = connection.getpeercert() or {}
    names = cast("tuple[tuple[str, str], ...]", certificate.get("subjectAltName", ()))
    if len(names) != 1 or names[0][0] != "URI" or not names[0][1].startswith(_URI):
        raise codes.PEER_IDENTITY.error()
    room, _, agent = names[0][1].removeprefix(_URI).partition("/")
    if not ids.is_room_name(room) or not ids.is_agent_id(agent):
        raise codes.PEER_IDENTITY.error()
    return agent, room, ssl.cert_time_to_seconds(cast(str, certificate["notBefore"]))


def _show(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise codes.IDENTITY_UNREADABLE.error(f"{certificate}, {key}: {error}") from error


def _trust(context: ssl.SSLContext, ca_pem: str) -> None:
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError) as error:
        raise codes.IDENTITY_UNREADABLE.error(f"the CA: {error}") from error
    context.verify_flags |= ssl.VERIFY_X509_STRICT
