"""What the agent's core asks of its shell: effects, each with the input that answers it, and a verifier."""

from __future__ import annotations

__all__ = (
    "CheckDraft",
    "DropDraft",
    "Effect",
    "Follow",
    "Install",
    "KeepHeads",
    "Log",
    "OpenDraft",
    "Persist",
    "ReadRecords",
    "ReadSpool",
    "Renew",
    "StoreRoster",
    "ToKeeper",
    "Verifier",
    "WriteDraft",
)

from typing import Any

from msgspec import Struct

from libstaragent.errors import Code
from libstaragent.jobs.journal import Record
from libstaragent.security.envelope import Envelope
from libstaragent.security.heads import Head
from libstaragent.security.membership import Proof
from libstaragent.security.signed import Signed


class Persist(Struct, frozen=True):
    """Append to the journal; then call `persisted(token, errno)`. With `sync` the answer waits for fsync."""

    token: int
    record: Record
    sync: bool


class ToKeeper(Struct, frozen=True):
    """Send a request to the keeper (`agentd.keeper`)."""

    request: dict[str, Any]


class ReadSpool(Struct, frozen=True):
    """Read the kept output of a finished job; then call `spool_read`."""

    job: str


class Follow(Struct, frozen=True):
    """Read records of at most `limit` encoded bytes from `offset`; then call `followed`."""

    job: str
    offset: int
    limit: int


class StoreRoster(Struct, frozen=True):
    """Keep this revision on disk: it was verified."""

    signed: Signed


class Install(Struct, frozen=True):
    """The certificate that was asked for has come, or a code."""

    pem: bytes
    code: str


class KeepHeads(Struct, frozen=True):
    """Keep the heads of the audit in a file; to lose the newest of them by a loss of power does no harm."""

    heads: tuple[Head, ...]


class Renew(Struct, frozen=True):
    """Renew the certificate at once, and come back to the room with it."""


class Log(Struct, frozen=True):
    """Say on the host that something was dropped, and why; the room may bring it about as often as it likes."""

    code: Code
    detail: str


class ReadRecords(Struct, frozen=True):
    """Read records of at most `limit` encoded bytes from `offset` of what is kept of a job; then call
    `records_read(stream, …)`.
    """

    stream: int
    job: str
    offset: int
    limit: int


class OpenDraft(Struct, frozen=True):
    """Open, or make, the draft of a file of `size` bytes; then call `draft_opened` with how much of it is there: whole
    pieces, or all.
    """

    job: str
    size: int


class WriteDraft(Struct, frozen=True):
    """Write a piece of the draft; then call `draft_written`."""

    job: str
    offset: int
    data: bytes


class CheckDraft(Struct, frozen=True):
    """Make the draft durable and take its SHA-256; then call `draft_checked`."""

    job: str


class DropDraft(Struct, frozen=True):
    """The draft, if there is one, is no longer needed."""

    job: str


Effect = (
    Persist
    | ToKeeper
    | ReadSpool
    | Follow
    | StoreRoster
    | Install
    | KeepHeads
    | Renew
    | Log
    | ReadRecords
    | OpenDraft
    | WriteDraft
    | CheckDraft
    | DropDraft
)


class Verifier:
    """What the core needs of `libstaragent.security.authority`; the wiring page gives the real one."""

    def verify(self, signed: Signed, proof: Proof | None, now_ms: int) -> Envelope:
        """The envelope, once everything about it holds. Raises StarAgentError."""
        raise NotImplementedError

    def verify_kept(self, signed: Signed, proof: Proof | None, now_ms: int) -> Envelope:
        """A schedule that was verified when it came, once everything but its arrival holds still. Raises
        StarAgentError.
        """
        raise NotImplementedError

    def may_manage(self, envelope: Envelope, owner: str | None, now_ms: int) -> None:
        """Whether the verified `envelope`, which manages what `owner` began, may do so here; None where that is not
        known any more. Raises StarAgentError where not.
        """
        raise NotImplementedError

    def signs_results(self, envelope: Envelope, now_ms: int) -> bool:
        """Whether a rule that lets the verified `envelope` run wants its results signed."""
        raise NotImplementedError

    def take_rosters(self, revisions: tuple[Signed, ...], now_ms: int) -> Signed | None:
        """The newest revision if it is news, already believed from now on. Raises StarAgentError."""
        raise NotImplementedError

    @property
    def roster_revision(self) -> int:
        """The revision that is believed now; 0 before the first."""
        raise NotImplementedError

    @property
    def highest_ms(self) -> int:
        """The highest time in an operator's signature that was verified; it must survive a restart."""
        raise NotImplementedError

    def may_forget(self, expires_ms: int) -> bool:
        """Whether an envelope that expired then can never be accepted again, whatever the local clock says."""
        raise NotImplementedError
