"""What an envelope says: who wants what act done on which hosts, when. Values only.

Not here: signing and opening (`envelope`), the bounds of each field (`act_limits`), whether it may be done
(`authority`).

Rules: every field is always written, so the signed bytes never depend on a default that another version has; an unknown
field is refused, because a reader that skips what it does not know would do something else than what was signed.
Times are milliseconds since the epoch, durations milliseconds, sizes bytes.
"""

from __future__ import annotations

__all__ = ("Act", "Cancel", "Envelope", "Exec", "IssueToken", "Member", "TargetList", "TargetRoot", "Targets")

import msgspec


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
    """Run a command. With `shell`, argv is ``("/bin/sh", "-c", text)`` and rules see it as a shell."""

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
    kill_grace_ms: int = 5_000


class Cancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="cancel"):
    """Stop the job with this id; without targets on the envelope: wherever it runs."""

    job: str


class IssueToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="issue_token"):
    """Let central hand out an enrolment token: an act towards central, never towards a host.

    `name_pattern` is a shell pattern that the enrolled host's name must match; `networks` are CIDRs it must come from.
    """

    room: str
    uses: int
    ttl_ms: int
    name_pattern: str = "*"
    networks: tuple[str, ...] = ()
    labels: dict[str, str] = {}


Act = Exec | Cancel | IssueToken
Targets = TargetList | TargetRoot


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
