"""How an agent picks the address of its room."""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from typing import Any

from agentd.agent.room_link import RoomLink


def test_each_address_of_the_rooms_name_gets_its_turn() -> None:
    def two_listeners(host: str, port: int, **wanted: Any) -> list[Any]:
        assert (host, port, wanted) == ("room.example", 7444, {"type": socket.SOCK_STREAM})
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", listener.getsockname()) for listener in (first, second)]

    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        reached: list[Any] = []
        for turn in range(3):
            link = RoomLink(
                "room.example:7444",
                ssl.create_default_context(),
                now=time.monotonic(),
                turn=turn,
                resolve=two_listeners,
            )
            with socket.socket(fileno=os.dup(link.descriptor)) as same:
                assert select.select([], [same], [], 20)[1]
                reached.append(same.getpeername())
            link.close()
        assert reached == [first.getsockname(), second.getsockname(), first.getsockname()]
