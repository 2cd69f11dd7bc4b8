"""Retention on a running central: what is bounded stays bounded while it works, and what is open is left alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentd.central.retention import AUDIT_LEAST, Retention, RetentionMetrics
from agentd.central.retention_limits import RETENTION_FILE, RetentionLimits, read_limits
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.model import api
from libstaragent.model.result import Output, TargetResult, encode_records
from libstaragent.protocol import trunk as t
from libstaragent.security.audit_check import AuditCheck
from libstaragent.security.signed import signed_to_json
from libstaragent.security.signing import public_key

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def retention_of(stack: Any, limits: RetentionLimits, *, ahead_ms: int = 2 * HOUR_MS) -> Retention:
    """A retention whose clock is ahead: the envelopes of these tests have expired for it."""
    central = stack.central
    return Retention(
        stack.store,
        limits,
        write=central.write,
        open_jobs=lambda: [job.id for job in central.core.jobs.values() if 0 < job.open < len(job.members)],
        now_ms=lambda: central.now_ms() + ahead_ms,
        forget=central.core.forget,
        seed=stack.state.audit_seed,
        fleet=stack.people.fleet,
    )


async def run_job(stack: Any, members: Any, *argv: str) -> str:
    signed = stack.people.exec(members, *argv)
    answer = await stack.http.post("/v1/jobs?wait=10", content=signed_to_json(signed))
    assert answer.status_code == 200, answer.text
    return stack.people.open(signed).id


async def check_audit(stack: Any) -> AuditCheck:
    await stack.log_in()
    head = msgspec.json.decode((await stack.get("/v1/audit/head")).content, type=api.AuditHead)
    check = AuditCheck(stack.people.fleet, head.checkpoints, key=public_key(stack.state.audit_seed))
    after = 0
    while True:
        page = msgspec.json.decode((await stack.get("/v1/audit", after=after, limit=5000)).content, type=api.AuditPage)
        check.feed((row.seq, row.at_ms, row.body, row.hash) for row in page.entries)
        if page.next is None:
            return check
        after = page.next


async def test_caps_hold_under_load_and_what_is_open_is_not_touched(stack: Any) -> None:
    count, workers = 600, 12
    limits = RetentionLimits(jobs_max=120, outputs_bytes=100_000, audit_max=300, store_bytes=1 << 30)
    body = 1500
    hosts = await stack.add_hosts("web01", "web02")
    held = await _open_job(stack, hosts)
    stack.room.answers = lambda agent, job: _printed(job, job.encode() * (body // 26))
    retention = retention_of(stack, limits)
    working = True
    peaks = {"jobs": 0, "output_bytes": 0, "audit": 0}

    async def keep_pruning() -> None:
        while working:
            await retention.once()
            for name in peaks:
                peaks[name] = max(peaks[name], getattr(retention.survey, name))

    async def submit(number: int) -> None:
        for _ in range(count // workers):
            await run_job(stack, hosts[number % 2 :][:1], "print")

    pruning = asyncio.create_task(keep_pruning())
    await asyncio.gather(*(submit(number) for number in range(workers)))
    working = False
    await pruning
    await retention.once()

    survey = retention.survey
    assert survey.jobs <= limits.jobs_max and survey.output_bytes <= limits.outputs_bytes
    assert survey.audit <= limits.audit_max
    assert retention.pruned["jobs"] >= count - limits.jobs_max
    assert retention.pruned["outputs"] > 0 and retention.pruned["audit"] > 0
    # Far below what came in: it was held all along, not only at the end.
    assert peaks["jobs"] < count / 2 and peaks["output_bytes"] < count * body / 2

    # The open job, and the output of its target that has ended, are the oldest of all and are there.
    view = await stack.get(f"/v1/jobs/{held}")
    assert view.status_code == 200, view.text
    output = msgspec.json.decode(
        (await stack.get(f"/v1/jobs/{held}/output", host="web01")).content, type=api.OutputView
    )
    assert b"held" in output.head
    stack.room.report(t.TargetEnded(hosts[1].agent, _printed(held, b"late")))
    await stack.room.until(lambda: (hosts[1].agent, held) in stack.room.settled)
    check = await check_audit(stack)
    assert check.holds and check.begins_after > 0, check.findings


async def _open_job(stack: Any, hosts: Any) -> str:
    first = hosts[0].agent
    stack.room.answers = lambda agent, job: _printed(job, b"held") if agent == first else None
    signed = stack.people.exec(hosts, "hold")
    held = stack.people.open(signed).id
    assert (await stack.post("/v1/jobs", signed)).status_code == 202
    await stack.room.until(lambda: (first, held) in stack.room.settled)
    await stack.log_in()
    return held


def _printed(job: str, text: bytes) -> TargetResult:
    return TargetResult(
        job=job,
        state="ok",
        exit_status=0,
        ran="yes",
        stdout_bytes=len(text),
        output=Output(head=encode_records([(1, text)])),
    )


async def test_an_output_that_is_not_kept_any_longer_says_so(stack: Any, refused: Any) -> None:
    members = await stack.add_hosts("web01")
    stack.room.answers = lambda agent, job: _printed(job, b"short-lived")
    job = await run_job(stack, members, "print")
    retention = retention_of(stack, RetentionLimits(), ahead_ms=8 * DAY_MS)
    await retention.once()
    await stack.log_in()
    refused(await stack.get(f"/v1/jobs/{job}/output", host="web01"), codes.OUTPUT_PRUNED, 404)
    page = msgspec.json.decode((await stack.get(f"/v1/jobs/{job}/targets", output=1)).content, type=api.TargetPage)
    assert page.targets[0].output_pruned and page.targets[0].stdout_bytes == len(b"short-lived")


async def test_what_is_older_than_its_age_goes_with_all_that_belongs_to_it(stack: Any, refused: Any) -> None:
    members = await stack.add_hosts("web01")
    job = await run_job(stack, members, "true")
    await stack.post("/v1/tokens", stack.people.token())
    retention = retention_of(stack, RetentionLimits(), ahead_ms=401 * DAY_MS)
    await retention.once()
    await stack.log_in()
    refused(await stack.get(f"/v1/jobs/{job}"), codes.JOB_UNKNOWN, 404)
    assert retention.survey.jobs == 0 and stack.store.read.tokens() == []
    # Its own entry stays behind the checkpoint, so that the chain goes on.
    check = await check_audit(stack)
    assert check.holds and check.checkpoint is not None
    assert check.first == check.checkpoint.upto + 1


async def test_a_job_whose_envelope_may_come_again_stays_whatever_the_cap(stack: Any) -> None:
    members = await stack.add_hosts("web01")
    for _ in range(5):
        await run_job(stack, members, "true")
    retention = retention_of(stack, RetentionLimits(jobs_max=1), ahead_ms=0)
    await retention.once()
    assert retention.survey.jobs == 5 and retention.pruned["jobs"] == 0


async def test_pages_of_jobs_go_on_over_what_was_pruned(stack: Any) -> None:
    members = await stack.add_hosts("web01")
    jobs = [await run_job(stack, members, "true") for _ in range(9)]
    await retention_of(stack, RetentionLimits(jobs_max=6)).once()
    await stack.log_in()
    found: list[str] = []
    before: str | None = None
    while True:
        answer = await stack.get("/v1/jobs", limit=2, **({"before": before} if before else {}))
        page = msgspec.json.decode(answer.content, type=api.JobPage)
        found.extend(job.id for job in page.jobs)
        before = page.next
        if before is None:
            break
    assert found == sorted(jobs, reverse=True)[: len(found)] and 1 <= len(found) <= 6


async def test_the_whole_store_is_brought_below_its_bound(stack: Any) -> None:
    members = await stack.add_hosts("web01")
    stack.room.answers = lambda agent, job: _printed(job, job.encode() * 2000)
    for _ in range(20):
        await run_job(stack, members, "print")
    await retention_of(stack, RetentionLimits()).once()
    start = stack.store.prunable.survey()
    limit = start.store_bytes - start.output_bytes // 2
    retention = retention_of(stack, RetentionLimits(store_bytes=limit))
    await retention.once()
    assert retention.survey.store_bytes <= limit
    assert retention.survey.jobs == 20 and 0 < retention.survey.outputs < 20


async def test_a_bound_that_is_passed_is_noticed_at_once_and_counted_in_the_metrics(stack: Any) -> None:
    members = await stack.add_hosts("web01")
    retention = retention_of(stack, RetentionLimits(jobs_max=AUDIT_LEAST // 20))
    stack.central.on_written = retention.nudge
    await retention.once()
    assert not retention._due.is_set()
    for _ in range(9):
        await run_job(stack, members, "true")
    assert retention._due.is_set()
    await retention.once()
    told = {
        (sample.name, sample.labels.get("table", "")): sample.value
        for metric in RetentionMetrics(retention).collect()
        for sample in metric.samples
    }
    assert told[("opsconsole_store_pruned_total", "jobs")] >= 4
    assert told[("opsconsole_store_rows", "jobs")] <= 5
    assert told[("opsconsole_store_bytes", "")] > 0


def test_limits_come_from_the_state_directory(tmp_path: Path) -> None:
    assert read_limits(tmp_path) == RetentionLimits()
    (tmp_path / RETENTION_FILE).write_text("jobs_days = 3\noutputs_bytes = 50_000_000\n")
    assert read_limits(tmp_path) == RetentionLimits(jobs_days=3, outputs_bytes=50_000_000)


@pytest.mark.parametrize("text", ["jobs_day = 3", "jobs_days = -1", "jobs_max = 'many'", "jobs_days 3", "jobs_max = 1"])
def test_limits_that_cannot_be_read_stop_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / RETENTION_FILE).write_text(text)
    with pytest.raises(StarAgentError) as stopped:
        read_limits(tmp_path)
    assert stopped.value.code is codes.RETENTION_INVALID


def test_a_control_plane_does_not_start_with_limits_that_it_cannot_read(tmp_path: Path) -> None:
    state = tmp_path / "state"
    agentd = [sys.executable, "-m", "agentd"]
    subprocess.run([*agentd, "init", "--state", str(state)], check=True, capture_output=True, timeout=30)
    (state / RETENTION_FILE).write_text("jobs_day = 3")
    ports = ("--listen-api", "127.0.0.1:0", "--listen-room", "127.0.0.1:0")
    done = subprocess.run(
        [*agentd, "all", "--state", str(state), *ports], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1 and codes.RETENTION_INVALID.code in done.stderr and "jobs_day" in done.stderr
