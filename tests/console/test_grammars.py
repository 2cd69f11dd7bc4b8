"""What is typed after / and :, and the targets that the console writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libstaragent.errors import StarAgentError
from opsconsole.command import (
    OF_THE_SHELL,
    Command,
    History,
    complete,
    parse_command,
    request,
    split_run,
    written_targets,
)
from opsconsole.filter import parse_filter


@pytest.mark.parametrize(
    ("typed", "passes", "fails"),
    [
        ("web", "my WEB host", "db01"),
        ("Web", "Web01", "web01"),
        ("!web", "db01", "web01"),
        ("web0[12]$", "web02", "web03"),
        ("-f w1", "web01", "db01"),
        ("-f wx", "w then x", "x then w"),
        (r"\W", "a b", "ab"),
    ],
)
def test_a_filter_passes_what_it_says(typed: str, passes: str, fails: str) -> None:
    found = parse_filter(typed)
    assert found and found.matches(passes) and not found.matches(fails)


@pytest.mark.parametrize("typed", ["", "  ", "!", "-f", "-f  "])
def test_an_empty_filter_passes_everything(typed: str) -> None:
    assert not parse_filter(typed) and parse_filter(typed).matches("anything")


@pytest.mark.parametrize("typed", ["(", "[a", "*x", "!("])
def test_a_pattern_that_cannot_be_read_has_a_code(typed: str) -> None:
    with pytest.raises(StarAgentError) as raised:
        parse_filter(typed)
    assert raised.value.code.code == "SA-1022"


@given(st.text(max_size=30))
def test_no_filter_crashes_otherwise(typed: str) -> None:
    try:
        parse_filter(typed).matches("web01 up")
    except StarAgentError as error:
        assert error.code.code == "SA-1022"


def test_a_command_is_a_verb_and_the_rest() -> None:
    assert parse_command(" jobs  web ", ["jobs"]) == Command("jobs", "web")
    assert parse_command("  ", ["jobs"]) is None


def test_an_unknown_verb_names_the_nearest() -> None:
    with pytest.raises(StarAgentError, match="nearest is :jobs") as raised:
        parse_command("jbos", ["jobs", "hosts"])
    assert raised.value.code.code == "SA-1023"


def test_a_verb_of_the_command_line_is_named_as_one_and_not_as_another_that_is_spelt_like_it() -> None:
    for verb in OF_THE_SHELL:
        with pytest.raises(StarAgentError, match=f"in a shell: opsconsole {verb}$"):
            parse_command(f"{verb} list", ["quit", "jobs"])


def test_completion_completes_the_verb_then_its_argument() -> None:
    words = {"theme": ["star-dark", "star-light"], "quit": []}
    assert complete("th", words) == ["theme "]
    assert complete("q", words) == ["quit"]
    assert complete("theme star-l", words) == ["theme star-light"]
    assert complete("nothing x", words) == []


def test_run_splits_targets_from_command() -> None:
    wanted = split_run("web[01-03] -- grep -r 'two words' /etc", shell=False)
    assert (wanted.targets, wanted.argv, wanted.shell) == ("web[01-03]", ("grep", "-r", "two words", "/etc"), False)
    assert split_run("web -- a | b", shell=True).argv == ("a | b",)


@pytest.mark.parametrize("typed", ["web", "-- uptime", " -- uptime", "web -- ", "web -- 'open"])
def test_a_run_that_cannot_be_read_has_a_code(typed: str) -> None:
    with pytest.raises(StarAgentError) as raised:
        split_run(typed, shell=False)
    assert raised.value.code.code == "SA-1024"


@pytest.mark.parametrize(("targets", "command"), [("", "true"), ("web", ""), ("web", "  ")])
def test_a_shell_line_needs_targets_and_a_line(targets: str, command: str) -> None:
    with pytest.raises(StarAgentError):
        request(targets, command, shell=True)


def test_history_walks_back_and_returns_to_the_draft() -> None:
    history = History()
    for line in ("one", "two", "one"):
        history.add(line)
    assert [history.older("draft"), history.older("one"), history.older("two")] == ["one", "two", "two"]
    assert [history.newer("two"), history.newer("one"), history.newer("draft")] == ["one", "draft", "draft"]


def test_host_names_are_folded_and_those_that_mean_something_else_left_out() -> None:
    names = ["web01", "web02", "web03", "evil|*", "[/foo]", "-x", "a b"]
    assert written_targets(names) == ("web[01-03]", 4)
    assert written_targets(["!x"]) == ("", 1)
