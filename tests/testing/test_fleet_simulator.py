"""The simulated fleet keeps its promises, and the simulator sees when it does not.

Searches begin at seed 0, so that what is proven is what `scripts/simulate` shows.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from libstaragent.testing import BUGS, Outcome, simulate
from libstaragent.testing.weather import KINDS

SEEDS = 300
BUG_SEEDS = 1000


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return [simulate(seed) for seed in range(SEEDS)]


def test_the_fleet_keeps_its_promises(outcomes: list[Outcome]) -> None:
    assert {outcome.seed: outcome.broken for outcome in outcomes if outcome.broken} == {}


def test_the_faults_really_happen_and_the_fleet_really_works(outcomes: list[Outcome]) -> None:
    happened = Counter(event for outcome in outcomes for event in outcome.events)
    assert {*KINDS, "host lost"} == set(happened)
    assert min(happened.values()) >= 10
    assert sum(outcome.jobs for outcome in outcomes) > 5 * SEEDS
    assert sum(outcome.ran for outcome in outcomes) > 5 * SEEDS


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str) -> None:
    for seed in range(BUG_SEEDS):
        outcome = simulate(seed, cores=BUGS[name].cores)
        if outcome.broken:
            sys.stdout.write(f"{name}: seed {seed}: {outcome.broken[0]}\n")
            return
    pytest.fail(f"{name} survived {BUG_SEEDS} seeds")


def test_a_run_is_a_function_of_its_seed() -> None:
    assert simulate(3, tracing=True) == simulate(3, tracing=True)


def test_the_trace_shows_faults_commands_and_ends() -> None:
    trace = "\n".join(simulate(3, tracing=True).trace)
    for what in ("weather", "submits", "starts", "store"):
        assert what in trace


def test_the_command_prints_the_seed_that_breaks_a_promise() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "libstaragent.testing", "--seeds", "3", "--bug", "last-word-wins"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 1
    assert "BROKEN" in told.stdout and "seeds/s" in told.stdout
