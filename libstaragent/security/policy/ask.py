"""What an act asks for, in the terms that rules are written in. Values only.

Not here: whether it gets it (`decision`). Rules: pure; each field of an act that a rule can bound is here, so that an
act which gets a new field has one place where it must be thought of.
"""

from __future__ import annotations

__all__ = ("MANAGING", "Ask", "asked", "asked_of")

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from libstaragent.security.acts import (
    Act,
    Cancel,
    Envelope,
    Exec,
    Fetch,
    Pause,
    PauseSchedule,
    Put,
    ReadSpool,
    Resume,
    Schedule,
    TargetRoot,
    Unschedule,
    act_name,
)
from libstaragent.security.policy.model import OWN_USER

# Acts on what somebody has begun: its owner may, and who has the right `manage`.
MANAGING = (Cancel, Pause, Resume, ReadSpool, Unschedule, PauseSchedule)

_SET_ID = 0o6000


class Ask(Struct, frozen=True, kw_only=True):
    """See the module. `right` is what a rule must name; empty for an act that rules are not about."""

    act: str
    right: Literal["run", "shell", "put", "fetch", "manage", ""]
    schedule: bool = False
    argv: tuple[str, ...] = ()
    path: str = ""
    users: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    stdin: bool = False
    cwd: str | None = None
    set_id: bool = False
    targets: int = 1
    window: int = 1
    waves: bool = False
    timeout_ms: int = 0
    output: int = 0
    spool: int = 0
    file: int = 0
    life_ms: int = 0


def asked(envelope: Envelope) -> Ask:
    """What the act of `envelope` asks for."""
    count = 1
    if envelope.targets is not None:
        targets = envelope.targets
        count = targets.count if isinstance(targets, TargetRoot) else len(targets.members)
    plan = envelope.plan
    waves = plan is not None and plan.confirm and len(plan.waves) > 1
    window = count
    if plan is not None:
        # A wave is begun on as a whole unless the plan says less.
        largest = max((b - a for a, b in zip((0, *plan.waves), plan.waves, strict=False)), default=count)
        window = min(largest, plan.window or largest)
    return _asked(envelope.act, issued=envelope.issued, count=count, window=window, waves=waves)


def _asked(act: Act, *, issued: int, count: int, window: int, waves: bool) -> Ask:
    match act:
        case Exec():
            return Ask(
                act=act_name(act),
                right="shell" if act.shell else "run",
                argv=act.argv,
                users=(act.user or OWN_USER,),
                env=tuple(act.env),
                stdin=bool(act.stdin),
                cwd=act.cwd,
                targets=count,
                window=window,
                waves=waves,
                timeout_ms=act.timeout_ms,
                output=act.output_head + act.output_tail,
                spool=act.output_spool,
            )
        case Schedule():
            inner = _asked(act.run, issued=issued, count=count, window=window, waves=waves)
            return Ask(
                act=act_name(act),
                right=inner.right,
                schedule=True,
                argv=inner.argv,
                users=inner.users,
                env=inner.env,
                stdin=inner.stdin,
                cwd=inner.cwd,
                targets=count,
                window=window,
                waves=waves,
                timeout_ms=inner.timeout_ms,
                output=inner.output,
                spool=inner.spool,
                life_ms=max(0, act.until_ms - issued),
            )
        case Put():
            # Whose the file becomes is as whom, too: a file of root's is not for everybody to make.
            users = dict.fromkeys((act.user or OWN_USER, act.owner or act.user or OWN_USER))
            return Ask(
                act=act_name(act),
                right="put",
                path=act.path,
                users=tuple(users),
                set_id=bool((act.mode or 0) & _SET_ID),
                targets=count,
                window=window,
                waves=waves,
                timeout_ms=act.timeout_ms,
                file=act.size,
            )
        case Fetch():
            return Ask(
                act=act_name(act),
                right="fetch",
                path=act.path,
                users=(act.user or OWN_USER,),
                targets=count,
                window=window,
                waves=waves,
                timeout_ms=act.timeout_ms,
                file=act.max_bytes,
            )
        case Cancel() | Pause() | Resume() | ReadSpool() | Unschedule() | PauseSchedule():
            return Ask(act=act_name(act), right="manage", targets=count, window=window)
        case _:
            return Ask(act=act_name(act), right="")


def asked_of(act: Act, *, count: int, window: int | None = None, scheduled: bool = False) -> Ask:
    """What `act` asks for on `count` hosts, at most `window` at once, kept as a schedule if `scheduled`."""
    found = _asked(act, issued=0, count=count, window=min(window or count, count), waves=False)
    return replace(found, schedule=True) if scheduled else found
