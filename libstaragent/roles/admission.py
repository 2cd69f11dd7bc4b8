"""Who may begin a handshake with a room now, before anything is known of it but its address. Pure.

    source's bucket ─has a token→ room's bucket ─has a token→ admitted; both pay

A source is an IPv4 address, or the /64 of an IPv6 address, which is what one customer is given. It may take half of the
room's rate: so one stranger cannot keep the others out, and a whole fleet behind one address (a NAT, a load balancer,
a bench on one machine) still comes back at ADMIT_RATE / 2, 15,000 hosts in 70 s, its first ADMIT_BURST at once.

Rules: who is turned away costs nothing and leaves nothing behind. A bucket that is full again is forgotten, and only
who was admitted has one, so there are never more than the room admits while one bucket fills: ADMIT_BURST +
ADMIT_RATE * ADMIT_BURST / SOURCE_RATE, 3,000.
"""

from __future__ import annotations

__all__ = ("ADMIT_BURST", "ADMIT_RATE", "SOURCE_BURST", "SOURCE_RATE", "Admission", "source_of")

from collections import OrderedDict
from ipaddress import AddressValueError, IPv6Address

# New connections a second, and at once: a mutual handshake costs 2 ms of a core, so a herd is taken as fast as it
# can be served and no faster; who is turned away comes back with full jitter.
ADMIT_RATE = 400.0
ADMIT_BURST = 1000.0
# Of one source. See the module.
SOURCE_RATE = ADMIT_RATE / 2
SOURCE_BURST = ADMIT_BURST
# After so many seconds without a connection a bucket is full, as if there were none.
SOURCE_KEPT = SOURCE_BURST / SOURCE_RATE


def source_of(address: str) -> str:
    """What `address` counts as: itself, or its IPv6 network."""
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address)
    except AddressValueError:
        return address
    return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))


class _Bucket:
    """Changed by what is paid only: one that is asked in vain is forgotten as if nobody had asked."""

    __slots__ = ("_burst", "_rate", "_tokens", "paid_at")

    def __init__(self, now: float, *, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self.paid_at = now

    def tokens(self, now: float) -> float:
        return min(self._burst, self._tokens + (now - self.paid_at) * self._rate)

    def pay(self, now: float) -> None:
        self._tokens = self.tokens(now) - 1
        self.paid_at = now


class Admission:
    """See the module. `now` is monotonic seconds.

    Attributes:
        turned_away: connections that were refused, for whichever reason.
        crowding: those of them that were refused because their own source had too many.
    """

    def __init__(self, *, now: float) -> None:
        self._room = _Bucket(now, rate=ADMIT_RATE, burst=ADMIT_BURST)
        # In the order in which they paid last.
        self._sources: OrderedDict[str, _Bucket] = OrderedDict()
        self.turned_away = 0
        self.crowding = 0

    def admit(self, address: str, now: float) -> bool:
        """Whether one more handshake may begin now, with whoever is at `address`."""
        self._forget(now)
        source = source_of(address)
        bucket = self._sources.get(source)
        if bucket is not None and bucket.tokens(now) < 1:
            self.turned_away += 1
            self.crowding += 1
            return False
        if self._room.tokens(now) < 1:
            self.turned_away += 1
            return False
        self._room.pay(now)
        if bucket is None:
            bucket = self._sources[source] = _Bucket(now, rate=SOURCE_RATE, burst=SOURCE_BURST)
        bucket.pay(now)
        self._sources.move_to_end(source)
        return True

    def __len__(self) -> int:
        """Sources that are remembered."""
        return len(self._sources)

    def _forget(self, now: float) -> None:
        while self._sources:
            source, bucket = next(iter(self._sources.items()))
            if now - bucket.paid_at < SOURCE_KEPT:
                return
            del self._sources[source]
