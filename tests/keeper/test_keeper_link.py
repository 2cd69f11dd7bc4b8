"""The socket between agent and keeper: hostile bytes, another agent, spawning twice, a full disk, a second keeper."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agentd.keeper.main import run
from agentd.keeper.spoolfile import SpoolReader
from libstaragent import codes
from libstaragent.errors import Conflict
from libstaragent.roles.keeper_frames import FRAME_MAX


@pytest.mark.parametrize(
    "garbage",
    [b"\xff" * 64, (FRAME_MAX + 1).to_bytes(4, "big"), b"\0\0\0\x04{{{{", b"\0\0\0\x02[]", b"\0\0\0\x00"],
    ids=["noise", "too long", "no json", "no object", "empty"],
)
def test_bytes_that_are_no_frames_end_the_connection_with_a_code_and_nothing_else(keeper, new_job, garbage):
    job = new_job()
    keeper.link.spawn(job, ["sh", "-c", "echo alive; sleep 1000"])
    keeper.await_output(job, 1)
    keeper.link.socket.sendall(garbage)
    assert keeper.link.hung_up()
    assert keeper.link.event("error")["code"] == codes.KEEPER_FRAME.code
    keeper.connect()
    assert keeper.link.hello()[job]["state"] == "running"


def test_a_frame_may_come_in_any_pieces(keeper, new_job):
    from libstaragent.roles.keeper_frames import encode_frame

    job = new_job()
    frame = encode_frame({"op": "spawn", "job": job, "spec": {"argv": ["true"], "timeout_ms": 1000}})
    for byte in frame:
        keeper.link.socket.sendall(bytes([byte]))
    assert keeper.link.event("finished", job)["state"] == "ok"


@pytest.mark.parametrize(
    "message",
    [{}, {"op": "spawn"}, {"op": "spawn", "job": "../../etc/passwd"}, {"op": "dance", "job": "0" * 26}, {"op": 7}],
)
def test_a_request_that_makes_no_sense_is_answered_with_an_error(keeper, message):
    keeper.link.send(**message)
    assert keeper.link.event("error")["code"] == codes.KEEPER_FRAME.code


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (None, "spec"),
        ({"argv": [], "timeout_ms": 1}, "argv"),
        ({"argv": ["a\0b"], "timeout_ms": 1}, "argv"),
        ({"argv": [""], "timeout_ms": 1}, "argv"),
        ({"argv": ["true"]}, "timeout_ms"),
        ({"argv": ["true"], "timeout_ms": True}, "timeout_ms"),
        ({"argv": ["true"], "timeout_ms": 1, "env": {"A=B": "c"}}, "env"),
        ({"argv": ["true"], "timeout_ms": 1, "stdin_b64": "?"}, "stdin_b64"),
        ({"argv": ["true"], "timeout_ms": 1, "stdin_b64": "AAAA" * 30_000}, "stdin"),
        ({"argv": ["true"], "timeout_ms": 1, "limits": {"joy": 1}}, "limits"),
        ({"argv": ["true"], "timeout_ms": 1, "output_head": 200_000, "output_tail": 200_000}, "output_head"),
        ({"argv": ["true"], "timeout_ms": 1, "cwd": 3}, "cwd"),
        ({"argv": ["true"], "timeout_ms": 1, "nice": 3}, "nice"),
        ({"argv": ["\ud800"], "timeout_ms": 1}, "argv"),
    ],
)
def test_a_wrong_spec_is_refused_by_the_name_of_its_field_and_leaves_nothing(keeper, new_job, spec, field):
    job = new_job()
    keeper.link.send(op="spawn", job=job, spec=spec)
    refusal = keeper.link.event("refused", job)
    assert refusal["code"] == codes.COMMAND_SPEC.code
    assert field in refusal["detail"]
    assert keeper.link.hello() == {}
    assert not os.path.exists(keeper.spool(job))


def test_spawning_a_job_again_never_starts_it_again(keeper, new_job, tmp_path):
    marker, fifo, job = tmp_path / "marker", tmp_path / "go", new_job()
    os.mkfifo(fifo)
    command = ["sh", "-c", f"echo ran >> {marker}; echo here; cat {fifo}"]
    keeper.link.spawn(job, command)
    keeper.await_output(job, 1)
    first = keeper.link.event("started", job)
    keeper.link.events.clear()
    keeper.link.spawn(job, command)
    assert keeper.link.event("started", job) == first
    fifo.write_bytes(b"")
    end = keeper.link.event("finished", job)
    keeper.link.events.clear()
    assert keeper.link.run(job, ["sh", "-c", "exit 9"]) == end
    assert marker.read_bytes() == b"ran\n"


def test_a_new_connection_takes_over_from_the_old_and_follows_the_output_on(keeper, new_job, tmp_path):
    fifo, job = tmp_path / "go", new_job()
    os.mkfifo(fifo)
    keeper.link.spawn(job, ["sh", "-c", f"echo one; cat {fifo}"])
    keeper.await_output(job, 1)
    old = keeper.link
    new = keeper.connect()
    known = new.hello()[job]
    assert old.hung_up()
    assert (known["state"], known["end"], known["done"]) == ("running", 4, False)
    assert known["pid"] > 0
    new.send(op="watch", job=job, on=True, **{"from": known["end"]})
    fifo.write_bytes(b"two\n")
    assert new.event("output", job)["end"] == 8
    assert new.event("finished", job)["stdout_bytes"] == 8
    with SpoolReader(keeper.spool(job)) as spool:
        assert spool.follow(4) == ([(1, b"two\n")], 8, 0)


def test_a_result_without_an_agent_waits_for_one(keeper, new_job, tmp_path):
    fifo, job = tmp_path / "go", new_job()
    os.mkfifo(fifo)
    keeper.link.spawn(job, ["sh", "-c", f"cat {fifo}"])
    keeper.link.event("started", job)
    keeper.link.socket.close()
    fifo.write_bytes(b"alone\n")
    keeper.connect()
    assert keeper.link.end_of(job)["state"] == "ok"
    assert keeper.output(job) == b"alone\n"


def test_a_forgotten_job_is_gone_from_disk_and_forgetting_again_is_no_error(keeper, new_job):
    job = new_job()
    keeper.link.run(job, ["true"])
    for _ in range(2):
        keeper.link.send(op="forget", job=job)
    assert keeper.link.hello() == {}
    assert not os.path.exists(keeper.spool(job))


def test_a_running_job_cannot_be_forgotten(keeper, new_job):
    job = new_job()
    keeper.link.spawn(job, ["sleep", "1000"])
    keeper.link.event("started", job)
    keeper.link.send(op="forget", job=job)
    assert keeper.link.hello()[job]["state"] == "running"
    assert os.path.exists(keeper.spool(job))


def test_more_commands_than_the_keeper_takes_are_refused_and_the_others_go_on(keeper, new_job):
    running = [new_job() for _ in range(128)]
    for job in running:
        keeper.link.spawn(job, ["sleep", "1000"])
    one_more = new_job()
    assert keeper.link.run(one_more, ["true"])["code"] == codes.KEEPER_BUSY.code
    keeper.link.send(op="kill", job=running[0])
    assert keeper.link.event("finished", running[0])["state"] == "cancelled"
    assert keeper.link.wait(lambda _: True, len(keeper.link.events) - 1)
    keeper.link.events.clear()
    assert keeper.link.run(one_more, ["true"])["state"] == "ok"


def test_a_long_list_of_results_comes_in_pages(keeper, new_job):
    for _ in range(101):
        keeper.link.run(new_job(), ["true"])
    keeper.link.send(op="hello")
    last = keeper.link.wait(lambda event: event["ev"] == "known" and not event["more"])
    pages = [event for event in keeper.link.events if event["ev"] == "known"]
    assert [len(page["jobs"]) for page in pages] == [100, 1]
    assert pages[-1] is last


def test_a_second_keeper_on_the_same_directory_is_refused_by_code(keeper):
    with pytest.raises(Conflict) as refusal:
        run(str(keeper.state), None)
    assert refusal.value.code is codes.KEEPER_RUNNING
    assert str(keeper.process.pid) in refusal.value.detail
    assert keeper.link.hello() == {}


def test_a_socket_under_a_very_long_path_works(start_keeper, tmp_path, new_job):
    state = tmp_path / ("long" * 20) / ("longer" * 20)
    state.mkdir(parents=True)
    here = os.getcwd()
    os.chdir(state)
    try:
        short = Path(".")
        process = subprocess.Popen(
            [sys.executable, "-c", f"from agentd.keeper.main import run; raise SystemExit(run({str(state)!r}, None))"],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        try:
            import select
            import time

            deadline = time.monotonic() + 30
            connection = socket.socket(socket.AF_UNIX)
            while connection.connect_ex(str(short / "keeper.sock")):
                assert process.poll() is None
                assert time.monotonic() < deadline
                select.select([], [], [], 0.01)
            connection.close()
        finally:
            process.terminate()
            assert process.wait(30) == 0
    finally:
        os.chdir(here)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("cannot mount here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> None:
    """Fill it to the last page, and prove it."""
    with open(disk / "filler", "wb", buffering=0) as file:
        with pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))


def test_on_a_full_disk_nothing_is_started_and_the_job_can_come_again(small_disk, start_keeper, new_job, tmp_path):
    marker, job = tmp_path / "marker", new_job()
    keeper = start_keeper(state=small_disk / "state")
    fill(small_disk)
    refusal = keeper.link.run(job, ["touch", str(marker)])
    assert (refusal["ev"], refusal["code"], refusal["errno"]) == ("refused", codes.SPOOL_REFUSED.code, 28)
    assert not marker.exists()
    assert not os.path.exists(keeper.spool(job))
    (small_disk / "filler").unlink()
    keeper.link.events.clear()
    assert keeper.link.run(job, ["touch", str(marker)])["state"] == "ok"
    assert marker.exists()


def test_a_disk_that_fills_up_under_a_command_costs_output_and_never_its_result(
    small_disk, start_keeper, new_job, tmp_path
):
    fifo, job = tmp_path / "go", new_job()
    os.mkfifo(fifo)
    keeper = start_keeper(state=small_disk / "state")
    keeper.link.spawn(job, ["sh", "-c", f"echo one; cat {fifo}; head -c 500000 /dev/zero; exit 4"])
    keeper.await_output(job, 1)
    fill(small_disk)
    fifo.write_bytes(b"")
    end = keeper.link.event("finished", job)
    assert (end["state"], end["exit_status"], end["stdout_bytes"]) == ("exit_nonzero", 4, 500_004)
    assert len(keeper.output(job)) >= 64 * 1024
    assert end["omitted_bytes"] == 500_004 - len(keeper.output(job))
    keeper.kill()
    again = start_keeper(state=small_disk / "state").link.hello()[job]
    assert again["exit_status"] == 4


def test_another_user_who_reaches_the_socket_is_not_listened_to(keeper, new_job):
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    directory = os.open(keeper.state, os.O_RDONLY | os.O_DIRECTORY)
    (keeper.state / "keeper.sock").chmod(0o666)
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            os.fchdir(directory)
            os.setgid(65534)
            os.setuid(65534)
            connection = socket.socket(socket.AF_UNIX)
            connection.connect("keeper.sock")
            connection.settimeout(20)
            theirs.send(b"hung up" if connection.recv(1) == b"" else b"spoken to")
        except PermissionError:
            theirs.send(b"no way in")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(directory)
    assert ours.recv(20) in (b"hung up", b"no way in")
    ours.close()
    theirs.close()
    assert keeper.link.hello() == {}, "and the agent was not cut off for it"
