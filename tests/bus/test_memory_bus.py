"""The bus inside one process keeps its promises when a handler fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentd.bus import Delivery
from agentd.bus.memory import UNHEARD_MAX, MemoryBus

WITHIN = 10.0


class Handler:
    """Fails for what `fails` says, acknowledges the rest, and lets a test wait for it."""

    def __init__(self, fails: Callable[[Any], bool], *, acknowledge_first: bool = False) -> None:
        self.seen: list[Any] = []
        self._fails = fails
        self._acknowledge_first = acknowledge_first
        self._news = asyncio.Event()

    def __call__(self, delivery: Delivery) -> None:
        (value,) = delivery.batch
        self.seen.append(value)
        self._news.set()
        if self._acknowledge_first:
            delivery.acknowledge()
        if self._fails(value):
            raise RuntimeError(f"no {value} today")
        delivery.acknowledge()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(WITHIN):
            while len(self.seen) < count:
                self._news.clear()
                await self._news.wait()


async def test_a_batch_whose_handler_failed_is_delivered_again(caplog: pytest.LogCaptureFixture) -> None:
    bus = MemoryBus(asyncio.get_running_loop())
    handler = Handler(lambda value: value == "bad" and handler.seen.count("bad") == 1)
    bus.subscribe("reports", handler)
    bus.publish("reports", ["bad"])
    bus.publish("reports", ["good"])
    await handler.until(3)
    assert handler.seen == ["bad", "good", "bad"]
    assert bus.unacknowledged("reports") == 0
    assert "no bad today" in caplog.text


async def test_a_batch_that_was_acknowledged_before_its_handler_failed_does_not_come_again() -> None:
    bus = MemoryBus(asyncio.get_running_loop())
    handler = Handler(lambda value: value == "bad", acknowledge_first=True)
    bus.subscribe("reports", handler)
    bus.publish("reports", ["bad"])
    bus.publish("reports", ["good"])
    await handler.until(2)
    assert handler.seen == ["bad", "good"]
    assert bus.unacknowledged("reports") == 0


async def test_of_what_nobody_ever_takes_the_newest_is_kept_and_comes_to_the_one_who_does() -> None:
    bus = MemoryBus(asyncio.get_running_loop())
    for number in range(UNHEARD_MAX + 7):
        bus.publish("orders.nowhere", [number], size=10)
    assert bus.unacknowledged("orders.nowhere") == UNHEARD_MAX
    assert bus.unacknowledged_bytes("orders.nowhere") == 10 * UNHEARD_MAX
    handler = Handler(lambda value: False)
    bus.subscribe("orders.nowhere", handler)
    await handler.until(UNHEARD_MAX)
    assert handler.seen == list(range(7, UNHEARD_MAX + 7))
