"""Schedules over HTTPS, through core, store and bus: what is shown of each host, and firings that happen while there is
no central.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from libstaragent import codes
from libstaragent.jobs.schedule import firing_id
from libstaragent.model.result import TargetResult
from libstaragent.protocol import trunk as t
from libstaragent.security.acts import Every, Exec, PauseSchedule, Schedule, TargetList

DAY_MS = 86_400_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def order(stack: Any, act: Any, members: Any) -> str:
    envelope = stack.people.envelope(act, TargetList("*", tuple(members)))
    said = await stack.post("/v1/jobs?wait=10", stack.people.sign(envelope))
    assert said.status_code in (200, 202), said.text
    return envelope.id


async def claim(stack: Any, schedule: str, agent: str, at_ms: int, job: str = "") -> str:
    """A host tells of a firing; the job, once central has answered."""
    job = job or firing_id(schedule, at_ms)
    stack.room.report(t.FiringBegan(agent, "main", job, schedule, at_ms, ""))

    def answered() -> bool:
        known = {pair for order in stack.room.of(t.FiringsKnown) for pair in order.pairs}
        return (agent, job) in known | stack.room.settled

    await stack.room.until(answered)
    return job


async def test_firings_that_happen_without_a_central_are_told_to_the_next_one(
    make_stack: Callable[..., Any], result_ok: Callable[..., TargetResult]
) -> None:
    async with make_stack() as first:
        one, two = await first.add_hosts("web01", "web02")
        now = now_ms()
        start_ms = now - now % 1000
        schedule = await order(
            first, Schedule("beat", Every(1000, start_ms), Exec(argv=("true",)), now + DAY_MS), (one, two)
        )
        before = await claim(first, schedule, one.agent, start_ms)
    async with make_stack() as second:
        # What had begun, and what fired while nobody listened: the results come now.
        away = await claim(second, schedule, two.agent, start_ms + 1000)
        for job in (before, away):
            second.room.report(*(t.TargetEnded(host.agent, result_ok(job)) for host in (one, two)))
        await second.room.until(
            lambda: {(host.agent, job) for host in (one, two) for job in (before, away)} <= second.room.settled
        )
        await second.log_in()
        for job in (before, away):
            shown = (await second.get(f"/v1/jobs/{job}")).json()
            assert (shown["counts"], shown["schedule"], shown["targets"]) == ({"ok": 2}, "beat", 2)
        assert (await second.get("/v1/schedules/beat")).json()["last"]["id"] == away
        assert not second.room.of(t.Dispatch), "nobody is ordered what he did by himself"


async def test_each_host_is_shown_with_what_became_of_the_schedule_there_and_liars_are_counted(
    make_stack: Callable[..., Any], result_ok: Callable[..., TargetResult]
) -> None:
    words: dict[str, Any] = {}

    def answers(agent: str, job: str) -> TargetResult | None:
        state, code = words.get(agent, ("ok", None))
        return (
            None
            if state is None
            else result_ok(job)
            if state == "ok"
            else TargetResult(job=job, state=state, code=code)
        )

    async with make_stack(answers=answers) as stack:
        kept, denied, held, lost = await stack.add_hosts("kept", "denied", "held", "lost")
        words |= {
            denied.agent: ("denied", codes.POLICY_DENIED.code),
            held.agent: (None, None),
            lost.agent: ("interrupted", codes.RESULT_GONE.code),
        }
        act = Schedule("beat", Every(1000, 0), Exec(argv=("true",)), now_ms() + DAY_MS)
        envelope = stack.people.envelope(act, TargetList("*", (kept, denied, held, lost)))
        assert (await stack.post("/v1/jobs", stack.people.sign(envelope))).status_code in (200, 202)
        await stack.room.until(lambda: len(stack.room.settled) == 3)
        await stack.log_in()
        shown = (await stack.get("/v1/schedules/beat")).json()
        assert shown["states"] == {"denied": "refused", "held": "waiting", "kept": "kept", "lost": "unknown"}
        assert shown["codes"] == {"denied": codes.POLICY_DENIED.code, "lost": codes.RESULT_GONE.code}
        words[kept.agent] = ("denied", codes.SCHEDULE_NOT_KEPT.code)
        await order(stack, PauseSchedule(envelope.id, True), (kept,))
        shown = (await stack.get("/v1/schedules/beat")).json()
        assert (shown["states"]["kept"], shown["codes"]["kept"]) == ("missing", codes.SCHEDULE_NOT_KEPT.code)
        false = await claim(stack, envelope.id, kept.agent, 1000)
        assert (await stack.get(f"/v1/jobs/{false}")).status_code == 404
        assert stack.central.counters["firings_refused"] == 1
