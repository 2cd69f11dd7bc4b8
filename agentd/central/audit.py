"""What central writes into the audit: one entry for each act that reached it, allowed or not, and one for a job's end.

Not here: when it is written (each entry is an op of the same submission as what it tells of, so there is never one
without the other), the chain (`store.audit`), how many refusals are told (`refusals`). Rules: pure; an entry repeats of
an envelope what people look for and has its digest for the rest. Reads are not audited, logins are.
"""

from __future__ import annotations

__all__ = (
    "Claim",
    "act_entry",
    "end_entry",
    "enrol_entry",
    "job_entry",
    "login_entry",
    "quarantine_entry",
    "refused_entry",
    "revoke_entry",
    "roster_entry",
    "unreadable",
)

import hashlib
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.roles.central_state import Job
from libstaragent.roles.guards import Change
from libstaragent.security.acts import Envelope, Member, TargetRoot, act_name, act_text
from libstaragent.security.audit import MAX_EXPRESSION, AuditEntry, shorten
from libstaragent.security.envelope import DOMAIN as ENVELOPE_DOMAIN
from libstaragent.security.envelope import read_unverified
from libstaragent.security.login import DOMAIN as LOGIN_DOMAIN
from libstaragent.security.login import Challenge
from libstaragent.security.membership import root
from libstaragent.security.roster import DOMAIN as ROSTER_DOMAIN
from libstaragent.security.roster import Operator, Roster
from libstaragent.security.signed import Signed
from libstaragent.security.signing import fingerprint, signature_holds

# As many operators as a roster has.
_fingerprint = lru_cache(512)(fingerprint)
_challenge = msgspec.msgpack.Decoder(Challenge)
_sha256 = hashlib.sha256
_DOMAINS = {"login": LOGIN_DOMAIN, "roster": ROSTER_DOMAIN}


class Claim(Struct, frozen=True):
    """What somebody asked central for, before it was judged: kept while a request is answered, for the case that it is
    refused. `act` is empty where the envelope says it.
    """

    signed: Signed | None = None
    act: str = ""
    text: str = ""
    subject: str = ""

    @property
    def holds(self) -> bool:
        """Whether its key has signed it; whose that is, is another question."""
        signed = self.signed
        domain = _DOMAINS.get(self.act, ENVELOPE_DOMAIN)
        return signed is not None and signature_holds(domain, signed.payload, signed.key, signed.signature)


def unreadable(request: str) -> Claim:
    """What stands for an act that could not even be read; `request` is its method and path."""
    return Claim(act="unreadable", text=request)


def job_entry(job: Job, text: str) -> AuditEntry:
    """A job that was accepted; `text` is its act's."""
    members = tuple(job.members.values())
    return act_entry(job.envelope, job.signed, source=job.source, rule=job.rule, members=members, text=text)


def act_entry(
    envelope: Envelope,
    signed: Signed,
    *,
    source: str,
    rule: str = "",
    subject: str = "",
    members: tuple[Member, ...] = (),
    text: str = "",
) -> AuditEntry:
    """Any signed act that was accepted; `subject` is what it is about where that is not the envelope's own job."""
    said = _said(envelope, signed, subject, members, text or act_text(envelope.act))
    return AuditEntry(outcome="accepted", source=source, rule=rule, **said)


def end_entry(job: Job) -> AuditEntry:
    """The end of a job, with the targets in each state."""
    return AuditEntry(
        act="end",
        outcome="ended",
        operator=job.operator,
        subject=job.id,
        hosts=len(job.members),
        counts=dict(job.counts),
    )


def login_entry(operator: Operator, signed: Signed, *, source: str) -> AuditEntry:
    """Somebody may read from now on."""
    return AuditEntry(
        act="login",
        outcome="accepted",
        operator=operator.name,
        key=_fingerprint(operator.key),
        signature="held",
        source=source,
        envelope=_sha256(signed.payload).digest(),
    )


def roster_entry(roster: Roster, signed: Signed, *, source: str) -> AuditEntry:
    """A revision of the roster was taken; the root signs as `root`."""
    signer = roster.operator_by_key(signed.key)
    return AuditEntry(
        act="roster",
        outcome="accepted",
        operator="root" if signed.key == roster.root else signer.name if signer is not None else "",
        key=_fingerprint(signed.key),
        signature="held",
        source=source,
        text=f"revision {roster.revision}, {len(roster.operators)} operators",
        subject=str(roster.revision),
        envelope=_sha256(signed.payload).digest(),
    )


def enrol_entry(*, agent: str, name: str, room: str, token: str, created_by: str, source: str) -> AuditEntry:
    """A host joined, with a token that `created_by` issued."""
    return AuditEntry(
        act="enrol",
        outcome="accepted",
        operator=created_by,
        source=source,
        text=shorten(f"{name} in room {room} with token {token}"),
        subject=agent,
        hosts=1,
    )


def revoke_entry(host: Member, roster: AuditEntry) -> AuditEntry:
    """A host's certificate is not taken any more: the revision of the entry `roster` says so."""
    text = f"{host.name}, by roster revision {roster.subject}"
    return replace(roster, act="revoke", text=shorten(text), subject=host.agent, hosts=1)


def quarantine_entry(changed: Change) -> AuditEntry:
    """Two machines have an identity: central found it, nobody asked."""
    guard = changed.guard
    holders = ", ".join(f"{holder.hostname} {holder.nonce.hex()[:16]}" for holder in guard.holders)
    return AuditEntry(
        act="quarantine",
        outcome="accepted",
        code=codes.HOST_QUARANTINED.code,
        detail=guard.finding,
        text=shorten(holders),
        subject=changed.agent,
        hosts=1,
    )


def refused_entry(claim: Claim, error: StarAgentError, *, source: str) -> AuditEntry:
    """What was not done, and why; who asked is as claimed, and whether that holds."""
    said: dict[str, Any] = {
        "act": claim.act,
        "text": shorten(claim.text),
        "subject": claim.subject,
        "rule": error.rule,
    }
    if claim.signed is not None:
        said |= _claimed(claim, claim.signed) | {"signature": "held" if claim.holds else "broken"}
    return AuditEntry(outcome="refused", code=error.code.code, detail=shorten(error.detail), source=source, **said)


def _said(envelope: Envelope, signed: Signed, subject: str, members: tuple[Member, ...], text: str) -> dict[str, Any]:
    targets = envelope.targets
    said: dict[str, Any] = {
        "act": act_name(envelope.act),
        "operator": envelope.operator,
        "key": _fingerprint(signed.key),
        "signature": "held",
        "text": shorten(text),
        "subject": subject or envelope.id,
        "envelope": _sha256(signed.payload).digest(),
    }
    if isinstance(targets, TargetRoot):
        said |= {"hosts": targets.count, "members": targets.root}
    elif targets is not None:
        said |= {"hosts": len(targets.members), "members": root(members or targets.members)}
    if targets is not None:
        said["expression"] = shorten(targets.expression, MAX_EXPRESSION)
    return said


def _claimed(claim: Claim, signed: Signed) -> dict[str, Any]:
    """What signed bytes say of themselves, whether or not they may be believed."""
    try:
        if claim.act == "login":
            return {"operator": _challenge.decode(signed.payload).operator, "key": fingerprint(signed.key)}
        if claim.act:
            return {"key": fingerprint(signed.key), "envelope": _sha256(signed.payload).digest()}
        envelope = read_unverified(signed)
        return _said(envelope, signed, claim.subject, (), act_text(envelope.act))
    except (StarAgentError, msgspec.MsgspecError, ValueError, RecursionError):
        return {"key": fingerprint(signed.key), "envelope": _sha256(signed.payload).digest()}
