"""`agentd join` and `agentd renew`: the two short-lived processes in which a host gets its identity.

How `join` comes to trust: the pin is the fingerprint of the fleet's root key. Over a connection that proves nothing
come the roster chain and a CA; the chain must begin with a revision signed by the pinned root, and must name the CA.
Only then is a second connection made, to a server with a certificate of that CA, and only over it the token is sent.

Rules: a token is not spent before its host's directory has taken the key; identity.json is written last.
"""

from __future__ import annotations

__all__ = ("install", "join", "keep_key", "prepare")

import fcntl
import http.client
import os
import random
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from agentd.agent import facts
from agentd.agent.state import AgentState, Identity, write_whole
from libstaragent import codes
from libstaragent.model.api import Enrolled, Enrolment, ErrorBody, Trust
from libstaragent.security.identity import certificate_span, create_agent_key, create_csr
from libstaragent.security.private_file import read_private
from libstaragent.security.roster import RosterChain
from libstaragent.security.rotation import renewal_time
from libstaragent.security.signing import SEED_BYTES, public_key
from libstaragent.security.tls import client_context, contact_context, trusted_ca

# A roster chain of some hundred revisions; more is not a control plane of ours.
_T = TypeVar("_T")

# What belongs to one identity, in the order in which it is set aside.
_OF_AN_IDENTITY = ("identity.json", "identity.pem", "result.key", "journal", "spool", "connects")

ANSWER_MAX = 32 * 1024 * 1024
TIMEOUT = 20.0


def join(directory: Path, address: str, *, pin: str, token: str, name: str, anew: bool = False) -> Identity:
    """Make this host a member of the fleet with that pin. Raises StarAgentError; the host has not joined then, and its
    directory holds nothing new but what may stay.

    With `anew` an identity that is there is given up for the new one, and set aside with its journal and spools; the
    agent must not be running.
    """
    state = AgentState(directory)
    if state.joined:
        if not anew:
            raise codes.ALREADY_JOINED.error(str(directory))
        with _held(directory):
            return _join(state, address, pin=pin, token=token, name=name)
    return _join(state, address, pin=pin, token=token, name=name)


def _join(state: AgentState, address: str, *, pin: str, token: str, name: str) -> Identity:
    directory = state.directory
    now_ms = time.time_ns() // 1_000_000
    trust = _decode(_call(address, contact_context(), "GET", "/v1/trust"), Trust)
    chain = RosterChain(pin)
    roster = chain.accept_all(trust.rosters, now_ms)
    assert chain.signed is not None
    ca = trusted_ca(trust.ca, roster)
    key = create_agent_key()
    keep_key(directory, key)
    seed = os.urandom(SEED_BYTES)
    request = Enrolment(
        token=token,
        name=name,
        csr=create_csr(key).decode("ascii"),
        facts=facts.facts(),
        addresses=facts.addresses(address.rpartition(":")[0].strip("[]")),
        result_key=public_key(seed),
    )
    enrolled = _decode(_call(address, client_context(ca), "POST", "/v1/enrol", msgspec.json.encode(request)), Enrolled)
    certificate = enrolled.certificate.encode("ascii")
    if state.joined:
        _set_aside(state)
    state.write_result_seed(seed)
    state.write_ca(ca)
    state.write_roster(chain.signed)
    write_whole(state.identity_pem, key + certificate)
    identity = Identity(
        agent=enrolled.agent,
        name=enrolled.name,
        room=enrolled.room,
        fleet=pin,
        api=address,
        room_address=_room_address(trust.room_address, address),
        renew_at_ms=renewal_time(*certificate_span(certificate), random.random),
    )
    state.write_identity(identity)
    (directory / "next.key").unlink(missing_ok=True)
    return identity


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """No agent runs on this directory, and none begins. Raises KEEPER_RUNNING."""
    descriptor = os.open(directory / "keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise codes.KEEPER_RUNNING.error(str(directory)) from error
        yield
    finally:
        os.close(descriptor)


def _set_aside(state: AgentState) -> None:
    """The old identity, and what it did, into a folder with its name: first what says that this host has joined."""
    directory = state.directory
    aside = directory / f"old-{state.identity().agent}"
    aside.mkdir(mode=0o700, exist_ok=True)
    for name in _OF_AN_IDENTITY:
        if (directory / name).exists():
            os.replace(directory / name, aside / name)


def keep_key(directory: Path, key: bytes) -> None:
    """Where the key is to live; what cannot be written is found out before anybody else counts on it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise codes.KEY_FILE_FAILED.error(f"{directory}: {error.strerror}", errno=error.errno) from error
    write_whole(directory / "next.key", key)


def prepare(directory: Path) -> None:
    """First half of a renewal: a new key and a request for it."""
    key = create_agent_key()
    write_whole(directory / "next.key", key)
    write_whole(directory / "request.pem", create_csr(key))


def install(directory: Path) -> None:
    """Second half: key and certificate take the place of the old ones, at once. Raises StarAgentError."""
    state = AgentState(directory)
    identity = state.identity()
    key, certificate = read_private(directory / "next.key"), read_private(directory / "renewed.pem")
    draft = directory / "identity.next"
    write_whole(draft, key + certificate)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(draft)
    except ssl.SSLError as error:
        raise codes.IDENTITY_UNREADABLE.error(f"the certificate does not fit the key: {error}") from error
    renew_at_ms = renewal_time(*certificate_span(certificate), random.random)
    os.replace(draft, state.identity_pem)
    state.write_identity(msgspec.structs.replace(identity, renew_at_ms=renew_at_ms))
    for name in ("next.key", "renewed.pem", "request.pem"):
        (directory / name).unlink(missing_ok=True)


def _room_address(told: str, address: str) -> str:
    """Where agents connect; a control plane that listens everywhere is reached where it was reached just now."""
    host, _, port = told.rpartition(":")
    if host.strip("[]") in ("", "0.0.0.0", "::"):
        host = address.rpartition(":")[0]
    return f"{host}:{port}"


def _call(address: str, context: ssl.SSLContext, method: str, path: str, body: bytes | None = None) -> bytes:
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        raise codes.CENTRAL_UNREACHED.error(f"{address!r} is not HOST:PORT")
    connection = http.client.HTTPSConnection(host.strip("[]"), int(port), context=context, timeout=TIMEOUT)
    try:
        connection.request(method, path, body, {"content-type": "application/json"} if body else {})
        answer = connection.getresponse()
        data = answer.read(ANSWER_MAX + 1)
    except ssl.SSLCertVerificationError as error:
        raise codes.CENTRAL_UNREADABLE.error(error.verify_message) from error
    except (OSError, http.client.HTTPException) as error:
        number = error.errno if isinstance(error, OSError) else None
        raise codes.CENTRAL_UNREACHED.error(f"{address}: {error}", errno=number) from error
    finally:
        connection.close()
    if len(data) > ANSWER_MAX:
        raise codes.CENTRAL_UNREADABLE.error("the answer does not end")
    if answer.status >= 400:
        refused = _decode(data, ErrorBody)
        known = codes.by_code(refused.code)
        if known is not None:
            detail = refused.message.removeprefix(known.sentence).removeprefix(": ")
            raise known.error(detail, errno=refused.errno)
        raise codes.JOIN_REFUSED.error(f"{refused.code} {refused.message}")
    return data


def _decode(data: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise codes.CENTRAL_UNREADABLE.error(str(error)[:200]) from error
