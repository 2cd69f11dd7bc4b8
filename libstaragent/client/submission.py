"""From what a person asks for to what is sent: one act, frozen on its hosts, signed.

Not here: finding the hosts, HTTP, the clock. Rules: pure; now and random bytes are arguments; up to 16 hosts are listed
in the envelope, more are a Merkle root there and travel beside it; a default stands here and nowhere else.
"""

from __future__ import annotations

__all__ = ("BACKGROUND", "FOREGROUND", "Pace", "Signer", "argv_of", "check_meant", "unsigned")

from collections.abc import Sequence

from msgspec import Struct

from libstaragent import codes
from libstaragent.client.plans import plan_life
from libstaragent.model.api import JobSubmission
from libstaragent.model.host import HostFacts
from libstaragent.model.ids import new_ulid
from libstaragent.security.act_limits import MAX_LISTED_TARGETS
from libstaragent.security.acts import (
    Act,
    Cancel,
    Envelope,
    Exec,
    Fetch,
    Member,
    Pause,
    Plan,
    Put,
    Resume,
    TargetList,
    TargetRoot,
    Targets,
)
from libstaragent.security.envelope import sign
from libstaragent.security.membership import root
from libstaragent.security.roster import Roster
from libstaragent.targets import parse
from libstaragent.targets.terms import And, Group, Network, Not, Or, Term

# How long an act that no host has to wait for is valid: it reaches central now or never.
IMMEDIATE_TTL = 60.0


class Pace(Struct, frozen=True):
    """How long a command may run and how long a host has to begin with it, in seconds."""

    timeout: float
    ttl: float


# An envelope lives this much longer than central offers it: a host whose clock is up to 30 s ahead still takes it.
CLOCK_SLACK = 30.0
# And never longer than an envelope may.
LONGEST_LIFE = 24 * 3600.0

# Somebody waits: a host that does not answer in ten seconds is not there.
FOREGROUND = Pace(timeout=60.0, ttl=10.0)
# Nobody waits: hosts that come back within the hour still take part.
BACKGROUND = Pace(timeout=3600.0, ttl=3600.0)


class Signer:
    """An operator who signs: its name and key, and the roster that it sees."""

    def __init__(self, *, operator: str, seed: bytes, roster: Roster) -> None:
        self.operator = operator
        self.roster = roster
        self._seed = seed

    def order(
        self,
        act: Act,
        *,
        ttl: float,
        now_ms: int,
        random: bytes,
        expression: str = "",
        members: Sequence[Member] | None = None,
        plan: Plan | None = None,
        life: float | None = None,
        boot_nonce: bytes | None = None,
    ) -> tuple[str, JobSubmission]:
        """The id of the new act, and what to submit for it. `random` is 10 bytes; `members` None for an act on none;
        a planned one holds for `life` seconds.

        :raises ProtocolError: a field is out of its bounds; the detail names it.
        """
        envelope = unsigned(
            act,
            operator=self.operator,
            roster=self.roster,
            ttl=ttl,
            now_ms=now_ms,
            random=random,
            expression=expression,
            members=members,
            plan=plan,
            life=life,
            boot_nonce=boot_nonce,
        )
        beside = tuple(members) if isinstance(envelope.targets, TargetRoot) and members is not None else None
        # In a plan each host has its own turn, which is signed.
        within_ms = int(ttl * 1000) if plan is None else None
        return envelope.id, JobSubmission(sign(envelope, self._seed), beside, within_ms)

    def pause(self, job: str, *, paused: bool, now_ms: int, random: bytes) -> JobSubmission:
        """What to submit to pause `job`, or to go on with it."""
        return self.order(Pause(job) if paused else Resume(job), ttl=IMMEDIATE_TTL, now_ms=now_ms, random=random)[1]

    def cancel(self, job: str, *, now_ms: int, random: bytes) -> JobSubmission:
        """What to submit to stop `job` wherever it runs."""
        return self.order(Cancel(job), ttl=IMMEDIATE_TTL, now_ms=now_ms, random=random)[1]


def unsigned(
    act: Act,
    *,
    operator: str,
    roster: Roster,
    ttl: float,
    now_ms: int,
    random: bytes,
    expression: str = "",
    members: Sequence[Member] | None = None,
    plan: Plan | None = None,
    life: float | None = None,
    boot_nonce: bytes | None = None,
) -> Envelope:
    """The envelope as it would be signed; see `Signer.order`."""
    if plan is not None and life is None:
        timeout_ms = act.timeout_ms if isinstance(act, Exec | Put | Fetch) else 0
        life = plan_life(plan, len(members or ()), timeout=timeout_ms / 1000)
    # The end of a plan is its own: whose clock is ahead misses no more than the last half minute of it.
    holds = ttl + CLOCK_SLACK if life is None else life
    return Envelope(
        id=new_ulid(now_ms, random),
        fleet=roster.fleet,
        operator=operator,
        act=act,
        targets=_targets(expression, members),
        issued=now_ms,
        not_before=now_ms,
        expires=now_ms + int(min(holds, LONGEST_LIFE) * 1000),
        roster=roster.revision,
        boot_nonce=boot_nonce,
        plan=plan,
    )


def argv_of(words: Sequence[str], *, shell: bool) -> tuple[str, ...]:
    """What a host is to run: the words, or with `shell` a line for /bin/sh of them.

    :raises UsageError: one text where words are wanted, which would be run letter by letter.
    """
    if shell:
        return ("/bin/sh", "-c", words if isinstance(words, str) else " ".join(words))
    if isinstance(words, str):
        raise codes.COMMAND_LINE.error(f"{words!r} is one text: give a list of words, or shell=True")
    return tuple(words)


def check_meant(expression: str, members: Sequence[Member], roster: Roster) -> None:
    """Nothing, if each member may be meant by `expression` as far as its id, name and room tell.

    Labels, facts and addresses are only known to central, so they cannot be judged here; agents judge them again.

    :raises IntegrityError: central named a host that is certainly not meant, or one host twice.
    """
    read = parse(expression)
    if len({member.agent for member in members}) != len(members):
        raise codes.TARGETS_UNEXPECTED.error("one host stands there twice")
    gone = next((member.name for member in members if member.agent in roster.revoked), None)
    if gone is not None:
        raise codes.TARGETS_UNEXPECTED.error(f"{gone} was revoked")
    if _asks_for_addresses(read.term, roster, set()):
        return
    for member in members:
        host = HostFacts(id=member.agent, name=member.name, room=member.room)
        if not read.may_match(host, roster.groups):
            raise codes.TARGETS_UNEXPECTED.error(f"{member.name} is not {expression}")


def _targets(expression: str, members: Sequence[Member] | None) -> Targets | None:
    if members is None:
        return None
    if len(members) <= MAX_LISTED_TARGETS:
        return TargetList(expression, tuple(members))
    return TargetRoot(expression, len(members), root(members))


def _asks_for_addresses(term: Term, roster: Roster, seen: set[str]) -> bool:
    match term:
        case Network():
            return True
        case Not():
            return _asks_for_addresses(term.term, roster, seen)
        case And() | Or():
            return any(_asks_for_addresses(inner, roster, seen) for inner in term.terms)
        case Group():
            if term.name in seen or term.name not in roster.groups:
                return False
            seen.add(term.name)
            return _asks_for_addresses(parse(roster.groups[term.name]).term, roster, seen)
        case _:
            return False
