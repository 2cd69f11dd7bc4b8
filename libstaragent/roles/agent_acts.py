"""Which of the verified acts a host can carry out, and which of them it answers for with its key. Pure; a part of the
agent's core.

Not here: whether it may (the verifier), doing it.
"""

from __future__ import annotations

__all__ = ("wants_signature",)

from libstaragent import codes
from libstaragent.roles.agent_effects import Verifier
from libstaragent.security.acts import SCHEDULE_ACTS, Envelope, Exec, Fetch, Put, ReadHeads, Schedule, act_name

_KNOWN = (Exec, Put, Fetch, ReadHeads, *SCHEDULE_ACTS)


def wants_signature(envelope: Envelope, verifier: Verifier, now_ms: int, *, can_sign: bool) -> bool:
    """Whether the result of the act is to be signed.

    :raises StarAgentError: ACT_UNSUPPORTED, or RESULT_KEY_MISSING where it is and the host has no key.
    """
    act = envelope.act.run if isinstance(envelope.act, Schedule) else envelope.act
    if not isinstance(act, _KNOWN):
        raise codes.ACT_UNSUPPORTED.error(act_name(act))
    # What a host witnesses is its own word or nothing.
    wanted = isinstance(act, ReadHeads) or (isinstance(act, Exec) and act.signed)
    sign = wanted or verifier.signs_results(envelope, now_ms)
    if sign and not can_sign and isinstance(act, Exec | Put | Fetch):
        raise codes.RESULT_KEY_MISSING.error()
    return sign
