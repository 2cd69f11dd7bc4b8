"""Orders of a planned job come in parts, over real TLS: each target is delivered once, however the parts come."""

from __future__ import annotations

from typing import Any

import pytest

from libstaragent.model.result import TargetResult
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t
from libstaragent.roles import seen
from libstaragent.roles.seen import SeenOrders
from libstaragent.security.signed import Signed

SIGNED = Signed(payload=b"an envelope", key=b"k" * 32, signature=b"s" * 64)


def part(place: Any, job: str, *agents: str, again: bool = False) -> t.Dispatch:
    expires = place.clock.wall_ms() + 60_000
    return t.Dispatch(
        job=job,
        signed=SIGNED,
        expires_ms=expires,
        deadline_ms=expires + 60_000,
        targets=tuple((agent, None) for agent in agents),
        watch=False,
        again=again,
        parts=True,
    )


def ok(job: str) -> TargetResult:
    return TargetResult(job=job, state="ok", exit_status=0, ran="yes")


async def test_a_later_part_reaches_its_hosts_and_one_that_comes_again_nobody(place: Any) -> None:
    first, second, job = place.name(1), place.name(2), place.name(50)
    one, two = await place.up(first), await place.up(second)
    place.central.order(part(place, job, first))
    await one.hear(m.Run)
    one.say(m.Result(ok(job)))
    await place.central.report(t.TargetEnded, agent=first)
    place.central.order(t.SettledTargets(((first, job),)))
    await place.until(lambda: not place.room.core.holds(first))
    # The first part again, late; and what a central that started again gives: the first with the second.
    place.central.order(part(place, job, first), part(place, job, first, second, again=True))
    assert (await two.hear(m.Run)).job == job
    place.dispatch(place.name(51), first)
    assert (await one.hear(m.Run)).job == place.name(51)
    assert place.room.core.holds(first) == 1


async def test_a_part_that_overtakes_the_one_before_it_loses_neither(place: Any) -> None:
    first, second, job = place.name(1), place.name(2), place.name(50)
    one, two = await place.up(first), await place.up(second)
    place.central.order(part(place, job, second), part(place, job, first), part(place, job, second))
    assert (await one.hear(m.Run)).job == job
    assert (await two.hear(m.Run)).job == job
    assert place.room.core.holds(first) == place.room.core.holds(second) == 1


async def test_each_part_says_what_it_did_not_deliver_and_which_room_says_so(place: Any) -> None:
    away, here, job = place.name(1), place.name(2), place.name(50)
    place.central.order(part(place, job, away))
    await place.until(lambda: place.room.core.holds(away))
    place.move(30)
    client = await place.up(here)
    place.central.order(part(place, job, here))
    await client.hear(m.Run)
    place.move(31)
    told = await place.central.report(t.Undelivered, job=job)
    assert (told.agents, told.boot) == ((away,), place.central.of(t.RoomStarted)[-1].boot)
    assert place.room.core.holds(here) == 1


async def test_a_cancel_that_was_heard_before_a_part_cancels_its_targets(place: Any) -> None:
    first, second, job = place.name(1), place.name(2), place.name(50)
    client = await place.up(first)
    place.central.order(part(place, job, first))
    await client.hear(m.Run)
    place.central.order(t.CancelTargets(job, SIGNED, (first,)), part(place, job, second))
    ended = await place.central.report(t.TargetEnded, agent=second)
    assert (ended.result.state, ended.result.ran) == ("cancelled", "no")


def order(job: str, *agents: str, parts: bool = True, deadline_ms: int = 10_000) -> t.Dispatch:
    targets = tuple((agent, None) for agent in agents)
    return t.Dispatch(job, SIGNED, 5_000, deadline_ms, targets, False, False, "", "", parts)


def test_parts_are_remembered_until_their_deadline_and_wholes_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    had = SeenOrders()
    assert [agent for agent, _ in had.new_targets(order("J", "a", "b"))] == ["a", "b"]
    assert [agent for agent, _ in had.new_targets(order("J", "b", "c"))] == ["c"]
    assert [agent for agent, _ in had.new_targets(order("K", "a", parts=False))] == ["a"]
    assert had.new_targets(order("K", "b", parts=False)) == ()
    had.tick(9_000)
    assert had.new_targets(order("J", "a", "b", "c")) == ()
    had.tick(10_000)
    assert len(had.new_targets(order("J", "a", "b", "c", deadline_ms=20_000))) == 3
    monkeypatch.setattr(seen, "SEEN_PARTS_MAX", 4)
    assert len(had.new_targets(order("L", "a", "b", deadline_ms=20_000))) == 2
    # The oldest job's were forgotten, and the deadline of what is forgotten harms nothing.
    assert len(had.new_targets(order("J", "a", deadline_ms=20_000))) == 1
    had.tick(20_000)
    assert len(had.new_targets(order("L", "a", deadline_ms=30_000))) == 1
