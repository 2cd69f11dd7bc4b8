"""Time: whether an envelope is of now, on a host whose clock may be wrong and behind a control plane that may lie.

What is known. The local clock: usually right, sometimes off, sometimes 1970. The times in envelopes: an operator signed
them, so the control plane cannot make them up, but it can hold envelopes back and send them later. Nothing else: a time
from the room is the control plane's word, and is never used.

What follows.

- *Now* is the later of the local clock and the highest `issued` of any verified envelope (kept across restarts).
  Setting a host's clock back therefore does not bring an expired envelope back to life.
- An envelope issued long before now is normal (queued, or the host was away); `expires` bounds it and nothing else can.
- An envelope issued more than 30 s *ahead* of the local clock proves that the two clocks differ, whichever is wrong; so
  does a highest time more than 30 s ahead of the local clock. Both are refused as `clock_skew`: while they differ, now
  stands still at the highest time and would let an envelope that has really expired look alive.
- A local clock that runs ahead shows as `envelope_expired` of what was just signed; only the one who sent it can tell.
- `not_before` tolerates the same 30 s, because an envelope for at once begins at `issued` by the operator's clock.
- Whoever must reach a host with a wrong clock binds the envelope to the agent's boot nonce. Then the local clock is not
  asked: the nonce is new in each boot, so such an envelope is good for this boot only, and once, by its id.
- A seen id may be forgotten by the highest time alone (`may_forget`): a local clock that once ran ahead would forget
  ids whose envelopes are alive again when it is mended. What may be forgotten is never let in again, bound or not.
- Only from envelopes that passed by the clock is the highest time learned. So it is never more than 30 s ahead of a
  clock that this host once showed, and an operator's laptop in the year 2040 cannot lock a host out.

Not here: seen ids (the journal), persisting `highest_ms` (the agent, when `learn` says that it rose).
Rules: pure; times are milliseconds since the epoch.
"""

from __future__ import annotations

__all__ = ("KEEP_ID_MS", "MAX_SKEW_MS", "TimeJudge")

import hmac

from libstaragent import codes
from libstaragent.security.acts import Envelope

# NTP holds a clock within a second; half a minute covers a laptop that just woke up and still tells wrong from right.
MAX_SKEW_MS = 30_000
# How long an id is kept after its envelope has expired: a day more than any envelope can still be of use.
KEEP_ID_MS = 24 * 3_600_000


class TimeJudge:
    """Judges envelopes by their age; `highest_ms` is its only state and must survive a restart."""

    def __init__(self, highest_ms: int = 0) -> None:
        self.highest_ms = highest_ms

    def now(self, local_ms: int) -> int:
        """The latest time that is known to have come."""
        return max(local_ms, self.highest_ms)

    def check(self, envelope: Envelope, local_ms: int, *, boot_nonce: bytes | None = None) -> None:
        """Nothing, if `envelope` may start now. `boot_nonce` is the agent's own; central, which has none, passes None.

        :raises TimedOut: it has expired.
        :raises Denied: it may not start yet, the clocks differ, or it is bound to another boot.
        """
        if envelope.boot_nonce is not None and boot_nonce is not None:
            if not hmac.compare_digest(envelope.boot_nonce, boot_nonce):
                raise codes.ENVELOPE_WRONG_BOOT.error()
            if self.may_forget(envelope.expires):
                raise codes.ENVELOPE_EXPIRED.error("more than a day ago, by a later envelope's time")
            return
        ahead_ms = max(envelope.issued, self.highest_ms) - local_ms
        if ahead_ms > MAX_SKEW_MS:
            raise codes.ENVELOPE_CLOCK_SKEW.error(f"this host's clock is {ahead_ms / 1000:.0f} s behind")
        now = self.now(local_ms)
        if now >= envelope.expires:
            raise codes.ENVELOPE_EXPIRED.error(f"{(now - envelope.expires) / 1000:.0f} s ago")
        if envelope.not_before - now > MAX_SKEW_MS:
            raise codes.ENVELOPE_NOT_YET.error(f"in {(envelope.not_before - now) / 1000:.0f} s")

    def check_kept(self, until_ms: int, local_ms: int) -> None:
        """Nothing, if what was taken in its time, and holds until `until_ms`, may be done now.

        A clock that is set back does not lengthen it; one that is behind what operators signed since is not believed.

        :raises TimedOut: it is over.
        :raises Denied: the clocks differ.
        """
        behind_ms = self.highest_ms - local_ms
        if behind_ms > MAX_SKEW_MS:
            raise codes.ENVELOPE_CLOCK_SKEW.error(f"this host's clock is {behind_ms / 1000:.0f} s behind")
        if self.now(local_ms) >= until_ms:
            raise codes.ENVELOPE_EXPIRED.error(f"{(self.now(local_ms) - until_ms) / 1000:.0f} s ago")

    def may_forget(self, expires_ms: int) -> bool:
        """Whether the id of an envelope that expired at `expires_ms` may be forgotten: `check` refuses it for ever."""
        return self.highest_ms >= expires_ms + KEEP_ID_MS

    def learn(self, envelope: Envelope) -> bool:
        """Takes the time of a verified envelope; whether `highest_ms` rose and must be persisted."""
        if envelope.boot_nonce is not None or envelope.issued <= self.highest_ms:
            return False
        self.highest_ms = envelope.issued
        return True
