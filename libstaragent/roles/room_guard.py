"""A room's part in guarding identities that two machines may have: whom it lets in, and who gets a job. Pure.

What central decided comes as `HostGuard` (`guards` draws its states). Besides, a room waits by itself: where a new
process says HELLO while another one's connection still stands, the other machine may be alive, and what was sent to it
must not run a second time here. So the newcomer gets nothing for TRIAL_SECONDS, in which a living other comes back
(it was sent away for one) and central hears of both. A connection that only stood half open costs its host that wait.

Not here: links and orders (`room`). Rules: a room that starts knows nothing and is told all guards before any order.
"""

from __future__ import annotations

__all__ = ("QUARANTINE_RETRY_MS", "TRIAL_SECONDS", "RoomGuards", "barred")

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.model.result import failed_result
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t

# A quarantined holder knocks again after so long (and a little, for jitter): it is how soon a resolution takes effect.
QUARANTINE_RETRY_MS = 5_000
# One that is refused for good comes back after this long, in case that was a mistake.
SUPERSEDED_RETRY_MS = 60_000
# A connection that was replaced comes back within DROPPED_RETRY_MS and the first backoff, together 1.5 s, and a TLS
# handshake on a busy machine.
TRIAL_SECONDS = 5.0

_REFUSED = {"quarantined": codes.HOST_QUARANTINED, "replaced": codes.HOST_REPLACED}


class RoomGuards:
    """See the module."""

    def __init__(self) -> None:
        self._guards: dict[str, t.HostGuard] = {}

    def take(self, guard: t.HostGuard) -> None:
        """Central's word."""
        if guard.state == "free":
            self._guards.pop(guard.agent, None)
        else:
            self._guards[guard.agent] = guard

    def barred(self, agent: str) -> bool:
        """Whether this agent gets no job, whoever of its holders is there."""
        guard = self._guards.get(agent)
        return guard is not None and guard.state in _REFUSED

    def refusal(self, agent: str, nonce: bytes, issued_s: int) -> tuple[StarAgentError, int] | None:
        """Why this holder is not let in, and after how many ms it may ask again; None where it is."""
        guard = self._guards.get(agent)
        if guard is None:
            return None
        code = _REFUSED.get(guard.state)
        if code is not None:
            return code.error(), QUARANTINE_RETRY_MS if guard.state == "quarantined" else SUPERSEDED_RETRY_MS
        if issued_s >= guard.issued_after_s or (guard.state == "renewing" and nonce == guard.keep):
            return None
        return codes.IDENTITY_SUPERSEDED.error(), SUPERSEDED_RETRY_MS

    def must_renew(self, agent: str, issued_s: int) -> bool:
        """Whether this agent, which was let in, is to renew its certificate at once."""
        guard = self._guards.get(agent)
        return guard is not None and guard.state == "renewing" and issued_s < guard.issued_after_s

    @staticmethod
    def seen(agent: str, room: str, hello: m.Hello, issued_s: int, now_ms: int) -> t.HolderSeen:
        """What central is told of a holder that was not let in."""
        return t.HolderSeen(
            agent=agent,
            room=room,
            boot_nonce=hello.boot_nonce,
            connects=hello.connects,
            hostname=hello.hostname,
            addresses=hello.addresses,
            issued_s=issued_s,
            at_ms=now_ms,
        )


def barred(agent: str, job: str) -> t.TargetEnded:
    """Nothing ran there: the agent's identity is in doubt."""
    return t.TargetEnded(agent, failed_result(job, "unreachable", codes.HOST_QUARANTINED.code))
