"""Between central's decision that a job has ended and the commit that says so, nobody is told that it has.

The store is slow for real: another connection holds the database's write lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from libstaragent.protocol import trunk as t


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
