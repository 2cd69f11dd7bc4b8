"""`python -m libstaragent.testing`, which is `scripts/simulate`: search seeds, show one run, prove the simulator.

Ends with 0 when every promise held (with `--bugs`: when every planted bug was caught), with 1 when not.
"""

from __future__ import annotations

import argparse
import sys
import time

from libstaragent.testing.bugs import BUGS
from libstaragent.testing.fleet import Cores, Outcome, simulate

# A planted bug must show within so many seeds.
BUG_SEEDS = 1000


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(
        prog="simulate",
        description="Run a whole fleet (agents, keepers, a room, central) under seeded faults, and check its promises.",
    )
    parser.add_argument("--seed", type=int, help="run this seed only")
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happened")
    parser.add_argument("--seeds", type=int, default=1000, metavar="N", help="how many seeds to search (1000)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first of them (0)")
    parser.add_argument("--hosts", type=int, default=3, metavar="N", help="hosts in the fleet (3)")
    parser.add_argument("--jobs", type=int, default=10, metavar="N", help="jobs in a run (10)")
    parser.add_argument("--bug", choices=sorted(BUGS), help="plant this bug")
    parser.add_argument("--bugs", action="store_true", help=f"plant each bug; each must be caught in {BUG_SEEDS} seeds")
    options = parser.parse_args()
    cores = BUGS[options.bug].cores if options.bug else Cores()
    if options.bugs:
        return _prove(options.hosts, options.jobs)
    if options.seed is not None:
        return _show(simulate(options.seed, cores=cores, hosts=options.hosts, jobs=options.jobs, tracing=options.trace))
    return _search(range(options.first, options.first + options.seeds), cores, options.hosts, options.jobs)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _show(outcome: Outcome) -> int:
    for line in outcome.trace:
        _say(line)
    _say(
        f"seed {outcome.seed}: {outcome.seconds:.0f} s, {outcome.jobs} jobs, {outcome.ran} commands, "
        f"{len(outcome.events)} faults"
    )
    for line in outcome.broken:
        _say(f"BROKEN  {line}")
    return int(bool(outcome.broken))


def _search(seeds: range, cores: Cores, hosts: int, jobs: int) -> int:
    began = time.perf_counter()
    simulated = 0.0
    failed: list[int] = []
    for seed in seeds:
        outcome = simulate(seed, cores=cores, hosts=hosts, jobs=jobs)
        simulated += outcome.seconds
        if outcome.broken:
            failed.append(seed)
            _say(f"seed {seed}: BROKEN  {outcome.broken[0]}")
    took = time.perf_counter() - began
    _say(
        f"{len(seeds)} seeds, {len(failed)} broken; {len(seeds) / took:.0f} seeds/s, "
        f"{simulated / took:.0f} times real time"
    )
    return int(bool(failed))


def _prove(hosts: int, jobs: int) -> int:
    missed = 0
    for name, bug in BUGS.items():
        for seed in range(BUG_SEEDS):
            outcome = simulate(seed, cores=bug.cores, hosts=hosts, jobs=jobs)
            if outcome.broken:
                _say(f"{name:<26} seed {seed:>4}  {outcome.broken[0]}")
                break
        else:
            missed += 1
            _say(f"{name:<26} NOT CAUGHT in {BUG_SEEDS} seeds")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
