"""`kill -9` of every part of a real fleet while a command runs: it runs once, its result arrives, and nothing is left.

How often a command ran is counted by the command itself, in a file of its own.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from libstaragent import codes

# Each test starts a fleet of its own, and most a control plane twice.
pytestmark = [pytest.mark.timeout(120)]


def test_a_control_plane_killed_while_commands_run_brings_the_job_to_its_end(
    new_site: Callable[..., Any], gate: Callable[[str], Any], referee: Any
) -> None:
    site = new_site("web01", "web02")
    begun, go = gate("begun"), gate("go")
    script = f"{referee.mark}; echo > {begun.path}; read _ < {go.path}; echo went on"
    with site.fleet() as fleet:
        job = fleet.run("all", ["sh", "-c", script], background=True)
    site.until_target(job.id, "running", 2)
    site.kill_central()
    done = site.run("hosts")
    assert done.returncode == 2 and codes.CENTRAL_UNREACHABLE.code in done.stderr
    assert referee.count == 2
    before = site.said["pid"]
    site.up()
    assert site.said["pid"] != before
    site.until_state("up", "web01", "web02")
    go.open(2)
    result = site.result(job.id)
    assert result.counts == {"ok": 2}
    assert all(result.output(host).stdout == b"went on\n" for host in ("web01", "web02"))
    assert referee.count == 2


def test_results_that_meet_no_control_plane_arrive_when_it_is_back(
    new_site: Callable[..., Any], gate: Callable[[str], Any], referee: Any
) -> None:
    site = new_site("web01")
    go, ended = gate("go"), gate("ended")
    script = f"{referee.mark}; read _ < {go.path}; echo the end; exec >&- 2>&-; echo > {ended.path}; exit 7"
    with site.fleet() as fleet:
        job = fleet.run("web01", ["sh", "-c", script], background=True)
    site.until_target(job.id, "running")
    site.kill_central()
    go.open()
    ended.heard()
    site.up()
    result = site.result(job.id)
    (target,) = result.targets
    assert (target.state, target.exit_status, result.output("web01").stdout) == ("exit_nonzero", 7, b"the end\n")
    assert referee.count == 1


def test_a_control_plane_killed_while_results_pour_in_loses_none_and_repeats_none(
    new_site: Callable[..., Any], referee: Any
) -> None:
    site = new_site("web01", "web02")
    with site.fleet() as fleet:
        jobs = [fleet.run("all", ["sh", "-c", f"{referee.mark}; seq 500"], background=True) for _ in range(12)]
        first = jobs[0].result()
        assert first.ok
    site.kill_central()
    site.up()
    for job in jobs:
        result = site.result(job.id)
        assert result.counts == {"ok": 2}, result.targets
        assert result.output("web02").stdout.endswith(b"\n500\n") and not result.amendments
    assert referee.count == 24
    with sqlite3.connect(f"file:{site.state / 'store.db'}?mode=ro", uri=True) as store:
        assert store.execute("pragma integrity_check").fetchone() == ("ok",)
    store.close()


def test_an_agent_killed_before_during_and_after_a_command_brings_its_result(
    new_site: Callable[..., Any], gate: Callable[[str], Any], referee: Any
) -> None:
    site = new_site("web01")
    begun, go = gate("begun"), gate("go")
    script = f"{referee.mark}; echo > {begun.path}; read _ < {go.path}; echo went on"
    with site.fleet() as fleet:
        job = fleet.run("web01", ["sh", "-c", script], background=True)
        begun.heard()
        site.kill_agent("web01")
        again = fleet.run("web01", ["sh", "-c", f"{referee.mark}; echo second"], background=True)
        go.open()
        assert job.result().output("web01").stdout == b"went on\n"
        assert again.result().output("web01").stdout == b"second\n"
        site.kill_agent("web01")
        assert fleet.run("web01", ["echo", "third"], background=True).result().ok
    assert referee.count == 2


def test_a_keeper_killed_in_mid_command_ends_it_as_interrupted_and_the_host_goes_on(
    new_site: Callable[..., Any], gate: Callable[[str], Any], referee: Any
) -> None:
    site = new_site("web01")
    begun = gate("begun")
    script = f"{referee.mark}; echo $$ > {begun.path}; exec sleep 600"
    with site.start("exec", "-t", "web01", "--shell", script) as process:
        with site.process_handle(int(begun.heard())) as command:
            site.kill_keeper("web01")
            assert site.gone(command)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 2, stderr
    assert codes.COMMAND_INTERRUPTED.code in stderr
    assert site.run("exec", "-t", "web01", "--async", "--", "true").returncode == 0
    site.until_state("up", "web01")
    done = site.run("exec", "-t", "web01", "--ttl", "30", "--", "echo", "here again")
    assert done.stdout == "web01 | here again\n"
    assert referee.count == 1


def test_a_keeper_killed_on_one_host_leaves_the_same_job_of_another_host_of_this_machine_alone(
    new_site: Callable[..., Any], gate: Callable[[str], Any], tmp_path: Path
) -> None:
    site = new_site("web01", "web02")
    begun, go = gate("begun"), tmp_path / "go"
    script = f"echo $$ > {begun.path}; until [ -e {go} ]; do sleep 0.05; done; echo whole"
    with site.start("exec", "-t", "all", "--json", "--shell", script) as process:
        begun.heard()
        begun.heard()
        site.kill_keeper("web02")
        site.until_hosts(lambda hosts: hosts["web02"].state == "down")
        site.until_state("up", "web02")
        go.touch()
        stdout, stderr = process.communicate(timeout=30)
    ended = {line["host"]: line["state"] for line in map(json.loads, stdout.splitlines()) if line["event"] == "target"}
    assert ended == {"web01": "ok", "web02": "interrupted"}, stdout + stderr


def test_a_stopped_host_is_unreachable_within_the_ttl_and_nothing_runs_there_later(
    new_site: Callable[..., Any], referee: Any
) -> None:
    site = new_site("web01", "web02")
    assert site.stop_agent("web02") == 0
    site.until_state("down", "web02")
    done = site.run("exec", "-t", "all", "--ttl", "1", "--shell", referee.mark)
    assert done.returncode == 2
    assert "1 ok" in done.stderr and "1 unreachable" in done.stderr and codes.HOST_UNREACHABLE.code in done.stderr
    site.start_agent("web02")
    site.until_state("up", "web02")
    # What came after it on the same connection has run, so it is not on its way.
    assert site.run("exec", "-t", "web02", "--", "true").returncode == 0
    assert referee.count == 1


def test_a_host_that_comes_back_within_the_ttl_takes_part(new_site: Callable[..., Any], referee: Any) -> None:
    site = new_site("web01")
    site.stop_agent("web01")
    site.until_state("down", "web01")
    done = site.run("exec", "--async", "-t", "web01", "--shell", referee.mark)
    assert done.returncode == 0
    assert referee.count == 0
    site.start_agent("web01")
    assert site.result(done.stdout.strip()).counts == {"ok": 1}
    assert referee.count == 1


def test_sigterm_to_everything_leaves_no_process_and_no_half_written_file(
    new_site: Callable[..., Any], gate: Callable[[str], Any]
) -> None:
    site = new_site("web01")
    begun = gate("begun")
    script = f"trap '' TERM; echo $$ > {begun.path}; while :; do sleep 600; done"
    with site.fleet() as fleet:
        job = fleet.run("web01", ["sh", "-c", script], background=True)
    command = int(begun.heard())
    with site.process_handle(site.said["pid"]) as central, site.process_handle(command) as running:
        assert site.down() == 0
        assert site.gone(central)
        assert site.stop_agent("web01") == 0
        assert site.gone(running)
    drafts = [
        path
        for path in site.folder.rglob("*")
        if path.suffix in (".tmp", ".new", ".next", ".part") or (path.name.startswith(".") and path.is_file())
    ]
    assert drafts == []
    # Both begin again from what they left, and the job ends as what it was: cut off.
    site.up()
    site.start_agent("web01")
    result = site.result(job.id)
    assert result.counts == {"interrupted": 1}
    assert site.run("exec", "-t", "web01", "--", "true").returncode == 0


def test_a_second_control_plane_on_the_same_state_is_refused_and_harms_nothing(site: Any) -> None:
    done = site.agentd("all", "--state", str(site.state), "--listen-api", "127.0.0.1:0", "--listen-room", "127.0.0.1:0")
    assert done.returncode == 1 and codes.STATE_IN_USE.code in done.stderr
    done = site.agentd("agent", "--state", str(site.host_state("web01")))
    assert done.returncode == 1 and codes.KEEPER_RUNNING.code in done.stderr
    assert site.run("exec", "-t", "web01", "--", "true").returncode == 0


def test_what_was_accepted_runs_once_though_agent_and_keeper_were_killed_before_it_began(
    new_site: Callable[..., Any], referee: Any
) -> None:
    site = new_site("web01")
    # Stopped, it neither reads nor starts anything; the agent has promised a result all the same.
    keeper = site.keepers["web01"]
    os.kill(keeper.pid, signal.SIGSTOP)
    with site.fleet() as fleet:
        begun, cancelled = (fleet.run("web01", ["sh", "-c", referee.mark], background=True) for _ in range(2))
        for job in (begun, cancelled):
            site.until_target(job.id, "accepted")
        site.kill_agent("web01")
        # While nobody is there to hear it.
        cancelled.cancel()
    keeper.kill()
    assert keeper.wait(30) == -signal.SIGKILL
    site.start_agent("web01")
    (target,) = site.result(begun.id).targets
    assert (target.state, target.ran) == ("ok", "yes")
    (target,) = site.result(cancelled.id).targets
    assert (target.state, target.ran) == ("cancelled", "no")
    assert referee.count == 1


def test_an_agent_that_cannot_write_its_journal_starts_nothing_and_says_why(site: Any, referee: Any) -> None:
    pid = site.agent_process("db01").pid
    # Not a byte more may be added to any file, as on a full disk.
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        done = site.run("exec", "-t", "db01", "--shell", referee.mark)
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    assert done.returncode == 1
    assert codes.JOURNAL_FAILED.code in done.stderr and f"errno {errno.EFBIG}" in done.stderr
    assert referee.count == 0
    assert site.run("exec", "-t", "db01", "--shell", referee.mark).returncode == 0
    assert referee.count == 1


def test_an_agent_without_its_room_says_so_and_comes_when_it_is_there(new_site: Callable[..., Any]) -> None:
    site = new_site("web01")
    site.stop_agent("web01")
    site.down()
    site.start_agent("web01", log_to_pipe=True)
    assert site.said["room"] in site.log_line("web01", codes.ROOM_UNREACHED.code)
    site.up()
    site.until_state("up", "web01")
    site.kill_central()
    assert site.said["room"] in site.log_line("web01", codes.CONNECTION_LOST.code)
    site.up()
    site.until_state("up", "web01")
