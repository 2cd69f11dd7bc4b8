"""A host whose disk was cloned: both machines are kept from jobs, seen, and told apart by one command."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

from libstaragent import codes
from libstaragent.model.api import HostView


def clone(site: Any, name: str, copy: str) -> None:
    """The state directory of a host that runs, on another machine (all but its sockets)."""
    shutil.copytree(
        site.host_state(name),
        site.host_state(copy),
        ignore=lambda folder, names: [entry for entry in names if entry.endswith(".sock") or entry == "keeper.lock"],
    )


def is_quarantined(hosts: dict[str, HostView]) -> bool:
    host = hosts["web01"]
    return host.state == "quarantined" and len(host.holders) == 2


def wait_for_end(site: Any, job: str) -> Any:
    (target,) = site.result(job).targets
    return target


def test_both_holders_of_a_cloned_identity_get_no_job_until_one_is_kept(
    new_site: Callable[..., Any], referee: Any
) -> None:
    site = new_site("web01", "web02")
    clone(site, "web01", "copy")
    site.start_agent("copy")
    site.until_hosts(is_quarantined)

    denied = site.run("exec", "--json", "-t", "web01", "--shell", referee.mark)
    assert denied.returncode == 2
    (target,) = [line for line in map(json.loads, denied.stdout.splitlines()) if line["event"] == "target"]
    assert (target["state"], target["code"], target["ran"]) == ("unreachable", codes.HOST_QUARANTINED.code, "no")
    assert referee.count == 0
    assert site.run("exec", "-t", "web02", "--", "true").returncode == 0, "the others go on"
    shown = site.run("hosts").stdout
    assert f"quarantined {codes.HOST_QUARANTINED.code}" in shown and "NONCE" in shown

    listed = site.run("audit", "list", "--json").stdout
    assert [json.loads(line)["code"] for line in listed.splitlines() if '"quarantine"' in line] == [
        codes.HOST_QUARANTINED.code
    ]

    # It is kept over a restart of everything that holds it in memory.
    site.kill_central()
    site.up()
    site.until_hosts(is_quarantined)

    with site.fleet() as fleet:
        refused = site.run("hosts", "resolve", "web01", "--keep", "00" * 16)
        assert refused.returncode != 0 and codes.HOLDER_UNKNOWN.code in refused.stderr
        refused = site.run("hosts", "resolve", "web02")
        assert refused.returncode != 0 and codes.NOT_QUARANTINED.code in refused.stderr
        original = next(h for h in fleet.host("web01").holders if h.nonce == nonce_of(site, fleet, "web01"))
    done = site.run("hosts", "resolve", "web01", "--keep", original.nonce)
    assert done.returncode == 0, done.stderr
    site.until_state("up", "web01")
    site.until_hosts(lambda hosts: hosts["web01"].boot_nonce == original.nonce)
    ran = site.run("exec", "--ttl", "30", "-t", "web01", "--shell", referee.mark)
    assert ran.returncode == 0, ran.stderr
    assert referee.count == 1
    until_log(site, "copy", codes.IDENTITY_SUPERSEDED.code)

    # The other joins anew under a name of its own.
    site.stop_agent("copy")
    token = site.issue("--name", "web03")
    again = site.join_at(site.host_state("copy"), "web03", token=token)
    assert again.returncode != 0 and codes.ALREADY_JOINED.code in again.stderr
    joined = site.agentd(
        *("join", site.said["join"], "--pin", site.said["fleet"], "--name=web03", "--anew"),
        *("--state", str(site.host_state("copy"))),
        input=f"{token}\n",
    )
    assert joined.returncode == 0, joined.stderr
    site.start_agent("copy")
    site.until_state("up", "web01", "web03")
    assert site.run("exec", "-t", "web01,web03", "--", "true").returncode == 0


def nonce_of(site: Any, fleet: Any, name: str) -> str:
    """Any of them would do: the newest is the clone, so the other is the original."""
    return min(fleet.host(name).holders, key=lambda holder: holder.first_ms).nonce


def until_log(site: Any, name: str, text: str) -> None:
    """The agent's log is a file: what is written to it is told by inotify's plain cousin, `tail -F`."""
    with subprocess.Popen(
        ["tail", "-n", "+1", "-F", str(site.folder / f"{name}.log")], stdout=subprocess.PIPE, text=True
    ) as tail:
        assert tail.stdout is not None
        try:
            assert any(text in line for line in tail.stdout)
        finally:
            tail.kill()
