"""Error codes of the room (SA-3???), in the order of their numbers.

What a code is: `libstaragent.errors`.
"""

from __future__ import annotations

from libstaragent.errors import Code

HOST_UNREACHABLE = Code(
    "SA-3401",
    "host_unreachable",
    "the host was not connected before the job expired; nothing ran",
    "See why with `opsconsole hosts`; give the job a longer --ttl to wait for hosts that come back.",
    owner="host owner",
    retryable=True,
)
HOST_LOST = Code(
    "SA-3402",
    "host_lost",
    "the job was sent to the host, and no result came back by the deadline; it may have run",
    "The result is added when the host comes back; look at the host before you repeat the command.",
    owner="host owner",
)
ROOM_STOPPING = Code(
    "SA-3501",
    "room_stopping",
    "the room is stopping; its agents come back by themselves",
    "Nothing to do when it was meant; else look at the room's log.",
    owner="platform",
    scope="room",
    retryable=True,
)
