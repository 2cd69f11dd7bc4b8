"""What a hostile agent may say: every value that is kept, shown or stored is refused beyond its bounds, where it is
decoded. One result that the store cannot hold would otherwise undo the write of everybody's.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from libstaragent import codes
from libstaragent.errors import ProtocolError
from libstaragent.model.result import LeftRunning, Output, TargetResult
from libstaragent.protocol import messages as m

JOB = "01J0000000000000000000000A"
RESULT = TargetResult(job=JOB, state="ok")
HELLO = m.Hello(
    protocol_min=1,
    protocol_max=1,
    features=(),
    version="1",
    agent=JOB,
    boot_nonce=bytes(16),
    connects=1,
    clock_ms=1,
    roster=1,
    hostname="web01",
    addresses=("192.0.2.1",),
    facts={"os": "linux"},
)

RESULTS: dict[str, dict[str, Any]] = {
    "beyond a signed 64-bit column": {"started_ms": 1 << 63},
    "beyond a 32-bit column": {"exit_status": 1 << 31},
    "negative": {"stdout_bytes": -1},
    "a state that is no word": {"state": "x" * 33},
    "a code that is none": {"code": "x" * 33},
    "a long detail": {"detail": "x" * 1001},
    "a digest that is none": {"stdout_sha256": b"x"},
    "more processes than are named": {"left_running": (LeftRunning(1, "sh"),) * 65},
    "a process with a long name": {"left_running": (LeftRunning(1, "x" * 65),)},
    "output that leaves out less than nothing": {"output": Output(omitted=-1)},
}
HELLOS: dict[str, dict[str, Any]] = {
    "a time before all times": {"clock_ms": -(1 << 63)},
    "a revision beyond 64 bits": {"roster": (1 << 64) - 1},
    "a long host name": {"hostname": "x" * 256},
    "too many facts": {"facts": {f"fact{number}": "" for number in range(65)}},
    "a fact that is a file": {"facts": {"motd": "x" * 1025}},
    "a fact that passes for the column's own": {"facts": {"host addresses": "192.0.2.9"}},
    "too many addresses": {"addresses": ("192.0.2.1",) * 65},
}


def test_what_an_honest_agent_says_is_taken() -> None:
    for message in (m.Result(RESULT), HELLO):
        assert m.decode_agent_message(m.encode_message(message)) == message


@pytest.mark.parametrize("change", RESULTS.values(), ids=RESULTS)
def test_a_result_beyond_its_bounds_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as raised:
        m.decode_agent_message(m.encode_message(m.Result(msgspec.structs.replace(RESULT, **change))))
    assert raised.value.code is codes.MESSAGE_MALFORMED


@pytest.mark.parametrize("change", HELLOS.values(), ids=HELLOS)
def test_a_hello_beyond_its_bounds_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as raised:
        m.decode_agent_message(m.encode_message(msgspec.structs.replace(HELLO, **change)))
    assert raised.value.code is codes.MESSAGE_MALFORMED


@pytest.mark.parametrize(
    "message",
    [m.Started(JOB, 1 << 63), m.Dropped(JOB, -1), m.Pong(-1), m.RenewRequest(bytes(8 * 1024 + 1))],
    ids=lambda message: type(message).__name__,
)
def test_other_words_beyond_their_bounds_are_refused(message: Any) -> None:
    with pytest.raises(ProtocolError) as raised:
        m.decode_agent_message(m.encode_message(message))
    assert raised.value.code is codes.MESSAGE_MALFORMED
