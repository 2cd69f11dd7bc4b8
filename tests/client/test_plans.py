"""How a person says that a job is to spread, read into a plan."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libstaragent import codes
from libstaragent.client.plans import LONGEST_LIFE, SHORTEST_LIFE, in_order, plan_for, plan_life
from libstaragent.errors import StarAgentError
from libstaragent.jobs.states import exit_status
from libstaragent.security.acts import Member, Plan


@pytest.mark.parametrize(
    ("count", "waves", "ends"),
    [
        (137, "1,10%,100%", (1, 14, 137)),
        (137, "1,10%", (1, 14, 137)),
        (5, "1,50%,100%", (1, 3, 5)),
        (1, "1,10%,100%", (1,)),
        (3, [1, "1%", 2], (1, 2, 3)),
        (10, "5,50", (5, 10)),
        (10, " 2 , 30% ", (2, 3, 10)),
    ],
)
def test_waves_are_numbers_and_shares_rounded_up_to_all_hosts(count: int, waves: Any, ends: tuple[int, ...]) -> None:
    plan = plan_for(count, waves=waves, turn=10)
    assert plan is not None and plan.waves == ends


@pytest.mark.parametrize(
    "terms",
    [
        {"waves": "3,2"}, {"waves": ""}, {"waves": "1,,2"}, {"waves": "1.5"}, {"waves": "101%"}, {"waves": "-1"},
        {"waves": "٣"}, {"window": 0}, {"max_failures": "x"}, {"wait": 1.0}, {"confirm": True}, {"waves": []},
    ],
)  # fmt: skip
def test_what_makes_no_plan_says_why(terms: dict[str, Any]) -> None:
    with pytest.raises(StarAgentError) as refused:
        plan_for(10, turn=10, **terms)
    assert refused.value.code is codes.PLAN_INVALID and refused.value.detail


def test_failures_are_a_number_or_a_share_rounded_down() -> None:
    assert plan_for(137, max_failures="5%", turn=10) == Plan(max_failures=6, turn_ms=10_000)
    assert plan_for(137, max_failures=0, turn=10) == Plan(max_failures=0, turn_ms=10_000)
    assert plan_for(137, turn=10) is None


parts = st.one_of(st.integers(1, 10_000).map(str), st.integers(0, 100).map("{}%".format))


@given(st.integers(1, 10_000), st.lists(parts, min_size=1, max_size=6))
def test_every_list_of_waves_rises_to_all_hosts_or_is_refused(count: int, waves: list[str]) -> None:
    try:
        plan = plan_for(count, waves=",".join(waves), turn=1)
    except StarAgentError as error:
        assert error.code is codes.PLAN_INVALID
        return
    assert plan is not None
    assert plan.waves[-1] == count and plan.waves[0] >= 1
    assert all(a < b for a, b in zip(plan.waves, plan.waves[1:], strict=False))


@given(st.text(max_size=30))
def test_no_text_for_waves_does_more_than_be_refused(text: str) -> None:
    try:
        plan_for(100, waves=text, turn=1)
    except StarAgentError as error:
        assert error.code is codes.PLAN_INVALID


def test_a_plan_holds_for_its_longest_way_within_an_hour_and_a_day() -> None:
    assert plan_life(Plan(waves=(1, 3), turn_ms=10_000), 3, timeout=60) == SHORTEST_LIFE
    # 50 turns of 10 + 60 + 10 seconds.
    assert plan_life(Plan(window=2, turn_ms=10_000), 100, timeout=60) == 4000
    assert plan_life(Plan(waves=(1, 2, 3), confirm=True, turn_ms=10_000), 3, timeout=60) == 3 * 80 + 2 * 3600
    assert plan_life(Plan(window=1, turn_ms=10_000), 100_000, timeout=60) == LONGEST_LIFE


def test_hosts_are_in_the_order_in_which_people_count() -> None:
    names = ("web10", "web2", "db1", "web2a", "web02")
    members = [Member(name, name, "main") for name in names]
    assert [member.name for member in in_order(members)] == ["db1", "web2", "web02", "web2a", "web10"]


@pytest.mark.parametrize(
    ("counts", "stopped", "status"),
    [
        ({"ok": 1, "exit_nonzero": 1, "cancelled": 3}, True, 6),
        ({"ok": 1, "exit_nonzero": 1, "cancelled": 3}, False, 5),
        ({"denied": 1, "cancelled": 3}, True, 4),
        ({"unreachable": 1, "cancelled": 3}, True, 6),
        ({"ok": 3}, False, 0),
    ],
)
def test_stopped_by_failures_comes_after_a_refusal_and_before_all_else(
    counts: dict[str, int], stopped: bool, status: int
) -> None:
    assert exit_status(counts, stopped=stopped) == status
