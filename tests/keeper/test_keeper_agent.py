"""The keeper as the agent's parent: it starts it, starts it again, stops it, and weighs little."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from agentd.keeper import main

REPOSITORY = Path(__file__).parents[2]
# An agent that says its pid and what descriptors it was born with, then waits to be ended.
PARENT = """
import os, signal, sys
def agent():
    print(os.getpid(), len(os.listdir("/proc/self/fd")), flush=True)
    {body}
from agentd.keeper.main import run
raise SystemExit(run({state!r}, agent))
"""


def start(state: Path, body: str, log: object = None) -> subprocess.Popen:
    code = PARENT.format(body=body, state=str(state))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=log, bufsize=0, cwd=REPOSITORY)


def line(keeper: subprocess.Popen) -> list[int]:
    assert keeper.stdout is not None
    assert select.select([keeper.stdout], [], [], 30)[0], "the agent did not start in time"
    return [int(word) for word in keeper.stdout.readline().split()]


def finish(keeper: subprocess.Popen) -> int:
    keeper.terminate()
    try:
        return keeper.wait(30)
    finally:
        assert keeper.stdout is not None
        keeper.stdout.close()


def test_an_agent_that_dies_is_started_again_and_inherits_nothing_of_the_keeper(tmp_path):
    keeper = start(tmp_path / "state", "signal.pause()")
    try:
        first, descriptors = line(keeper)
        os.kill(first, signal.SIGKILL)
        second, _ = line(keeper)
        assert second != first
        # 0, 1, 2 and the one that lists them.
        assert descriptors == 4
        assert int(Path(f"/proc/{second}/stat").read_text().split()[3]) == keeper.pid
    finally:
        assert finish(keeper) == 0
    assert not Path(f"/proc/{second}").exists()


def test_a_log_that_cannot_be_written_ends_nobody(tmp_path):
    with open("/dev/full", "wb") as full:
        keeper = start(tmp_path / "state", "signal.pause()", log=full)
    try:
        first, _ = line(keeper)
        os.kill(first, signal.SIGKILL)
        second, _ = line(keeper)
        assert second != first
    finally:
        assert finish(keeper) == 0


def test_an_agent_that_ignores_term_does_not_keep_the_keeper_from_leaving(tmp_path):
    keeper = start(tmp_path / "state", "signal.signal(15, signal.SIG_IGN); print(1, flush=True)\n    signal.pause()")
    try:
        agent, _ = line(keeper)
        assert line(keeper) == [1]
    finally:
        assert finish(keeper) == 0
    assert not Path(f"/proc/{agent}").exists()


def test_an_agent_that_cannot_start_is_reported_and_tried_again(tmp_path):
    keeper = start(tmp_path / "state", "raise SystemExit(3)")
    try:
        assert line(keeper) != line(keeper)
    finally:
        assert finish(keeper) == 0


def test_each_early_end_of_an_agent_is_told_and_the_pauses_grow(tmp_path):
    code = PARENT.format(body="raise SystemExit(3)", state=str(tmp_path / "state"))
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, bufsize=0, cwd=REPOSITORY) as keeper:
        assert keeper.stderr is not None
        said = [keeper.stderr.readline().decode() for _ in range(4)]
        keeper.terminate()
        assert keeper.wait(30) == 0
    assert said == [
        f"agentd: the agent ended with status 3; started again in {pause} s\n" for pause in ("0.2", "0.4", "0.8", "1.6")
    ]


def test_an_agent_that_had_lived_for_a_while_is_back_at_once_however_often_it_was_killed():
    pause, pauses = 0.0, []
    for lived in (1.0, 1.0, 1.0, main.RESTART_RESET, 1.0, *(1.0 for _ in range(9)), main.RESTART_RESET):
        pause = main.next_pause(lived, pause)
        pauses.append(pause)
    assert pauses[:5] == [0.2, 0.4, 0.8, 0.2, 0.4]
    assert pauses[-2:] == [main.RESTART_MAX, main.RESTART_FIRST]


def test_the_keeper_loads_nothing_heavy(tmp_path):
    script = f"""
import sys, os, signal
before = set(sys.modules)
import agentd.keeper.main as main
class Stop(main.KeeperShell):
    def turn(self, until):
        os.kill(os.getpid(), signal.SIGTERM)
        super().turn(until)
main.KeeperShell = Stop
assert main.run({str(tmp_path)!r}, None) == 0
print(*sorted(set(sys.modules) - before))
"""
    plain = [sys.executable, "-c", script]
    loaded = set(subprocess.run(plain, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout.split())
    heavy = {
        "asyncio",
        "msgspec",
        "subprocess",
        "logging",
        "dataclasses",
        "typing",
        "threading",
        "inspect",
        "ssl",
        "_hashlib",
    }
    assert not heavy & loaded
    ours = {name for name in loaded if name.partition(".")[0] in ("agentd", "libstaragent", "opsconsole", "p2p")}
    assert ours == {
        *("agentd", "agentd.keeper", "agentd.keeper.cgroups", "agentd.keeper.command", "agentd.keeper.link"),
        *("agentd.keeper.log", "agentd.keeper.main", "agentd.keeper.processes", "agentd.keeper.shell"),
        *("agentd.keeper.spawn",),
        *("agentd.keeper.spoolfile", "libstaragent", "libstaragent.codes", "libstaragent.errors"),
        "libstaragent.codes.executor",
        *(
            "libstaragent.jobs",
            "libstaragent.jobs.digest",
            "libstaragent.jobs.shapes",
            "libstaragent.jobs.spool",
            "libstaragent.roles",
        ),
        *("libstaragent.roles.keeper", "libstaragent.roles.keeper_effects", "libstaragent.roles.keeper_frames"),
        *(
            "libstaragent.jobs.ledger",
            "libstaragent.roles.keeper_job",
            "libstaragent.roles.keeper_spec",
            "libstaragent.roles.keeper_summary",
        ),
        *(
            "agentd.keeper.disk",
            "agentd.keeper.filework",
            "agentd.keeper.forker",
            "agentd.keeper.kept",
            "agentd.keeper.ledger",
            "libstaragent.roles.keeper_task",
        ),
    }
