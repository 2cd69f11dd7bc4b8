"""Commands are forked by a small process beside the keeper, and are the keeper's children all the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from agentd.keeper.forker import REQUEST_MAX, Forker, can_fork_for_parent
from agentd.keeper.spawn import GatedChild

pytestmark = pytest.mark.skipif(not can_fork_for_parent(), reason="the keeper forks by itself here")


def forkers(keeper) -> list[int]:
    children = psutil.Process(keeper.process.pid).children()
    return [child.pid for child in children if Path(f"/proc/{child.pid}/comm").read_text() == "agentd-forker\n"]


def test_a_command_is_the_child_of_its_keeper_and_leads_its_own_session(keeper, new_job):
    job = new_job()
    assert keeper.link.run(job, ["sh", "-c", "cat /proc/$$/stat"])["state"] == "ok"
    pid, _, _, parent, group, session = keeper.output(job).split()[:6]
    assert int(parent) == keeper.process.pid
    assert pid == group == session


def test_one_process_forks_for_all_commands_and_holds_none_of_their_pipes(keeper, new_job):
    running = new_job()
    keeper.link.spawn(running, ["sh", "-c", "echo up; exec sleep 1000"])
    keeper.await_output(running, 1)
    (forker,) = forkers(keeper)
    assert keeper.link.run(new_job(), ["true"])["state"] == "ok"
    assert forkers(keeper) == [forker]
    # Null device, the keeper's own output, and its socket.
    assert {"0", "1", "2"} < set(os.listdir(f"/proc/{forker}/fd"))
    assert len(os.listdir(f"/proc/{forker}/fd")) == 4


def test_a_forker_that_is_killed_costs_no_command(keeper, new_job, watch_process):
    running = new_job()
    keeper.link.spawn(running, ["sh", "-c", "echo up; sleep 1000"])
    keeper.await_output(running, 1)
    (first,) = forkers(keeper)
    watched = watch_process(first)
    watched.kill()
    assert watched.ended()
    job = new_job()
    assert keeper.link.run(job, ["echo", "again"])["state"] == "ok"
    assert keeper.output(job) == b"again\n"
    assert keeper.link.run(new_job(), ["true"])["state"] == "ok"
    assert len(forkers(keeper)) == 1 and first not in forkers(keeper)
    keeper.link.send(op="kill", job=running)
    assert keeper.link.event("finished", running)["state"] == "cancelled"


def test_a_forker_ends_when_idle_and_the_next_command_gets_another(start_keeper, new_job, watch_process):
    keeper = start_keeper(driver="from agentd.keeper import forker\nforker.IDLE_SECONDS = 1")
    assert keeper.link.run(new_job(), ["true"])["state"] == "ok"
    (first,) = forkers(keeper)
    assert watch_process(first).ended()
    # The one that finds it gone is forked by the keeper itself.
    assert [keeper.link.run(new_job(), ["true"])["state"] for _ in range(2)] == ["ok", "ok"]
    assert len(forkers(keeper)) == 1 and forkers(keeper) != [first]


def test_a_forker_ends_with_its_keeper_however_that_ends(start_keeper, new_job, watch_process):
    for end in (signal.SIGKILL, signal.SIGTERM):
        keeper = start_keeper()
        assert keeper.link.run(new_job(), ["true"])["state"] == "ok"
        watched = watch_process(forkers(keeper)[0])
        keeper.process.send_signal(end)
        keeper.process.wait(30)
        assert watched.ended()


def test_a_command_too_long_to_hand_over_is_forked_by_the_keeper_itself(keeper, new_job):
    job = new_job()
    end = keeper.link.run(job, ["sh", "-c", 'echo "${#1}"', "sh", "x" * REQUEST_MAX])
    assert end["state"] == "ok"
    assert keeper.output(job) == b"%d\n" % REQUEST_MAX
    assert forkers(keeper) == []


def test_a_child_that_fails_before_it_can_say_so_is_no_success():
    forker = Forker(lambda request, descriptors: request[len(request)])
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        pid = forker.fork(b"request", [null])
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 127
    finally:
        forker.close()
        os.close(null)
        os.waitpid(forker.pid, 0)


def test_a_child_that_has_ended_has_no_more_to_say_though_who_forked_it_still_holds_its_pipe():
    read, write = os.pipe()
    os.set_blocking(read, False)
    child = GatedChild(os.getpid(), os.dup(write), read, None, -1, -1)
    assert child.failure() is None
    child.abort()
    os.close(write)
