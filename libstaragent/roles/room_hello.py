"""Whether a room takes an agent that says HELLO. Pure; a part of the room's core.

Not here: how many at once (`admission`), two machines with one identity (`guards`). Rules: who the agent is stands in
its certificate; what it says of itself must agree.
"""

from __future__ import annotations

__all__ = ("agreed_protocol",)

from libstaragent import codes
from libstaragent.protocol import messages as m
from libstaragent.protocol.limits import PROTOCOL_MAX, PROTOCOL_MIN


def agreed_protocol(hello: m.Hello, *, agent: str, revoked: frozenset[str]) -> int:
    """The version that both speak; `agent` is the one of the certificate, `revoked` those that the roster put out.

    :raises StarAgentError: it is not taken.
    """
    if hello.agent != agent:
        raise codes.IDENTITY_MISMATCH.error(f"{hello.agent!r} with the certificate of {agent!r}")
    if agent in revoked:
        raise codes.HOST_REVOKED.error()
    protocol = min(hello.protocol_max, PROTOCOL_MAX)
    if protocol < max(hello.protocol_min, PROTOCOL_MIN):
        raise codes.VERSION_MISMATCH.error(
            f"agent speaks {hello.protocol_min} to {hello.protocol_max}, room {PROTOCOL_MIN} to {PROTOCOL_MAX}"
        )
    return protocol
