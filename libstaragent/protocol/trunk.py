"""What a room and central say to each other over the bus. Frozen values; each is idempotent, because the bus
delivers at least once.

central → room   Dispatch  CancelTargets  WatchTargets  SettledTargets  RosterRevisions  CertificateIssued  TellAgain
                 GuardHosts  FiringsKnown  ReadTarget  GrantRead  StopReading     BlobPiece (lossy: asked for again)
room → central   RoomStarted  HostUp  HostDown  HolderSeen  TargetProgress  TargetEnded  TargetsEnded  TargetsReduced
                 Undelivered  RenewCertificate  FiringBegan     WantPiece (lossy: said again)
room → viewers   LiveChunk  LiveDropped     (lossy: views only, never what is stored)
                 ReadPiece  ReadOver        (lossy: a reader that misses one begins again where it stood)
"""

from __future__ import annotations

__all__ = (
    "AuditHead",
    "BlobPiece",
    "CancelTargets",
    "CertificateIssued",
    "Dispatch",
    "FiringBegan",
    "FiringsKnown",
    "GrantRead",
    "GuardHosts",
    "HolderSeen",
    "HostDown",
    "HostGuard",
    "HostUp",
    "LiveChunk",
    "LiveDropped",
    "Order",
    "ReadOver",
    "ReadPiece",
    "ReadTarget",
    "RenewCertificate",
    "Report",
    "RoomStarted",
    "RosterRevisions",
    "SettledTargets",
    "StopReading",
    "TargetEnded",
    "TargetProgress",
    "TargetsEnded",
    "TargetsReduced",
    "TellAgain",
    "Undelivered",
    "WantPiece",
    "WatchTargets",
    "report_bytes",
    "report_count",
)

from msgspec import Struct

from libstaragent.model.result import TargetResult
from libstaragent.security.membership import Proof
from libstaragent.security.signed import Signed


class Dispatch(Struct, frozen=True, array_like=True, tag=1):
    """An envelope for hosts of the room: (agent, Merkle path or None) each. Not sent first after `expires_ms`,
    forgotten after `deadline_ms`.

    `again`: an earlier room process may have sent it, so it is never reported undelivered, and is offered even when
    it has expired: the agent says what became of it. `boot`: the room process that it is for; another one drops it
    and says RoomStarted, so that central gives it what is open. `reduce`: what the envelope says of the outputs.
    `parts`: it is of a planned job, and others with other targets of the same job may come.
    """

    job: str
    signed: Signed
    expires_ms: int
    deadline_ms: int
    targets: tuple[tuple[str, Proof | None], ...]
    watch: bool
    again: bool
    boot: str = ""
    reduce: str = ""
    parts: bool = False


class CancelTargets(Struct, frozen=True, array_like=True, tag=2):
    """An operator's signed cancel of `job`, for these agents."""

    job: str
    signed: Signed
    agents: tuple[str, ...]


class WatchTargets(Struct, frozen=True, array_like=True, tag=3):
    """Somebody watches the live output of these targets, or nobody does any more."""

    job: str
    agents: tuple[str, ...]
    on: bool


class SettledTargets(Struct, frozen=True, array_like=True, tag=4):
    """Results that are in the store, on disk: (agent, job) each."""

    pairs: tuple[tuple[str, str], ...]


class RosterRevisions(Struct, frozen=True, array_like=True, tag=5):
    """The roster's chain, oldest first; its first has the number `first`."""

    first: int
    revisions: tuple[Signed, ...]


class CertificateIssued(Struct, frozen=True, array_like=True, tag=6):
    """Answer to RenewCertificate."""

    agent: str
    pem: bytes
    code: str


class TellAgain(Struct, frozen=True, array_like=True, tag=8):
    """Results that cannot be stored as they were told: (agent, job) each. The room says them again, whole, if it still
    can; else their agents will.
    """

    pairs: tuple[tuple[str, str], ...]


class AuditHead(Struct, frozen=True, array_like=True, tag=13):
    """The newest entry of the audit, as central had it at `at_ms`; rooms tell it in pings."""

    seq: int
    hash: bytes
    at_ms: int


class HostGuard(Struct, frozen=True, array_like=True):
    """How one agent's identity is guarded (`libstaragent.roles.guards` draws the states)."""

    agent: str
    state: str
    keep: bytes
    issued_after_s: int


class GuardHosts(Struct, frozen=True, array_like=True, tag=15):
    """Agents whose identity two machines have or had, and whom the room may let in."""

    guards: tuple[HostGuard, ...]


class RoomStarted(Struct, frozen=True, array_like=True, tag=16):
    """The room is new in memory: it needs its open dispatches again, and none of its hosts is up. `boot` is another at
    each start; said again by the same process, it corrects what central took for the present one.
    """

    room: str
    boot: str = ""


class HostUp(Struct, frozen=True, array_like=True, tag=17, kw_only=True):
    """An agent said HELLO. `order` counts a room process's HostUp and HostDown from 1, and `boot` is that process: the
    bus may deliver an older one after a newer one.
    """

    agent: str
    room: str
    version: str
    boot_nonce: bytes
    hostname: str
    addresses: tuple[str, ...]
    facts: dict[str, str]
    roster: int
    clock_ahead_ms: int
    at_ms: int
    boot: str = ""
    order: int = 0
    # How many connections the agent ever made, and from when its certificate is (seconds since the epoch).
    connects: int = 0
    issued_s: int = 0


class HostDown(Struct, frozen=True, array_like=True, tag=18):
    """An agent's connection is gone; `code` says why. `boot` and `order` as in HostUp."""

    agent: str
    room: str
    code: str
    at_ms: int
    boot: str = ""
    order: int = 0


class HolderSeen(Struct, frozen=True, array_like=True, tag=35, kw_only=True):
    """Somebody with this agent's identity said HELLO and was not let in, because of its guard."""

    agent: str
    room: str
    boot_nonce: bytes
    connects: int
    hostname: str
    addresses: tuple[str, ...]
    issued_s: int
    at_ms: int


class TargetProgress(Struct, frozen=True, array_like=True, tag=19):
    """A target is `sent`, `accepted` or `running`."""

    agent: str
    job: str
    state: str
    at_ms: int


class TargetEnded(Struct, frozen=True, array_like=True, tag=20):
    """A target's result, from the host itself."""

    agent: str
    result: TargetResult


class Undelivered(Struct, frozen=True, array_like=True, tag=21):
    """The time for an order was over and it was never sent to these agents: nothing ran there. `boot` is the room
    process that says so: a later one may have been given the order again since.
    """

    job: str
    agents: tuple[str, ...]
    boot: str = ""


class RenewCertificate(Struct, frozen=True, array_like=True, tag=22):
    """An agent, known by its present certificate, asks for the next."""

    agent: str
    room: str
    csr: bytes


class TargetsEnded(Struct, frozen=True, array_like=True, tag=25):
    """Results that share one kept output: (agent, result without output) each. `digest` is empty where nothing was
    printed; `body` is None where this room process has sent it before (`libstaragent.jobs.kept_output`); `omitted`
    bytes of the output are not in it.
    """

    digest: bytes
    body: bytes | None
    omitted: int
    ended: tuple[tuple[str, TargetResult], ...]


class TargetsReduced(Struct, frozen=True, array_like=True, tag=26):
    """Results of a reduced job, and the part that the room made of their outputs (`libstaragent.jobs.reduce`): of just
    these, so it is taken if all of them are, or not at all: (agent, result, digest of its output) each. Of the output
    itself, a result has only how much was not kept.
    """

    job: str
    part: bytes
    ended: tuple[tuple[str, TargetResult, bytes], ...]


class FiringBegan(Struct, frozen=True, array_like=True, tag=32):
    """A host says that its schedule fired, and that `job` is the firing's. `new`: the store has no such job yet (said
    by central to itself).
    """

    agent: str
    room: str
    job: str
    schedule: str
    at_ms: int
    boot: str
    new: bool = False


class FiringsKnown(Struct, frozen=True, array_like=True, tag=34):
    """Firings that are jobs in the store, on disk: (agent, job) each."""

    pairs: tuple[tuple[str, str], ...]


class LiveChunk(Struct, frozen=True, array_like=True, tag=23):
    """Records of a running command from `offset` of its output."""

    agent: str
    job: str
    offset: int
    data: bytes


class LiveDropped(Struct, frozen=True, array_like=True, tag=24):
    """Bytes of live output that no viewer will see live."""

    agent: str
    job: str
    count: int


class ReadTarget(Struct, frozen=True, array_like=True, tag=9):
    """An operator's signed ReadSpool for one agent, from `offset` on; `read` names it in what follows."""

    read: str
    agent: str
    signed: Signed
    proof: Proof | None
    offset: int


class GrantRead(Struct, frozen=True, array_like=True, tag=10):
    """The reader has taken `count` bytes: as many more may come."""

    read: str
    count: int


class StopReading(Struct, frozen=True, array_like=True, tag=11):
    """Nobody reads it any more."""

    read: str


class BlobPiece(Struct, frozen=True, array_like=True, tag=12):
    """Answer to WantPiece; with a `code` there is none, and will not be."""

    job: str
    offset: int
    data: bytes
    code: str = ""


class WantPiece(Struct, frozen=True, array_like=True, tag=29):
    """A host of the room wants this piece of the file that the job places."""

    room: str
    agent: str
    job: str
    offset: int


class ReadPiece(Struct, frozen=True, array_like=True, tag=30):
    """Records of a spool; `at` counts the bytes of this answer before them."""

    read: str
    at: int
    data: bytes


class ReadOver(Struct, frozen=True, array_like=True, tag=31):
    """The read ends here, and why."""

    read: str
    code: str


Order = (
    Dispatch
    | CancelTargets
    | WatchTargets
    | SettledTargets
    | RosterRevisions
    | CertificateIssued
    | TellAgain
    | AuditHead
    | GuardHosts
    | FiringsKnown
    | ReadTarget
    | GrantRead
    | StopReading
)
Report = (
    RoomStarted
    | HostUp
    | HostDown
    | HolderSeen
    | TargetProgress
    | TargetEnded
    | TargetsEnded
    | TargetsReduced
    | Undelivered
    | RenewCertificate
    | FiringBegan
)

# What a report without a body holds in memory, about: a result has 22 fields, half of them numbers.
REPORT_BYTES = 700


def report_count(report: Report) -> int:
    """How many words of agents a report is."""
    return len(report.ended) if type(report) is TargetsEnded or type(report) is TargetsReduced else 1


def report_bytes(report: Report) -> int:
    """What it holds, about."""
    if type(report) is TargetsEnded:
        return len(report.body or b"") + REPORT_BYTES * len(report.ended)
    if type(report) is TargetsReduced:
        return len(report.part) + REPORT_BYTES * len(report.ended)
    return REPORT_BYTES
