"""Timeout and cancel end a command whole, however it hides; a normal end names what is left and leaves it be."""

from __future__ import annotations

import os
import select
import signal
import time

import pytest

from libstaragent import codes

# Forks a daemon that has its own session, no parent, ignores TERM, and says its pid. Shell only: any user has it.
HIDER = """(setsid sh -c 'trap "" TERM HUP INT; echo daemon $$; while :; do sleep 1000; done' &)
trap "" TERM; echo main $$; while :; do sleep 1000; done"""


def pids(output: bytes) -> list[int]:
    return [int(line.split()[1]) for line in output.splitlines()]


def test_a_command_past_its_time_is_ended_and_says_so(any_keeper, new_job):
    end = any_keeper.link.run(new_job(), ["sleep", "1000"], timeout_ms=100)
    assert (end["state"], end["code"], end["signal"]) == ("timeout", codes.COMMAND_TIMEOUT.code, signal.SIGTERM)
    assert end["ran"] == "yes"


def test_a_command_may_clean_up_on_term_and_its_last_words_and_status_are_kept(any_keeper, new_job):
    job = new_job()
    script = "trap 'echo cleaned; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    any_keeper.link.spawn(job, ["sh", "-c", script])
    any_keeper.await_output(job, 1)
    any_keeper.link.send(op="kill", job=job, reason="cancelled")
    end = any_keeper.link.event("finished", job)
    assert (end["state"], end["exit_status"], end["signal"]) == ("cancelled", 3, None)
    assert b"cleaned\n" in any_keeper.output(job), "beside what the shell says of its child, in either order"


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_a_daemon_that_left_its_session_and_ignores_term_dies_with_its_job(any_keeper, new_job, watch_process, how):
    job = new_job()
    limit = 60_000 if how == "cancel" else 1_000
    any_keeper.link.spawn(job, ["sh", "-c", HIDER], kill_grace_ms=200, timeout_ms=limit)
    hidden = [watch_process(pid) for pid in pids(any_keeper.await_output(job, 2))]
    assert len({os.getsid(process.pid) for process in hidden}) == 2
    if how == "cancel":
        any_keeper.link.send(op="kill", job=job, reason="cancelled")
    end = any_keeper.link.event("finished", job)
    assert (end["state"], end["signal"]) == ({"cancel": "cancelled"}.get(how, how), signal.SIGKILL)
    assert end["left_running"] == []
    assert all(process.ended() for process in hidden)


def test_a_stopped_command_is_ended_too(any_keeper, new_job):
    job = new_job()
    any_keeper.link.spawn(job, ["sh", "-c", "echo here; kill -STOP $$"], kill_grace_ms=5_000)
    any_keeper.await_output(job, 1)
    any_keeper.link.send(op="kill", job=job)
    assert any_keeper.link.event("finished", job)["signal"] == signal.SIGTERM


# As on a host that has only the first version of control groups.
ONLY_V1 = """
import agentd.keeper.cgroups as groups
mounts = groups._mounts
groups._mounts = lambda: [mount for mount in mounts() if mount[0] != "cgroup2"]
"""


@pytest.mark.parametrize("driver", ["", ONLY_V1], ids=["any version", "version 1"])
def test_a_fence_holds_a_daemon_that_hides_its_environment_and_parents(start_keeper, new_job, watch_process, driver):
    keeper = start_keeper(driver=driver)
    job = new_job()
    script = "(env -i setsid sh -c 'echo daemon $$; exec sleep 1000' &); exec sleep 1000"
    keeper.link.spawn(job, ["sh", "-c", script])
    daemon = watch_process(pids(keeper.await_output(job, 1))[0])
    with open(f"/proc/{daemon.pid}/cgroup") as file:
        if job not in file.read():
            pytest.skip("no control group can be made here")
    keeper.link.send(op="kill", job=job)
    assert keeper.link.event("finished", job)["state"] == "cancelled"
    assert daemon.ended()


def test_what_a_finished_command_left_running_is_named_and_lives_on(any_keeper, new_job, watch_process):
    job = new_job()
    # The daemon holds both pipes and writes far more into them than they hold: nobody reading would stop it for good.
    script = "setsid sh -c 'echo $$; yes | head -c 1000000; exec sleep 1000' & head -n 0; read x < /dev/null; exit 5"
    any_keeper.link.spawn(job, ["sh", "-c", script])
    end = any_keeper.link.event("finished", job)
    assert (end["state"], end["exit_status"]) == ("exit_nonzero", 5)
    assert end["left_running_count"] == len(end["left_running"]) >= 1
    left = [watch_process(process["pid"]) for process in end["left_running"]]
    shells = [process for process in left if process.alive()]
    assert shells, "it was still alive when the result was told"
    sleeper = next(process for process in left if os.getsid(process.pid) == process.pid)
    assert becomes_sleep(sleeper.pid), "its million bytes were taken off its hands"
    assert sleeper.alive()


def becomes_sleep(pid: int) -> bool:
    """Whether a process has come to its last exec, in time."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with open(f"/proc/{pid}/comm") as file:
            if file.read() == "sleep\n":
                return True
        select.select([], [], [], 0.02)
    return False


def test_what_is_left_of_one_command_is_not_taken_for_another_s(any_keeper, new_job, watch_process):
    long, short, plain = new_job(), new_job(), new_job()
    any_keeper.link.spawn(long, ["sh", "-c", "(sleep 1001 &); echo here; read x < /dev/null; exec sleep 1002"])
    any_keeper.await_output(long, 1)
    any_keeper.link.run(short, ["sh", "-c", "(sleep 1003 &)"])
    any_keeper.link.run(plain, ["true"])
    any_keeper.link.send(op="kill", job=long)
    any_keeper.link.event("finished", long)
    ends = {event["job"]: event for event in any_keeper.link.events if event["ev"] == "finished"}
    assert ends[plain]["left_running"] == ends[long]["left_running"] == []
    (left,) = ends[short]["left_running"]
    assert watch_process(left["pid"]).alive(), "neither end of the others reached it"


def test_a_result_does_not_wait_for_a_daemon_that_holds_the_pipes(any_keeper, new_job, watch_process):
    job = new_job()
    end = any_keeper.link.run(job, ["sh", "-c", "sleep 1000 & echo done"])
    left = watch_process(end["left_running"][0]["pid"])
    assert end["left_running"][0]["comm"] in ("sh", "sleep"), "it may not have come to its exec yet"
    assert any_keeper.output(job) == b"done\n"
    assert left.alive()


def test_cancelling_a_finished_job_tells_its_end_again_and_an_unknown_one_is_an_error(keeper, new_job):
    job = new_job()
    keeper.link.run(job, ["true"])
    before = len(keeper.link.events)
    keeper.link.send(op="kill", job=job)
    assert keeper.link.wait(lambda event: event["ev"] == "finished", before)["state"] == "ok"
    keeper.link.send(op="kill", job=new_job())
    assert keeper.link.event("error")["code"] == codes.JOB_NOT_KEPT.code


def test_a_keeper_told_to_stop_ends_its_commands_and_writes_their_ends(start_keeper, new_job, watch_process):
    keeper = start_keeper()
    job = new_job()
    keeper.link.spawn(job, ["sh", "-c", HIDER], kill_grace_ms=200)
    hidden = [watch_process(pid) for pid in pids(keeper.await_output(job, 2))]
    assert keeper.stop() == 0
    assert all(process.ended() for process in hidden)
    assert keeper.slots(job) == ("whole", "whole", "whole")
    end = start_keeper().link.hello()[job]
    assert (end["state"], end["ran"], end["code"]) == ("interrupted", "yes", codes.COMMAND_INTERRUPTED.code)
