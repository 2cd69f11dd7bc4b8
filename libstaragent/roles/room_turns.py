"""How much a room puts on its connections in one turn. Pure.

An envelope may have 200 KiB, and a job ten thousand hosts: encoded for all of them at once that is two gigabytes, and
seconds in which nothing else happens. So in a turn orders of TURN_BYTES_MAX are put on links, whoever they are for;
the links behind them are held, and have their place in the next turn, once what came before has left.

It is no bound over all links together: those that do not read would use it up for the others. What one of them may
hold is `room.LINK_QUEUED_MAX`.
"""

from __future__ import annotations

__all__ = ("TURN_BYTES_MAX", "Turns")

from collections.abc import Iterator

from libstaragent.roles.room_state import Link

# Some hundredths of a second of encoding, encryption and writing; all of a usual job for thousands of hosts.
TURN_BYTES_MAX = 8 * 1024 * 1024
# What a path, a signature and the message around them add to an envelope.
ORDER_EXTRA = 1024


class Turns:
    """See the module."""

    def __init__(self) -> None:
        self._bytes = 0
        self._held: dict[Link, None] = {}

    @property
    def full(self) -> bool:
        """Whether no more is to be put on links in this turn."""
        return self._bytes >= TURN_BYTES_MAX

    def took(self, payload: bytes) -> None:
        """An order with this envelope was put on a link."""
        self._bytes += len(payload) + ORDER_EXTRA

    def hold(self, link: Link) -> None:
        """This link goes on in a later turn."""
        self._held[link] = None

    def drop(self, link: Link) -> None:
        """It is closed."""
        self._held.pop(link, None)

    def next(self) -> Iterator[Link]:
        """Begin a turn: the links that were held, as long as there is room in it."""
        self._bytes = 0
        while self._held and not self.full:
            link = next(iter(self._held))
            del self._held[link]
            yield link
