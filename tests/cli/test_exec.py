"""`opsconsole exec`, `jobs`, `hosts`, `sign`, `token`, `login` against a real control plane and real agents."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import ssl
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from libstaragent.client.context import load_context

pytestmark = pytest.mark.timeout(120)  # the first test starts a fleet of real processes


def test_output_is_prefixed_and_each_stream_goes_where_it_belongs(run: Any) -> None:
    done = run("exec", "-t", "web[01-02]", "--", "sh", "-c", "echo out; echo problem >&2")
    assert done.status == 0
    assert sorted(done.out.splitlines()) == ["web01 | out", "web02 | out"]
    assert sorted(done.err.splitlines()[:2]) == ["web01 | problem", "web02 | problem"]
    assert done.err.splitlines()[2] == "2 targets: 2 ok"


def test_both_streams_are_shown_in_the_order_in_which_they_were_kept(run: Any) -> None:
    done = run("exec", "-t", "web01", "--json", "--shell", "for n in 1 2 3; do echo out$n; echo err$n >&2; done")
    job = str(done.lines[-1]["job"])
    kept = "".join(str(line["text"]) for line in run("jobs", "output", job, "web01", "--json").lines)
    shown = run.start("jobs", "output", job, "web01", stderr=subprocess.STDOUT)
    out, _ = shown.communicate(timeout=40)
    assert sorted(kept.split()) == ["err1", "err2", "err3", "out1", "out2", "out3"]
    assert [line.removeprefix("web01 | ") for line in out.decode().splitlines()] == kept.split()


@pytest.mark.parametrize(
    ("words", "status", "summary"),
    [
        (("-t", "all", "--", "sh", "-c", "exit 7"), 1, "2 targets: 2 exit_nonzero (web[01-02]: exit status 7)"),
        (("-t", "web01", "--shell", "kill -9 $$"), 1, "1 target: 1 signalled (web01: SIGKILL)"),
        (("-t", "web01", "--shell", "exit 137"), 1, "1 target: 1 exit_nonzero (web01: exit status 137)"),
        (("-t", "web01", "--", "no-such-command"), 1, "1 target: 1 spawn_failed (web01: SA-6101)"),
        (("-t", "web01", "--timeout", "0.2", "--", "sleep", "30"), 1, "1 target: 1 timeout (web01: SA-6401)"),
        (("-t", "web01 & room=main", "--", "true"), 0, "1 target: 1 ok"),
        (("-t", "127.0.0.0/8 & !web02", "--", "true"), 0, "1 target: 1 ok"),
    ],
)
def test_it_ends_as_its_targets_ended(run: Any, words: tuple[str, ...], status: int, summary: str) -> None:
    done = run("exec", *words)
    assert (done.status, done.err.splitlines()[-1]) == (status, summary)


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("-t", "web09", "--", "true"), 3, "SA-1101"),
        (("-t", "room=mars", "--", "true"), 3, "SA-1102"),
        (("-t", "@nobody", "--", "true"), 3, "SA-1103"),
        (("-t", "web[", "--", "true"), 64, "SA-1001"),
        (
            (
                "-t",
                "web01",
            ),
            64,
            "SA-1031",
        ),
        (("-t", "web01", "--shell", "true", "--", "true"), 64, "SA-1031"),
        (("-t", "all", "--raw", "--", "true"), 64, "SA-1031"),
        (("-t", "web01", "--env", "novalue", "--", "true"), 64, "SA-1031"),
        (("-t", "web01", "--stdin", "/nowhere/at/all", "--", "cat"), 1, "SA-1704"),
        (("-t", "web01", "--timeout", "soon", "--", "true"), 64, "SA-1031"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_runs(
    run: Any, words: tuple[str, ...], status: int, code: str
) -> None:
    before = run("jobs", "list", "--json").lines
    done = run("exec", *words)
    assert (done.status, done.out) == (status, "")
    assert f"opsconsole: {code} " in done.err or f"opsconsole exec: {code} " in done.err
    assert run("jobs", "list", "--json").lines == before


def test_a_coded_error_says_what_to_do_next(run: Any) -> None:
    first, second = run("exec", "-t", "web09", "--", "true").err.splitlines()
    assert first.startswith("opsconsole: SA-1101 host_unknown: ")
    assert second.startswith("  → ")


def test_json_is_one_object_a_line_and_ends_with_the_result(run: Any) -> None:
    done = run("exec", "--json", "-t", "all", "--shell", "printf 'caf\\303\\251'; printf '\\377' >&2; exit 3")
    lines = done.lines
    assert (done.status, lines[-1]["event"], lines[-1]["exit_status"]) == (1, "result", 1)
    assert lines[-1]["counts"] == {"exit_nonzero": 2}
    outputs = [line for line in lines if line["event"] == "output" and line["host"] == "web01"]
    assert [(line["stream"], line.get("text"), line.get("base64")) for line in outputs] == [
        ("stdout", "café", None),
        ("stderr", None, "/w=="),
    ]
    ends = [line for line in lines if line["event"] == "target" and line["state"] == "exit_nonzero"]
    assert sorted(str(line["host"]) for line in ends) == ["web01", "web02"]
    assert done.out.isascii()


def test_standard_input_reaches_the_command(run: Any) -> None:
    done = run("exec", "-t", "web01", "--raw", "--stdin", "-", "--", "cat", stdin=b"from here\n")
    assert (done.status, done.out) == (0, "from here\n")


def test_raw_bytes_are_as_they_were(run: Any) -> None:
    process = run.start("exec", "-t", "web01", "--raw", "--shell", "head -c 50000 /dev/zero; printf '\\033[31m'")
    out, _ = process.communicate(timeout=40)
    assert out == b"\0" * 50_000 + b"\x1b[31m"


def test_escape_sequences_are_shown_and_not_obeyed(run: Any) -> None:
    done = run("exec", "-t", "web01", "--shell", "printf '\\033]0;title\\007[/red]\\033[2Jx\\n'")
    assert "\x1b" not in done.out and "\x07" not in done.out
    assert "[/red]" in done.out


def test_a_long_output_is_whole_but_for_the_named_gap(run: Any) -> None:
    done = run("exec", "-t", "web01", "--json", "--", "seq", "1", "100000")
    gaps = [line["bytes"] for line in done.lines if line["event"] == "gap"]
    text = "".join(str(line["text"]) for line in done.lines if line["event"] == "output")
    whole = "".join(f"{number}\n" for number in range(1, 100_001))
    assert len(text) + sum(int(str(gap)) for gap in gaps) == len(whole)
    if not gaps:
        assert text == whole
    assert whole.startswith(text[:1000]) and whole.endswith(text[-1000:])


def test_live_output_arrives_while_the_command_runs(run: Any, short_tmp: Path) -> None:
    gate = short_tmp / "gate"
    script = f"echo begun; until [ -e {gate} ]; do sleep 0.05; done; echo ended"
    process = run.start("exec", "-t", "web01", "--timeout", "30", "--shell", script)
    assert process.stdout.readline() == b"web01 | begun\n"
    gate.touch()
    out, err = process.communicate(timeout=40)
    assert (process.returncode, out, err) == (0, b"web01 | ended\n", b"1 target: 1 ok\n")


def test_ctrl_c_cancels_the_job_and_waits_for_its_end(run: Any) -> None:
    process = run.start("exec", "-t", "web01", "--shell", "echo begun; sleep 60")
    assert process.stdout.readline() == b"web01 | begun\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=40)
    assert process.returncode == 5
    assert err.decode().splitlines()[-1] == "1 target: 1 cancelled (web01)"


def test_a_reader_that_goes_away_is_no_failure(run: Any, short_tmp: Path) -> None:
    gate = short_tmp / "gate"
    script = f"echo begun; until [ -e {gate} ]; do sleep 0.05; done; seq 1 20000"
    process = run.start("exec", "-t", "web01", "--timeout", "30", "--shell", script)
    assert process.stdout.readline() == b"web01 | begun\n"
    process.stdout.close()
    gate.touch()
    assert process.wait(40) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_output_that_cannot_be_written_is_a_code_and_the_job_goes_on(run: Any) -> None:
    with open("/dev/full", "wb") as full:
        process = run.start("exec", "-t", "web01", "--", "echo", "hello", stdout=full)
        _, err = process.communicate(timeout=40)
    assert process.returncode == 1
    goes_on, code, remedy = err.decode().splitlines()
    assert "SA-1704" in code and "errno 28" in code and "→" in remedy
    assert run("jobs", "show", goes_on.rpartition(" ")[2]).status == 0


def test_without_stdout_a_command_does_what_it_does(run: Any) -> None:
    process = run.start("exec", "-t", "web01", "--", "echo", "hello", preexec_fn=lambda: os.close(1))
    out, err = process.communicate(timeout=40)
    assert (process.returncode, out, err.decode()) == (0, b"", "1 target: 1 ok\n")


def test_in_the_background_the_id_is_printed_and_the_rest_can_be_asked(run: Any) -> None:
    done = run("exec", "--async", "-t", "all", "--", "echo", "later")
    job = done.out.strip()
    assert (done.status, done.err, len(job)) == (0, "", 26)
    shown = run("jobs", "show", job, "--json")
    while any(line.get("event") == "target" and line["state"] != "ok" for line in shown.lines):
        shown = run("jobs", "show", job, "--json")
    assert shown.status == 0
    assert "2 targets: 2 ok" in run("jobs", "show", job).out
    assert run("jobs", "output", job).out == "web01 | later\nweb02 | later\n"
    assert run("jobs", "output", job, "web02", "--raw").out == "later\n"
    assert job in run("jobs", "list").out


def test_a_running_job_is_cancelled_by_its_id(run: Any) -> None:
    job = run("exec", "--async", "-t", "web01", "--", "sleep", "60").out.strip()
    assert run("jobs", "cancel", job).status == 0
    shown = run("jobs", "show", job)
    while "running" in shown.out.split("HOST")[0]:
        shown = run("jobs", "show", job)
    assert (shown.status, "1 cancelled" in shown.out) == (5, True)


@pytest.mark.parametrize("words", [("show",), ("output",), ("cancel",)])
def test_an_unknown_job_is_said_to_be_one(run: Any, words: tuple[str, ...]) -> None:
    done = run("jobs", *words, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert done.status == 1
    assert "SA-2101 job_unknown" in done.err


def test_hosts_are_listed_and_chosen(run: Any) -> None:
    assert [line.split()[:2] for line in run("hosts").out.splitlines()[1:]] == [["web01", "up"], ["web02", "up"]]
    assert [host["name"] for host in run("hosts", "web02", "--json").lines] == ["web02"]
    assert run("hosts", "nobody").status == 3


def test_what_sign_prints_runs_when_somebody_else_sends_it(run: Any, fleet: Any) -> None:
    signed = run("sign", "exec", "-t", "web01", "--", "echo", "signed").out
    context = load_context(fleet.context)
    request = urllib.request.Request(
        f"{context.api}/v1/jobs?wait=20", signed.encode(), {"content-type": "application/json"}
    )
    trusted = ssl.create_default_context(cadata=context.ca)
    with urllib.request.urlopen(request, context=trusted, timeout=30) as answer:
        said = json.load(answer)
    assert [target["state"] for target in said["targets"]] == ["ok"]
    assert said["targets"][0]["stdout_sha256"] == hashlib.sha256(b"signed\n").hexdigest()


def test_a_token_is_issued_with_its_terms(run: Any) -> None:
    done = run("token", "--uses", "2", "--name", "db*", "--json")
    assert (done.status, done.lines[0]["uses"]) == (0, 2)
    assert run("token").out.startswith("opsenrol-")
    assert run("token", "--uses", "99999999").status != 0


def test_a_login_gives_a_bearer_for_curl(run: Any, fleet: Any) -> None:
    token = run("login", "--print", "--ttl", "600").out.strip()
    context = load_context(fleet.context)
    request = urllib.request.Request(f"{context.api}/v1/hosts", headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, context=ssl.create_default_context(cadata=context.ca), timeout=30) as answer:
        assert len(json.load(answer)["hosts"]) == 2
