"""Results that hosts sign: what the operator's machine believes of a control plane that was robbed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libstaragent import codes
from libstaragent.client.known_hosts import KnownHosts, known_hosts_path


@pytest.fixture(scope="module")
def robbed(module_site: Any) -> Iterator[Any]:
    """A fleet of the module's own: its store is written to behind its back."""
    module_site.up()
    module_site.add_hosts("web01", "web02")
    yield module_site


def signed_job(site: Any, *argv: str) -> str:
    done = site.run("exec", "--json", "--signed", "-t", "web01", "--", *argv)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])["job"]


def database(site: Any) -> Path:
    (found,) = [path for path in site.state.iterdir() if path.suffix in (".db", ".sqlite", ".sqlite3")]
    return found


def verdicts(site: Any, job: str, *options: str) -> tuple[int, dict[str, str], str]:
    done = site.run("jobs", "show", "--json", *options, job)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {line["host"]: line["result"] for line in lines if line["event"] == "target"}, done.stderr


def test_a_host_signs_what_it_reports_and_the_client_says_so(robbed: Any) -> None:
    job = signed_job(robbed, "echo", "hello")
    assert verdicts(robbed, job) == (0, {"web01": "signed"}, "")
    shown = robbed.run("jobs", "show", job)
    assert "signed" in shown.stdout and shown.returncode == 0
    plain = robbed.run("exec", "-t", "web01", "--json", "--", "true")
    unasked = json.loads(plain.stdout.splitlines()[-1])["job"]
    assert verdicts(robbed, unasked) == (0, {"web01": "unsigned"}, "")
    status, _, said = verdicts(robbed, unasked, "--signed")
    assert status == 1 and codes.RESULT_UNSIGNED.code in said
    with robbed.fleet() as fleet:
        assert len(bytes.fromhex(fleet.host("web01").result_key)) == 32
        assert [verdict.word for verdict in fleet.job(job).verify()] == ["signed"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE targets SET exit_status = 0, state = 'ok' WHERE job = ?",
        "UPDATE targets SET stdout_bytes = stdout_bytes + 1 WHERE job = ?",
        "UPDATE targets SET finished_ms = finished_ms + 1 WHERE job = ?",
        "UPDATE targets SET detail = 'all is well' WHERE job = ?",
        "UPDATE targets SET signature = zeroblob(64) WHERE job = ?",
    ],
)
def test_a_thief_of_the_store_who_changes_a_row_is_seen(robbed: Any, change: str) -> None:
    failed = robbed.run("exec", "--json", "--signed", "-t", "web01", "--", "sh", "-c", "echo no; exit 3")
    assert failed.returncode == 1 and codes.RESULT_FORGED.code not in failed.stderr
    job = json.loads(failed.stdout.splitlines()[-1])["job"]
    assert verdicts(robbed, job)[1] == {"web01": "signed"}
    with sqlite3.connect(database(robbed), timeout=20) as base:
        assert base.execute(change, (job,)).rowcount == 1
    base.close()
    status, words, said = verdicts(robbed, job)
    assert (status, words) == (1, {"web01": "forged"}) and codes.RESULT_FORGED.code in said


def test_a_thief_who_gives_another_output_to_a_signed_result_is_seen(robbed: Any) -> None:
    one, other = signed_job(robbed, "echo", "clean"), signed_job(robbed, "echo", "dirty")
    with sqlite3.connect(database(robbed), timeout=20) as base:
        clean = base.execute("SELECT output_digest FROM targets WHERE job = ?", (one,)).fetchone()[0]
        assert base.execute("UPDATE targets SET output_digest = ? WHERE job = ?", (clean, other)).rowcount == 1
    base.close()
    assert verdicts(robbed, other)[:2] == (1, {"web01": "forged"})
    assert verdicts(robbed, one)[:2] == (0, {"web01": "signed"})


def test_another_key_than_was_seen_before_is_not_believed(robbed: Any) -> None:
    job = signed_job(robbed, "true")
    assert verdicts(robbed, job)[1] == {"web01": "signed"}
    path = known_hosts_path(robbed.context)
    kept = path.read_bytes()
    with robbed.fleet() as fleet:
        first, second = fleet.host("web01"), fleet.host("web02")
    assert first.result_key.encode() in kept
    # As if another key had been seen first; central cannot tell the difference, and neither could it lie about it.
    path.write_bytes(kept.replace(first.result_key.encode(), second.result_key.encode()))
    try:
        status, words, said = verdicts(robbed, job)
        assert (status, words) == (1, {"web01": "forged"})
        assert codes.RESULT_FORGED.code in said and codes.HOST_KEY_CHANGED.code in said
    finally:
        path.write_bytes(kept)
    known = KnownHosts(robbed.said["fleet"], path)
    assert known.key(first.id, "").hex() == first.result_key, "a key that is withheld later is known all the same"


def test_a_host_without_a_key_refuses_what_it_cannot_sign(robbed: Any) -> None:
    (robbed.host_state("web02") / "result.key").unlink()
    robbed.kill_agent("web02")
    done = robbed.run("exec", "--json", "--ttl", "20", "--signed", "-t", "web02", "--", "true")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    (target,) = [line for line in lines if line["event"] == "target" and line["state"] not in ("sent", "queued")]
    assert (target["state"], target["code"]) == ("denied", codes.RESULT_KEY_MISSING.code)
    assert done.returncode == 4


def test_a_file_of_known_keys_that_cannot_be_read_is_said(robbed: Any) -> None:
    job = signed_job(robbed, "true")
    path = known_hosts_path(robbed.context)
    kept = path.read_bytes()
    path.write_bytes(b"{")
    try:
        done = robbed.run("jobs", "show", job)
        assert done.returncode == 1 and codes.KNOWN_HOSTS_DAMAGED.code in done.stderr
    finally:
        path.write_bytes(kept)
