"""Ending many jobs at once on a busy host: all look at the processes once, and each still finds its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
JOBS = 30
# A keeper's hands without its loop; the interpreter itself reports each time that all of /proc is listed.
SCRIPT = """
import json, os, sys, time
from agentd.keeper.shell import KeeperShell
looks = 0
def audit(event, arguments):
    global looks
    looks += event == "os.listdir" and arguments[0] == "/proc"
sys.addaudithook(audit)
shell = KeeperShell({state!r}, private=())
jobs = [f"01J{{number:023d}}" for number in range({jobs})]
def ask(op, job, **more):
    shell.perform(shell.core.on_request({{"op": op, "job": job, **more}}, time.monotonic()))
for job in jobs:
    ask("spawn", job, spec={{"argv": ["sleep", "60"], "timeout_ms": 60_000}})
    shell.commit()
before = looks
for job in jobs:
    ask("kill", job, reason="cancelled")
asked = looks - before
before = looks
shell.perform(shell.core.on_time(time.monotonic() + 1))
counted = looks - before
before = looks
ended = {{}}
for _ in jobs:
    pid, status = os.wait()
    ended[pid] = os.WTERMSIG(status)
signals = sorted(ended.values())
print(json.dumps([asked, counted, signals]))
"""


def test_many_jobs_that_are_ended_at_once_share_one_look_at_the_processes(tmp_path):
    script = SCRIPT.format(state=str(tmp_path), jobs=JOBS)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY, timeout=60
    )
    asked, counted, signals = json.loads(done.stdout)
    assert signals == [15] * JOBS
    # One, or a few where the machine is so slow that the look grows old meanwhile; never one a job.
    assert 1 <= asked <= JOBS // 3 and counted <= JOBS // 3


# A job that is started and cancelled in one breath comes after the look that another's cancel took.
BREATH = """
import os, time
from agentd.keeper.shell import KeeperShell
shell = KeeperShell({state!r}, private=())
jobs = [f"01J{{number:023d}}" for number in range(2)]
def ask(op, job, **more):
    shell.perform(shell.core.on_request({{"op": op, "job": job, **more}}, time.monotonic()))
for job in jobs:
    ask("spawn", job, spec={{"argv": ["sleep", "60"], "timeout_ms": 60_000}})
    shell.commit()
    ask("kill", job, reason="cancelled")
print(*(os.WTERMSIG(os.wait()[1]) for _ in jobs))
"""


def test_a_job_that_began_after_the_look_is_seen_too(tmp_path):
    script = BREATH.format(state=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY, timeout=50
    )
    assert done.stdout.split() == ["15", "15"]
