"""What an operator does wrong, or asks the other way round, and what he is told."""

from __future__ import annotations

import json
import ssl
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from libstaragent import codes
from libstaragent.client.context import load_context
from libstaragent.errors import UsageError
from libstaragent.sync import Fleet

pytestmark = pytest.mark.timeout(120)  # the first test starts a fleet of real processes


def test_help_of_a_command_is_its_own_help(run: Any) -> None:
    assert run("help", "schedule").out == run("schedule", "--help").out
    done = run("help", "nonsense")
    assert (done.status, "targets, exit, output" in done.err) == (64, True)


def test_a_verb_without_its_host_is_no_unknown_host(run: Any) -> None:
    done = run("hosts", "revoke")
    assert (done.status, "revoke needs a host's name" in done.err) == (64, True)


def test_a_ttl_beyond_an_envelopes_life_is_refused_and_not_shortened(run: Any) -> None:
    done = run("exec", "-t", "web01", "--ttl", "90000", "--", "true")
    assert (done.status, "longer than a day" in done.err) == (64, True)


def test_a_network_of_ipv6_is_told_back_as_it_was_written(run: Any) -> None:
    assert "matches no host: ::1/128\n" in run("exec", "-t", "::1/128", "--", "true").err


def test_what_is_signed_is_confirmed_as_what_is_run(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.environment, "OPSCONSOLE_CONFIRM_ABOVE", "1")
    done = run("sign", "exec", "-t", "all", "--", "true")
    assert (done.status, done.out, "SA-1056" in done.err) == (64, "", True)
    assert run("sign", "exec", "-t", "all", "--yes", "2", "--", "true").lines


def test_a_signed_pause_and_resume_are_sent_by_other_means(run: Any, fleet: Any) -> None:
    job = run("exec", "-t", "web*", "--async", "--waves", "1,100%", "--confirm-waves", "--", "true").out.strip()
    context = load_context(fleet.context)
    trusted = ssl.create_default_context(cadata=context.ca)

    def send(verb: str) -> Any:
        request = urllib.request.Request(
            f"{context.api}/v1/jobs/{job}/{verb}",
            run("sign", verb, job).out.encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, context=trusted, timeout=30) as answer:
            return json.load(answer)

    assert send("pause")["job"]["paused"]
    assert not send("resume")["job"]["paused"]
    run("jobs", "cancel", job)


def test_outputs_that_were_reduced_are_not_said_to_be_lost(run: Any) -> None:
    done = run("exec", "-t", "all", "--reduce", "count", "--json", "--", "seq", "3")
    job = str(done.lines[-1]["job"])
    told = run("jobs", "output", job).err
    assert f"opsconsole jobs reduced {job}" in told
    assert "SA-2175" not in told


def test_a_host_that_is_no_target_of_the_job_is_not_said_to_be_unknown_only(run: Any) -> None:
    job = str(run("exec", "-t", "web01", "--json", "--", "true").lines[-1]["job"])
    done = run("jobs", "output", job, "web02")
    assert (done.status, "no target of the job" in done.err) == (3, True)


def test_the_output_of_a_running_job_is_said_to_come_with_its_end(run: Any) -> None:
    job = run("exec", "-t", "web01", "--async", "--", "sleep", "60").out.strip()
    assert "1 of 1 targets have not ended" in run("jobs", "output", job).err
    run("jobs", "cancel", job)


def test_groups_that_differ_in_their_end_only_say_that_their_output_is_the_same(run: Any, short_tmp: Path) -> None:
    first = f"echo same; mkdir {short_tmp}/first 2>/dev/null && exit 3; exit 0"
    done = run("exec", "-t", "all", "--diff", "--shell", first)
    assert done.out.count("[the same output]") == 1


def test_a_failed_file_is_summed_up_by_its_code_and_without_an_errno_of_nothing(run: Any, short_tmp: Path) -> None:
    done = run("fetch", "-t", "web01", str(short_tmp), "-o", str(short_tmp / "in"))
    assert "SA-6065" in done.err
    assert "errno" not in done.err
    (short_tmp / "x").touch()
    done = run("put", str(short_tmp / "x"), "-t", "web01", "--to", str(short_tmp / "none" / "x"))
    assert done.err.splitlines()[-1] == "1 target: 1 exit_nonzero (web01: SA-6765)"


def test_a_schedule_is_told_of_in_few_words(run: Any) -> None:
    added = run("schedule", "add", "told", "-t", "web01", "--every", "1h", "--", "true")
    assert added.err == "1 target: 1 ok\n"
    try:
        (row,) = [line for line in run("schedule", "list").out.splitlines() if line.startswith("told ")]
        assert row.endswith(" true") and "schedule told" not in row
    finally:
        run("schedule", "remove", "told")


def test_one_text_is_no_list_of_words_to_the_library(fleet: Any) -> None:
    with Fleet.connect(str(fleet.context)) as connected:
        with pytest.raises(UsageError) as raised:
            connected.run("web01", "uname -s")
        assert raised.value.code is codes.COMMAND_LINE
        job = connected.run("web01", "echo one", shell=True)
        assert job.result().output("web01").stdout == b"one\n"
