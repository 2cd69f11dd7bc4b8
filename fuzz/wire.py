"""Fuzzed: frames against a naive splitter, messages of both sides, and envelopes whose signature holds.

An envelope's payload is altered and then signed again: a parser behind a signature is only reached by who has a key,
and an operator may be hostile to a host.
"""

from __future__ import annotations

__all__ = ("envelope", "frames", "messages")

from random import Random

import msgspec

from fuzz.mutate import bytes_like
from libstaragent.errors import StarAgentError
from libstaragent.model.result import TargetResult
from libstaragent.protocol import messages as m
from libstaragent.protocol.frames import CONTROL, DATA, FrameDecoder, encode_frame
from libstaragent.protocol.limits import FRAME_MAX
from libstaragent.security.acts import Cancel, Envelope, Exec, IssueToken, Member, ResolveClone, TargetList, TargetRoot
from libstaragent.security.envelope import DOMAIN, open_signed, read_unverified, sign
from libstaragent.security.signed import Signed
from libstaragent.security.signing import public_key, sign_bytes

_NOW_MS = 1_700_000_000_000
_ULID = "01HF7YAT31JZSM4E5Z4QFZ2A7B"
_SEED = b"s" * 32
_KEY = public_key(_SEED)
_deterministic = msgspec.msgpack.Encoder(order="deterministic").encode


def _envelopes() -> list[bytes]:
    member = Member(_ULID, "web01", "main")
    listed = TargetList("web01", (member,))
    acts = [
        (Exec(argv=("uname", "-a"), env={"A": "b"}, stdin=b"x" * 20), listed),
        (Exec(argv=("/bin/sh", "-c", "true"), shell=True, user="root", cwd="/", umask=0o22), listed),
        (Exec(argv=("true",), signed=True), TargetRoot("web*", 20, bytes(32))),
        (Cancel(_ULID), None),
        (IssueToken("main", 5, 1000, "web*", ("10.0.0.0/8",), {"role": "x"}), None),
        (ResolveClone(_ULID, b"n" * 16), None),
    ]
    return [
        sign(
            Envelope(
                id=_ULID,
                fleet="0" * 64,
                operator="kim",
                act=act,
                targets=targets,
                issued=_NOW_MS,
                not_before=_NOW_MS,
                expires=_NOW_MS + 60_000,
                roster=1,
            ),
            _SEED,
        ).payload
        for act, targets in acts
    ]


def _messages() -> list[m.AgentMessage | m.RoomMessage]:
    signed = Signed(b"payload", bytes(32), bytes(64))
    result = TargetResult(job=_ULID, state="ok", exit_status=0, stdout_sha256=bytes(32), signature=bytes(64))
    return [
        m.Hello(
            protocol_min=1,
            protocol_max=1,
            features=("a",),
            version="1",
            agent=_ULID,
            boot_nonce=bytes(16),
            connects=1,
            clock_ms=_NOW_MS,
            roster=1,
            hostname="web01",
            addresses=("10.0.0.1",),
            facts={"os": "linux"},
        ),
        m.Accepted(_ULID),
        m.Started(_ULID, _NOW_MS),
        m.Result(result),
        m.Dropped(_ULID, 7),
        m.RenewRequest(b"csr"),
        m.Run(_ULID, signed, None, 3),
        m.CancelRun(signed),
        m.Rosters((signed, signed)),
        m.Credit(1, 65_536),
        m.Settled((_ULID,)),
        m.GoAway("SA-4201", 1000),
    ]


_PAYLOADS = _envelopes()
_BODIES = [m.encode_message(message) for message in _messages()]
_STREAMS = [
    b"".join(encode_frame(CONTROL, 0, body) for body in _BODIES),
    encode_frame(DATA, 5, bytes(8) + b"output" * 10) + encode_frame(CONTROL, 0, _BODIES[0]),
    encode_frame(CONTROL, 0, b""),
]


def frames(random: Random) -> None:
    """Any bytes in any pieces: what comes out, and whether it ends with a code, is what a naive splitter says."""
    data = bytes_like(random, _STREAMS)
    decoder = FrameDecoder()
    found: list[tuple[int, int, bytes]] = []
    refused = False
    position = 0
    try:
        while position < len(data):
            step = random.choice((1, 3, 9, 100, 100_000))
            found += decoder.feed(data[position : position + step])
            position += step
    except StarAgentError:
        refused = True
    expected, malformed = _split(data)
    # A frame that came in one piece with a malformed one is not given any more.
    assert found == expected[: len(found)], "frames differ"
    assert refused == malformed, "one refuses what the other takes"
    if not refused:
        assert found == expected and decoder.pending <= FRAME_MAX + 4


def _split(data: bytes) -> tuple[list[tuple[int, int, bytes]], bool]:
    found: list[tuple[int, int, bytes]] = []
    while len(data) >= 9:
        length = int.from_bytes(data[:4], "big")
        if length > FRAME_MAX or length < 5 or data[4] not in (CONTROL, DATA):
            return found, True
        if len(data) < 4 + length:
            break
        found.append((data[4], int.from_bytes(data[5:9], "big"), data[9 : 4 + length]))
        data = data[4 + length :]
    return found, False


def messages(random: Random) -> None:
    """Any body: a message that is written as it was read, or a code."""
    body = bytes_like(random, _BODIES)
    for decode in (m.decode_agent_message, m.decode_room_message):
        try:
            message = decode(body)
        except StarAgentError:
            continue
        assert decode(m.encode_message(message)) == message, "it does not survive its own encoding"


def envelope(random: Random) -> None:
    """Any payload that its signer's key holds for: an envelope whose canonical form it is, or a code."""
    payload = bytes_like(random, _PAYLOADS)
    signature = sign_bytes(DOMAIN, payload, _SEED) if random.random() < 0.95 else random.randbytes(64)
    signed = Signed(payload, _KEY, signature)
    try:
        read_unverified(signed)
    except StarAgentError:
        pass
    try:
        opened = open_signed(signed)
    except StarAgentError:
        return
    assert _deterministic(opened) == payload, "not the canonical form"
    assert open_signed(sign(opened, _SEED)) == opened, "what was opened cannot be signed"
