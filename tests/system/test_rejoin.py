"""A host that was away for longer than its certificate lives comes back under its own name."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

from libstaragent import codes


def test_a_host_joins_anew_under_its_name_and_its_old_identity_is_refused(new_site: Callable[..., Any]) -> None:
    site = new_site("web01", "web02")
    with site.fleet() as fleet:
        before = fleet.host("web01").id
    site.stop_agent("web01")
    # What somebody else may have of it: the same identity on another disk.
    shutil.copytree(site.host_state("web01"), site.host_state("old"), ignore=shutil.ignore_patterns("*.sock"))

    plain = rejoin(site, site.issue("--name", "web01"))
    assert plain.returncode != 0 and codes.HOST_NAME_TAKEN.code in plain.stderr, "a plain token takes no name away"
    refused = site.run("token", "--replaces", "--name", "web*")
    assert refused.returncode != 0 and codes.ENVELOPE_FIELD.code in refused.stderr, "it names one host"

    token = site.issue("--replaces", "--name", "web01")
    other = rejoin(site, token, name="web02")
    assert other.returncode != 0 and codes.TOKEN_SCOPE.code in other.stderr
    done = rejoin(site, token)
    assert done.returncode == 0, done.stderr
    assert (site.host_state("web01") / f"old-{before}" / "identity.json").exists()
    site.start_agent("web01")
    site.until_state("up", "web01")
    with site.fleet() as fleet:
        assert fleet.host("web01").id != before and len(fleet.hosts()) == 2
    assert site.run("exec", "--ttl", "20", "-t", "web01", "--", "true").returncode == 0

    # Over a restart too: its certificate has days to live.
    assert site.down() == 0
    site.up()
    site.until_state("up", "web01")
    site.start_agent("old", log_to_pipe=True)
    assert codes.HOST_REPLACED.code in site.log_line("old", "SA-43")
    assert site.run("exec", "--ttl", "20", "-t", "all", "--", "true").returncode == 0


def rejoin(site: Any, token: str, *, name: str = "web01") -> subprocess.CompletedProcess[str]:
    """`agentd join --anew` on the state that web01 has."""
    return site.agentd(
        *("join", site.said["join"], "--pin", site.said["fleet"], f"--name={name}", "--anew"),
        *("--state", str(site.host_state("web01"))),
        input=f"{token}\n",
    )


def test_no_identity_is_given_up_while_its_agent_runs(new_site: Callable[..., Any]) -> None:
    site = new_site("web01")
    done = rejoin(site, site.issue("--replaces", "--name", "web01"))
    assert done.returncode != 0 and codes.KEEPER_RUNNING.code in done.stderr
    site.until_state("up", "web01")
