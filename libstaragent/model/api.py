"""What the HTTP API says and takes, as typed values: the OpenAPI document is made from these, the client reads into
them.

Rules: JSON by msgspec (bytes are base64), times are ms since the epoch, a name or output of a host is as hostile
here as it was on the host: whoever shows it passes it through the sanitiser. It is long because it is one list.
"""

from __future__ import annotations

__all__ = (
    "AUDIT_HEAD_HEADER",
    "OUTCOME_GROUPS",
    "AuditHead",
    "AuditPage",
    "AuditRow",
    "Challenge",
    "Enrolled",
    "Enrolment",
    "ErrorBody",
    "Event",
    "EventBatch",
    "Health",
    "HolderView",
    "HostChanged",
    "HostPage",
    "HostView",
    "JobAnswer",
    "JobChanged",
    "JobPage",
    "JobSubmission",
    "JobView",
    "Lagged",
    "LoginRequest",
    "OutcomeRow",
    "Outcomes",
    "OutputLive",
    "OutputView",
    "Resolved",
    "RosterTaken",
    "ScheduleList",
    "ScheduleView",
    "Session",
    "TargetChanged",
    "TargetPage",
    "TargetView",
    "TokenIssued",
    "Trust",
)

from msgspec import UNSET, Struct, UnsetType

from libstaragent.security.acts import Member, Plan
from libstaragent.security.login import Challenge
from libstaragent.security.signed import Signed

# Header of every answer to an act or to one who is logged in: number and hash (hex) of the newest entry of the audit.
AUDIT_HEAD_HEADER = "opsconsole-audit-head"


class ErrorBody(Struct, frozen=True, kw_only=True):
    """Every refusal of the API. `code` is in the catalogue; `errno` only where the OS refused."""

    code: str
    symbol: str
    message: str
    remedy: str
    retryable: bool
    errno: int | None = None


class HolderView(Struct, frozen=True, kw_only=True):
    """One machine that has a host's identity: what it says of itself, the nonce of its agent's present start (hex), and
    when it was seen first and last.
    """

    nonce: str
    connects: int
    hostname: str
    addresses: tuple[str, ...] = ()
    first_ms: int = 0
    last_ms: int = 0


class HostView(Struct, frozen=True, kw_only=True):
    """A host: what was enrolled, what it says of itself, and how its connection is (`state`: up, down, never, or
    quarantined: two machines have its identity, and `holders` are both).

    `boot_nonce` is of its agent's present start and `result_key` what it signs results with, both in hex.
    """

    id: str
    name: str
    room: str
    state: str
    labels: dict[str, str] = {}
    facts: dict[str, str] = {}
    addresses: tuple[str, ...] = ()
    version: str = ""
    roster: int = 0
    clock_ahead_ms: int = 0
    enrolled_ms: int = 0
    changed_ms: int = 0
    code: str = ""
    holders: tuple[HolderView, ...] = ()
    boot_nonce: str = ""
    result_key: str = ""


class JobView(Struct, frozen=True, kw_only=True):
    """A job. `counts` has the number of targets in each state; they add up to `targets` always.

    What follows is of jobs with a plan. In lists of jobs that ended long ago `plan` is left out.

    Attributes:
        wave: which of the plan's waves is under way or was the last to end, from 1; 0 before the first.
        held: how many hosts wait for their turn.
        paused: whether somebody paused it. waits: `resume` or `rest` where it is between two waves, else empty.
        stopped: whether its failures ended hosts whose turn had not come.
        schedule: the name of the schedule whose firing it is (not of a plan); empty for none.
    """

    id: str
    operator: str
    command: str
    expression: str
    targets: int
    counts: dict[str, int]
    submitted_ms: int
    expires_ms: int
    deadline_ms: int
    finished_ms: int | None = None
    cancelled: bool = False
    source: str = ""
    plan: Plan | None = None
    wave: int = 0
    held: int = 0
    paused: bool = False
    waits: str = ""
    stopped: bool = False
    schedule: str = ""


class ScheduleView(Struct, frozen=True, kw_only=True):
    """A schedule, as central knows it.

    Attributes:
        when: `at MS`, `every N s`, `cron FIELDS (ZONE)` or `at boot`; at_ms is the time of the first kind.
        live: whether it may still fire. next_ms: when, by central's clock; None for never, or where no clock tells.
        hosts: how many hosts are waiting, kept, unknown, refused, paused, missing, removed; states: the same by host.
        codes: of hosts that are unknown, refused or missing: why, where there is a code.
        members: the hosts that it was signed for and that are enrolled.
        last: the newest firing; None before the first.
    """

    id: str
    name: str
    operator: str
    when: str
    at_ms: int | None
    until_ms: int
    command: str
    expression: str
    live: bool
    next_ms: int | None
    hosts: dict[str, int]
    states: dict[str, str]
    members: tuple[Member, ...]
    codes: dict[str, str] = {}
    last: JobView | None = None


class ScheduleList(Struct, frozen=True, kw_only=True):
    """Schedules, the oldest first."""

    schedules: tuple[ScheduleView, ...]


class HostPage(Struct, frozen=True, kw_only=True):
    """Hosts in the order of their names; `next` is the `after` of the following page, None on the last."""

    hosts: tuple[HostView, ...]
    next: str | None = None


class JobPage(Struct, frozen=True, kw_only=True):
    """Jobs, the newest first; `next` is the `before` of the following page, None on the last."""

    jobs: tuple[JobView, ...]
    next: str | None = None


class Resolved(Struct, frozen=True, kw_only=True):
    """The hosts that an expression means now, in the order of their names, to be frozen and signed.

    `clock_ms` is central's time, so that a client with a wrong clock finds out before it signs.
    """

    members: tuple[Member, ...]
    revision: int
    clock_ms: int = 0


class OutputView(Struct, frozen=True, kw_only=True):
    """The kept output, as records: `head`, then `omitted` bytes that were not kept, then `tail`."""

    head: bytes
    omitted: int
    tail: bytes


class TargetView(Struct, frozen=True, kw_only=True):
    """One target of a job. The output comes along where it was asked for."""

    job: str
    agent: str
    host: str
    room: str
    state: str
    exit_status: int | None = None
    signal: int | None = None
    core_dumped: bool = False
    errno: int | None = None
    code: str | None = None
    detail: str = ""
    ran: str = "no"
    started_ms: int | None = None
    finished_ms: int | None = None
    received_ms: int | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_sha256: str | None = None
    stderr_sha256: str | None = None
    left_running: tuple[str, ...] = ()
    left_count: int = 0
    amendment: bool = False
    # Both in hex: the digest of what is kept of the output, and the host's signature where it signed.
    output_sha256: str | None = None
    signature: str | None = None
    output: OutputView | UnsetType | None = UNSET
    # Whether it was asked for and is not kept any longer.
    output_pruned: bool = False


class TargetPage(Struct, frozen=True, kw_only=True):
    """Targets of one job by agent id, an amendment after what it amends; `next` as in HostPage."""

    targets: tuple[TargetView, ...]
    next: str | None = None


class JobAnswer(Struct, frozen=True, kw_only=True):
    """Answer to a submission or a cancel. `targets`, with outputs, once a waited-for job of at most 100 has ended."""

    job: JobView
    targets: tuple[TargetView, ...] | None = None


class JobSubmission(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/jobs and of a cancel: an envelope, and the hosts under its Merkle root when it has one.

    A bare `Signed` is taken as well: what `opsconsole sign` prints for up to 16 hosts. `within_ms` is how long central
    offers the job to hosts that are away; it can only be shorter than the envelope's own life, so it need not be
    signed. Where the envelope has a plan, `turn_ms` of the plan says it, from each host's turn on.
    """

    envelope: Signed
    members: tuple[Member, ...] | None = None
    within_ms: int | None = None


class Trust(Struct, frozen=True, kw_only=True):
    """What a joining host or operator needs before it trusts anything; verified against the pin, not by the connection.

    `rosters` is the chain, oldest first; `ca` the PEM of the fleet's CA; `room_address` where agents connect.
    """

    rosters: tuple[Signed, ...]
    ca: str
    room_address: str
    version: str


class Enrolment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A host asks to join: POST /v1/enrol. `result_key` is the public half of the key with which it signs results."""

    token: str
    name: str
    csr: str
    facts: dict[str, str] = {}
    addresses: tuple[str, ...] = ()
    result_key: bytes = b""


class Enrolled(Struct, frozen=True, kw_only=True):
    """The host is in: its identity and certificate (PEM)."""

    agent: str
    name: str
    room: str
    certificate: str


class TokenIssued(Struct, frozen=True, kw_only=True):
    """An enrolment token, said once."""

    token: str
    expires_ms: int
    uses: int


class LoginRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/login: the Challenge of GET /v1/login?operator=NAME, signed (`security.login.answer`)."""

    answer: Signed
    ttl_ms: int = 12 * 3_600_000


class RosterTaken(Struct, frozen=True):
    """The newest revision that central carries: answer to POST /v1/rosters."""

    revision: int


class Session(Struct, frozen=True):
    """A bearer token for reads."""

    token: str
    expires_ms: int


class Health(Struct, frozen=True, kw_only=True):
    """Liveness of the control plane."""

    version: str
    hosts_up: int
    open_jobs: int
    store: str
    uptime_ms: int


# What outcomes can be counted apart by.
OUTCOME_GROUPS = ("time", "room", "version", "state", "code")


class OutcomeRow(Struct, frozen=True, kw_only=True):
    """How many targets ended, and how many of them ok. What it was not asked to count apart is None; a target that
    ended without a code has the empty one, and `other` is what hosts said beyond what is told apart.
    """

    start_ms: int | None = None
    room: str | None = None
    version: str | None = None
    state: str | None = None
    code: str | None = None
    targets: int
    ok: int


class Outcomes(Struct, frozen=True, kw_only=True):
    """How targets ended in buckets of `span_ms` from `since_ms` to `until_ms`; `cut`: there were more rows."""

    since_ms: int
    until_ms: int
    span_ms: int
    rows: tuple[OutcomeRow, ...]
    cut: bool = False


class AuditRow(Struct, frozen=True, kw_only=True):
    """An entry of the audit as it is chained: `body` is the MessagePack that is hashed (`security.audit`). `operator`,
    `subject` and `refused` are the columns beside it, by which lists are filtered: no hash covers them.
    """

    seq: int
    at_ms: int
    body: bytes
    hash: bytes
    operator: str
    subject: str
    refused: bool


class AuditPage(Struct, frozen=True, kw_only=True):
    """Entries; `next` is the `after` or `before` of the following page, None on the last. A page that looks for
    something may be short, or empty, before the last.
    """

    entries: tuple[AuditRow, ...]
    next: int | None = None


class AuditHead(Struct, frozen=True, kw_only=True):
    """The newest entry: its number (0: there is none), its hash and its time; the public key that signs checkpoints,
    and all of these, the oldest first.
    """

    seq: int
    hash: bytes
    at_ms: int
    key: bytes
    checkpoints: tuple[Signed, ...] = ()


class HostChanged(Struct, frozen=True, tag="host"):
    """A host came, went or changed."""

    host: HostView


class JobChanged(Struct, frozen=True, tag="job"):
    """A job is new, moved on or ended."""

    job: JobView


class TargetChanged(Struct, frozen=True, tag="target"):
    """A target moved on or ended; without its output."""

    target: TargetView


class OutputLive(Struct, frozen=True, tag="output"):
    """Records of a running command from `offset` of its output, or `dropped` bytes that no view will
    show.
    """

    job: str
    agent: str
    host: str
    offset: int
    data: bytes
    dropped: int = 0


class Lagged(Struct, frozen=True, tag="lagged"):
    """This reader was too slow: `events` were not sent to it. What is stored is complete; read it again."""

    events: int


Event = HostChanged | JobChanged | TargetChanged | OutputLive | Lagged


class EventBatch(Struct, frozen=True):
    """One message of the event stream: what happened since the last, at most every 50 ms."""

    events: tuple[Event, ...]
