"""Checking an audit: the chain that central shows, against itself and against heads that others kept. Pure.

    check = AuditCheck(fleet, checkpoints, wanted=…)      what is to be compared later has to be said first
    check.feed(rows)  …                                   all rows, in their order
    check.compare("host web01", heads)  …
    check.findings

What is found, and what it says:

    changed      a row does not have the hash that it is stored with: it, or its number, time or hash, was altered; or
                 a column by which lists are filtered does not say what the hashed entry says
    removed      numbers are missing: between two rows, or before the first one with no checkpoint in their place
    cut          somebody saw a later entry than the last one here: the end was taken away
    rewritten    somebody saw another hash at that number: the audit was made anew from some entry at or before it
    checkpoint   a checkpoint does not hold, or is not followed by what it stands for

Not here: reading rows, asking for heads. Rules: a finding names the first bad entry as nearly as it is known.
"""

from __future__ import annotations

__all__ = ("MAX_FINDINGS", "AuditCheck", "AuditFinding")

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from libstaragent.errors import StarAgentError
from libstaragent.security.audit import (
    Checkpoint,
    checkpoint_digest,
    decode_entry,
    entry_hash,
    genesis,
    open_checkpoint,
    shorten,
)
from libstaragent.security.heads import Head
from libstaragent.security.signed import Signed

# Where everything is broken the first ones tell as much as all.
MAX_FINDINGS = 20
# What is repeated of a column, in characters.
MAX_COLUMN_SHOWN = 80

Kind = Literal["changed", "removed", "cut", "rewritten", "checkpoint"]


class AuditFinding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that does not hold. `first` and `last` are the numbers of the entries that it concerns, as nearly as
    they are known; `witness` is who kept the head that shows it, empty where the chain itself does.
    """

    kind: Kind
    first: int
    last: int
    text: str
    witness: str = ""


class AuditCheck:
    """See the module.

    Attributes:
        rows: how many were fed. first, last: the numbers of the first and of the last one, 0 where there are none.
        begins_after: the entry that the newest checkpoint stands for, 0 without one.
        more: findings beyond MAX_FINDINGS.
    """

    def __init__(
        self, fleet: str, checkpoints: Sequence[Signed] = (), *, key: bytes | None = None, wanted: Iterable[Head] = ()
    ) -> None:
        """`checkpoints` are all that there are, oldest first; `key` is the audit key that must have signed them, None
        for whichever they name; `wanted` are the heads that `compare` will be given.
        """
        self.findings: list[AuditFinding] = []
        self.more = 0
        self.rows = self.first = self.last = self.begins_after = 0
        self.checkpoint: Checkpoint | None = None
        self._fleet = fleet
        self._wanted = {head.seq for head in wanted}
        self._hashes: dict[int, bytes] = {}
        self._previous: bytes | None = genesis(fleet)
        self._expected = 1
        self._agreed = 0
        self._sound = True
        self._check_checkpoints(checkpoints, key)

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def feed(self, rows: Iterable[tuple[int, int, bytes, bytes]]) -> None:
        """Rows of (number, time, body, hash), each after those before."""
        for seq, at_ms, body, digest in rows:
            self._sound = True
            if seq < self._expected:
                self._sound = False
                self._find("changed", seq, seq, f"entry {seq} stands where {self._expected} should")
                continue
            if seq > self._expected:
                text = f"entries {self._expected} to {seq - 1} are missing"
                if self._expected == 1:
                    text += ", and no checkpoint stands for them"
                self._find("removed", self._expected, seq - 1, text)
                self._previous = None
            if self._previous is not None and entry_hash(self._previous, seq, at_ms, body) != digest:
                self._sound = False
                text = f"entry {seq} is not what was written after entry {seq - 1}: one of the two was altered"
                self._find("changed", seq, seq, text)
            self._previous = digest
            self._expected = seq + 1
            if seq in self._wanted:
                self._hashes[seq] = digest
            self.rows += 1
            self.first = self.first or seq
            self.last = seq

    def check_columns(self, seq: int, body: bytes, *, operator: str, subject: str, refused: bool) -> None:
        """Hold the columns of the row that was fed last, which no hash covers, against its hashed `body`.

        A row that was found already is passed over: there it is not known which of the two is right.
        """
        entry = decode_entry(body) if self._sound else None
        if entry is None:
            return
        columns = (
            ("operator", operator, entry.operator),
            ("subject", subject, entry.subject),
            ("refused", refused, entry.refused),
        )
        for name, shown, written in columns:
            if shown != written:
                said, wrote = (shorten(repr(value), MAX_COLUMN_SHOWN) for value in (shown, written))
                text = f"entry {seq}: its column {name} was altered: it says {said}, and what was written is {wrote}"
                self._find("changed", seq, seq, text + "; lists that look by it are wrong")

    def compare(self, witness: str, heads: Iterable[Head]) -> int:
        """Hold the chain against heads that `witness` kept; how many of them could be compared."""
        end = max(self.last, self.begins_after)
        ordered = sorted(heads, key=lambda head: head.seq)
        newest = ordered[-1].seq if ordered else 0
        compared = agreed = other = 0
        for head in ordered:
            found = self._hashes.get(head.seq)
            if found is None:
                # Pruned, or missing, which the chain has said itself; or beyond the end.
                compared += head.seq > end
                continue
            compared += 1
            if found != head.hash:
                other = other or head.seq
            elif not other:
                agreed = head.seq
        self._agreed = max(self._agreed, agreed)
        first = min(self._agreed, other - 1) + 1 if other else end + 1
        if newest > end:
            text = f"{witness} saw entry {newest}, and the audit ends at {end}: its end was cut off"
            text += f" from entry {first} on, and it grew again" if other else f", {newest - end} entries or more"
            self._find("cut", first, newest, text, witness)
        elif other:
            where = f"between {first} and {other}" if first < other else f"at entry {other}"
            text = f"{witness} saw another entry {other}: the audit was made anew from somewhere {where}"
            self._find("rewritten", first, other, text, witness)
        return compared

    def _check_checkpoints(self, checkpoints: Sequence[Signed], key: bytes | None) -> None:
        before: Signed | None = None
        for signed in checkpoints:
            try:
                opened = open_checkpoint(signed)
            except StarAgentError as error:
                self._find("checkpoint", 1, 1, f"a checkpoint cannot be believed: {error.code.sentence}")
                return
            wrong = ""
            if opened.fleet != self._fleet:
                wrong = "is of another fleet"
            elif key is not None and signed.key != key:
                wrong = "is signed with another key than before"
            elif self.checkpoint is not None and opened.upto <= self.checkpoint.upto:
                wrong = f"goes back behind entry {self.checkpoint.upto}"
            elif before is not None and opened.previous != checkpoint_digest(before):
                wrong = "does not follow the one before"
            if wrong:
                self._find("checkpoint", 1, opened.upto, f"the checkpoint for entries up to {opened.upto} {wrong}")
                return
            before, self.checkpoint = signed, opened
        if self.checkpoint is not None:
            self.begins_after = self.checkpoint.upto
            self._previous = self.checkpoint.hash
            self._expected = self.checkpoint.upto + 1
            if self.checkpoint.upto in self._wanted:
                self._hashes[self.checkpoint.upto] = self.checkpoint.hash

    def _find(self, kind: Kind, first: int, last: int, text: str, witness: str = "") -> None:
        if len(self.findings) >= MAX_FINDINGS:
            self.more += 1
            return
        self.findings.append(AuditFinding(kind=kind, first=first, last=last, text=text, witness=witness))
