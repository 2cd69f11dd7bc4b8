"""The audit's chain: what an entry says, how entries are bound to each other, and what a checkpoint stands for. Pure.

    hash(0) = SHA-256("opsconsole audit genesis 1\\0" ‖ fleet)
    hash(n) = SHA-256("opsconsole audit 1\\0" ‖ hash(n-1) ‖ u64 n ‖ u64 at_ms ‖ body)

`body` is the MessagePack of an `AuditEntry` as it was written: readers hash these bytes and never encode them again, so
that another version may add a field. Number and time stand beside it, because only the store's writer knows them: in
the order of its commits, and never before the time of the entry before.

The chain alone shows what was changed or taken out by one who cannot make it anew. Whoever has the database can; that
is found by the *heads* (number and hash of the newest entry) that agents and clients kept (`heads`, `audit_check`).

Rows that are pruned leave a `Checkpoint` {number and hash of the last of them}, signed with the control plane's audit
key and chained to the checkpoint before. Not here: storing, checking a whole chain (`audit_check`).
"""

from __future__ import annotations

__all__ = (
    "CHECKPOINT_DOMAIN",
    "MAX_EXPRESSION",
    "MAX_TEXT",
    "AuditEntry",
    "Checkpoint",
    "checkpoint_digest",
    "decode_entry",
    "encode_entry",
    "entry_hash",
    "genesis",
    "open_checkpoint",
    "seal_checkpoint",
    "shorten",
)

import hashlib
from struct import Struct as _Layout

import msgspec

from libstaragent.security.signed import Signed, open_payload, seal_payload

GENESIS_DOMAIN = b"opsconsole audit genesis 1\0"
ENTRY_DOMAIN = b"opsconsole audit 1\0"
CHECKPOINT_DOMAIN = b"opsconsole audit checkpoint 1\0"
HASH_BYTES = 32

# What an entry repeats of the envelope, for people; the whole is in the job's envelope, whose digest the entry has.
MAX_TEXT = 240
MAX_EXPRESSION = 240

_NUMBERS = _Layout(">QQ")


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One act, or the end of a job.

    Attributes:
        act: the envelope's act (`act_name`), or login, enrol, roster, revoke, quarantine, end, checkpoint,
            refusals, unreadable.
        outcome: accepted, refused or ended.
        code, detail: why it was refused; the detail names the rule where one said no.
        operator: who, as claimed.
        key: SHA-256 of the public key that signed, hex; empty where nothing was signed.
        signature: whether it held: held, broken, or empty where nothing was signed or looked at.
        source: the address that it came from.
        text: the act as one would type it, shortened.
        subject: the job's, host's or token's id.
        rule: the name of the rule that allowed or denied it; empty where none decided: one's own job, or no rule fits.
        envelope: SHA-256 of the signed bytes.
        hosts: how many hosts; `expression` what was typed to choose them, shortened; `members` the Merkle root over
            them (`membership`). The list itself is with the job.
        counts: of a job's end, the targets in each state.
        count: of refusals that are told together, how many.
    """

    act: str
    outcome: str
    code: str = ""
    detail: str = ""
    operator: str = ""
    key: str = ""
    signature: str = ""
    source: str = ""
    text: str = ""
    subject: str = ""
    rule: str = ""
    envelope: bytes = b""
    hosts: int = 0
    expression: str = ""
    members: bytes = b""
    counts: dict[str, int] = {}
    count: int = 0

    @property
    def refused(self) -> bool:
        """Whether it was not done."""
        return self.outcome == "refused"


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stands for the entries 1 to `upto`, which were pruned.

    Attributes:
        hash: of entry `upto`: what entry `upto` + 1 is chained to.
        count: the entries that this checkpoint pruned, those of earlier ones not counted.
        upto_ms: when entry `upto` was written. at_ms: when it was pruned.
        previous: `checkpoint_digest` of the one before, empty for the first.
    """

    fleet: str
    upto: int
    hash: bytes
    count: int
    upto_ms: int
    at_ms: int
    previous: bytes


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(AuditEntry)
_checkpoint_decoder = msgspec.msgpack.Decoder(Checkpoint)


def genesis(fleet: str) -> bytes:
    """What the first entry of the fleet with this fingerprint is chained to."""
    return hashlib.sha256(GENESIS_DOMAIN + fleet.encode()).digest()


def entry_hash(previous: bytes, seq: int, at_ms: int, body: bytes) -> bytes:
    """The hash of entry number `seq`, by that of the one before."""
    return hashlib.sha256(ENTRY_DOMAIN + previous + _NUMBERS.pack(seq, at_ms) + body).digest()


def encode_entry(entry: AuditEntry) -> bytes:
    """The bytes that are hashed and stored."""
    return _encode(entry)


def decode_entry(body: bytes) -> AuditEntry | None:
    """What stored bytes say, or None where they say nothing that can be read."""
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def seal_checkpoint(checkpoint: Checkpoint, seed: bytes) -> Signed:
    """`checkpoint`, signed with the audit key."""
    return seal_payload(checkpoint, domain=CHECKPOINT_DOMAIN, seed=seed)


def open_checkpoint(signed: Signed) -> Checkpoint:
    """What is in it, once its signature holds; whose key it is, is the caller's to judge.

    :raises IntegrityError: the signature does not hold.
    :raises ProtocolError: it is no checkpoint.
    """
    return open_payload(signed, domain=CHECKPOINT_DOMAIN, decoder=_checkpoint_decoder)


def checkpoint_digest(signed: Signed) -> bytes:
    """What the next checkpoint calls this one by."""
    return hashlib.sha256(CHECKPOINT_DOMAIN + signed.payload).digest()


def shorten(text: str, most: int = MAX_TEXT) -> str:
    """`text` in one line of at most `most` characters, that it was cut shown by its last one."""
    line = " ".join(text.split()) if len(text) > most or "\n" in text else text
    return line if len(line) <= most else line[: most - 1] + "…"
