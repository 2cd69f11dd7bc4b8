"""The seam between room and central. It promises what NATS JetStream promises, and no more.

- A published batch is delivered at least once, to the one handler of its subject, and again until it is acknowledged.
- Batches of one subject arrive in the order in which they were published, but for those delivered again.
- `publish_lossy` may lose; it carries live output for views, and nothing else.

Subjects: ``orders.<room>`` central to a room, ``reports`` rooms to central; and lossy ``live`` rooms to central's
viewers, ``reads`` rooms to central's readers of spools, ``wants`` rooms to central, which answers on ``pieces.<room>``.
"""

from __future__ import annotations

__all__ = ("LIVE", "READS", "REPORTS", "WANTS", "Bus", "Delivery", "orders_subject", "pieces_subject")

from collections.abc import Callable, Sequence
from typing import Any, Protocol

REPORTS = "reports"
LIVE = "live"
READS = "reads"
WANTS = "wants"


def orders_subject(room: str) -> str:
    """Where a room reads its orders."""
    return f"orders.{room}"


def pieces_subject(room: str) -> str:
    """Where a room gets pieces of files."""
    return f"pieces.{room}"


class Delivery(Protocol):
    """One batch, handed to a handler."""

    @property
    def batch(self) -> Sequence[Any]:
        """The values, as they were published."""
        ...

    def acknowledge(self) -> None:
        """What came of the batch is durable: never deliver it again."""
        ...

    def refuse(self) -> None:
        """It could not be made durable now: deliver it again."""
        ...


class Bus(Protocol):
    """See the module."""

    def publish(self, subject: str, batch: Sequence[Any], *, size: int = 0) -> None:
        """Hand over a batch, of about `size` bytes; it will be delivered."""
        ...

    def publish_lossy(self, subject: str, batch: Sequence[Any]) -> None:
        """Hand over a batch that may be lost."""
        ...

    def subscribe(self, subject: str, handler: Callable[[Delivery], None]) -> None:
        """Take the deliveries of a subject. The handler acknowledges or refuses each, at once or later."""
        ...

    def subscribe_lossy(self, subject: str, handler: Callable[[Sequence[Any]], None]) -> None:
        """Take what comes of a lossy subject."""
        ...

    def unacknowledged(self, subject: str) -> int:
        """Values published and not yet acknowledged: a publisher that sees too many stops reading from its sources."""
        ...

    def unacknowledged_bytes(self, subject: str) -> int:
        """What they hold, as far as their publishers said."""
        ...
