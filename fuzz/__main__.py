"""`scripts/fuzz [TARGET …] [--inputs N] [--seed S] [--jobs J] [--seconds T]`: throw inputs at parsers.

Each input has its number; a finding names target, seed and number, and `--only NUMBER` throws that one again. An input
that takes longer than HANG_SECONDS of the processor's time is a finding too. Exit status 0: nothing was found.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
import time
import traceback
from collections.abc import Callable
from random import Random

from fuzz import disk, policy, wire, words

# The slowest honest input takes a millisecond or two; a busy machine multiplies the clock's time, not the processor's.
HANG_SECONDS = 5.0
FINDINGS_MAX = 5

TARGETS: dict[str, Callable[[Random], None]] = {
    "frames": wire.frames,
    "messages": wire.messages,
    "envelope": wire.envelope,
    "journal": disk.journal,
    "spool": disk.spool,
    "policy": policy.policy,
    "targets": words.targets,
    "targets-meaning": words.targets_meaning,
    "sanitiser": words.sanitiser,
}


class Hang(BaseException):
    """An input that does not end; not an Exception, so that nothing under test catches it."""


def main(arguments: list[str]) -> int:
    """Runs the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Throw inputs at parsers of what strangers write.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"some of {', '.join(TARGETS)} (all)")
    parser.add_argument("--inputs", type=int, default=20_000, help="inputs a target (20000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes at once (1)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this input alone, with its traceback")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    for name in options.targets:
        if name not in TARGETS:
            parser.error(f"there is no target {name!r}")
    wanted = options.targets or list(TARGETS)
    if options.only is not None:
        for name in wanted:
            _one(name, options.seed, options.only)
        return 0
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        runs = [(name, options.seed, options.inputs) for name in wanted]
        status = 0
        for name, done, seconds, slowest, findings in pool.imap_unordered(_run, runs):
            status |= bool(findings)
            if options.json:
                said = {"target": name, "seed": options.seed, "inputs": done, "seconds": round(seconds, 1)}
                print(json.dumps({**said, "slowest_ms": round(slowest * 1000, 1), "findings": findings}), flush=True)
                continue
            rate = done / seconds if seconds else 0.0
            print(f"{name}: {done:,} inputs, {rate:,.0f}/s, slowest {slowest * 1000:.1f} ms, {len(findings)} findings")
            for number, what in findings:
                print(f"  {name} --seed {options.seed} --only {number}: {what}", flush=True)
    return status


def _run(job: tuple[str, int, int]) -> tuple[str, int, float, float, list[tuple[int, str]]]:
    name, seed, inputs = job
    findings: list[tuple[int, str]] = []
    slowest = 0.0
    begin = time.monotonic()
    signal.signal(signal.SIGVTALRM, _hang)
    number = 0
    for number in range(1, inputs + 1):
        before = time.process_time()
        signal.setitimer(signal.ITIMER_VIRTUAL, HANG_SECONDS)
        try:
            _one(name, seed, number)
        except (Exception, Hang) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            findings.append((number, f"{type(error).__name__}: {str(error)[:200]} ({last.name}, line {last.lineno})"))
            if len(findings) >= FINDINGS_MAX:
                break
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        slowest = max(slowest, time.process_time() - before)
    return name, number, time.monotonic() - begin, slowest, findings


def _one(name: str, seed: int, number: int) -> None:
    TARGETS[name](Random(f"{seed} {name} {number}"))


def _hang(_number: int, _frame: object) -> None:
    raise Hang(f"after {HANG_SECONDS} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
