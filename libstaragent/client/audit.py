"""The audit, from an operator's side: reading it, and checking it against what central cannot alter.

Each answer of central to an act, or to one who is logged in, tells the audit's newest entry. What this client was told
it keeps beside its context (`SeenHeads`); what hosts were told they keep themselves. `verify_audit` reads the whole
chain, hashes it again, and holds it against both.

Not here: the chain (`security.audit`), what is found in it (`security.audit_check`). A shell: it asks central and keeps
a file. Rules: nothing that central says of the audit is believed but for the bytes that are hashed; a file that cannot
be kept is no failure of what was asked for.
"""

from __future__ import annotations

__all__ = (
    "AuditRecord",
    "AuditVerdict",
    "SeenHeads",
    "Witness",
    "ask_hosts",
    "code_of",
    "heads_path",
    "read_audit",
    "verify_chain",
)

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING

import msgspec

from libstaragent import codes
from libstaragent.client.transport import Transport
from libstaragent.client.verification import Verdict
from libstaragent.errors import Code, StarAgentError
from libstaragent.model.api import AuditHead, AuditPage, OutputView
from libstaragent.model.result import records
from libstaragent.roles.agent_heads import HeadsTold
from libstaragent.security.acts import ReadHeads
from libstaragent.security.audit import AuditEntry, Checkpoint, decode_entry
from libstaragent.security.audit_check import AuditCheck, AuditFinding
from libstaragent.security.heads import HEADS_KEPT, Head, HeadRing
from libstaragent.security.private_file import read_private, write_private

if TYPE_CHECKING:
    from libstaragent.client.fleet import Fleet

# Seconds that hosts have to tell what they saw.
TELL_SECONDS = 15.0
# Rows that are asked for at once: some MB of JSON.
PAGE = 5000
# A process that stays writes what it saw so often; one that ends, at its end.
KEEP_EVERY_SECONDS = 60.0
# An entry that cannot be read is shown as this act; its hash is checked all the same.
UNREADABLE = AuditEntry(act="unreadable", outcome="")

CODE_OF: dict[str, Code] = {
    "changed": codes.AUDIT_CHANGED,
    "removed": codes.AUDIT_REMOVED,
    "cut": codes.AUDIT_CUT,
    "rewritten": codes.AUDIT_REWRITTEN,
    "checkpoint": codes.AUDIT_CHECKPOINT,
}


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An entry with its place: number, time and hash."""

    seq: int
    at_ms: int
    hash: bytes
    entry: AuditEntry


class Witness(msgspec.Struct, frozen=True, kw_only=True):
    """Who kept heads of the audit: how many, how many of them could be compared (the others are of pruned entries), and
    the newest entry that it saw. `host`: it is one, not this client. `code` says why a host did not tell, or what is
    wrong with what it told.
    """

    name: str
    heads: int = 0
    compared: int = 0
    newest: int = 0
    code: str = ""
    host: bool = False


class AuditVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a check. `first` and `last` are the entries that were read; `checkpoint` stands for those before
    them; `more` counts findings beyond those that are listed.
    """

    entries: int
    first: int
    last: int
    checkpoint: Checkpoint | None
    witnesses: tuple[Witness, ...]
    findings: tuple[AuditFinding, ...]
    more: int = 0

    @property
    def asked(self) -> int:
        """How many hosts were asked what they saw."""
        return sum(witness.host for witness in self.witnesses)

    @property
    def answered(self) -> int:
        """How many of them told a head."""
        return sum(witness.host and witness.heads > 0 for witness in self.witnesses)

    @property
    def holds(self) -> bool:
        """Whether nothing was found, and no host's word was forged on its way."""
        return not self.findings and not any(witness.code == codes.RESULT_FORGED.code for witness in self.witnesses)

    def check(self) -> None:
        """Nothing, if it holds.

        :raises IntegrityError: the first finding.
        """
        for finding in self.findings:
            raise code_of(finding).error(finding.text)
        for witness in self.witnesses:
            if witness.code == codes.RESULT_FORGED.code:
                raise codes.RESULT_FORGED.error(witness.name)


class _Kept(msgspec.Struct, frozen=True):
    """The file: of which fleet, the public key that signs its checkpoints, and the heads."""

    fleet: str
    key: bytes
    heads: tuple[Head, ...]


class SeenHeads:
    """The heads that central told this operator, kept in `file`, or in memory only where there is none."""

    def __init__(self, fleet: str, file: Path | None) -> None:
        self._fleet = fleet
        self._file = file
        self._new = HeadRing()
        self._kept_at = time.monotonic()
        self._key = b""

    def see(self, header: str) -> None:
        """The header of an answer, ``NUMBER:HASH``; what is none is passed over."""
        number, _, digest = header.partition(":")
        try:
            seq, hashed = int(number), bytes.fromhex(digest)
        except ValueError:
            return
        if seq <= 0 or len(hashed) != 32:
            return
        self._new.see(seq, hashed, time.time_ns() // 1_000_000)
        if self._new.changed and time.monotonic() - self._kept_at >= KEEP_EVERY_SECONDS:
            self.keep()

    def all(self) -> tuple[Head, ...]:
        """What is in the file, and what was seen since."""
        return tuple(self._joined(self._read()).heads)

    def key(self, told: bytes) -> bytes:
        """The audit key that is believed: the one that was told first."""
        kept = self._read()
        self._key = kept.key if kept is not None and kept.key else told
        return self._key

    def keep(self) -> None:
        """Write what was seen to the file, beside what other processes wrote there."""
        self._kept_at = time.monotonic()
        if self._file is None or not (self._new.changed or self._key):
            return
        kept = self._read()
        key = kept.key if kept is not None and kept.key else self._key
        ring = self._joined(kept)
        try:
            write_private(
                self._file, msgspec.msgpack.encode(_Kept(self._fleet, key, tuple(ring.heads))), overwrite=True
            )
        except StarAgentError:
            return  # a read-only home: there is one witness less
        self._new = HeadRing()

    def _joined(self, kept: _Kept | None) -> HeadRing:
        ring = HeadRing(kept.heads if kept is not None else ())
        for head in self._new.heads:
            ring.see(head.seq, head.hash, head.seen_ms)
        return ring

    def _read(self) -> _Kept | None:
        if self._file is None:
            return None
        try:
            kept = msgspec.msgpack.decode(read_private(self._file), type=_Kept)
        except (StarAgentError, msgspec.MsgspecError, ValueError):
            return None
        return kept if kept.fleet == self._fleet and len(kept.heads) <= HEADS_KEPT else None


def heads_path(context_file: Path) -> Path:
    """Where the heads of the fleet in `context_file` are kept."""
    return context_file.with_suffix(".heads")


def code_of(finding: AuditFinding) -> Code:
    """The code of what was found."""
    return CODE_OF[finding.kind]


async def read_audit(
    transport: Transport, *, limit: int, since_ms: int, operator: str | None, host: str | None, refused: bool
) -> tuple[AuditRecord, ...]:
    """The newest `limit` entries that are sought, the newest first."""
    found: list[AuditRecord] = []
    before: int | None = None
    while len(found) < limit:
        page = await transport.get(
            "/v1/audit",
            AuditPage,
            before=before,
            limit=min(PAGE, limit - len(found)),
            since_ms=since_ms or None,
            operator=operator,
            host=host,
            refused=1 if refused else None,
        )
        for row in page.entries:
            entry = decode_entry(row.body) or UNREADABLE
            # What was hashed decides, not the column by which central found it.
            if (operator and entry.operator != operator) or (refused and not entry.refused) or row.at_ms < since_ms:
                continue
            found.append(AuditRecord(seq=row.seq, at_ms=row.at_ms, hash=row.hash, entry=entry))
        if page.next is None or page.next == before:
            break
        before = page.next
    return tuple(found[:limit])


async def ask_hosts(fleet: Fleet, count: int) -> list[tuple[Witness, tuple[Head, ...]]]:
    """What `count` hosts, chosen at random among those that are up, were told of the audit. Each signs its answer."""
    up = [host for host in await fleet.hosts() if host.state == "up"]
    chosen = SystemRandom().sample(up, min(count, len(up)))
    if not chosen:
        return []
    expression = ",".join(sorted(host.name for host in chosen))
    _, submission = await fleet.sign(
        ReadHeads(), expression=expression, members=await fleet.resolve(expression), ttl=TELL_SECONDS
    )
    job = await fleet.submit(submission)
    await job.result()
    verdicts = await job.verify(await job.targets(output=True))
    return [_told(verdict) for verdict in verdicts if not verdict.target.amendment]


def _told(verdict: Verdict) -> tuple[Witness, tuple[Head, ...]]:
    target = verdict.target
    name = f"host {target.host}"
    if target.state != "ok" or not isinstance(target.output, OutputView):
        return Witness(name=name, host=True, code=target.code or target.state), ()
    if verdict.word == "forged":
        return Witness(name=name, host=True, code=codes.RESULT_FORGED.code), ()
    text = b"".join(data for _, data in records(target.output.head))
    try:
        told = msgspec.json.decode(text, type=HeadsTold)
        heads = tuple(Head(seq, bytes.fromhex(digest), seen_ms) for seq, digest, seen_ms in told.heads)
    except (msgspec.MsgspecError, ValueError):
        return Witness(name=name, host=True, code=codes.CENTRAL_ANSWER.code), ()
    # An unsigned word is heard, and shown to be one: whoever has central could have said it.
    return Witness(name=name, host=True, code="" if verdict.word == "signed" else codes.RESULT_UNSIGNED.code), heads[
        :HEADS_KEPT
    ]


async def verify_chain(
    transport: Transport, fleet: str, seen: SeenHeads, hosts: Sequence[tuple[Witness, tuple[Head, ...]]]
) -> AuditVerdict:
    """Read the whole chain and hold it against the client's heads and those that hosts told."""
    own = seen.all()
    head = await transport.get("/v1/audit/head", AuditHead)
    wanted = [*own, *(kept for _, heads in hosts for kept in heads), Head(head.seq, head.hash, 0)]
    check = AuditCheck(fleet, head.checkpoints, key=seen.key(head.key) if head.checkpoints else None, wanted=wanted)
    after = 0
    while True:
        page = await transport.get("/v1/audit", AuditPage, after=after, limit=PAGE)
        for row in page.entries:
            check.feed([(row.seq, row.at_ms, row.body, row.hash)])
            check.check_columns(row.seq, row.body, operator=row.operator, subject=row.subject, refused=row.refused)
        if page.next is None or page.next <= after:
            break
        after = page.next
    witnesses = [_judged(check, Witness(name="this client"), own)] if own else []
    witnesses += [_judged(check, witness, heads) for witness, heads in hosts]
    # What central itself says of its end, if it says two things.
    check.compare("central", [Head(head.seq, head.hash, 0)] if head.seq else [])
    return AuditVerdict(
        entries=check.rows,
        first=check.first,
        last=check.last,
        checkpoint=check.checkpoint,
        witnesses=tuple(witnesses),
        findings=tuple(check.findings),
        more=check.more,
    )


def _judged(check: AuditCheck, witness: Witness, heads: Iterable[Head]) -> Witness:
    kept = list(heads)
    compared = check.compare(witness.name, kept)
    return msgspec.structs.replace(
        witness, heads=len(kept), compared=compared, newest=max((head.seq for head in kept), default=0)
    )
