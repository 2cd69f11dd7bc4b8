"""More hosts than an envelope lists by name, of which most are away; and operators who may less than others.

Seventeen hosts are enrolled; three of them run an agent. What is signed is a Merkle root then.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libstaragent import codes
from libstaragent.client.context import load_context, save_context
from libstaragent.model.api import Enrolment
from libstaragent.security.identity import create_agent_key, create_csr
from libstaragent.security.roster import Operator, digest, open_roster, sign_roster
from libstaragent.security.secrets import KeyFile
from libstaragent.security.signed import Signed, signed_to_json
from libstaragent.security.signing import public_key

COUNT = 17
RUNNING = ("node01", "node02", "node03")


@pytest.fixture(scope="module")
def crowd(module_site: Any) -> Iterator[Any]:
    """The fleet of seventeen."""
    module_site.up()
    module_site.add_hosts(*RUNNING)
    token = module_site.issue("--uses", str(COUNT))
    with module_site.http(login=False) as http:
        for number in range(len(RUNNING) + 1, COUNT + 1):
            csr = create_csr(create_agent_key()).decode()
            request = Enrolment(token=token, name=f"node{number:02}", csr=csr)
            assert http.post("/v1/enrol", content=msgspec.json.encode(request)).status_code == 201
    yield module_site


def test_counts_of_a_large_job_add_up_and_the_hosts_take_the_signed_root(crowd: Any, referee: Any) -> None:
    done = crowd.run(
        "exec", "--json", "-t", "node[01-17]", "--yes=17", "--ttl", "1", "--shell", f"{referee.mark}; echo here"
    )
    assert done.returncode == 2, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    (result,) = [line for line in lines if line["event"] == "result"]
    assert result["targets"] == COUNT
    assert {state: count for state, count in result["counts"].items() if count} == {"ok": 3, "unreachable": 14}
    said = {line["host"]: line["text"] for line in lines if line["event"] == "output"}
    assert said == dict.fromkeys(RUNNING, "here\n")
    assert referee.count == 3
    ended = [line for line in lines if line["event"] == "target" and line["state"] == "unreachable"]
    assert {line["code"] for line in ended} == {codes.HOST_UNREACHABLE.code} and len(ended) == 14
    summary = crowd.run("jobs", "show", result["job"])
    assert summary.returncode == 2 and "17 targets: 3 ok, 14 unreachable (node[04-17]" in summary.stdout


def test_sign_prints_the_hosts_beside_the_root_and_curl_can_send_it(crowd: Any, referee: Any) -> None:
    signed = crowd.run("sign", "exec", "-t", "all", f"--yes={COUNT}", "--ttl", "60", "--shell", referee.mark)
    submission = json.loads(signed.stdout)
    assert len(submission["members"]) == COUNT
    with crowd.http() as http:
        for number, members in ((0, submission["members"][1:]), (1, [*submission["members"][1:], {
            **submission["members"][0], "name": "other"}])):  # fmt: skip
            answer = http.post("/v1/jobs", json=submission | {"members": members})
            assert (answer.json()["code"], number) == (codes.TARGETS_CHANGED.code, number)
        assert referee.count == 0
        answer = http.post("/v1/jobs", json=submission)
        assert answer.status_code == 202 and answer.json()["job"]["targets"] == COUNT
        job = answer.json()["job"]["id"]
    crowd.until_target(job, "ok", 3)
    assert referee.count == 3
    assert crowd.run("jobs", "cancel", job).returncode == 0
    assert crowd.result(job).counts == {"ok": 3, "cancelled": 14}


@pytest.mark.parametrize(("typed", "status", "runs"), [("16\n", 5, 0), ("17\n", 2, 3)])
def test_on_a_terminal_many_hosts_are_asked_for_by_their_number(
    crowd: Any, referee: Any, typed: str, status: int, runs: int
) -> None:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            crowd.command("exec", "-t", "all", "--ttl", "1", "--shell", referee.mark),
            stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        asked = b""
        while b"type 17" not in asked:
            asked += os.read(ours, 4096)
        os.write(ours, typed.encode())
        os.close(theirs)
        assert process.wait(30) == status
    finally:
        os.close(ours)
    assert referee.count == runs


def with_roster(site: Any, *operators: Operator) -> None:
    """The next revision of the roster, signed by the root, with these operators beside the first."""
    with site.http() as http:
        chain = [msgspec.convert(each, Signed) for each in http.get("/v1/trust").json()["rosters"]]
        before = open_roster(chain[-1])
        now_ms = time.time_ns() // 1_000_000
        roster = msgspec.structs.replace(
            before,
            revision=before.revision + 1,
            previous=digest(chain[-1]),
            issued=now_ms,
            operators=(*before.operators[:1], *operators),
            groups={"front": "node01,node02"},
        )
        signed = sign_roster(roster, KeyFile(site.root_key_file).load())
        answer = http.post("/v1/rosters", content=signed_to_json(signed))
        assert answer.json() == {"revision": roster.revision}, answer.text


def as_operator(site: Any, folder: Path, name: str, seed: bytes) -> tuple[str, ...]:
    """The options with which another person acts on the fleet."""
    key, context = folder / f"{name}.key", folder / f"{name}.toml"
    KeyFile(key).save(seed)
    save_context(msgspec.structs.replace(load_context(site.context), operator=name, key_file=str(key)), context)
    return ("--context", str(context))


def test_four_for_who_is_not_in_the_roster_and_for_who_may_only_read(crowd: Any, tmp_path: Path, referee: Any) -> None:
    reader, stranger = os.urandom(32), os.urandom(32)
    with_roster(crowd, Operator("ann", public_key(reader), ("read",)))
    for name, seed, reads, code in (
        ("ann", reader, 0, codes.SIGNER_ROLE),
        ("bob", stranger, 4, codes.LOGIN_REFUSED),
        # Somebody else's name with a key of one's own.
        ("li", stranger, 4, codes.LOGIN_REFUSED),
    ):
        folder = tmp_path / f"{name}-{reads}"
        folder.mkdir()
        options = as_operator(crowd, folder, name, seed)
        assert crowd.run_as(options, "hosts").returncode == reads, name
        done = crowd.run_as(options, "exec", "-t", "node01", "--shell", referee.mark)
        assert done.returncode == 4 and code.code in done.stderr, done.stderr
        done = crowd.run_as(options, "token")
        assert done.returncode == 4 and done.stdout == "", done.stderr
    assert referee.count == 0
    # The new revision reached the hosts, or they would refuse what is signed under it.
    done = crowd.run("exec", "-t", "@front", "--shell", referee.mark)
    assert done.returncode == 0 and referee.count == 2, done.stderr


def test_an_operator_who_left_the_roster_is_out_at_once(crowd: Any, tmp_path: Path, referee: Any) -> None:
    seed = os.urandom(32)
    with_roster(crowd, Operator("eve", public_key(seed), ("operator", "read")))
    options = as_operator(crowd, tmp_path, "eve", seed)
    done = crowd.run_as(options, "exec", "-t", "node01", "--shell", referee.mark)
    assert done.returncode == 0 and referee.count == 1, done.stderr
    with_roster(crowd)
    done = crowd.run_as(options, "exec", "-t", "node01", "--shell", referee.mark)
    assert done.returncode == 4 and referee.count == 1, done.stderr
