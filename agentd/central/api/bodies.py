"""How many bytes of requests' bodies central gathers at once.

Who sends a body in pieces may be anybody, and slow: its bytes lie here until it is whole. So all of them together have
a limit, those of people who are not known yet a smaller one, and so has each body of theirs.

Not here: reading (`call`). Rules: a body that comes whole with its head is decoded at once and counts nothing.
"""

from __future__ import annotations

__all__ = ("MAX_GATHERED", "MAX_STRANGERS_BODY", "MAX_STRANGERS_GATHERED", "Bodies")

from libstaragent import codes

# Eight of the largest submissions; what is decoded from them is some times larger.
MAX_GATHERED = 128 * 1024 * 1024
# What is left is for those who may read, whatever strangers do.
MAX_STRANGERS_GATHERED = MAX_GATHERED // 2
# The largest envelope is 321 KiB of JSON; its hosts, if they travel beside it, are about 100 bytes each: 5,000.
MAX_STRANGERS_BODY = 512 * 1024


class Bodies:
    """What is gathered now, in bytes; `strangers` is the part of it whose senders are not known."""

    __slots__ = ("gathered", "strangers")

    def __init__(self) -> None:
        self.gathered = 0
        self.strangers = 0

    def take(self, size: int, *, known: bool) -> None:
        """So many bytes more.

        :raises ResourceShort: BODIES_FULL, they are too many.
        """
        if self.gathered + size > MAX_GATHERED or (not known and self.strangers + size > MAX_STRANGERS_GATHERED):
            raise codes.BODIES_FULL.error()
        self.gathered += size
        if not known:
            self.strangers += size

    def give_back(self, size: int, *, known: bool) -> None:
        """They are no longer held."""
        self.gathered -= size
        if not known:
            self.strangers -= size
