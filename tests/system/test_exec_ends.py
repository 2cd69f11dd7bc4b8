"""`opsconsole exec` on a real fleet: what it ends with, what it prints and where, as ARCHITECTURE.md (Jobs) says."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libstaragent import codes
from libstaragent.client.context import load_context, save_context
from libstaragent.client.fleet import Fleet
from libstaragent.errors import NotFound, TimedOut
from libstaragent.model.api import JobAnswer


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line of a command that still runs; the test's own time is the deadline."""
    assert process.stdout is not None
    return process.stdout.readline()


def test_zero_when_every_target_is_ok_and_lines_carry_their_host(site: Any) -> None:
    done = site.run("exec", "-t", "web01,web02,db01", "--", "sh", "-c", "echo one; echo two")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(
        f"{host} | {line}" for host in ("web01", "web02", "db01") for line in ("one", "two")
    )
    for host in ("web01", "web02", "db01"):
        lines = [line for line in done.stdout.splitlines() if line.startswith(host)]
        assert lines == [f"{host} | one", f"{host} | two"]
    assert "3 targets: 3 ok" in done.stderr


def test_one_when_a_command_fails_and_its_status_is_told(site: Any) -> None:
    done = site.run("exec", "-t", "web01,db01", "--shell", 'test "$(cat /dev/stdin)" || exit 3')
    assert done.returncode == 1
    assert "2 exit_nonzero" in done.stderr and "exit status 3" in done.stderr


def test_three_for_an_unknown_host_or_an_empty_match_and_no_job_is_made(site: Any) -> None:
    with site.fleet() as fleet:
        before = fleet.jobs(1)
    for expression, code in (
        ("web01,nosuch", codes.HOST_UNKNOWN),
        ("nosuch*", codes.NO_TARGET),
        ("@nosuch", codes.GROUP_UNKNOWN),
    ):
        done = site.run("exec", "-t", expression, "--", "true")
        assert done.returncode == 3, done.stderr
        assert code.code in done.stderr and code.remedy in done.stderr
        assert done.stdout == ""
    with site.fleet() as fleet:
        assert fleet.jobs(1) == before


def test_five_when_the_job_is_cancelled_by_somebody_else(site: Any, gate: Callable[[str], Any]) -> None:
    begun = gate("begun")
    with site.start("exec", "-t", "web01", "--shell", f"echo $$ > {begun.path}; exec sleep 600") as process:
        pid = int(begun.heard())
        with site.fleet() as fleet:
            (job,) = fleet.jobs(1)
        assert site.run("jobs", "cancel", job.id).returncode == 0
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 5, stderr
    assert "1 cancelled" in stderr
    assert not Path(f"/proc/{pid}").exists()


def test_five_by_ctrl_c_which_cancels_the_job_and_waits_for_it(site: Any, gate: Callable[[str], Any]) -> None:
    begun = gate("begun")
    with site.start("exec", "-t", "web01,web02", "--shell", f"echo $$ > {begun.path}; exec sleep 600") as process:
        begun.heard()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 5, stderr
    assert "cancelling" in stderr and "2 cancelled" in stderr


def test_sixty_four_for_what_cannot_be_asked(site: Any, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 65537)
    for words in (
        ("exec", "-t", "web01"),
        ("exec", "--", "true"),
        ("exec", "-t", "web01", "--timeout", "never", "--", "true"),
        ("exec", "-t", "web01", "--shell", "true", "--", "true"),
        ("exec", "-t", "web01", "--env", "novalue", "--", "true"),
        ("exec", "-t", "web01", "--stdin", str(large), "--", "cat"),
        ("exec", "-t", "web01,web02", "--raw", "--", "true"),
        ("exec", "-t", "web[", "--", "true"),
        ("exec", "-t", "web01", "--nosuch", "--", "true"),
    ):
        done = site.run(*words)
        assert done.returncode == 64, (words, done.returncode, done.stderr)
        assert codes.COMMAND_LINE.code in done.stderr or codes.TARGET_SYNTAX.code in done.stderr, words


def test_json_lines_are_objects_that_tell_the_whole_job(site: Any) -> None:
    done = site.run(
        "exec", "--json", "-t", "web01,web02,db01", "--", "sh", "-c", "echo to-out; echo to-err >&2; exit 2"
    )
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["event"] for line in lines} <= {"job", "target", "output", "result"}
    for host in ("web01", "web02", "db01"):
        said = {
            stream: "".join(line["text"] for line in lines if line.get("stream") == stream and line["host"] == host)
            for stream in ("stdout", "stderr")
        }
        assert said == {"stdout": "to-out\n", "stderr": "to-err\n"}
        (ended,) = [
            line
            for line in lines
            if line["event"] == "target" and line.get("exit_status") is not None and line["host"] == host
        ]
        assert ended["exit_status"] == 2 and ended["state"] == "exit_nonzero"
    assert lines[-1]["event"] == "result" and lines[-1]["exit_status"] == 1
    assert lines[-1]["counts"] == {"exit_nonzero": 3}


def test_output_is_live_and_both_streams_keep_their_order(site: Any, gate: Callable[[str], Any]) -> None:
    step = gate("step")
    script = f"for n in 0 1 2 3 4; do echo o$n; read _ < {step.path}; echo e$n >&2; read _ < {step.path}; done"
    with site.start("exec", "-t", "web01", "--shell", script, stderr=subprocess.STDOUT) as process:
        # The command waits for us and we for its line: each line is here before the next is written.
        for number in range(5):
            for kind in "oe":
                assert line_of(process) == f"web01 | {kind}{number}\n"
                step.open()
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_reader_that_leaves_ends_it_quietly(site: Any) -> None:
    line = " ".join(map(shlex.quote, site.command("exec", "-t", "web01", "--shell", "seq 200000")))
    done = subprocess.run(
        ["bash", "-c", f"{line} | head -1; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True, timeout=30
    )
    assert done.stdout.splitlines() == ["web01 | 1", "141"]
    assert done.stderr == ""


def test_stdin_goes_along_and_environment_directory_and_user_hold(site: Any, tmp_path: Path) -> None:
    done = site.run(
        "exec", "-t", "web01", "--stdin", "-", "--env", "COLOUR=red", "--cwd", str(tmp_path),
        "--shell", "cat; echo $COLOUR; pwd",
        input=b"from stdin\n",
    )  # fmt: skip
    assert done.stdout.splitlines() == ["web01 | from stdin", "web01 | red", f"web01 | {tmp_path}"]


def test_exit_137_and_a_real_sigkill_are_told_apart(site: Any) -> None:
    done = site.run("exec", "-t", "web01", "--shell", "exit 137")
    assert done.returncode == 1 and "exit status 137" in done.stderr
    done = site.run("exec", "-t", "web01", "--shell", "kill -9 $$")
    assert done.returncode == 1 and "SIGKILL" in done.stderr and "137" not in done.stderr


def test_a_command_can_open_dev_stdout(site: Any) -> None:
    done = site.run("exec", "-t", "web01", "--shell", "echo one > /dev/stdout; echo two > /dev/stderr; echo three")
    assert done.stdout.splitlines() == ["web01 | one", "web01 | three"]
    assert "web01 | two" in done.stderr


def test_two_when_nobody_is_central_at_the_address(site: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        api = f"https://127.0.0.1:{closed.getsockname()[1]}"
    context = tmp_path / "context.toml"
    save_context(msgspec.structs.replace(load_context(site.context), api=api), context)
    done = site.run_as(("--context", str(context)), "exec", "-t", "web01", "--shell", "true")
    assert done.returncode == 2 and codes.CENTRAL_UNREACHABLE.code in done.stderr


async def test_a_central_that_stands_still_is_told_as_silent(site: Any) -> None:
    async with Fleet.connect(site.context) as fleet:
        await fleet.health()
        os.kill(site.said["pid"], signal.SIGSTOP)
        try:
            with pytest.raises(TimedOut) as caught:
                await fleet.transport.post("/v1/jobs", b"{}", JobAnswer, seconds=0.5)
        finally:
            os.kill(site.said["pid"], signal.SIGCONT)
        assert caught.value.code is codes.CENTRAL_SILENT
        assert (await fleet.health()).hosts_up >= 3


def test_output_of_a_host_that_has_none_is_told_as_missing(site: Any) -> None:
    with site.fleet() as fleet:
        result = fleet.run("web01", ["true"]).result()
        with pytest.raises(NotFound) as caught:
            result.output("web02")
    assert caught.value.code is codes.OUTPUT_MISSING
