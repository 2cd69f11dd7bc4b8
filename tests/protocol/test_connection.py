"""The agent wire: any split of bytes gives the same messages, and nothing illegal passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.model.result import Output, TargetResult
from libstaragent.protocol import messages as m
from libstaragent.protocol.connection import AGENT, ROOM, Connection
from libstaragent.protocol.frames import CONTROL, FrameDecoder, encode_frame
from libstaragent.protocol.limits import CREDIT_INITIAL, FRAME_MAX
from libstaragent.security.signed import Signed

JOB = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
SIGNED = Signed(payload=b"p", key=b"k", signature=b"s")
HELLO = m.Hello(
    protocol_min=1,
    protocol_max=1,
    features=(),
    version="0",
    agent=JOB,
    boot_nonce=b"n",
    connects=1,
    clock_ms=1,
    roster=1,
    hostname="web01",
    addresses=("127.0.0.1",),
    facts={"os": "linux"},
)
WELCOME = m.Welcome(protocol=1, features=(), room="main", heartbeat_ms=1000, clock_ms=5)


def open_pair() -> tuple[Connection, Connection]:
    agent, room = Connection(AGENT, now=0), Connection(ROOM, now=0)
    agent.send(HELLO)
    assert room.receive(agent.take(), 0) == [HELLO]
    room.send(WELCOME)
    assert agent.receive(room.take(), 0) == [WELCOME]
    return agent, room


def code_of(error: pytest.ExceptionInfo[StarAgentError]) -> str:
    return error.value.code.symbol


AGENT_SAYS = [
    m.Accepted(JOB),
    m.Started(JOB, 12),
    m.Result(TargetResult(job=JOB, state="ok", exit_status=0, output=Output(b"head", 7, b"tail"))),
    m.Dropped(JOB, 9),
    m.RenewRequest(b"csr"),
    m.Pong(3),
]


@given(st.lists(st.integers(1, 40), min_size=1))
def test_any_split_of_the_bytes_gives_the_same_messages(sizes: list[int]) -> None:
    agent, room = open_pair()
    for message in AGENT_SAYS:
        agent.send(message)
    data, heard, position, turn = agent.take(), [], 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        heard += room.receive(data[position : position + size], 0)
        position, turn = position + size, turn + 1
    assert heard == AGENT_SAYS


@given(st.binary(max_size=400))
def test_garbage_gives_a_coded_error_or_nothing(data: bytes) -> None:
    room = Connection(ROOM, now=0)
    try:
        room.receive(data, 0)
    except StarAgentError as error:
        assert error.code.code.startswith("SA-4")


@given(st.binary(max_size=400))
def test_a_garbage_body_in_a_good_frame_gives_a_coded_error(body: bytes) -> None:
    room = Connection(ROOM, now=0)
    try:
        heard = room.receive(encode_frame(CONTROL, 0, body), 0)
    except StarAgentError as error:
        assert error.code in (codes.MESSAGE_MALFORMED, codes.MESSAGE_UNEXPECTED)
    else:
        assert len(heard) == 1


def test_a_frame_too_large_is_refused_when_its_header_is_there() -> None:
    decoder = FrameDecoder()
    with pytest.raises(StarAgentError) as error:
        decoder.feed((FRAME_MAX + 1).to_bytes(4, "big") + b"\1\0\0\0\0")
    assert code_of(error) == "frame_too_large"


def test_a_message_that_has_no_place_yet_is_refused() -> None:
    room = Connection(ROOM, now=0)
    with pytest.raises(StarAgentError) as error:
        room.receive(encode_frame(CONTROL, 0, m.encode_message(m.Accepted(JOB))), 0)
    assert code_of(error) == "message_unexpected"
    assert "Accepted from the agent while opening" in str(error.value)


def test_a_room_message_from_an_agent_is_malformed() -> None:
    room = Connection(ROOM, now=0)
    with pytest.raises(StarAgentError) as error:
        room.receive(encode_frame(CONTROL, 0, m.encode_message(WELCOME)), 0)
    assert code_of(error) == "message_malformed"


def test_control_overtakes_queued_output() -> None:
    agent, room = open_pair()
    room.send(m.Watch(JOB, 7))
    agent.receive(room.take(), 0)
    agent.send_live(7, 0, b"x" * 1000)
    agent.send(m.Pong(1))
    heard = room.receive(agent.take(), 0)
    assert [type(each) for each in heard] == [m.Pong, m.LiveOutput]


def test_output_beyond_its_credit_is_refused_on_both_ends() -> None:
    agent, room = open_pair()
    room.send(m.Watch(JOB, 7))
    agent.receive(room.take(), 0)
    agent.send_live(7, 0, b"x" * CREDIT_INITIAL)
    room.receive(agent.take(), 0)
    with pytest.raises(StarAgentError) as error:
        agent.send_live(7, CREDIT_INITIAL, b"y")
    assert code_of(error) == "stream_overrun"
    agent._credit_out[7] = 10  # a sender that does not keep to its credit
    agent.send_live(7, CREDIT_INITIAL, b"y")
    with pytest.raises(StarAgentError) as error:
        room.receive(agent.take(), 0)
    assert code_of(error) == "stream_overrun"


def test_granted_credit_lets_output_go_on() -> None:
    agent, room = open_pair()
    room.send(m.Watch(JOB, 7))
    agent.receive(room.take(), 0)
    agent.send_live(7, 0, b"x" * CREDIT_INITIAL)
    room.receive(agent.take(), 0)
    room.send(m.Credit(7, 50))
    agent.receive(room.take(), 0)
    assert agent.credit(7) == 50
    agent.send_live(7, CREDIT_INITIAL, b"y" * 50)
    assert room.receive(agent.take(), 0) == [m.LiveOutput(7, CREDIT_INITIAL, b"y" * 50)]


def test_the_heartbeat_of_the_welcome_decides_when_a_side_is_gone() -> None:
    agent, _ = open_pair()
    assert agent.heartbeat_ms == 1000
    assert agent.alive(3.0)
    assert not agent.alive(3.01)


def test_a_peer_that_does_not_read_is_cut_off() -> None:
    _, room = open_pair()
    message = m.Run(JOB, Signed(payload=b"x" * 200_000, key=b"", signature=b""), None, 0)
    with pytest.raises(StarAgentError) as error:
        for _ in range(1000):
            room.send(message)
    assert code_of(error) == "peer_slow"
