"""Each fuzzing target runs, finds nothing in a few thousand inputs, and would find something."""

from __future__ import annotations

from random import Random

import pytest

from fuzz import words
from fuzz.__main__ import TARGETS, Hang, main
from libstaragent.protocol import frames

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
