"""Plans on a real fleet of five hosts: waves, window, failures, pauses, a control plane that is killed between waves.

How many ran, and when, is what the commands themselves write to files.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from libstaragent import codes
from libstaragent.errors import StarAgentError

pytestmark = [pytest.mark.timeout(120)]

HOSTS = ("web01", "web02", "web03", "web04", "web05")


@pytest.fixture(scope="module")
def fleet5(module_site: Any) -> Iterator[Any]:
    """Five hosts."""
    module_site.up()
    module_site.add_hosts(*HOSTS)
    return module_site


def waits(site: Any, job: str, *, wave: int) -> dict[str, Any]:
    """Wait by events until the job waits to be resumed after a wave; what `jobs show --json` says of it."""
    site.until_job(job, lambda view: view.waits == "resume" and view.wave == wave)
    return json.loads(site.run("jobs", "show", "--json", job).stdout.splitlines()[0])


def test_a_canary_that_fails_keeps_the_command_from_all_others(fleet5: Any, referee: Any) -> None:
    done = fleet5.run(
        *("exec", "-t", "all", "--waves", "1,50%,100%", "--max-failures", "0"), "--shell", f"{referee.mark}; exit 3"
    )
    assert done.returncode == 6, done.stderr
    assert "5 targets: 1 exit_nonzero (web01: exit status 3), 4 cancelled" in done.stderr
    assert codes.STOPPED_BY_FAILURES.code in done.stderr
    assert referee.count == 1
    job = json.loads(fleet5.run("jobs", "list", "--json", "--limit", "1").stdout)
    assert (job["stopped"], job["counts"]) == (True, {"exit_nonzero": 1, "cancelled": 4})
    shown = fleet5.run("jobs", "show", job["id"])
    assert shown.returncode == 6 and "stopped by its failures" in shown.stdout


def test_waves_run_one_after_the_other_and_are_told(fleet5: Any, tmp_path: Path) -> None:
    book = tmp_path / "book"
    script = f"echo start >> {book}; echo end >> {book}"
    done = fleet5.run("exec", "-t", "all", "--waves", "1,50%,100%", "--shell", script)
    assert done.returncode == 0, done.stderr
    lines = book.read_text().splitlines()
    assert (len(lines), lines[:2]) == (10, ["start", "end"])
    # Three after the second wave: none of the last has started before these six lines were there.
    assert lines[:6].count("start") == lines[:6].count("end") == 3
    assert "wave 1 of 3, 4 held back" in done.stderr


def test_a_window_of_two_is_never_wider_by_the_commands_own_record(fleet5: Any, tmp_path: Path) -> None:
    book, gate = tmp_path / "book", tmp_path / "meeting"
    # Each waits for another one to have started, unless it is the last: so two do run at once.
    script = (
        f"echo start >> {book}; mkdir -p {gate}; touch {gate}/$$; "
        f"i=0; while [ $(ls {gate} | wc -l) -lt 2 ] && [ $(wc -l < {book}) -lt 9 ] && [ $i -lt 200 ]; "
        f"do i=$((i+1)); sleep 0.02; done; echo end >> {book}"
    )
    with fleet5.fleet() as fleet:
        result = fleet.run("all", [script], shell=True, window=2).result()
    assert result.counts == {"ok": 5}
    running = widest = 0
    for line in book.read_text().splitlines():
        running += 1 if line == "start" else -1
        widest = max(widest, running)
    assert widest == 2


def test_a_paused_job_begins_on_nobody_and_goes_on_when_it_is_resumed(
    fleet5: Any, referee: Any, gate: Callable[[str], Any]
) -> None:
    begun, go = gate("begun"), gate("go")
    script = f"{referee.mark}; echo > {begun.path}; read _ < {go.path}"
    with fleet5.fleet() as fleet:
        job = fleet.run("all", [script], shell=True, background=True, waves=[2, "100%"])
        fleet5.until_target(job.id, "running", 2)
        paused = job.pause()
        assert (paused.paused, paused.held, paused.wave) == (True, 3, 1)
        go.open(2)
        fleet5.until_target(job.id, "ok", 2)
        assert referee.count == 2
        assert "wave 1 of 2, 3 held back, paused" in fleet5.run("jobs", "show", job.id).stdout
        assert "paused" in fleet5.run("jobs", "list", "--limit", "1").stdout
        done = fleet5.run("jobs", "resume", job.id)
        assert done.returncode == 0, done.stderr
        go.open(3)
        assert job.result().counts == {"ok": 5}
        with pytest.raises(StarAgentError) as refused:
            job.pause()
        assert refused.value.code is codes.NOTHING_HELD
    assert referee.count == 5
    late = fleet5.run("jobs", "pause", job.id)
    assert late.returncode == 1 and codes.NOTHING_HELD.code in late.stderr


def test_a_cancel_in_a_wave_ends_those_that_run_and_those_whose_turn_has_not_come(
    fleet5: Any, referee: Any, gate: Callable[[str], Any]
) -> None:
    begun = gate("begun")
    with fleet5.fleet() as fleet:
        job = fleet.run("all", [f"{referee.mark}; echo > {begun.path}; sleep 600"], shell=True, window=1)
        begun.heard()
        job.cancel()
        result = job.result()
    assert result.counts == {"cancelled": 5}
    ends = {target.host: (target.ran, target.code) for target in result.targets}
    assert ends["web01"][0] == "yes"
    assert {ends[name] for name in HOSTS[1:]} == {("no", codes.CANCELLED_BEFORE_TURN.code)}
    assert (referee.count, result.exit_status) == (1, 5)


def test_a_plan_that_expires_leaves_the_rest_alone(fleet5: Any, referee: Any) -> None:
    done = fleet5.run(
        *("exec", "-t", "all", "--waves", "2,100%", "--confirm-waves", "--life", "5"), "--shell", referee.mark
    )
    assert done.returncode == 2, done.stderr
    assert codes.TURN_NEVER_CAME.code in done.stderr
    assert "2 ok, 3 expired" in done.stderr
    assert referee.count == 2


def test_the_preview_shows_hosts_waves_and_rule_and_sends_nothing(fleet5: Any, referee: Any) -> None:
    before = fleet5.run("jobs", "list", "--json").stdout
    plan = ("--waves", "1,50%,100%", "--window", "2", "--max-failures", "20%", "--wait", "5")
    shown = fleet5.run("exec", "-t", "all", "--preview", *plan, "--shell", referee.mark)
    assert shown.returncode == 0, shown.stderr
    for line in (
        "hosts:     5 hosts: web[01-05]",
        "rooms:     main",
        "now:       5 up",
        "wave 1:    1 host: web01",
        "wave 2:    2 hosts: web[02-03]",
        "wave 3:    2 hosts: web[04-05]",
        "plan:      at most 2 at once, stops after more than 1 failure, 5 s of rest between waves",
        "rule:      founders",
    ):
        assert line in shown.stdout, shown.stdout
    told = json.loads(fleet5.run("exec", "-t", "web01", "--preview", "--json", "--", "true").stdout)
    assert (told["hosts"], told["waves"], told["refusal"]) == (["web01"], [], "")
    assert fleet5.run("exec", "-t", "nobody", "--preview", "--", "true").returncode == 3
    assert fleet5.run("jobs", "list", "--json").stdout == before
    assert referee.count == 0


def test_many_hosts_are_confirmed_by_their_exact_number(fleet5: Any, referee: Any) -> None:
    few = {**os.environ, "OPSCONSOLE_CONFIRM_ABOVE": "4"}
    unasked = fleet5.run("exec", "-t", "all", "--shell", referee.mark, env=few)
    assert unasked.returncode == 64 and codes.COUNT_UNCONFIRMED.code in unasked.stderr
    wrong = fleet5.run("exec", "-t", "all", "--yes=4", "--shell", referee.mark, env=few)
    assert wrong.returncode == 64 and codes.COUNT_WRONG.code in wrong.stderr
    assert "all means 5, --yes says 4" in wrong.stderr
    assert fleet5.run("exec", "-t", "web01", "--yes=2", "--shell", referee.mark).returncode == 64
    assert referee.count == 0
    assert fleet5.run("exec", "-t", "all", "--yes=5", "--shell", referee.mark, env=few).returncode == 0
    assert referee.count == 5


@pytest.mark.parametrize(
    "options", [("--waves", "3,2"), ("--waves", "x"), ("--waves", "200%"), ("--wait", "3"), ("--max-failures", "-1")]
)
def test_what_makes_no_plan_is_refused_before_anything_is_sent(fleet5: Any, options: tuple[str, str]) -> None:
    option, value = options
    done = fleet5.run("exec", "-t", "all", f"{option}={value}", "--", "true")
    assert done.returncode == 64 and codes.PLAN_INVALID.code in done.stderr


def test_a_signed_plan_is_carried_by_curl(fleet5: Any) -> None:
    signed = fleet5.run("sign", "exec", "-t", "all", "--waves", "2,5", "--", "true")
    with fleet5.http() as http:
        answer = http.post("/v1/jobs?wait=30", content=signed.stdout).json()
    assert answer["job"]["plan"]["waves"] == [2, 5]
    assert answer["job"]["counts"] == {"ok": 5}


# The same for files and schedules -----------------------------------------------------------------------------------


def test_a_canary_that_cannot_place_a_file_keeps_it_from_all_others(fleet5: Any, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("new")
    put = ("put", str(tmp_path / "source"), "-t", "all", "--to", str(tmp_path / "none" / "file"))
    done = fleet5.run(*put, "--waves", "1,100%", "--max-failures", "0", "--yes=5")
    assert done.returncode == 6, done.stderr
    assert "5 targets: 1 exit_nonzero (web01: " in done.stderr and "4 cancelled" in done.stderr
    assert "wave 1 of 2, 4 held back" in done.stderr and "stopped by its failures" in done.stderr
    # Each code once, however many hosts have it.
    for code in (codes.FILE_FAILED, codes.STOPPED_BY_FAILURES):
        assert done.stderr.count(f"opsconsole: {code.code}") == 1


def test_a_put_waits_between_its_waves_to_be_resumed_and_can_be_paused(fleet5: Any, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(100_000))
    put = ("put", str(tmp_path / "source"), "-t", "all", "--to", str(tmp_path / "file"))
    job = fleet5.run(*put, "--async", "--waves", "2,3,5", "--confirm-waves").stdout.strip()
    assert waits(fleet5, job, wave=1)["counts"] == {"queued": 3, "ok": 2}
    assert fleet5.run("jobs", "resume", job).returncode == 0
    assert waits(fleet5, job, wave=2)["held"] == 2
    assert fleet5.run("jobs", "pause", job).returncode == 0
    (tmp_path / "file").unlink()
    with fleet5.fleet() as fleet:
        assert fleet.job(job).view().paused
        fleet.job(job).resume()
        assert fleet.job(job).result().counts == {"ok": 5}
    assert (tmp_path / "file").read_bytes() == (tmp_path / "source").read_bytes()


def test_a_put_of_the_library_is_never_wider_than_its_window(fleet5: Any, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(10))
    with fleet5.fleet() as fleet:
        job = fleet.put(tmp_path / "source", "all", str(tmp_path / "file"), window=1, max_failures="20%")
        assert job.result().counts == {"ok": 5}
        plan = job.view().plan
        ends = sorted((target.started_ms, target.finished_ms) for target in job.targets())
    assert (plan.window, plan.max_failures) == (1, 1)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ends)), ends


def test_files_and_schedules_for_many_hosts_are_previewed_and_confirmed_by_their_exact_number(
    fleet5: Any, tmp_path: Path
) -> None:
    few = {**os.environ, "OPSCONSOLE_CONFIRM_ABOVE": "4"}
    data = os.urandom(10)
    (tmp_path / "source").write_bytes(data)
    before = fleet5.run("jobs", "list", "--json").stdout
    acts = {
        "put": ("put", str(tmp_path / "source"), "-t", "all", "--to", str(tmp_path / "placed")),
        "fetch": ("fetch", "-t", "all", str(tmp_path / "source"), "-o", str(tmp_path / "in")),
        "schedule": ("schedule", "add", "often", "-t", "all", "--every", "1h"),
    }
    for name, words in acts.items():
        tail = ("--", "true") if name == "schedule" else ()
        shown = fleet5.run(*words, "--preview", *tail)
        assert "hosts:     5 hosts: web[01-05]" in shown.stdout and "rule:      founders" in shown.stdout, shown
        unasked = fleet5.run(*words, *tail, env=few)
        assert (unasked.returncode, codes.COUNT_UNCONFIRMED.code in unasked.stderr) == (64, True)
        wrong = fleet5.run(*words, "--yes=4", *tail, env=few)
        assert (wrong.returncode, codes.COUNT_WRONG.code in wrong.stderr) == (64, True)
    assert fleet5.run("jobs", "list", "--json").stdout == before
    assert fleet5.run("schedule", "list", "--all").stdout.count("often") == 0
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["source"]
    # Nothing of it was uploaded either.
    assert list((fleet5.state / "blobs").glob(hashlib.sha256(data).hexdigest() + "*")) == []
    shown = fleet5.run(*acts["put"], "--preview", "--waves", "1,100%")
    assert "wave 2:    4 hosts: web[02-05]" in shown.stdout
    for name, words in acts.items():
        done = fleet5.run(*words, "--yes=5", *(("--", "true") if name == "schedule" else ()), env=few)
        assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "in").glob("*/source"))) == 5
    assert fleet5.run("schedule", "remove", "often").returncode == 0


def test_a_control_plane_killed_between_waves_begins_on_nobody_it_may_not_and_then_goes_on(
    new_site: Callable[..., Any], referee: Any, gate: Callable[[str], Any]
) -> None:
    hosts = HOSTS[:3]
    site = new_site(*hosts)
    with site.fleet() as fleet:
        job = fleet.run("all", [referee.mark], shell=True, background=True, waves="1,2,3", confirm_waves=True)
        other = fleet.run("all", [f"read _ < {gate('never').path}"], shell=True, background=True, window=1)
        site.until_target(other.id, "running")
        assert other.pause().held == 2
    assert waits(site, job.id, wave=1)["held"] == 2
    site.kill_central()
    site.up()
    site.until_state("up", *hosts)
    assert waits(site, job.id, wave=1)["held"] == 2
    assert referee.count == 1
    with site.fleet() as fleet:
        assert (fleet.job(other.id).submitted.paused, fleet.job(other.id).submitted.held) == (True, 2)
        assert fleet.job(job.id).resume().wave == 2
    assert waits(site, job.id, wave=2)["held"] == 1
    assert referee.count == 2
    site.kill_central()
    site.up()
    with site.fleet() as fleet:
        fleet.job(job.id).resume()
    assert site.result(job.id).counts == {"ok": 3}
    assert referee.count == 3
    with site.fleet() as fleet:
        fleet.job(other.id).cancel()
    assert site.result(other.id).counts == {"cancelled": 3}
