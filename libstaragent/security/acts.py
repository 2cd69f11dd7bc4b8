"""What an envelope says: who wants what act done on which hosts, when. Values only.

Not here: signing and opening (`envelope`), the bounds of each field (`act_limits`), whether it may be done
(`authority`).

Rules: every field is always written, so the signed bytes never depend on a default that another version has; an unknown
field is refused, because a reader that skips what it does not know would do something else than what was signed.
Times are milliseconds since the epoch, durations milliseconds, sizes bytes.
"""

from __future__ import annotations

__all__ = (
    "SCHEDULE_ACTS",
    "Act",
    "At",
    "AtBoot",
    "Cancel",
    "Cron",
    "Envelope",
    "Every",
    "Exec",
    "Fetch",
    "HostAct",
    "IssueToken",
    "Member",
    "Pause",
    "PauseSchedule",
    "Plan",
    "Put",
    "ReadHeads",
    "ReadSpool",
    "ResolveClone",
    "Resume",
    "Schedule",
    "TargetList",
    "TargetRoot",
    "Targets",
    "Unschedule",
    "When",
    "act_name",
    "act_text",
    "is_host_act",
    "run_span_ms",
)

from functools import lru_cache
from typing import TypeGuard

import msgspec

# To write a schedule down, or to take it away: one record of the agent's journal.
KEEP_SPAN_MS = 10_000


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One host as the signer saw it: the agent's id, its name and its room."""

    agent: str
    name: str
    room: str


class TargetList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="form", tag="list"):
    """A few hosts, each named; `expression` is what the operator typed."""

    expression: str
    members: tuple[Member, ...]


class TargetRoot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="form", tag="root"):
    """Many hosts: what the operator typed, how many it was, and the Merkle root over them (`membership`)."""

    expression: str
    count: int
    root: bytes


class Exec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="exec"):
    """Run a command. With `shell`, argv is ``("/bin/sh", "-c", text)`` and rules see it as a shell.

    `output_head` and `output_tail` travel with the result; `output_spool` is how much of the end the host itself keeps,
    for whoever reads the spool later. `reduce` names a reducer of the rooms (`libstaragent.jobs`), empty for none: then
    the rooms pass on what it makes of the outputs instead of the outputs. With `signed` each host signs its result, or
    refuses where it has no key to.
    """

    argv: tuple[str, ...]
    shell: bool = False
    user: str | None = None
    cwd: str | None = None
    env: dict[str, str] = {}
    umask: int | None = None
    stdin: bytes = b""
    timeout_ms: int = 60_000
    output_head: int = 64 * 1024
    output_tail: int = 128 * 1024
    output_spool: int = 4 * 1024 * 1024
    reduce: str = ""
    kill_grace_ms: int = 5_000
    signed: bool = False


class Put(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="put"):
    """Place a file on hosts, whole or not at all: its bytes travel beside and must be `size` long with this digest.

    `user` is whose rights are used (None: the agent's); `owner`, `group` and `mode` are what the file gets, None for
    what a new file of that user gets.
    """

    path: str
    size: int
    sha256: bytes
    mode: int | None = None
    owner: str | None = None
    group: str | None = None
    user: str | None = None
    timeout_ms: int = 600_000
    kill_grace_ms: int = 5_000


class Fetch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="fetch"):
    """Read one regular file of hosts with the rights of `user`, at most `max_bytes` long; the host keeps what was read
    as the job's spool, and `ReadSpool` hands it over.
    """

    path: str
    max_bytes: int
    user: str | None = None
    timeout_ms: int = 600_000
    kill_grace_ms: int = 5_000


class ReadSpool(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="read_spool"):
    """Hand over what a host still keeps of a job's output. Reads only, so it is no job and may be repeated."""

    job: str


class ReadHeads(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="read_heads"):
    """Tell which heads of the audit the host was told and keeps. It changes nothing, and needs no rule."""


class At(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="when", tag="at"):
    """Once, at this time."""

    at_ms: int


class Every(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="when", tag="every"):
    """At `start_ms` and each `every_ms` after it."""

    every_ms: int
    start_ms: int


class Cron(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="when", tag="cron"):
    """Five fields as in crontab(5), in an IANA time zone."""

    fields: str
    zone: str = "UTC"


class AtBoot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="when", tag="at_boot"):
    """Once after each boot of the host."""


When = At | Every | Cron | AtBoot


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="schedule"):
    """Keep a command on the hosts and run it when it is due, until `until_ms`. The envelope's id is the schedule's."""

    name: str
    when: When
    run: Exec
    until_ms: int


class Unschedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="unschedule"):
    """Remove a schedule from the hosts; what runs goes on."""

    schedule: str


class PauseSchedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="pause_schedule"):
    """Let a schedule rest, or go on with it; what is due while it rests does not run."""

    schedule: str
    paused: bool


class Pause(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="pause"):
    """Begin on no further host of a job: an act towards central. What runs goes on."""

    job: str


class Resume(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="resume"):
    """Go on with a paused job, or with one that waits at the end of a wave."""

    job: str


class Cancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="cancel"):
    """Stop the job with this id; without targets on the envelope: wherever it runs."""

    job: str


class IssueToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="issue_token"):
    """Let central hand out an enrolment token: an act towards central, never towards a host.

    `name_pattern` is a shell pattern that the enrolled host's name must match; `networks` are CIDRs it must come from.
    With `replaces` the one host that it names may be there already: it joins anew, and its old identity is refused.
    """

    room: str
    uses: int
    ttl_ms: int
    name_pattern: str = "*"
    networks: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    replaces: bool = False


class ResolveClone(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="resolve_clone"):
    """Say which of the machines that have one identity is the host: an act towards central.

    `host` is the agent's id, `keep` the nonce of the machine that goes on, None for the one that was seen first last.
    """

    host: str
    keep: bytes | None = None


# What becomes a job: each host named in the envelope ends in one named state.
HostAct = Exec | Put | Fetch | Schedule | Unschedule | PauseSchedule | ReadHeads
Act = HostAct | ReadSpool | Cancel | Pause | Resume | IssueToken | ResolveClone
Targets = TargetList | TargetRoot

# Command lines kept as text: each is asked for three times a job (its title, its view, the audit), and quoting costs
# as much as the rest of each. At worst 64 of 128 KiB.
TYPED_KEPT = 64
# Acts on what a host keeps for later.
SCHEDULE_ACTS = (Schedule, Unschedule, PauseSchedule)
_HOST_ACTS = (Exec, Put, Fetch, Schedule, Unschedule, PauseSchedule, ReadHeads)


def is_host_act(act: Act) -> TypeGuard[HostAct]:
    """Whether `act` becomes a job."""
    return isinstance(act, _HOST_ACTS)


def act_name(act: Act) -> str:
    """The word for the act in rules, audit and lists."""
    return str(type(act).__struct_config__.tag)


@lru_cache(TYPED_KEPT)
def _typed(argv: tuple[str, ...]) -> str:
    import shlex

    return shlex.join(argv)


def act_text(act: Act) -> str:
    """The act as one would type it, for lists and for people."""
    import shlex  # late: the agent shows no lists

    match act:
        case Exec():
            return act.argv[2] if act.shell else _typed(act.argv)
        case Put() | Fetch():
            return f"{act_name(act)} {shlex.quote(act.path)}"
        case Schedule():
            return f"schedule {act.name}: {act_text(act.run)}"
        case Unschedule() | PauseSchedule():
            return f"{act_name(act)} {act.schedule}"
        case ReadHeads():
            return act_name(act)
        case ReadSpool() | Cancel() | Pause() | Resume():
            return f"{act_name(act)} {act.job}"
        case ResolveClone():
            return f"{act_name(act)} {act.host}"
        case IssueToken():
            return f"{act_name(act)} for room {act.room}"


def run_span_ms(act: HostAct) -> int:
    """How long a host may be busy with `act` once it has begun, the kill's grace included."""
    if isinstance(act, Exec | Put | Fetch):
        return act.timeout_ms + act.kill_grace_ms
    return KEEP_SPAN_MS


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a job spreads over its hosts. Central picks the moments; rules bound the rest.

    Attributes:
        waves: how many hosts have been begun on by the end of each wave, rising; the last is all of them.
        window: at most so many hosts at once; None for all of a wave.
        max_failures: when more than so many targets have not ended ok, no further host is begun on; None for never.
        wait_ms: rest between the end of a wave and the beginning of the next.
        confirm: after each wave but the last, wait for a `Resume`.
        turn_ms: how long a host may take to begin once its turn has come; 0 for as long as the envelope holds.
    """

    waves: tuple[int, ...] = ()
    window: int | None = None
    max_failures: int | None = None
    wait_ms: int = 0
    confirm: bool = False
    turn_ms: int = 0


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One act, as an operator signs it once, for all its hosts.

    Attributes:
        id: the job's ULID, and the API's idempotency key.
        fleet: fingerprint of the fleet's root.
        operator: the signer's name in the roster.
        act: what to do.
        targets: where; None only for what is not addressed to a list of hosts.
        issued: when it was signed, by the operator's clock.
        not_before, expires: when it may start.
        roster: the revision of the roster that the signer saw.
        boot_nonce: binds it to one agent's present boot instead of to clocks (`clock`).
        plan: how a job spreads over its hosts; None for on all of them at once.
    """

    id: str
    fleet: str
    operator: str
    act: Act
    targets: Targets | None
    issued: int
    not_before: int
    expires: int
    roster: int
    boot_nonce: bytes | None = None
    plan: Plan | None = None
