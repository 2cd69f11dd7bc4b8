"""A result survives being a row."""

from __future__ import annotations

import pytest

from agentd.store import Store
from agentd.store.ops import InsertOutput, InsertTarget
from agentd.store.results import result_of, target_op
from libstaragent.jobs.kept_output import output_of, pack_output
from libstaragent.model.result import LeftRunning, Output, TargetResult, failed_result


@pytest.mark.parametrize(
    "result",
    [
        failed_result("J1", "unreachable", "SA-3401", "gone", errno=113),
        TargetResult(job="J1", state="ok", exit_status=0, ran="yes", output=Output()),
        TargetResult(
            job="J1",
            state="signalled",
            signal=9,
            core_dumped=True,
            ran="yes",
            started_ms=1,
            finished_ms=2,
            user_ms=3,
            system_ms=4,
            max_rss_kb=5,
            stdout_bytes=6,
            stderr_bytes=7,
            stdout_sha256=bytes(32),
            stderr_sha256=bytes(32),
            left_running=(LeftRunning(8, "sleep"), LeftRunning(9, "\x1b[31m")),
            left_count=12,
            output=Output(head=b"\0\x01", omitted=10, tail=b"\xff"),
        ),
    ],
)
def test_a_result_is_read_back_as_it_came(store: Store, job, result: TargetResult) -> None:
    digest, body = pack_output(result.output)
    omitted = result.output.omitted if result.output else 0
    row = target_op("A1", result, omitted=omitted, digest=digest, received_ms=1)
    store.submit([job("J1"), row, *([InsertOutput(digest, body)] if digest else [])]).result(20)
    row = store.read.target("J1", "A1")
    assert isinstance(row, InsertTarget)
    assert row.omitted == omitted
    output = None
    if row.output_digest is not None:
        body = store.read.output(row.output_digest)
        assert body is not None
        output = output_of(body)
    elif result.output is not None:
        output = Output()
    assert result_of(row, output) == result
