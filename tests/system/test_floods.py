"""Much output through a real fleet: memory stays bounded, what views lose is counted, and nothing stored is lost."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import psutil
import pytest

from libstaragent.model.api import Lagged, OutputLive

MIB = 1024 * 1024
GIB = 1024 * MIB
ZEROS = bytes(MIB)
# What one process may grow by while a host prints a gigabyte: some buffers of a result's size.
GROWTH = 48 * MIB


class Memory:
    """The resident memory of the processes that a host's output passes."""

    def __init__(self, site: Any, host: str) -> None:
        agent = site.agent_process(host)
        self._processes = {
            "control plane": psutil.Process(site.up_process.pid),
            "agent": psutil.Process(agent.pid),
            "keeper": psutil.Process(site.keepers[host].pid),
        }
        self._before = {name: process.memory_info().rss for name, process in self._processes.items()}

    def grown(self) -> dict[str, int]:
        """The names of those that grew too much, and by how many bytes."""
        found = {name: process.memory_info().rss - self._before[name] for name, process in self._processes.items()}
        return {name: grown for name, grown in found.items() if grown > GROWTH}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_gigabyte_is_counted_and_hashed_and_costs_no_memory(site: Any) -> None:
    site.run("exec", "-t", "web01", "--", "true")
    memory = Memory(site, "web01")
    whole = hashlib.sha256()
    with site.fleet() as fleet:
        job = fleet.run("web01", ["head", "-c", str(GIB), "/dev/zero"], background=True)
        # While it prints.
        for _ in range(GIB // MIB):
            whole.update(ZEROS)
        (target,) = job.result().targets
    assert memory.grown() == {}
    assert (target.state, target.stdout_bytes, target.stdout_sha256) == ("ok", GIB, whole.hexdigest())


def test_a_reader_that_does_not_read_holds_up_nobody_and_loses_only_its_view(site: Any) -> None:
    site.run("exec", "-t", "web01", "--", "true")
    with site.fleet() as fleet, site.http() as http:
        began = fleet.run("web01", ["sh", "-c", "read line; yes | head -c 100M; echo end"], stdin=b"")
        memory = Memory(site, "web01")
        with http.stream("GET", f"/v1/jobs/{began.id}/events") as unread:
            done = site.run("exec", "-t", "web02", "--", "echo", "others go on")
            assert (done.returncode, done.stdout) == (0, "web02 | others go on\n")
            (target,) = began.result().targets
            assert memory.grown() == {}
            assert (target.state, target.stdout_bytes) == ("ok", 100 * MIB + 4)
            seen = dropped = lagged = 0
            for line in unread.iter_lines():
                if line.startswith("data: "):
                    for event in json.loads(line[6:])["events"]:
                        if event["type"] == OutputLive.__struct_config__.tag:
                            seen += len(event["data"]) * 3 // 4
                            dropped += event["dropped"]
                        lagged += event["type"] == Lagged.__struct_config__.tag
        assert seen < 100 * MIB
        assert dropped or lagged
        kept = fleet.job(began.id).output("web01")
        assert kept.stdout.startswith(b"y\ny\n") and kept.stdout.endswith(b"end\n")
        assert len(kept.stdout) + kept.omitted == target.stdout_bytes
