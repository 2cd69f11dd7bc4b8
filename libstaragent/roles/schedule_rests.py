"""Whether a schedule rests on a host, from what was ordered and what was heard, in whatever order that comes. Pure.

    a pause ended `ok`      it rests, unless somebody has ordered it to go on since, or it went on later
    a resume was ordered    it may go on from now on, heard of or not
    a resume ended          `ok`: it went on then; lost: it may have; otherwise: it did not

Times are the host's own, so that the later of two acts is known whichever is heard of first.
"""

from __future__ import annotations

__all__ = ("Rests",)


class Rests:
    """One host's part. See the module."""

    __slots__ = ("_ordered", "_paused_ms", "_resumed_ms")

    def __init__(self) -> None:
        self._ordered: set[str] = set()
        self._paused_ms = -1
        self._resumed_ms = -1

    @property
    def since_ms(self) -> int | None:
        """Since when it rests, by the host's clock; None where it does not, or may not."""
        return self._paused_ms if not self._ordered and self._paused_ms > self._resumed_ms else None

    def resume_ordered(self, job: str) -> None:
        """The job that lets it go on is in the store."""
        self._ordered.add(job)

    def paused(self, at_ms: int) -> None:
        """A pause ended `ok`."""
        self._paused_ms = max(self._paused_ms, at_ms)

    def resume_ended(self, job: str, at_ms: int, *, done: bool, unknown: bool) -> None:
        """The job has an end here."""
        if unknown:
            return
        self._ordered.discard(job)
        if done:
            self._resumed_ms = max(self._resumed_ms, at_ms)
