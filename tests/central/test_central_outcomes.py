"""How targets end is counted with them: by code, room and version, in buckets that have an end, at the API."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import msgspec

from agentd.central.outcomes import COMBINATIONS_MAX, HOUR_MS, KEPT_MS, MINUTE_MS, OTHER, VERSIONS_MAX, Outcomes
from libstaragent import codes
from libstaragent.model import api
from libstaragent.model.result import TargetResult
from libstaragent.protocol import trunk as t
from libstaragent.roles.central_state import Ended, HostState


def fails_on(failing: str, result_ok: Any) -> Callable[[str, str], TargetResult | None]:
    """All hosts are ok but one, whose disk is full."""

    def answer(agent: str, job: str) -> TargetResult | None:
        if agent != failing:
            return result_ok(job)
        return TargetResult(job=job, state="spawn_failed", code=codes.JOURNAL_FAILED.code)

    return answer


async def outcomes(stack: Any, **parameters: Any) -> api.Outcomes:
    said = await stack.get("/v1/outcomes", **parameters)
    assert said.status_code == 200, said.text
    return msgspec.json.decode(said.content, type=api.Outcomes)


def up(member: Any, version: str, order: int) -> t.HostUp:
    return t.HostUp(
        agent=member.agent,
        room=member.room,
        version=version,
        boot_nonce=b"",
        hostname=member.name,
        addresses=(),
        facts={},
        roster=1,
        clock_ahead_ms=0,
        at_ms=1,
        boot="a",
        order=order,
    )


async def run_on_all(stack: Any, times: int = 1) -> None:
    for _ in range(times):
        said = await stack.http.post(
            "/v1/jobs",
            params={"wait": "10"},
            content=msgspec.json.encode(stack.people.exec(stack.members)),
        )
        assert said.status_code == 200, said.text


async def test_ends_are_counted_by_code_room_and_version(stack: Any, result_ok: Any) -> None:
    members = await stack.add_hosts("web01", "web02", "web03")
    await stack.log_in()
    stack.room.report(*(up(member, "1.0" if at else "2.0", at + 1) for at, member in enumerate(members)))
    stack.room.answers = fails_on(members[0].agent, result_ok)
    await run_on_all(stack, 2)
    found = await outcomes(stack)
    assert {row.code: (row.targets, row.ok) for row in found.rows} == {
        "": (4, 4),
        codes.JOURNAL_FAILED.code: (2, 0),
    }
    by_version = await outcomes(stack, by="version,state")
    assert {(row.version, row.state): row.targets for row in by_version.rows} == {
        ("1.0", "ok"): 4,
        ("2.0", "spawn_failed"): 2,
    }
    assert all(row.start_ms is None and row.room is None for row in by_version.rows)
    by_time = await outcomes(stack, by="time,room", since=1)
    assert by_time.span_ms == HOUR_MS
    assert sum(row.targets for row in by_time.rows) == 6 and {row.room for row in by_time.rows} == {"main"}
    metrics = (await stack.get("/metrics")).text
    assert (
        f'opsconsole_central_targets_total{{code="{codes.JOURNAL_FAILED.code}",room="main",state="spawn_failed",'
        f'version="2.0"}} 2.0' in metrics
    )


async def test_what_is_counted_survives_a_restart_and_is_counted_once(make_stack: Any, result_ok: Any) -> None:
    async with make_stack() as stack:
        await stack.add_hosts("web01")
        await run_on_all(stack, 3)
    async with make_stack() as stack:
        await stack.log_in()
        (row,) = (await outcomes(stack)).rows
        assert (row.targets, row.ok) == (3, 3)
        with sqlite3.connect(stack.state.database) as base:
            stored = base.execute("SELECT count(*) FROM targets").fetchone()[0]
        assert stored == row.targets


async def test_buckets_end_with_their_time(make_stack: Any, result_ok: Any) -> None:
    now = [1_800_000_000_000]
    async with make_stack(clock=lambda: now[0]) as stack:
        rows = (("main", "1", "ok", "", 1),)
        from agentd.store.ops import CountOutcomes

        begin = now[0] - now[0] % HOUR_MS
        await stack.central.write(
            [
                CountOutcomes(MINUTE_MS, begin - KEPT_MS[MINUTE_MS] - MINUTE_MS, rows),
                CountOutcomes(MINUTE_MS, begin, rows),
                CountOutcomes(HOUR_MS, begin - KEPT_MS[HOUR_MS] - HOUR_MS, rows),
                CountOutcomes(HOUR_MS, begin, rows),
            ]
        )
        await stack.central.write([stack.central.outcomes.pruning(begin)])
        left = [stack.store.read.outcomes(span, 0, ["start_ms"]) for span in (MINUTE_MS, HOUR_MS)]
        assert [[row.start_ms for row in rows] for rows in left] == [[begin], [begin]]


async def test_what_to_count_by_is_read_strictly(stack: Any, refused: Any) -> None:
    await stack.log_in()
    for by in ("host", "code,code", ","):
        refused(await stack.get("/v1/outcomes", by=by), codes.REQUEST_MALFORMED, 422)


class Hostile:
    """Hosts whose every word is another."""

    def __init__(self) -> None:
        self.states: dict[str, HostState] = {}
        self.outcomes = Outcomes({}, self.states)  # type: ignore[arg-type]

    def end(self, number: int, *, version: str, code: str | None, state: str = "ok") -> None:
        agent = f"host{number}"
        self.states[agent] = HostState(agent, "main", up=True, at_ms=0, version=version)
        result = TargetResult(job="", state=state, code=code)
        self.outcomes.committed([Ended("", agent, result, "sent", 0)])


def test_versions_and_codes_of_hostile_hosts_do_not_grow_the_labels() -> None:
    hostile = Hostile()
    for number in range(10 * VERSIONS_MAX):
        hostile.end(number, version=f"v{number}", code=f"SA-{number}")
    hostile.end(0, version="x" * 10_000, code=None)
    hostile.end(0, version="\x1b[2J", code=None)
    totals = hostile.outcomes.totals
    assert sum(totals.values()) == 10 * VERSIONS_MAX + 2
    assert {key.code for key in totals} == {OTHER, ""}
    assert len({key.version for key in totals}) == VERSIONS_MAX + 1
    listed = list(codes.catalogue())
    for number in range(4 * COMBINATIONS_MAX):
        hostile.end(number, version=f"v{number % VERSIONS_MAX}", code=listed[number % len(listed)])
    assert len(totals) <= COMBINATIONS_MAX + 15
