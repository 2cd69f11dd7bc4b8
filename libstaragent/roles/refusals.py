"""What a host refused, so that a no stays a no. Pure; a part of the agent's core.

A target that was refused has ended, everywhere. But what made the host refuse may pass: the roster that names the
signer arrives, a clock is mended, a place becomes free. The same order may still come again, through a room that forgot
or lies; so its id counts as seen, on disk, before the refusal is said, and until it cannot be of use any more. Where
the disk does not take the id, a next process of the agent may take the order: the refusal is said with `ran=maybe`.

So many ids are remembered, and of signers that the roster does not name fewer: whoever has the room can make keys and
sign orders without end, and an operator who may do nothing here can at least be refused. Beyond that an order is
refused and not remembered. Nothing is less safe then: it does not run now, and all is judged anew when it comes again;
but the no may not last, so it is said with `ran=maybe`, like one that the disk did not take. None that is remembered
makes place before its time.

Not here: writing it down (`libstaragent.roles.agent`). Rules: an id is taken from nothing but what its signer wrote: a
room must not be able to spend the id of an order that it has not got. Where the signature itself does not hold the
same bytes never will, and nothing is remembered. The number of words that are repeated is bounded; of one that is
forgotten its id is still known.
"""

from __future__ import annotations

__all__ = ("REFUSALS_MAX", "REFUSED_IDS_MAX", "STRANGERS_IDS_MAX", "Refusals", "refused_until")

from collections.abc import Callable

from msgspec.structs import replace

from libstaragent import codes
from libstaragent.errors import Code, StarAgentError
from libstaragent.model.result import TargetResult
from libstaragent.roles.agent_effects import Effect, Log
from libstaragent.security.act_limits import MAX_AHEAD_MS, MAX_WINDOW_MS
from libstaragent.security.envelope import read_unverified
from libstaragent.security.signed import Signed

# Refusals that are repeated until they are settled; of one that is forgotten, only its id is still known.
REFUSALS_MAX = 1024
# Refused ids that count as seen: some 2 MB of memory and 1 MB of journal. A host owner's veto that says no to a script
# once in ten seconds, for the day and more that an id must be known, fits.
REFUSED_IDS_MAX = 8192
# Those among them whose signer no roster names yet. Somebody's first orders may overtake the roster that names him;
# more of them than this are no accident.
STRANGERS_IDS_MAX = 256
# No envelope is of use longer than this after it was issued, whatever a stranger writes into his.
LONGEST_LIFE_MS = MAX_AHEAD_MS + MAX_WINDOW_MS

_NEVER = (
    codes.SIGNATURE_INVALID,
    codes.SIGNED_MALFORMED,
    codes.SIGNED_NOT_CANONICAL,
    codes.SIGNED_TOO_LARGE,
    codes.ENVELOPE_FIELD,
    codes.ENVELOPE_OTHER_FLEET,
)


class Refusals:
    """The words that are said again until they are settled, the oldest first to be forgotten, and how many ids are
    remembered. `sign` makes a result the host's own word.

    Attributes:
        passed_over: refusals that were not remembered since the start.
    """

    def __init__(self, sign: Callable[[TargetResult], TargetResult] = lambda result: result) -> None:
        self._sign = sign
        # The second is whether the disk has answered: before that nothing is said.
        self._kept: dict[str, tuple[TargetResult, bool]] = {}
        self._ids: set[str] = set()
        self._strangers: set[str] = set()
        self.passed_over = 0

    def __contains__(self, job: str) -> bool:
        return job in self._kept

    def has_place(self, code: str | None) -> bool:
        """Whether the id of one more order that is refused with `code` can be remembered."""
        stranger = code == codes.SIGNER_UNKNOWN.code
        return len(self._ids) < REFUSED_IDS_MAX and (not stranger or len(self._strangers) < STRANGERS_IDS_MAX)

    def pass_over(self, result: TargetResult, effects: list[Effect]) -> TargetResult:
        """What to say where there is no place; that there is none is logged."""
        self.passed_over += 1
        effects.append(Log(codes.REFUSALS_FULL, f"{self.passed_over} so far, this one for {result.code}"))
        return self._sign(replace(result, ran="maybe"))

    def add(self, result: TargetResult) -> None:
        """A refusal whose id is on its way to disk, or was found there."""
        self._ids.add(result.job)
        if result.code == codes.SIGNER_UNKNOWN.code:
            self._strangers.add(result.job)
        self._kept[result.job] = (result, False)
        if len(self._kept) > REFUSALS_MAX:
            del self._kept[next(iter(self._kept))]

    def written(self, job: str, *, durable: bool = True) -> None:
        """Its id is on disk, or could not be put there."""
        result, said = self._kept.get(job, (None, True))
        if result is not None and not said:
            self._kept[job] = (self._sign(result if durable else replace(result, ran="maybe")), True)

    def word(self, job: str) -> TargetResult | None:
        """What to say of `job`; None while its id is on its way to disk, and where nothing is kept."""
        result, written = self._kept.get(job, (None, False))
        return result if written else None

    def settled(self, job: str) -> None:
        """The store has it."""
        self._kept.pop(job, None)

    def forget(self, job: str) -> None:
        """Its id is of no use any more; nothing where it was none that was refused."""
        self._ids.discard(job)
        self._strangers.discard(job)


def refused_until(signed: Signed, job: str, code: Code, now_ms: int) -> int | None:
    """Until when (ms since the epoch) the id of an order that was refused with `code` must count as seen; None where
    the same bytes can never be an order of this id.
    """
    if code in _NEVER:
        return None
    try:
        envelope = read_unverified(signed)
    except StarAgentError:
        return None
    return min(envelope.expires, now_ms + LONGEST_LIFE_MS) if envelope.id == job else None
