"""One agent–room connection without its socket: bytes in, messages out; messages in, bytes out.

Both ends use this class; `side` says which. The conversation is a table: which message may come in which state, and
where it leads. An illegal one raises MESSAGE_UNEXPECTED naming message, side and state: from the other side it ends the
connection, from our own it is a bug.

    agent  opening ─Hello→ waiting ─Welcome→ open ─GoAway|Bye→ closed
                              └────Refuse──────────────────────↗

Live output goes through credits: a sender has CREDIT_INITIAL bytes a stream and what the room grants; more is
refused on arrival. Control frames leave before queued data, so a cancel never waits behind a flood. What is queued
is bounded by OUTGOING_MAX; beyond it the peer does not read, and the connection is of no more use (PEER_SLOW).

Both ends watch the heartbeat: `alive(now)` is False after HEARTBEAT_MISSES intervals without a byte from the other
side.
"""

from __future__ import annotations

__all__ = ("AGENT", "ROOM", "Connection", "framed")

from collections import deque
from struct import Struct as _Layout
from typing import Final

from libstaragent import codes
from libstaragent.protocol import messages as m
from libstaragent.protocol.frames import CONTROL, DATA, FrameDecoder, encode_frame
from libstaragent.protocol.limits import (
    CREDIT_INITIAL,
    HEARTBEAT_DEFAULT_MS,
    HEARTBEAT_MISSES,
    HELLO_TIMEOUT,
    OUTGOING_MAX,
    STREAMS_MAX,
)

AGENT: Final = "agent"
ROOM: Final = "room"

_OFFSET = _Layout(">Q")

_FROM_AGENT: tuple[type, ...] = (
    m.Accepted,
    m.Started,
    m.Result,
    m.Dropped,
    m.RenewRequest,
    m.Pong,
    m.Firing,
    m.Want,
)
_FROM_ROOM: tuple[type, ...] = (
    m.Run,
    m.CancelRun,
    m.Watch,
    m.Credit,
    m.Settled,
    m.Rosters,
    m.Certificate,
    m.Ping,
    m.RenewNow,
    m.FiringKnown,
    m.Read,
    m.StopRead,
    m.Chunk,
)
# What opens a stream.
_STREAMING = (m.Run, m.Watch, m.Read)

# (state, speaker, message) → next state. Both ends walk the same table, each with what it says and what it hears.
_TABLE: dict[tuple[str, str, type], str] = {
    ("opening", AGENT, m.Hello): "waiting",
    ("waiting", ROOM, m.Welcome): "open",
    ("waiting", ROOM, m.Refuse): "closed",
    ("opening", ROOM, m.GoAway): "closed",
    ("waiting", ROOM, m.GoAway): "closed",
    ("open", ROOM, m.GoAway): "closed",
    ("opening", ROOM, m.Refuse): "closed",
    ("open", AGENT, m.Bye): "closed",
    ("waiting", AGENT, m.Bye): "closed",
    **{("open", AGENT, message): "open" for message in _FROM_AGENT},
    **{("open", ROOM, message): "open" for message in _FROM_ROOM},
}

# What leaves an open connection open is nearly everything that is ever said: known without a look into the table.
_STAYS_OPEN: dict[str, frozenset[type]] = {AGENT: frozenset(_FROM_AGENT), ROOM: frozenset(_FROM_ROOM)}


def framed(message: m.AgentMessage | m.RoomMessage) -> bytes:
    """A message as it travels. Raises FRAME_TOO_LARGE."""
    return encode_frame(CONTROL, 0, m.encode_message(message))


class Connection:
    """See the module. Not thread-safe; `now` is monotonic seconds."""

    __slots__ = (
        "_control",
        "_credit_in",
        "_credit_out",
        "_data",
        "_decoder",
        "_heard_at",
        "_other",
        "_queued",
        "heartbeat_ms",
        "side",
        "state",
    )

    def __init__(self, side: str, *, now: float, heartbeat_ms: int = HEARTBEAT_DEFAULT_MS) -> None:
        self.side = side
        self._other = ROOM if side == AGENT else AGENT
        self.state = "opening"
        self.heartbeat_ms = heartbeat_ms
        self._decoder = FrameDecoder()
        self._heard_at = now
        self._control: deque[bytes] = deque()
        self._data: deque[bytes] = deque()
        self._queued = 0
        self._credit_in: dict[int, int] = {}
        self._credit_out: dict[int, int] = {}

    def receive(self, data: bytes, now: float) -> list[m.AgentMessage | m.RoomMessage | m.LiveOutput]:
        """What the bytes say. Raises a coded ProtocolError or ResourceShort; close the connection then."""
        self._heard_at = now
        heard: list[m.AgentMessage | m.RoomMessage | m.LiveOutput] = []
        decode = m.decode_agent_message if self.side == ROOM else m.decode_room_message
        stays_open = _STAYS_OPEN[self._other]
        for kind, stream, body in self._decoder.feed(data):
            if kind == CONTROL:
                message = decode(body)
                if self.state != "open" or type(message) not in stays_open:
                    self._step(self._other, message)
                if self.side == ROOM:
                    heard.append(message)
                    continue
                if type(message) is m.Welcome:
                    self.heartbeat_ms = message.heartbeat_ms
                elif type(message) is m.Credit:
                    # Of a stream that was closed a moment ago it is late, and must not open it again.
                    if message.stream in self._credit_out:
                        self._credit_out[message.stream] += message.count
                    continue
                elif isinstance(message, _STREAMING):
                    self._open_stream(message.stream, self._credit_out)
                heard.append(message)
            else:
                heard.append(self._live_output(stream, body))
        return heard

    def send(self, message: m.AgentMessage | m.RoomMessage, frame: bytes | None = None) -> None:
        """Queue a message ahead of all data; `frame` is it in bytes, where many connections are told the same. Raises
        MESSAGE_UNEXPECTED, FRAME_TOO_LARGE, PEER_SLOW.
        """
        if self.state != "open" or type(message) not in _STAYS_OPEN[self.side]:
            self._step(self.side, message)
        if self.side == ROOM:
            if isinstance(message, _STREAMING):
                self._open_stream(message.stream, self._credit_in)
            elif type(message) is m.Credit and message.stream in self._credit_in:
                self._credit_in[message.stream] += message.count
        self._queue(self._control, framed(message) if frame is None else frame)

    def credit(self, stream: int) -> int:
        """How many bytes of record data may be sent on `stream` now."""
        return self._credit_out.get(stream, 0)

    def send_live(self, stream: int, offset: int, data: bytes) -> None:
        """Queue live output; the caller has cut it to at most DATA_CHUNK bytes and to `credit`. Raises
        STREAM_OVERRUN.
        """
        left = self._credit_out.get(stream, 0) - len(data)
        if left < 0 or self.state != "open":
            raise codes.STREAM_OVERRUN.error(f"stream {stream}: {-left} bytes over its credit")
        self._credit_out[stream] = left
        self._queue(self._data, encode_frame(DATA, stream, _OFFSET.pack(offset) + data))

    def close_stream(self, stream: int) -> None:
        """Forget a stream's credit; its run has ended."""
        self._credit_in.pop(stream, None)
        self._credit_out.pop(stream, None)

    @property
    def unfinished(self) -> int:
        """Bytes of a frame that has not come whole."""
        return self._decoder.pending

    @property
    def queued(self) -> int:
        """Bytes that wait to be sent."""
        return self._queued

    def take(self, limit: int = 1 << 30) -> bytes:
        """The next bytes to send: whole frames, control first, until `limit` is reached or passed."""
        if not self._queued:
            return b""
        parts: list[bytes] = []
        size = 0
        for lane in (self._control, self._data):
            while lane and size < limit:
                frame = lane.popleft()
                parts.append(frame)
                size += len(frame)
        self._queued -= size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def alive(self, now: float) -> bool:
        """Whether the other side was heard recently enough."""
        return now - self._heard_at <= self.silence_allowed

    @property
    def silence_allowed(self) -> float:
        """Seconds without a byte after which the other side counts as gone."""
        if self.state == "opening" and self.side == ROOM:
            return HELLO_TIMEOUT
        return self.heartbeat_ms * HEARTBEAT_MISSES / 1000

    @property
    def heard_at(self) -> float:
        """When the other side was last heard."""
        return self._heard_at

    def _step(self, speaker: str, message: object) -> None:
        following = _TABLE.get((self.state, speaker, type(message)))
        if following is None:
            raise codes.MESSAGE_UNEXPECTED.error(f"{type(message).__name__} from the {speaker} while {self.state}")
        self.state = following

    def _open_stream(self, stream: int, credits: dict[int, int]) -> None:
        if stream and stream not in credits:
            if len(credits) >= STREAMS_MAX:
                raise codes.STREAM_OVERRUN.error(f"more than {STREAMS_MAX} streams")
            credits[stream] = CREDIT_INITIAL

    def _live_output(self, stream: int, body: bytes) -> m.LiveOutput:
        if self.side != ROOM or self.state != "open":
            raise codes.MESSAGE_UNEXPECTED.error(f"live output from the {self._other} while {self.state}")
        size = len(body) - _OFFSET.size
        if size < 0:
            raise codes.FRAME_MALFORMED.error("live output without its offset")
        left = self._credit_in.get(stream)
        if left is not None:
            if left < size:
                raise codes.STREAM_OVERRUN.error(f"stream {stream}: {size - left} bytes over its credit")
            self._credit_in[stream] = left - size
        # A stream closed by us a moment ago may still carry what was under way: it is heard, and dropped by the core.
        return m.LiveOutput(stream, _OFFSET.unpack_from(body)[0], body[_OFFSET.size :])

    def _queue(self, lane: deque[bytes], frame: bytes) -> None:
        queued = self._queued + len(frame)
        if queued > OUTGOING_MAX:
            raise codes.PEER_SLOW.error(f"{queued} bytes would wait, {OUTGOING_MAX} allowed")
        self._queued = queued
        lane.append(frame)
