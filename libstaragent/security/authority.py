"""Whether a signed act is to be done, here and now: every check of "Trust" in one place, for agents and for central.

In this order, and the first that fails decides:

    size, signature, canonical form, bounds   envelope.open_signed
    fleet                                     the envelope names this fleet's root
    signer                                    the key is an operator's of the roster, and the name is that operator's
    role                                      _ROLE_FOR the kind of act
    roster                                    signed under this revision or an older one, and this one is still valid
    time                                      clock.TimeJudge
    membership                                on a host: in the list or under the root, and the expression matches
    rules                                     those of the roster, and on a host its owner's veto: `permit`

An envelope signed under an *older* roster stands as long as its signer is still in the present one: revocation works
by the newest roster, and a routine revision must not void queued jobs. One signed under a newer roster than ours is
refused until that has arrived, because the newer one may grant less.

Central passes no member: it checks what it can before it queues, and agents do not rely on that.
Not here: the id was not seen before (the journal), what rules mean (`policy`), the file that a boot nonce lives in.
Rules: pure; the caller persists `TimeJudge.highest_ms` when it changed.
"""

from __future__ import annotations

__all__ = ("TerminalState", "missing_role", "terminal_state", "verify_act")

from collections.abc import Callable, Collection
from typing import Literal

from libstaragent import codes
from libstaragent.errors import Code
from libstaragent.security.acts import (
    Act,
    Cancel,
    Envelope,
    Exec,
    Fetch,
    IssueToken,
    Member,
    Pause,
    PauseSchedule,
    Put,
    ReadHeads,
    ReadSpool,
    ResolveClone,
    Resume,
    Schedule,
    TargetList,
    Unschedule,
)
from libstaragent.security.clock import TimeJudge
from libstaragent.security.envelope import open_signed
from libstaragent.security.membership import Proof, verify
from libstaragent.security.roster import Roster
from libstaragent.security.signed import Signed

TerminalState = Literal["bad_signature", "expired", "denied"]

_ROLE_FOR: dict[type[Act], str] = {
    Exec: "operator",
    Put: "operator",
    Fetch: "operator",
    ReadSpool: "operator",
    ReadHeads: "read",
    Schedule: "operator",
    Unschedule: "operator",
    PauseSchedule: "operator",
    Cancel: "operator",
    Pause: "operator",
    Resume: "operator",
    IssueToken: "admin",
    ResolveClone: "admin",
}
# Acts towards central alone.
_NOT_FOR_HOSTS = (IssueToken, Pause, ResolveClone, Resume)

_STATE_OF: dict[str, TerminalState] = {
    codes.SIGNATURE_INVALID.code: "bad_signature",
    codes.SIGNED_NOT_CANONICAL.code: "bad_signature",
    codes.SIGNED_MALFORMED.code: "bad_signature",
    codes.SIGNED_TOO_LARGE.code: "bad_signature",
    codes.SIGNER_UNKNOWN.code: "bad_signature",
    codes.ENVELOPE_OTHER_FLEET.code: "bad_signature",
    codes.ENVELOPE_EXPIRED.code: "expired",
}


def missing_role(act: Act, roles: Collection[str]) -> str:
    """The role without which `act` is not taken from anybody, whatever the rules say; empty if `roles` has it."""
    role = _ROLE_FOR[type(act)]
    return "" if role in roles else role


def terminal_state(code: Code) -> TerminalState:
    """The state in which a target ends when `verify_act` refused it with `code`."""
    return _STATE_OF.get(code.code, "denied")


def verify_act(
    signed: Signed,
    *,
    roster: Roster,
    fleet: str,
    me: Member | None,
    proof: Proof | None,
    local_ms: int,
    time_judge: TimeJudge,
    boot_nonce: bytes | None,
    evaluate: Callable[[str], bool] | None,
    permit: Callable[[Envelope], object] | None = None,
    kept: bool = False,
) -> Envelope:
    """The envelope in `signed`, if it is to be done; its time is learned by `time_judge` then.

    :param me: this host; None at central, where targets, expression and boot nonce are not judged.
    :param proof: this host's path, when the targets are a root.
    :param evaluate: whether a target expression matches this host by what it knows of itself.
    :param kept: it is a schedule that this host took in its time: not when it was to arrive is judged, but how long it
        holds. All else is judged anew, by the roster of now.
    :param permit: raises where rules or veto say no; None at central, which asks once it knows all hosts.
    :raises StarAgentError: the first check that failed; `terminal_state` of its code is how the target ends.
    """
    if me is not None and boot_nonce is None:
        raise ValueError("a host has a boot nonce")
    envelope = open_signed(signed)
    if envelope.fleet != fleet or roster.fleet != fleet:
        raise codes.ENVELOPE_OTHER_FLEET.error()
    _check_signer(envelope, signed.key, roster)
    if envelope.roster > roster.revision:
        raise codes.ROSTER_BEHIND.error(f"signed under revision {envelope.roster}, {roster.revision} is known")
    # A host with a wrong clock cannot judge the roster's age by it either; what is bound to its boot reaches it all the
    # same, and is judged by what operators have signed. What is kept is not bound: it outlives the boot.
    bound = envelope.boot_nonce is not None and me is not None and not kept
    now = max(envelope.issued, time_judge.highest_ms) if bound else time_judge.now(local_ms)
    if now >= roster.valid_until:
        raise codes.ROSTER_EXPIRED.error(f"revision {roster.revision}")
    if kept and isinstance(envelope.act, Schedule):
        time_judge.check_kept(envelope.act.until_ms, local_ms)
    else:
        time_judge.check(envelope, local_ms, boot_nonce=boot_nonce if me is not None else None)
    if me is not None:
        _check_membership(envelope, me, proof, evaluate)
    if permit is not None:
        permit(envelope)
    time_judge.learn(envelope)
    return envelope


def _check_signer(envelope: Envelope, key: bytes, roster: Roster) -> None:
    signer = roster.operator_by_key(key)
    if signer is None or signer.name != envelope.operator:
        raise codes.SIGNER_UNKNOWN.error(envelope.operator)
    role = missing_role(envelope.act, signer.roles)
    if role:
        raise codes.SIGNER_ROLE.error(f"{signer.name} is not {role}")


def _check_membership(
    envelope: Envelope, me: Member, proof: Proof | None, evaluate: Callable[[str], bool] | None
) -> None:
    if isinstance(envelope.act, _NOT_FOR_HOSTS):
        raise codes.ENVELOPE_NOT_FOR_HOSTS.error()
    targets = envelope.targets
    if targets is None:
        # Only a Cancel may come without targets: it names one job, and reaches whoever runs that job.
        return
    if isinstance(targets, TargetList):
        if me not in targets.members:
            raise codes.ENVELOPE_NOT_MEMBER.error()
    elif proof is None or not verify(me, proof, targets.root, targets.count):
        raise codes.ENVELOPE_NOT_MEMBER.error("no path" if proof is None else "the path does not hold")
    if evaluate is not None and not evaluate(targets.expression):
        raise codes.ENVELOPE_EXPRESSION.error()
