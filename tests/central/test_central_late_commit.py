"""Between central's decision that a job has ended and the commit that says so, nobody is told that it has.

The store is slow for real: another connection holds the database's write lock.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from libstaragent.jobs.schedule import firing_id
from libstaragent.protocol import trunk as t
from libstaragent.security.acts import Every, Exec, Schedule, TargetList


async def test_a_job_whose_end_is_not_on_disk_yet_has_not_ended_and_lacks_no_target(
    make_stack: Callable[..., Any], result_ok: Callable[..., Any], tmp_path: Path
) -> None:
    async with make_stack(answers=lambda agent, job: None) as stack:
        await stack.log_in()
        members = await stack.add_hosts("web01", "web02")
        signed = stack.people.exec(members)
        job = stack.people.open(signed).id
        assert (await stack.post("/v1/jobs", signed)).status_code == 202
        await stack.room.until(lambda: bool(stack.room.of(t.Dispatch)))
        stack.room.report(t.TargetProgress(members[0].agent, job, "running", 1))
        with closing(sqlite3.connect(stack.state.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            stack.room.report(*(t.TargetEnded(member.agent, result_ok(job)) for member in members))
            # Decided, and on its way to the disk.
            while (view := (await stack.get(f"/v1/jobs/{job}")).json())["counts"] != {"ok": 2}:
                assert view["finished_ms"] is None
            assert (await stack.get(f"/v1/jobs/{job}")).json()["finished_ms"] is None
            (listed,) = (await stack.get("/v1/jobs")).json()["jobs"]
            assert listed["finished_ms"] is None
            page = (await stack.get(f"/v1/jobs/{job}/targets")).json()["targets"]
            assert {target["agent"]: target["state"] for target in page} == {
                members[0].agent: "running",
                members[1].agent: "queued",
            }
            output = await stack.get(f"/v1/jobs/{job}/output", host="web01")
            assert output.status_code == 409
            other.execute("ROLLBACK")
        await stack.room.until(lambda: len(stack.room.settled) == 2)
        assert (await stack.get(f"/v1/jobs/{job}")).json()["finished_ms"] is not None
        page = (await stack.get(f"/v1/jobs/{job}/targets")).json()["targets"]
        assert {target["state"] for target in page} == {"ok"}


async def test_nor_has_the_newest_firing_of_a_schedule(
    make_stack: Callable[..., Any], result_ok: Callable[..., Any], tmp_path: Path
) -> None:
    async with make_stack() as stack:
        await stack.log_in()
        (host,) = await stack.add_hosts("web01")
        now_ms = time.time_ns() // 1_000_000
        at_ms = now_ms - now_ms % 1000
        beat = Schedule("beat", Every(1000, at_ms), Exec(argv=("true",)), now_ms + 86_400_000)
        kept = stack.people.envelope(beat, TargetList("*", (host,)))
        assert (await stack.post("/v1/jobs?wait=10", stack.people.sign(kept))).status_code == 200
        job = firing_id(kept.id, at_ms)
        stack.room.report(t.FiringBegan(host.agent, "main", job, kept.id, at_ms, ""))
        await stack.room.until(lambda: bool(stack.room.of(t.FiringsKnown)))
        with closing(sqlite3.connect(stack.state.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            stack.room.report(t.TargetEnded(host.agent, result_ok(job)))
            while (last := (await stack.get("/v1/schedules/beat")).json()["last"])["counts"] != {"ok": 1}:
                assert last["finished_ms"] is None
            assert last["finished_ms"] is None
            other.execute("ROLLBACK")
        await stack.room.until(lambda: (host.agent, job) in stack.room.settled)
        assert (await stack.get("/v1/schedules/beat")).json()["last"]["finished_ms"] is not None
