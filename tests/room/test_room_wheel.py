"""The wheel against the plain model: a list that is walked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libstaragent.roles.wheel import Wheel

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 20_000)),
        st.tuples(st.just("discard"), st.integers(0, 30)),
        st.tuples(st.just("pass"), st.integers(0, 5_000)),
    )
)


@given(STEPS)
def test_everything_is_due_once_within_a_second_after_its_time_unless_it_was_taken_out(steps: list) -> None:
    wheel: Wheel[int] = Wheel()
    waiting: dict[int, int] = {}
    number = now = 0
    for step, value in steps:
        if step == "add":
            number += 1
            waiting[number] = now + value
            wheel.add(number, now + value)
        elif step == "discard" and value in waiting:
            wheel.discard(value, waiting.pop(value))
        elif step == "pass":
            now += value
            due = wheel.due(now)
            assert len(set(due)) == len(due)
            for thing in due:
                assert waiting.pop(thing) <= now
            assert all(time > now - 1000 for time in waiting.values())
        assert len(wheel) == len(waiting)


def test_what_was_taken_out_and_put_in_anew_is_due_at_the_later_time() -> None:
    wheel: Wheel[str] = Wheel()
    wheel.add("link", 1000)
    wheel.discard("link", 1000)
    wheel.add("link", 5000)
    assert wheel.due(4999) == []
    assert wheel.due(5000) == ["link"]
