"""Hosts into the fleet: tokens that an admin orders, certificates for those who show one.

Not here: the rules of a token (`libstaragent.security.tokens`), X.509 (`identity`), HTTP, renewal (`service`). Rules: a
use of a token and the host that it admits are one write, so a token never admits more hosts than it has uses; a
certificate is told after that. An agent's id is central's to give and outlives its keys.
"""

from __future__ import annotations

__all__ = ("Joining",)

import asyncio
import logging
import secrets
from collections.abc import Callable

from agentd.central.audit import act_entry, enrol_entry
from agentd.central.directory import HostRecord
from agentd.central.service import Central
from agentd.central.writes import stored_facts
from agentd.store import records
from agentd.store.ops import InsertAudit, InsertToken, Op, ReplaceHost, UpsertHost, UseToken
from agentd.store.reader import Reader
from libstaragent import codes
from libstaragent.model.api import Enrolled, Enrolment, TokenIssued
from libstaragent.model.ids import ULID_RANDOM_BYTES, is_host_name, new_ulid
from libstaragent.roles.guards import Guard, write_guard
from libstaragent.security.acts import Envelope, IssueToken, act_name
from libstaragent.security.identity import Credential, certificate_span, sign_csr
from libstaragent.security.signed import Signed
from libstaragent.security.signing import KEY_BYTES
from libstaragent.security.tokens import SECRET_BYTES, EnrolToken, issue, redeem, token_id

log = logging.getLogger("agentd.central")

# A host says some tens of facts of itself; this is what one may cost in memory and on disk.
MAX_FACTS = 64
MAX_FACT_BYTES = 1024
MAX_ADDRESSES = 64


class Joining:
    """See the module."""

    def __init__(self, central: Central, read: Reader, ca: Credential, *, now_ms: Callable[[], int]) -> None:
        self._central = central
        self._read = read
        self._ca = ca
        self._now_ms = now_ms
        self._issuing: set[str] = set()

    async def issue(self, signed: Signed, *, source: str = "") -> TokenIssued:
        """The token that an admin's envelope orders. It is told once: the same envelope again is refused.

        :raises StarAgentError: the envelope does not hold, or its terms are impossible.
        """
        now_ms = self._now_ms()
        envelope = self._central.trust.verify(signed, now_ms)
        if not isinstance(envelope.act, IssueToken):
            raise codes.ACT_UNSUPPORTED.error(f"{act_name(envelope.act)} issues no token")
        if envelope.id in self._issuing:
            raise codes.JOB_REPEATED.error(envelope.id)
        self._issuing.add(envelope.id)
        try:
            audited = InsertAudit(act_entry(envelope, signed, source=source), now_ms)
            return await self._issue(envelope, envelope.act, audited, now_ms)
        finally:
            self._issuing.discard(envelope.id)

    async def _issue(self, envelope: Envelope, act: IssueToken, audited: InsertAudit, now_ms: int) -> TokenIssued:
        if await asyncio.to_thread(self._read.token, envelope.id) is not None:
            raise codes.JOB_REPEATED.error(envelope.id)
        # The envelope's id is the token's: an envelope issues one token.
        text, kept = issue(act, token=envelope.id, secret=secrets.token_bytes(SECRET_BYTES), now_ms=now_ms)
        op = InsertToken(
            id=kept.id,
            digest=kept.digest,
            room=kept.room,
            name_pattern=kept.name_pattern,
            networks=kept.networks,
            labels=kept.labels,
            uses_left=kept.uses_left,
            expires_ms=kept.expires_ms,
            replaces=kept.replaces,
            created_by=envelope.operator,
        )
        await self._central.write([op, audited])
        log.info("%s issued token %s: %d uses, room %s", envelope.operator, kept.id, kept.uses_left, kept.room)
        return TokenIssued(token=text, expires_ms=kept.expires_ms, uses=kept.uses_left)

    async def enrol(self, request: Enrolment, *, address: str) -> Enrolled:
        """A host with a token becomes a host of the fleet.

        :raises StarAgentError: the token, the name or the certificate request is refused; nothing was used up then.
        """
        _check(request)
        now_ms = self._now_ms()
        row = await asyncio.to_thread(self._read.token, token_id(request.token))
        kept = None if row is None else _token(row)
        room = "" if kept is None else kept.room
        used = redeem(kept, request.token, name=request.name, room=room, address=address, now_ms=now_ms)
        agent = new_ulid(now_ms, secrets.token_bytes(ULID_RANDOM_BYTES))
        certificate = sign_csr(self._ca, request.csr.encode(), agent=agent, room=room, now_ms=now_ms)
        facts, addresses = dict(request.facts), tuple(request.addresses)
        host = UpsertHost(
            id=agent,
            name=request.name,
            room=room,
            labels=used.labels,
            facts=stored_facts(facts, addresses),
            certificate_not_after_ms=certificate_span(certificate)[1],
            enrolled_ms=now_ms,
            result_key=request.result_key or None,
        )
        created_by = "" if row is None else row.created_by
        audited = enrol_entry(
            agent=agent, name=request.name, room=room, token=used.id, created_by=created_by, source=address
        )
        before = self._central.hosts.named(request.name) if used.replaces else None
        gone: list[Op] = []
        if before is not None:
            gone.append(ReplaceHost(id=before.id, guard=write_guard(Guard(state="replaced", since_ms=now_ms))))
        await self._central.write([UseToken(used.id, now_ms), *gone, host, InsertAudit(audited, now_ms)])
        if before is not None:
            self._central.replaced(before, now_ms)
        self._central.admitted(
            HostRecord(
                id=agent,
                name=request.name,
                room=room,
                labels=used.labels,
                facts=facts,
                addresses=addresses,
                enrolled_ms=now_ms,
                result_key=request.result_key,
            )
        )
        log.info("host %s enrolled as %s in room %s from %s", request.name, agent, room, address)
        return Enrolled(agent=agent, name=request.name, room=room, certificate=certificate.decode())


def _check(request: Enrolment) -> None:
    if not is_host_name(request.name):
        raise codes.REQUEST_MALFORMED.error(
            "name is not a host's name: ASCII letters, digits and ._-, the first no sign"
        )
    sizes = [len(key) + len(value) for key, value in request.facts.items()]
    if len(sizes) > MAX_FACTS or max(sizes, default=0) > MAX_FACT_BYTES or any(" " in key for key in request.facts):
        raise codes.REQUEST_MALFORMED.error("facts are too many, too long, or have a space in a name")
    if len(request.result_key) not in (0, KEY_BYTES):
        raise codes.REQUEST_MALFORMED.error(f"result_key is not {KEY_BYTES} bytes")
    if len(request.addresses) > MAX_ADDRESSES or any(len(a) > 64 or " " in a for a in request.addresses):
        raise codes.REQUEST_MALFORMED.error("addresses are too many or are none")


def _token(row: records.Token) -> EnrolToken:
    return EnrolToken(
        id=row.id,
        digest=row.digest,
        expires_ms=row.expires_ms,
        uses_left=row.uses_left,
        room=row.room,
        name_pattern=row.name_pattern,
        networks=row.networks,
        labels=row.labels,
        replaces=row.replaces,
    )
