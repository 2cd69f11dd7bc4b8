"""Every cap of the agent wire, each with its reason. Both ends refuse what exceeds them before they allocate for it."""

from __future__ import annotations

__all__ = (
    "CREDIT_INITIAL",
    "DATA_CHUNK",
    "FEATURES",
    "FRAME_HEADER",
    "FRAME_MAX",
    "HEARTBEAT_DEFAULT_MS",
    "HEARTBEAT_MISSES",
    "HELLO_TIMEOUT",
    "OUTGOING_MAX",
    "PROTOCOL_MAX",
    "PROTOCOL_MIN",
    "STREAMS_MAX",
)

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1

# Names of optional behaviour; both sides use only what both named.
FEATURES: tuple[str, ...] = ()

# u32 length of what follows it: type (1), stream (4), body.
FRAME_HEADER = 9

# A whole result (64 KiB head, 128 KiB tail, its fields) fits in one frame, so that it is never half received; one
# hostile peer costs at most this much before it is refused.
FRAME_MAX = 256 * 1024

# Live output is cut in pieces this small so that a control frame never waits behind more than one of them.
DATA_CHUNK = 16 * 1024

# What an agent may send on a stream before the room grants more: a screenful of fast output, no more than a room can
# hold for thousands of watched targets.
CREDIT_INITIAL = 64 * 1024

# Watched targets on one connection. A host runs tens of commands at once, not thousands.
STREAMS_MAX = 1024

# What a sender queues for a peer that does not read: results of every running command, then the connection is cut (the
# journal has them, the next connection resends).
OUTGOING_MAX = 16 * 1024 * 1024

# A peer that has connected must say HELLO in this many seconds.
HELLO_TIMEOUT = 10.0

# Set by the room in WELCOME. NAT tables commonly forget an idle flow after 30 s or more.
HEARTBEAT_DEFAULT_MS = 15_000

# Silence of so many intervals means that the peer is gone; one lost packet is repaired by TCP well within.
HEARTBEAT_MISSES = 3
