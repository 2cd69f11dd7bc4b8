"""Each fuzzing target runs, finds nothing in a few thousand inputs, and would find something."""

from __future__ import annotations

from random import Random

import pytest

from fuzz import words
from fuzz.__main__ import TARGETS, Hang, main
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.protocol import frames
from libstaragent.security.policy.reader import read_policy

INPUTS = 1500


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_target_finds_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    target = TARGETS[name]
    for number in range(INPUTS):
        target(Random(f"smoke {name} {number}"))


def test_a_planted_fault_is_found_with_its_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(frames, "_AFTER_LENGTH", 4)
    assert main(["frames", "--inputs", "3000"]) == 1
    said = capsys.readouterr().out
    assert "frames --seed 0 --only " in said
    number = said.partition("--only ")[2].partition(":")[0]
    with pytest.raises(AssertionError):
        main(["frames", "--only", number])


def test_an_input_that_does_not_end_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def endless(_random: Random) -> None:
        while True:
            words.safe("x")

    monkeypatch.setitem(TARGETS, "endless", endless)
    monkeypatch.setattr("fuzz.__main__.HANG_SECONDS", 0.2)
    assert main(["endless", "--inputs", "1"]) == 1
    assert Hang.__name__ in capsys.readouterr().out


def test_half_of_a_character_in_a_policy_is_refused_with_its_place() -> None:
    with pytest.raises(StarAgentError) as refused:
        read_policy('# a\n# b \ud800\n[[rule]]\nname = "x"\n')
    assert refused.value.code is codes.POLICY_SYNTAX and "line 2, column 5" in refused.value.detail
