"""Whatever dies, and whenever: a command runs at most once, its job gets an end, and nothing of it stays behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from libstaragent import codes
from libstaragent.jobs.spool import FINISHED, STARTED, encode_slot

# The real keeper, which kills itself with -9 just before or after its n-th act for a job.
DYING = """
import os, signal
from agentd.keeper import main, shell
class Dying(shell.KeeperShell):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.acts = 0
        for kind, perform in list(self._acts.items()):
            self._acts[kind] = self.wrapped(perform)
    def wrapped(self, perform):
        def act(effect):
            if effect.job:
                self.acts += 1
            if self.acts == {number} and {before}:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = perform(effect)
            if self.acts == {number} and effect.job:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer
        return act
main.KeeperShell = Dying
"""
# CreateSpool, Fork, WriteStarted, Release, Tell; Drain, WriteFinished, Tell.
ACTS = 8


def times_run(marker: Path) -> int:
    return marker.read_bytes().count(b"ran") if marker.exists() else 0


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, ACTS + 1))
def test_a_keeper_killed_around_any_act_leaves_a_command_run_at_most_once(
    start_keeper, new_job, tmp_path, number, before
):
    job, marker = new_job(), tmp_path / "marker"
    dying = start_keeper(driver=DYING.format(number=number, before=before))
    dying.link.spawn(job, ["sh", "-c", f"echo ran >> {marker}"])
    assert dying.process.wait(30) == -9
    keeper = start_keeper()
    known = keeper.link.hello()
    if job not in known:
        assert times_run(marker) == 0
        assert keeper.link.run(job, ["sh", "-c", f"echo ran >> {marker}"])["state"] == "ok"
        assert times_run(marker) == 1
        return
    end = keeper.link.end_of(job)
    assert times_run(marker) in {"no": {0}, "maybe": {0, 1}, "yes": {1}}[end["ran"]]
    assert end["state"] in ("ok", "interrupted")
    assert (end["state"] == "ok") == (end["ran"] == "yes")
    before_again = times_run(marker)
    keeper.link.events.clear()
    again = keeper.link.run(job, ["sh", "-c", f"echo ran >> {marker}"])
    assert again["state"] == end["state"]
    assert times_run(marker) == before_again
    if number >= 4 and not (number == 4 and before):
        assert end["ran"] != "no"
    if number == 1:
        assert end["ran"] == "no"


def test_every_act_was_reached_by_the_kill_above(start_keeper, new_job):
    survivor = start_keeper(driver=DYING.format(number=ACTS + 1, before=True))
    assert survivor.link.run(new_job(), ["true"])["state"] == "ok"
    assert survivor.process.poll() is None


def test_a_keeper_killed_while_a_command_runs_is_succeeded_by_one_that_ends_it(start_keeper, new_job, watch_process):
    first = start_keeper()
    job = new_job()
    first.link.spawn(job, ["sh", "-c", "(setsid sh -c 'trap \"\" TERM; echo $$; sleep 1000' &); echo $$; sleep 1000"])
    left = [watch_process(int(pid)) for pid in first.await_output(job, 2).split()]
    first.kill()
    assert first.slots(job) == ("whole", "whole", "blank")
    assert all(process.alive() for process in left), "they outlived their keeper"
    second = start_keeper()
    end = second.link.end_of(job)
    assert (end["state"], end["ran"], end["code"]) == ("interrupted", "maybe", codes.COMMAND_INTERRUPTED.code)
    assert all(process.ended() for process in left)
    assert end["stdout_bytes"] == len(second.output(job)) > 0
    assert end["started_ms"] > 0


def test_leftovers_are_found_without_control_groups_too(any_keeper, start_keeper, new_job, watch_process):
    job = new_job()
    any_keeper.link.spawn(job, ["sh", "-c", "(setsid sh -c 'echo $$; sleep 1000' &); echo $$; sleep 1000"])
    left = [watch_process(int(pid)) for pid in any_keeper.await_output(job, 2).split()]
    any_keeper.kill()
    user = any_keeper.state.stat().st_uid or None
    second = start_keeper(state=any_keeper.state, user=user)
    assert second.link.end_of(job)["state"] == "interrupted"
    assert all(process.ended() for process in left)


def test_a_pid_that_went_to_someone_else_is_not_killed(start_keeper, new_job, watch_process):
    first = start_keeper()
    job = new_job()
    end_file = first.state / "spool" / job
    first.link.run(job, ["true"])
    first.kill()
    # The spool of a running command whose pid is now another process, this test's child, with another start time.
    innocent = os.fork()
    if innocent == 0:
        os.setsid()
        os.execvp("sleep", ["sleep", "1000"])
    watched = watch_process(innocent)
    try:
        record = {"pid": innocent, "start_time": 1, "boot_id": "", "at_ms": 1}
        with open(end_file, "r+b") as file:
            file.seek(STARTED.offset)
            file.write(encode_slot(STARTED, record))
            file.seek(FINISHED.offset)
            file.write(bytes(FINISHED.size))
        assert start_keeper().link.end_of(job)["state"] == "interrupted"
        assert watched.alive()
    finally:
        watched.kill()
        os.waitpid(innocent, 0)


@pytest.mark.parametrize("damage", ["empty", "short", "noise", "torn started", "torn finished", "torn reserved"])
def test_a_spool_that_is_torn_or_garbage_gets_an_end_and_harms_nobody(start_keeper, new_job, damage):
    first = start_keeper()
    good, bad = new_job(), new_job()
    first.link.run(good, ["echo", "kept"])
    first.link.run(bad, ["echo", "lost"])
    first.kill()
    path = Path(first.spool(bad))
    whole = path.read_bytes()
    hurt = {
        "empty": b"",
        "short": whole[:100],
        "noise": os.urandom(len(whole)),
        "torn started": whole[: STARTED.offset + 20] + bytes(len(whole) - STARTED.offset - 20),
        "torn finished": whole[: FINISHED.offset + 30] + bytes(300) + whole[FINISHED.offset + 330 :],
        "torn reserved": bytes(10) + whole[10:4096] + bytes(len(whole) - 4096),
    }[damage]
    path.write_bytes(hurt)
    (path.parent / "not-a-job").write_bytes(b"someone's note")
    second = start_keeper()
    assert second.link.hello()[good]["state"] == "ok"
    assert second.output(good) == b"kept\n"
    end = second.link.end_of(bad)
    assert end["state"] == "interrupted"
    assert end["ran"] == ("no" if damage == "empty" else "maybe")
    if damage != "empty":
        assert end["code"] == codes.SPOOL_DAMAGED.code
    assert second.slots(bad)[2] == "whole"
    assert (path.parent / "not-a-job").exists()
