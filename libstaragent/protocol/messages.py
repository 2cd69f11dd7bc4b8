"""What an agent and its room say to each other: control messages, and live output.

A message is a frozen `msgspec` struct, encoded as a MessagePack array that starts with the struct's number. Decoding is
strict: another type, a missing or a further element is refused. A number is never used again for another message.

    agent → room    Hello  Accepted  Started  Result  Dropped  RenewRequest  Pong  Bye  Firing  Want
    room → agent    Welcome  Refuse  Run  CancelRun  Watch  Credit  Settled  Rosters  Certificate  RenewNow  Ping
                    GoAway  FiringKnown  Read  StopRead  Chunk

Rules: every act on a host arrives as what an operator signed (`Signed`), never as a field of ours; a message that
must not be lost is repeated until its answer comes (Run until Accepted or Result, Result until Settled), so each is
idempotent. An agent may be hostile: what it says of itself is kept and shown, so it is bounded here.
"""

from __future__ import annotations

__all__ = (
    "CHUNK_MAX",
    "Accepted",
    "AgentMessage",
    "Bye",
    "CancelRun",
    "Certificate",
    "Chunk",
    "Credit",
    "Dropped",
    "Firing",
    "FiringKnown",
    "GoAway",
    "Hello",
    "LiveOutput",
    "Ping",
    "Pong",
    "Read",
    "Refuse",
    "RenewNow",
    "RenewRequest",
    "Result",
    "RoomMessage",
    "Rosters",
    "Run",
    "Settled",
    "Started",
    "StopRead",
    "Want",
    "Watch",
    "Welcome",
    "decode_agent_message",
    "decode_room_message",
    "encode_message",
)

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from libstaragent import codes
from libstaragent.model.result import TargetResult, Whole
from libstaragent.security.membership import Proof
from libstaragent.security.signed import Signed

# Names, versions, ids, addresses: the longest is a DNS name.
Name = Annotated[str, Meta(max_length=255)]
# A host says some tens of facts of itself; this is what one may cost in central's memory and on its disk.
FACTS_MAX = 64
FactName = Annotated[str, Meta(min_length=1, max_length=128, pattern="^[^ ]*$")]
FactValue = Annotated[str, Meta(max_length=1024)]
NAMES_MAX = 64
# A P-256 request is about 500 bytes.
CSR_MAX = 8 * 1024


# A piece of a file on its way to a host: a quarter of a frame, so that what is urgent waits for little.
CHUNK_MAX = 64 * 1024


class Hello(Struct, frozen=True, array_like=True, tag=1, kw_only=True, forbid_unknown_fields=True):
    """First word of an agent. `boot_nonce` is new at every start of the agent, `connects` counts its connections for
    good.
    """

    protocol_min: Whole
    protocol_max: Whole
    features: Annotated[tuple[Name, ...], Meta(max_length=NAMES_MAX)]
    version: Name
    agent: Name
    boot_nonce: Annotated[bytes, Meta(max_length=64)]
    connects: Whole
    clock_ms: Whole
    roster: Whole
    hostname: Name
    addresses: Annotated[tuple[Name, ...], Meta(max_length=NAMES_MAX)]
    facts: Annotated[dict[FactName, FactValue], Meta(max_length=FACTS_MAX)]


class Accepted(Struct, frozen=True, array_like=True, tag=2, forbid_unknown_fields=True):
    """The job is in the agent's journal, on disk: it will have a result."""

    job: str


class Started(Struct, frozen=True, array_like=True, tag=3, forbid_unknown_fields=True):
    """The command runs since `at_ms` (host's clock)."""

    job: str
    at_ms: Whole


class Result(Struct, frozen=True, array_like=True, tag=4, forbid_unknown_fields=True):
    """The end of a target; repeated until Settled."""

    result: TargetResult


class Dropped(Struct, frozen=True, array_like=True, tag=5, forbid_unknown_fields=True):
    """`count` bytes of live output were not sent (the stored output is not affected)."""

    job: str
    count: Whole


class RenewRequest(Struct, frozen=True, array_like=True, tag=6, forbid_unknown_fields=True):
    """The agent asks for its next certificate."""

    csr: Annotated[bytes, Meta(max_length=CSR_MAX)]


class Pong(Struct, frozen=True, array_like=True, tag=7, forbid_unknown_fields=True):
    """Answer to Ping."""

    clock_ms: Whole


class Bye(Struct, frozen=True, array_like=True, tag=8, forbid_unknown_fields=True):
    """The agent goes, and why (a code of the catalogue)."""

    code: str
    detail: str


class Firing(Struct, frozen=True, array_like=True, tag=16, forbid_unknown_fields=True):
    """A schedule fired: `job` (`libstaragent.jobs.schedule.firing_id`) is a job of this host from now on. `boot` is
    empty but for at-boot. Repeated until FiringKnown; what became of it is said after that.
    """

    job: Name
    schedule: Name
    at_ms: Whole
    boot: Name


class Want(Struct, frozen=True, array_like=True, tag=12, forbid_unknown_fields=True):
    """The agent wants the piece at `offset` of the file that a job places; asked again until Chunk comes."""

    job: Annotated[str, Meta(max_length=32)]
    offset: Whole


class Welcome(Struct, frozen=True, array_like=True, tag=32, kw_only=True, forbid_unknown_fields=True):
    """The room takes the agent; `heartbeat_ms` is the pace of its pings."""

    protocol: int
    features: tuple[str, ...]
    room: str
    heartbeat_ms: int
    clock_ms: int


class Refuse(Struct, frozen=True, array_like=True, tag=33, forbid_unknown_fields=True):
    """The room does not take the agent; it may try again after so long."""

    code: str
    detail: str
    retry_after_ms: int


class Run(Struct, frozen=True, array_like=True, tag=34, forbid_unknown_fields=True):
    """An envelope for this host. `proof` is the host's Merkle path when the envelope holds a root; `stream` is not 0
    when somebody watches.
    """

    job: str
    signed: Signed
    proof: Proof | None
    stream: int


class CancelRun(Struct, frozen=True, array_like=True, tag=35, forbid_unknown_fields=True):
    """An operator's signed cancel."""

    signed: Signed


class Watch(Struct, frozen=True, array_like=True, tag=36, forbid_unknown_fields=True):
    """Send the job's live output on `stream` from now on; 0 stops it."""

    job: str
    stream: int


class Credit(Struct, frozen=True, array_like=True, tag=37, forbid_unknown_fields=True):
    """`count` more bytes may be sent on `stream`."""

    stream: int
    count: int


class Settled(Struct, frozen=True, array_like=True, tag=38, forbid_unknown_fields=True):
    """The results of these jobs are in the store, on disk."""

    jobs: tuple[str, ...]


class Rosters(Struct, frozen=True, array_like=True, tag=39, forbid_unknown_fields=True):
    """The revisions that follow the agent's, in order."""

    revisions: tuple[Signed, ...]


class Certificate(Struct, frozen=True, array_like=True, tag=40, forbid_unknown_fields=True):
    """The certificate asked for by RenewRequest, as PEM; empty with a code when refused."""

    pem: bytes
    code: str


class Ping(Struct, frozen=True, array_like=True, tag=41, forbid_unknown_fields=True):
    """Are you there. `audit_seq` and `audit_hash` are the newest entry of the audit, 0 where it is not known: each host
    keeps some of them.
    """

    clock_ms: int
    audit_seq: int = 0
    audit_hash: bytes = b""


class GoAway(Struct, frozen=True, array_like=True, tag=42, forbid_unknown_fields=True):
    """Close, and come back after so long; paces the return of many agents."""

    code: str
    retry_after_ms: int


class RenewNow(Struct, frozen=True, array_like=True, tag=55, forbid_unknown_fields=True):
    """Renew the certificate at once and come back with it: the present one will not be taken any more."""


class FiringKnown(Struct, frozen=True, array_like=True, tag=50, forbid_unknown_fields=True):
    """These firings are jobs in the store, on disk: the agent may tell how they go."""

    jobs: tuple[str, ...]


class Read(Struct, frozen=True, array_like=True, tag=45, forbid_unknown_fields=True):
    """An operator's signed ReadSpool: what the host keeps of a job's output, from `offset` of it, goes on `stream` as
    live output does, by its credit. There the offset counts the bytes of this answer, and the last record is of stream
    0 (`libstaragent.roles.agent_spools`).
    """

    stream: int
    signed: Signed
    proof: Proof | None
    offset: int


class StopRead(Struct, frozen=True, array_like=True, tag=46, forbid_unknown_fields=True):
    """Nobody reads on `stream` any more."""

    stream: int


class Chunk(Struct, frozen=True, array_like=True, tag=47, forbid_unknown_fields=True):
    """The piece that Want asked for, or, with a `code`, why there is none and will not be."""

    job: str
    offset: int
    data: Annotated[bytes, Meta(max_length=CHUNK_MAX)]
    code: str = ""


class LiveOutput(Struct, frozen=True, array_like=True):
    """Records of a running command, from `offset` of its output. Travels as a DATA frame, not as a message."""

    stream: int
    offset: int
    data: bytes


AgentMessage = Hello | Accepted | Started | Result | Dropped | RenewRequest | Pong | Bye | Firing | Want
RoomMessage = (
    Welcome
    | Refuse
    | Run
    | CancelRun
    | Watch
    | Credit
    | Settled
    | Rosters
    | Certificate
    | Ping
    | GoAway
    | RenewNow
    | FiringKnown
    | Read
    | StopRead
    | Chunk
)

_encoder = msgspec.msgpack.Encoder()
_agent_decoder: msgspec.msgpack.Decoder[AgentMessage] = msgspec.msgpack.Decoder(AgentMessage)
_room_decoder: msgspec.msgpack.Decoder[RoomMessage] = msgspec.msgpack.Decoder(RoomMessage)


def encode_message(message: AgentMessage | RoomMessage) -> bytes:
    """The body of a CONTROL frame."""
    return _encoder.encode(message)


def decode_agent_message(body: bytes) -> AgentMessage:
    """What an agent said. Raises MESSAGE_MALFORMED."""
    try:
        return _agent_decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise codes.MESSAGE_MALFORMED.error(str(error)) from None


def decode_room_message(body: bytes) -> RoomMessage:
    """What a room said. Raises MESSAGE_MALFORMED."""
    try:
        return _room_decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise codes.MESSAGE_MALFORMED.error(str(error)) from None
