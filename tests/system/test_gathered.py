"""Output of many hosts shown together, on a real fleet: folded, compared, reduced in the room and at this end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from libstaragent import codes
from libstaragent.errors import Conflict
from libstaragent.jobs.folding import text_lines
from libstaragent.jobs.states import exit_status

ALL = "web01,web02,db01"


def events(done: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def marked(site: Any, tmp_path: Any) -> str:
    """A command that prints 1 on the first host that runs it, and the same text on the others."""
    claim = tmp_path / "claimed"
    return f"if mkdir {claim} 2>/dev/null; then echo one 1; echo only; exit 3; fi; echo one 2"


def test_identical_outputs_are_shown_once_with_their_hosts(site: Any) -> None:
    done = site.run("exec", "-t", ALL, "--fold", "--", "sh", "-c", "echo hello; echo there >&2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["=== db01,web[01-02] (3 hosts) ok", "hello", "stderr: there"]
    assert "3 targets: 3 ok" in done.stderr


def test_groups_come_with_their_ends_and_the_largest_first_also_of_an_old_job(site: Any, tmp_path: Any) -> None:
    done = site.run("exec", "-t", ALL, "--fold", "--json", "--shell", marked(site, tmp_path))
    assert done.returncode == 1
    groups = [event for event in events(done) if event["event"] == "group"]
    assert [(group["count"], group["state"], group["exit_status"]) for group in groups] == [
        (2, "ok", 0),
        (1, "exit_nonzero", 3),
    ]
    assert [group["lines"] for group in groups] == [["one 2"], ["one 1", "only"]]
    job = groups[0]["job"]
    again = site.run("jobs", "output", job, "--fold", "--json")
    assert [event for event in events(again) if event["event"] == "group"] == groups
    with site.fleet() as fleet:
        folded = fleet.job(job).fold()
        assert [text_lines(group.first) for group in folded] == [["one 2"], ["one 1", "only"]]
        assert [found.lines for found in fleet.job(job).diff()] == [("@@ -1 +1,2 @@", "-one 2", "+one 1", "+only")]
        assert exit_status(fleet.job(job).view().counts) == 1


def test_differences_to_the_largest_group_are_shown(site: Any, tmp_path: Any) -> None:
    done = site.run("exec", "-t", ALL, "--diff", "--shell", marked(site, tmp_path))
    lines = done.stdout.splitlines()
    assert lines[0].startswith("=== ") and lines[0].endswith("(2 hosts) ok") and lines[1] == "one 2"
    assert lines[2].endswith("(1 host) exit_nonzero, exit status 3")
    assert lines[3:] == ["@@ -1 +1,2 @@", "-one 2", "+one 1", "+only"]


def test_similar_outputs_are_one_template(site: Any) -> None:
    done = site.run("exec", "-t", ALL, "--fold=similar", "--shell", "echo pid $$ of 1")
    (heading, text) = done.stdout.splitlines()
    assert heading == "=== db01,web[01-02] (3 hosts, 3 different outputs) ok"
    assert text.startswith("pid ⟨") and text.endswith("⟩ of 1") and text.count("|") == 2


def test_the_room_reduces_and_only_what_it_made_is_stored(site: Any) -> None:
    done = site.run("exec", "-t", ALL, "--reduce", "uniq-count", "--json", "--", "printf", "b\\na\\nb\\n")
    assert done.returncode == 0, done.stderr
    (reduced,) = [event for event in events(done) if event["event"] == "reduced"]
    assert (reduced["hosts"], reduced["lines"]) == (3, 9)
    assert reduced["rows"] == [{"count": 6, "text": "b"}, {"count": 3, "text": "a"}]
    with site.fleet() as fleet:
        job = fleet.job(reduced["job"])
        assert job.reduced().hosts == 3
        targets = job.targets(output=True)
        assert [(target.output, target.stdout_bytes) for target in targets] == [(None, 6)] * 3
        assert len({target.stdout_sha256 for target in targets}) == 1
    again = site.run("jobs", "reduced", reduced["job"])
    assert (again.stdout, again.returncode) == ("      6 b\n      3 a\n", 0)


@pytest.mark.parametrize(
    ("reducer", "shown"),
    [
        ("count", "9\n"),
        ("sum", "18.75\n"),
        ("top-n:1", "      6 2\n"),
        ("sort-merge", "2\n" * 6 + "2.25\n" * 3),
    ],
)
def test_each_reducer_prints_what_it_is_for(site: Any, reducer: str, shown: str) -> None:
    done = site.run("exec", "-t", ALL, "--reduce", reducer, "--", "printf", "2\\n2.25\\n2\\n")
    assert (done.stdout, done.returncode) == (shown, 0), done.stderr


def test_what_is_not_in_a_reduction_is_said_and_ends_with_one(site: Any, tmp_path: Any) -> None:
    claim = tmp_path / "claimed"
    line = f"echo up; mkdir {claim} 2>/dev/null && head -c 300000 /dev/zero; exit 0"
    done = site.run("exec", "-t", ALL, "--reduce", "uniq-count", "--shell", line)
    assert done.stdout == "      2 up\n"
    assert done.returncode == 1
    assert "1 host is not counted" in done.stderr and "bytes of its output were not kept" in done.stderr


def test_a_command_of_our_own_reads_what_all_printed(site: Any) -> None:
    done = site.run("exec", "-t", ALL, "--reduce", "sort | uniq -c", "--shell", "echo one; printf two; echo no >&2")
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()] == [["3", "one"], ["3", "two"]]
    job = done.stderr
    assert "3 targets: 3 ok" in job
    early = site.run("exec", "-t", ALL, "--reduce-command", "true", "--", "echo", "nobody reads this")
    assert (early.returncode, early.stdout) == (0, "")


def test_a_command_of_our_own_that_fails_is_told_and_ends_with_one(site: Any) -> None:
    done = site.run("exec", "-t", ALL, "--reduce", "cat >/dev/null; exit 7", "--", "true")
    assert done.returncode == 1
    assert "the command ended with exit status 7" in done.stderr
    done = site.run("exec", "-t", ALL, "--reduce-command", "cat", "--shell", "echo in; exit 3")
    assert (done.returncode, done.stdout) == (1, "in\n" * 3)


def test_a_misspelt_reducer_is_refused_and_never_run(site: Any, tmp_path: Any) -> None:
    with site.fleet() as fleet:
        before = fleet.jobs(1)
    done = site.run("exec", "-t", ALL, "--reduce", "uniqcount", "--", "true")
    assert done.returncode == 64
    assert codes.REDUCER_UNKNOWN.code in done.stderr
    with site.fleet() as fleet:
        assert fleet.jobs(1) == before


@pytest.mark.parametrize(
    "words",
    [
        ("--fold", "--reduce", "count"),
        ("--reduce", "cat | wc", "--json"),
        ("--reduce-command", "wc", "--async"),
    ],
)
def test_two_ways_of_showing_at_once_are_refused(site: Any, words: tuple[str, ...]) -> None:
    done = site.run("exec", "-t", "web01", *words, "--", "true")
    assert (done.returncode, done.stdout) == (64, "")
    assert codes.COMMAND_LINE.code in done.stderr


def test_a_job_without_a_reducer_has_no_reduction(site: Any) -> None:
    done = site.run("exec", "-t", "web01", "--json", "--", "true")
    job = events(done)[-1]["job"]
    told = site.run("jobs", "reduced", job)
    assert told.returncode == 1 and codes.NOT_REDUCED.code in told.stderr
    with site.fleet() as fleet, pytest.raises(Conflict):
        fleet.job(job).reduced()
    assert site.run("jobs", "output", job, "web01", "--fold").returncode == 64


def test_text_of_a_host_acts_on_no_terminal_when_it_is_folded(site: Any) -> None:
    done = site.run("exec", "-t", ALL, "--fold", "--", "printf", "\\033]52;c;eA==\\007\\033[2J[/red]\\n")
    assert "\x1b" not in done.stdout and "\x07" not in done.stdout
    assert "[/red]" in done.stdout
    done = site.run("exec", "-t", ALL, "--reduce", "uniq-count", "--", "printf", "\\033[2Jx\\n")
    assert "\x1b" not in done.stdout and done.stdout.startswith("      3 ")
