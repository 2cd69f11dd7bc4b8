"""This machine's clock beside central's, and envelopes for hosts whose clock is wrong.

An envelope carries the operator's time. With a clock that is off it is refused by central and by every host, each in
its own words; so what is known is said before anything is signed. Central's clock is not believed: where it is the one
that is wrong, nothing would be taken there either.

Not here: judging envelopes (`libstaragent.security.clock`). Rules: pure.
"""

from __future__ import annotations

__all__ = ("Clocks", "boot_of")

from collections.abc import Sequence

from libstaragent import codes
from libstaragent.model.api import HostView
from libstaragent.security.clock import MAX_SKEW_MS


class Clocks:
    """How far central's clock is from ours, as last seen."""

    def __init__(self) -> None:
        self.central_ahead_ms: int | None = None

    def seen(self, central_ms: int, *, sent_ms: int, now_ms: int) -> None:
        """Central told its time in an answer to what was sent at `sent_ms`; 0 where it tells none."""
        if central_ms:
            self.central_ahead_ms = central_ms - (sent_ms + now_ms) // 2

    def check(self) -> None:
        """Nothing, if what is signed now can be taken.

        :raises Conflict: CLOCKS_APART.
        """
        ahead_ms = self.central_ahead_ms
        if ahead_ms is not None and abs(ahead_ms) > MAX_SKEW_MS:
            where = "behind" if ahead_ms > 0 else "ahead of"
            raise codes.CLOCKS_APART.error(f"this machine is {abs(ahead_ms) / 1000:.0f} s {where} central")


def boot_of(hosts: Sequence[HostView]) -> bytes:
    """What binds an envelope to the present start of one host's agent, and not to clocks.

    :raises UsageError: ONE_BOOT_ONLY, it is not one host, or it is not connected.
    """
    if len(hosts) != 1:
        raise codes.ONE_BOOT_ONLY.error(f"{len(hosts)} hosts are meant")
    (host,) = hosts
    if host.state != "up" or not host.boot_nonce:
        raise codes.ONE_BOOT_ONLY.error(f"{host.name} is {host.state}")
    return bytes.fromhex(host.boot_nonce)
