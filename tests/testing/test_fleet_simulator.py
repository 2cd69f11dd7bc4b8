"""The simulated fleet keeps its promises, and the simulator sees when it does not."""

from __future__ import annotations

from libstaragent.testing.bugs import BUGS
from libstaragent.testing.fleet import simulate


def test_a_run_is_a_function_of_its_seed() -> None:
    assert simulate(3, tracing=True) == simulate(3, tracing=True)


def test_results_acknowledged_before_the_commit_are_caught() -> None:
    caught = next(
        run for seed in range(1000) if (run := simulate(seed, cores=BUGS["acknowledge-before-commit"].cores)).broken
    )
    assert "nothing acknowledged is lost" in caught.broken[0]
