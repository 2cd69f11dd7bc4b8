"""What can be written to the store: one frozen value for each kind of write, its fields in the order of the table's
columns.

Not here: how they are written (`transaction`). Rules: an insert of what is there already is ignored, so a redelivered
message
does no harm; the exceptions are claims, which the store grants to one only and refuses to the rest with a code:
`InsertJob` (JOB_REPEATED), `UseToken` (TOKEN_UNKNOWN, TOKEN_EXPIRED, TOKEN_USED_UP), `UpsertHost` (HOST_NAME_TAKEN).

One submission is written whole or not at all. Between submissions of one commit, only those of the same kind keep
order.
"""

from __future__ import annotations

__all__ = (
    "CountOutcomes",
    "DeleteAudit",
    "DeleteJobs",
    "DeleteOutputs",
    "DeleteSessions",
    "DeleteTargets",
    "DeleteTokens",
    "FinishJob",
    "InsertAmendment",
    "InsertAudit",
    "InsertCancel",
    "InsertCheckpoint",
    "InsertJob",
    "InsertOutput",
    "InsertPause",
    "InsertReduction",
    "InsertRoster",
    "InsertScheduleJob",
    "InsertSession",
    "InsertTarget",
    "InsertToken",
    "Op",
    "PruneOutcomes",
    "ReplaceHost",
    "RevokeHost",
    "SetMeta",
    "TouchHosts",
    "UpdateHost",
    "UpsertHost",
    "UseToken",
)

from msgspec import Struct

from libstaragent.security.audit import AuditEntry


class InsertJob(Struct, frozen=True, kw_only=True):
    """A job, accepted. Claim: the id is new.

    Attributes:
        id: a ULID; the idempotency key.
        title: what lists show of it, for people.
        source: where it was submitted from, as text.
        envelope: the signed act, as it was received.
        members: msgpack of the frozen list of (agent, name, room).
    """

    id: str
    operator: str
    act: str
    title: str
    submitted_ms: int
    expires_ms: int
    deadline_ms: int
    source: str
    envelope: bytes
    members: bytes


class InsertTarget(Struct, frozen=True, kw_only=True):
    """A target that has ended. The first one stays; a later result is an `InsertAmendment`.

    Attributes:
        left_running: JSON of [[pid, name], …], or None for none.
        output_digest: of the `InsertOutput` that goes with it, or None.
        received_ms: by central's clock; the other times are by the host's.
    """

    job: str
    agent: str
    state: str
    exit_status: int | None = None
    ran: str = "no"
    started_ms: int | None = None
    finished_ms: int | None = None
    user_ms: int = 0
    system_ms: int = 0
    max_rss_kb: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_sha256: bytes | None = None
    stderr_sha256: bytes | None = None
    output_digest: bytes | None = None
    received_ms: int
    signal: int | None = None
    core_dumped: bool = False
    errno: int | None = None
    code: str | None = None
    detail: str | None = None
    omitted: int = 0
    left_running: str | None = None
    left_count: int = 0
    signature: bytes | None = None


class InsertAmendment(InsertTarget, frozen=True, kw_only=True):
    """A result that came after its target had ended; `seq` from 1 tells several apart."""

    seq: int


class InsertOutput(Struct, frozen=True):
    """Kept output under the digest of its bytes: equal outputs of many hosts are one row, and the row says when it was
    brought last.
    """

    digest: bytes
    body: bytes
    at_ms: int = 0


class InsertReduction(Struct, frozen=True):
    """A part of a job's reduction (`libstaragent.jobs.reduce`), over results that are written with it; `agent` is the
    first of these.
    """

    job: str
    agent: str
    part: bytes


class InsertScheduleJob(Struct, frozen=True):
    """What a job is to a schedule. `kind`: keep, pause, resume, remove, or fire for a firing, whose time is `at_ms`; of
    the others it is when they were submitted. `name` is empty where the schedule's own row has it.
    """

    job: str
    schedule: str
    name: str
    kind: str
    at_ms: int


class FinishJob(Struct, frozen=True, kw_only=True):
    """A job's end; `counts` is JSON of target state to number. The first one stays. `state`: ended, or stopped where
    failures ended hosts whose turn had not come.
    """

    job: str
    state: str
    counts: str
    finished_ms: int


class InsertCancel(Struct, frozen=True, kw_only=True):
    """A signed request to cancel `job`; `id` is the request's own ULID."""

    id: str
    job: str
    operator: str
    signed: bytes
    at_ms: int


class InsertPause(Struct, frozen=True, kw_only=True):
    """A signed request to pause `job` or to go on with it; see `libstaragent.roles.pacing.PauseEntry`."""

    id: str
    job: str
    seq: int
    paused: bool
    begun: int
    confirmed: int
    operator: str
    signed: bytes
    at_ms: int


class UpsertHost(Struct, frozen=True, kw_only=True):
    """A host, enrolled or enrolled anew. Claim: no other host has its name. `last_seen_ms` of a known host stays."""

    id: str
    name: str
    room: str
    labels: dict[str, str] = {}
    facts: dict[str, str] = {}
    certificate_serial: str | None = None
    certificate_not_after_ms: int | None = None
    enrolled_ms: int
    revoked: bool = False
    result_key: bytes | None = None


class ReplaceHost(Struct, frozen=True, kw_only=True):
    """A host that joins anew: its row of before is revoked, and gives up its name to the one that is written next.
    `guard` is central's own.
    """

    id: str
    guard: bytes


class UpdateHost(Struct, frozen=True, kw_only=True):
    """What changed of a known host; None leaves a field as it is. `guard` is central's own, opaque here."""

    id: str
    room: str | None = None
    labels: dict[str, str] | None = None
    facts: dict[str, str] | None = None
    certificate_serial: str | None = None
    certificate_not_after_ms: int | None = None
    guard: bytes | None = None


class TouchHosts(Struct, frozen=True):
    """Hosts that were seen at `at_ms`: many at once, since they are seen all the time."""

    ids: tuple[str, ...]
    at_ms: int


class RevokeHost(Struct, frozen=True):
    """A host whose certificate is no longer taken. Its name is free: the row is called by its id from now on."""

    id: str


class InsertToken(Struct, frozen=True, kw_only=True):
    """A token for enrolment; of its secret only the digest is kept. The rest bounds who may use it."""

    id: str
    digest: bytes
    room: str
    name_pattern: str = "*"
    networks: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    uses_left: int
    expires_ms: int
    created_by: str
    replaces: bool = False


class UseToken(Struct, frozen=True):
    """One use of a token. Claim: it exists, has a use left, and is not expired at `now_ms`."""

    id: str
    now_ms: int


class InsertSession(Struct, frozen=True, kw_only=True):
    """A login; of its bearer token only the digest is kept. `key` is the operator's public key that signed for it."""

    id: str
    digest: bytes
    operator: str
    key: bytes
    expires_ms: int


class DeleteSessions(Struct, frozen=True, kw_only=True):
    """Sessions that ended: the one with `id`, or all that expire by `expired_ms`."""

    id: str | None = None
    expired_ms: int | None = None


class DeleteTargets(Struct, frozen=True):
    """The ended targets of a job up to the agent `upto`, with what belongs to them: a part of a large job that goes."""

    job: str
    upto: str


class DeleteJobs(Struct, frozen=True):
    """Jobs with all that belongs to them, but for outputs, which others may share."""

    ids: tuple[str, ...]


class DeleteOutputs(Struct, frozen=True):
    """Outputs by (digest, time): those that nobody has brought after that time."""

    rows: tuple[tuple[bytes, int], ...]


class DeleteTokens(Struct, frozen=True):
    """Enrolment tokens that expired by then."""

    expired_ms: int


class InsertCheckpoint(Struct, frozen=True):
    """What stands for the audit's entries up to `upto`; `signed` is a `Checkpoint`, packed."""

    upto: int
    signed: bytes


class DeleteAudit(Struct, frozen=True):
    """At most `limit` entries of the audit for which a checkpoint stands."""

    limit: int


class InsertRoster(Struct, frozen=True):
    """A revision of the roster, signed, as it was received."""

    revision: int
    signed: bytes


class InsertAudit(Struct, frozen=True):
    """An entry of the audit (`libstaragent.security.audit`). Number, time and hash are the writer's to give: in the
    order of its commits, for the submissions that stand.

    `at_ms` is when it happened; it is stored as the time of the entry before where that is later.
    """

    entry: AuditEntry
    at_ms: int


class SetMeta(Struct, frozen=True):
    """A value of the control plane's own, under a key."""

    key: str
    value: bytes


class CountOutcomes(Struct, frozen=True):
    """Targets that ended: added to the counts of the bucket of `span_ms` that begins at `start_ms`.

    Attributes:
        rows: (room, version, state, code, number) each; no combination twice.
    """

    span_ms: int
    start_ms: int
    rows: tuple[tuple[str, str, str, str, int], ...]


class PruneOutcomes(Struct, frozen=True):
    """Take away buckets: of each span in `before`, those that begin before that time."""

    before: tuple[tuple[int, int], ...]


Op = (
    InsertJob
    | InsertTarget
    | InsertAmendment
    | InsertOutput
    | InsertReduction
    | InsertScheduleJob
    | FinishJob
    | InsertCancel
    | InsertPause
    | UpsertHost
    | UpdateHost
    | ReplaceHost
    | TouchHosts
    | RevokeHost
    | InsertToken
    | UseToken
    | InsertSession
    | DeleteSessions
    | DeleteTargets
    | DeleteJobs
    | DeleteOutputs
    | DeleteTokens
    | DeleteAudit
    | InsertCheckpoint
    | InsertRoster
    | InsertAudit
    | SetMeta
    | CountOutcomes
    | PruneOutcomes
)
