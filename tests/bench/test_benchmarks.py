"""Each benchmark runs through in its short form and says what it measured. Its figures are not judged here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# They start some dozens of processes, and wait for what real ones wait for after a fault; a busy machine takes minutes.
MANY_PROCESSES = pytest.mark.timeout(240)


def run(name: str, *, within: float = 50) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "bench" / name), "--smoke", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, narrated = process.communicate(timeout=within)
    finally:
        if process.poll() is None:
            # It ends what it started, which SIGKILL would leave behind.
            process.terminate()
            process.communicate()
    assert process.returncode == 0, narrated
    said = json.loads(out)
    assert said["bench"] == name
    return said


def test_fanout_measures_the_control_plane_and_the_limit_in_one_run() -> None:
    said = run("fanout")
    lines = said["lines"]
    assert said["fleets"][0]["hosts"] == 20 and said["fleets"][0]["connected_kb"] > said["fleets"][0]["empty_kb"]
    assert [line["what"].partition(":")[0] for line in lines] == [
        "20 targets a job, 8 jobs at once",
        "20 targets a job, one at a time",
        "1 target a job, 32 at once",
        "20 targets a job, 4 KiB alike from all",
        "20 targets a job, 4 KiB reduced",
        "limit",
        "limit",
    ]
    assert all(line["rate"] > 0 for line in lines)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_api_measures_with_wrk_and_no_request_fails() -> None:
    lines = run("api")["lines"]
    assert [line["what"].partition(":")[0] for line in lines] == ["as many as it can", "about 500/s", "limit"]
    assert all(line["rate"] > 0 and line["failed"] == 0 for line in lines)


def test_api_without_wrk_says_so(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "bench" / "api"), "--smoke", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": str(tmp_path)}, check=True, timeout=50)
    assert json.loads(done.stdout) == {"bench": "api", "absent": "wrk"}


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads Linux's smaps_rollup")
def test_footprint_reads_agent_and_keeper() -> None:
    said = run("footprint")
    assert said["jobs"] == 5
    assert said["agent_pss_kb"] > 0 and said["keeper_pss_kb"] > 0


@MANY_PROCESSES
def test_chaos_kills_every_kind_of_process_and_the_books_balance() -> None:
    said = run("chaos", within=200)
    assert all(said["kills"][kind] for kind in ("agent", "keeper", "host", "central", "cut", "stall"))
    assert said["began"] > 0 and said["open"] == 0
    assert (said["lost"], said["double"], said["silent"]) == (0, 0, 0)


def test_retention_measures_what_it_costs_others_and_prunes_to_half() -> None:
    said = run("retention")
    written = said["jobs"] + said["alone_ms"]["count"] + said["beside_ms"]["count"]
    assert said["done"] and said["left"]["jobs"] == written - said["pruned"]["jobs"] < written
    assert said["pruned"]["audit"] > 0
    assert all(said[line]["count"] > 0 for line in ("alone_ms", "beside_ms", "batch_ms"))


def test_flood_stores_every_byte_in_bounded_memory() -> None:
    said = run("flood", within=100)
    assert said["stored"] == said["hosts"] == 25
    assert said["wrong"] == 0
    assert said["printed_bytes"] > 3 * said["bound_bytes"] > 0
    assert said["grown_bytes"] < said["bound_bytes"]


@MANY_PROCESSES
def test_herd_is_back_after_the_control_planes_death() -> None:
    said = run("herd", within=200)
    assert said["back"] == said["hosts"] == 40
    assert said["tries_an_agent"] >= 1 and said["limit_handshakes"] > 0 and said["errors_logged"] == 0


@MANY_PROCESSES
def test_slo_counts_every_operation_beside_the_hosts_own_record() -> None:
    said = run("slo", within=200)
    assert said["operations"] == 80 and said["excused"] == 0
    assert all(said["faults"][kind] for kind in ("agent", "keeper", "host", "central", "cut", "stall"))
    # What a keeper's death interrupted is a failure, and the only kind there may be.
    assert set(said["failures"]) <= {"interrupted"}
    assert said["success_at_least"] <= said["success"] <= 1


def test_slo_prints_its_schedule_and_the_same_one_each_time() -> None:
    command = [sys.executable, str(ROOT / "bench" / "slo"), "--schedule", "--seed", "7"]
    first, again = (
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=50).stdout for _ in range(2)
    )
    assert first == again
    assert all(kind in first for kind in ("agent", "keeper", "host", "central", "cut", "stall", "down"))


def test_spawn_measures_real_agents_beside_the_bare_rate() -> None:
    said = run("spawn")
    assert said["rate"] > 0 and said["bare"] > 0 and said["share"] == pytest.approx(said["rate"] / said["bare"])


@MANY_PROCESSES
def test_peers_prints_a_figure_or_absent_with_the_reason() -> None:
    said = run("peers", within=200)
    for by_name in said["lines"].values():
        assert by_name["opsconsole"]["rate"] > 0
        assert ("clush" in by_name) != ("clush" in said["absent"])
    assert all(said["absent"].values())


def test_peers_without_salt_says_how_to_get_it(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "bench" / "peers"), "--smoke", "--json", "--only", "salt"]
    done = subprocess.run([*command, "--cache", str(tmp_path)], capture_output=True, text=True, check=True, timeout=50)
    assert json.loads(done.stdout)["absent"] == {"salt": "Salt is not installed; bench/peers --install does it"}
