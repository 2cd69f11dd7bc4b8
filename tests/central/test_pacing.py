"""How far a plan may go, on the pacing itself: whatever happens, a process that starts again permits what the one
before had begun on, and neither goes beyond the plan.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from libstaragent.jobs.states import is_terminal
from libstaragent.roles.pacing import Pacing, Past, PauseEntry
from libstaragent.security.acts import Plan
from libstaragent.security.signed import Signed

SIGNED = Signed(b"", b"", b"")


class Story:
    """A planned job as central keeps it, and what of it would be on disk."""

    def __init__(self, plan: Plan, count: int) -> None:
        self.plan = plan
        self.order = [f"A{place:03}" for place in range(count)]
        self.states = dict.fromkeys(self.order, "queued")
        self.pacing = Pacing(plan, self.order)
        self.now_ms = 1_000_000
        self.pauses: list[PauseEntry] = []
        self.began: list[str] = []

    def begin(self) -> None:
        turn = self.pacing.begin(self.states, now_ms=self.now_ms, last_ms=self.now_ms + 60_000)
        self.began += turn
        if self.plan.window is not None:
            assert self.pacing.open <= self.plan.window
        for agent in turn:
            place = self.order.index(agent)
            before = max((end for end in self.plan.waves if end <= place), default=0)
            assert all(is_terminal(self.states[one]) for one in self.order[:before])

    def end(self, which: int, state: str) -> None:
        running = [agent for agent in self.began if not is_terminal(self.states[agent])]
        if running:
            agent = running[which % len(running)]
            self.states[agent] = state
            self.pacing.ended(agent, state, self.now_ms)

    def steer(self, paused: bool) -> None:
        if self.pacing.held:
            entry = self.pacing.entry(f"P{len(self.pauses)}", SIGNED, job="J", paused=paused, now_ms=self.now_ms)
            self.pauses.append(entry)
            self.pacing.take(entry)

    def restarted(self) -> Pacing:
        pacing = Pacing(self.plan, self.order)
        pacing.restore(
            self.states,
            Past(pauses=tuple(self.pauses), ended_ms=self.pacing.ended_ms, now_ms=self.now_ms),
        )
        return pacing


@st.composite
def stories(draw: Any) -> Story:
    count = draw(st.integers(1, 12))
    waves = draw(st.lists(st.integers(1, count), unique=True).map(sorted))
    plan = Plan(
        waves=tuple(sorted({*waves, count})) if waves else (),
        window=draw(st.none() | st.integers(1, count)),
        wait_ms=draw(st.sampled_from((0, 0, 500))),
        confirm=draw(st.booleans()),
    )
    return Story(plan, count)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("end"), st.integers(0, 11), st.sampled_from(("ok", "exit_nonzero"))),
        st.tuples(st.just("pause"), st.booleans()),
        st.tuples(st.just("wait"), st.integers(1, 600)),
        st.tuples(st.just("begin")),
    ),
    max_size=60,
)


@given(stories(), steps)
def test_a_restart_permits_what_was_begun_on_and_no_more_than_the_plan(story: Story, moves: list[Any]) -> None:
    for move in (("begin",), *moves):
        match move:
            case ("end", which, state):
                story.end(which, state)
            case ("pause", paused):
                story.steer(paused)
            case ("wait", milliseconds):
                story.now_ms += milliseconds
            case _:
                story.begin()
        again = story.restarted()
        live = story.pacing
        # All that this process had begun on, and nothing that it might not have begun on by now.
        assert live.begun <= again.begun <= live.allowed(story.now_ms)
        assert (again.paused, again.confirmed, again.failed) == (live.paused, live.confirmed, live.failed)
        assert again.open + again.held == live.open + live.held
        if live.paused:
            assert again.begun == live.begun


@given(stories())
def test_a_plan_that_nobody_holds_up_comes_to_its_end(story: Story) -> None:
    for _ in range(3 * len(story.order) + 3):
        story.begin()
        story.end(0, "ok")
        story.now_ms += 1000
        if story.pacing.awaits_resume:
            story.steer(False)
    assert story.pacing.held == story.pacing.open == 0
    assert story.began == story.order


def test_the_time_of_a_turn_begins_anew_after_a_restart() -> None:
    story = Story(Plan(waves=(1, 2), turn_ms=1000), 2)
    story.begin()
    assert story.pacing.overdue(story.now_ms) == ()
    assert story.pacing.overdue(story.now_ms + 60_000) == ("A000",)
    again = story.restarted()
    assert again.is_due(story.now_ms) and again.overdue(story.now_ms + 60_000) == ()
    again.begin(story.states, now_ms=story.now_ms, last_ms=story.now_ms + 5)
    assert again.overdue(story.now_ms + 5) == ("A000",)


def test_what_ended_without_a_turn_was_never_begun_on() -> None:
    story = Story(Plan(waves=(1, 3), max_failures=0), 3)
    story.states |= {"A000": "exit_nonzero", "A001": "cancelled", "A002": "cancelled"}
    pacing = Pacing(story.plan, story.order)
    pacing.restore(story.states, Past(ended_ms=5, without_turn={"A001": "SA-2256", "A002": "SA-2256"}, now_ms=9))
    assert (pacing.begun, pacing.wave, pacing.failed, pacing.stopped, pacing.held) == (1, 1, 1, True, 0)
