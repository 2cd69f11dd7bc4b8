"""What a host says of itself: name, addresses, OS. Read once at start; stdlib only, and light."""

from __future__ import annotations

__all__ = ("addresses", "boot_id", "boot_nonce", "facts", "hostname")

import os
import socket
import sys
from pathlib import Path

KERNELS_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def hostname() -> str:
    """The host's own name, without its domain's case."""
    return socket.gethostname().lower()


def boot_nonce() -> bytes:
    """16 random bytes, new at each start of the agent; an envelope may be bound to them."""
    return os.urandom(16)


def boot_id(own: Path) -> str:
    """What tells this boot of the host from others. In a container the kernel's is the machine's: who starts it may
    write an id of its start to the file `own`. Empty where there is none, and then nothing runs at boot.
    """
    for path in (own, KERNELS_BOOT_ID):
        try:
            return path.read_text("ascii").strip()[:64]
        except (OSError, UnicodeDecodeError):
            continue
    return ""


def facts() -> dict[str, str]:
    """os, arch, kernel, python."""
    system = os.uname() if hasattr(os, "uname") else None
    return {
        "os": sys.platform,
        "arch": system.machine if system else "",
        "kernel": system.release if system else "",
        "python": "{}.{}.{}".format(*sys.version_info[:3]),
    }


def addresses(room_host: str) -> tuple[str, ...]:
    """The address from which this host reaches its room, and what its name resolves to.

    No packet is sent: connecting a datagram socket only makes the kernel choose a source.
    """
    found: list[str] = []
    try:
        for family, _, _, _, address in socket.getaddrinfo(room_host, 9, type=socket.SOCK_DGRAM):
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(address)
                found.append(probe.getsockname()[0])
    except OSError:
        pass
    return tuple(dict.fromkeys(found))
