"""The core alone, under a seeded world of its own: it keeps the order that makes a command run at most once.

The world has a disk that loses what was not synced and processes that outlive their keeper. It crashes the keeper at
a random step, starts another on what the disk still has, and asks again for every job, as an agent does that has not
heard.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from libstaragent.codes import KEEPER_BUG
from libstaragent.errors import Bug
from libstaragent.roles import keeper_effects as act
from libstaragent.roles.keeper import KeeperCore
from libstaragent.roles.keeper_job import MOVES, KeptJob
from libstaragent.roles.keeper_summary import Usage

JOBS = [f"01J{number:023d}" for number in range(4)]
SPEC: dict[str, object] = {"argv": ["true"], "timeout_ms": 3_000, "kill_grace_ms": 500}


class World:
    """A disk, processes, a clock, and one keeper at a time."""

    def __init__(self, seed: int, *, sync: bool = True) -> None:
        self.chance = random.Random(seed)
        self.sync = sync
        self.now = 0.0
        self.disk: dict[str, dict[str, dict[str, object]]] = {}
        self.cache: dict[str, dict[str, dict[str, object]]] = {}
        self.gated: set[str] = set()
        self.living: set[str] = set()
        self.zombies: set[str] = set()
        self.runs: Counter[str] = Counter()
        self.told: dict[str, list[dict[str, object]]] = {job: [] for job in JOBS}
        self.visited: set[tuple[str, str]] = set()
        self.start_keeper()

    def start_keeper(self) -> None:
        self.core = KeeperCore()
        self.queue: list[act.Effect] = []
        for job, slots in sorted(self.disk.items()):
            started = "whole" if "started" in slots else "blank"
            self.queue += self.core.on_found(job, started, slots.get("started", {}), slots.get("finished"), self.now)
        for job in JOBS:
            self.queue += self.core.on_request({"op": "spawn", "job": job, "spec": SPEC}, self.now)

    def crash(self) -> None:
        """The keeper dies; with it, sometimes, the machine."""
        if self.chance.random() < 0.5:
            self.living.clear()
            self.cache = {job: dict(slots) for job, slots in self.disk.items()}
        else:
            self.disk = {job: dict(slots) for job, slots in self.cache.items()}
        self.gated.clear()
        self.zombies.clear()
        self.start_keeper()

    def write(self, job: str, slot: str, value: dict[str, object]) -> bool:
        """Write and sync, unless the disk refuses."""
        if self.chance.random() < 0.1:
            return False
        self.cache.setdefault(job, {})[slot] = value
        if self.sync:
            self.disk[job] = dict(self.cache[job])
        return True

    def step(self) -> None:
        roll = self.chance.random()
        if self.queue and roll < 0.6:
            self.queue[:0] = self.answer(self.queue.pop(0)) or []
        elif self.living and roll < 0.7:
            job = self.chance.choice(sorted(self.living))
            self.ended(job, 0)
        elif self.zombies and roll < 0.8:
            job = self.chance.choice(sorted(self.zombies))
            self.zombies.discard(job)
            self.queue += self.core.on_exited(job, 0, Usage(), 2)
        elif roll < 0.85:
            self.queue += self.core.on_request({"op": "kill", "job": self.chance.choice(JOBS)}, self.now)
        else:
            self.now += self.chance.random()
            self.queue += self.core.on_time(self.now)

    def ended(self, job: str, _status: int) -> None:
        self.living.discard(job)
        self.zombies.add(job)

    def answer(self, effect: act.Effect) -> list[act.Effect] | None:
        job, core = effect.job, self.core
        if isinstance(effect, act.CreateSpool):
            assert job not in self.cache
            if not self.write(job, "reserved", {}):
                return core.on_create_failed(job, "SA-6501", 28, "full")
            return core.on_created(job)
        if isinstance(effect, act.DeleteSpool):
            assert "started" not in self.cache.pop(job), "only what was never let through is given back"
            if self.sync:
                self.disk.pop(job, None)
            return None
        if isinstance(effect, act.Fork):
            if self.chance.random() < 0.1:
                return core.on_fork_failed(job, 11, "SA-6701", "fork", 1)
            self.gated.add(job)
            return core.on_forked(job, 7, 7, "boot", 1)
        if isinstance(effect, act.WriteStarted):
            if not self.write(job, "started", effect.record):
                return core.on_started_failed(job, 5, "SA-6703", "started")
            return core.on_started_written(job, self.now)
        if isinstance(effect, act.Release):
            assert job in self.gated
            self.gated.discard(job)
            self.living.add(job)
            self.runs[job] += 1
        elif isinstance(effect, act.Abort):
            self.gated.discard(job)
            self.zombies.add(job)
        elif isinstance(effect, act.Signal):
            if job in self.living and (effect.how == "kill" or self.chance.random() < 0.3):
                self.ended(job, 9)
        elif isinstance(effect, act.Census):
            return core.on_census(job, int(job in self.living), self.now)
        elif isinstance(effect, act.Drain):
            return core.on_drained(job, {"stdout_bytes": 0}, 3)
        elif isinstance(effect, act.WriteFinished):
            if not self.write(job, "finished", effect.summary):
                return core.on_finished_failed(job, 5, self.now)
            return core.on_finished_written(job)
        elif isinstance(effect, act.Tell) and effect.event["ev"] == "finished":
            self.told[job].append(effect.event)
        return None


def live(seed: int, *, sync: bool = True) -> World:
    """One life: crashes, then peace until every job that was kept has its end."""
    world = World(seed, sync=sync)
    for _ in range(world.chance.randrange(4)):
        for _ in range(world.chance.randrange(60)):
            world.step()
        world.crash()
    for _ in range(3_000):
        if not world.queue and world.core.idle:
            break
        world.step()
    return world


def check(world: World) -> None:
    assert world.core.idle, "every job has an end"
    for job in JOBS:
        assert world.runs[job] <= 1, "no command runs twice"
        durable = [event for event in world.told[job] if event.get("durable", True)]
        assert len({(event["state"], event["ran"]) for event in durable}) <= 1, "an end that was told never changes"
        for event in durable:
            assert world.runs[job] in {"no": {0}, "maybe": {0, 1}, "yes": {1}}[str(event["ran"])]
    assert not world.living, "nothing that was ended lives on"


def test_over_many_seeds_no_command_runs_twice_and_every_job_ends_once():
    worlds = [live(seed) for seed in range(1_500)]
    for world in worlds:
        check(world)
    states = {str(event["state"]) for world in worlds for events in world.told.values() for event in events}
    assert states == {"ok", "timeout", "cancelled", "interrupted", "spawn_failed"}, "the seeds reach every end"


def test_a_disk_that_does_not_sync_is_caught_by_the_same_seeds():
    def fails(seed: int) -> bool:
        try:
            check(live(seed, sync=False))
        except AssertionError:
            return True
        return False

    assert any(fails(seed) for seed in range(1_000))


def test_a_move_that_the_table_lacks_is_a_bug_that_names_itself():
    kept = KeptJob(JOBS[0], "finished", None)
    with pytest.raises(Bug, match=f"created in state finished of job {JOBS[0]}") as caught:
        kept.move("created")
    assert caught.value.code is KEEPER_BUG


def test_every_state_can_be_reached_and_left():
    states = {state for state, _ in MOVES} | set(MOVES.values())
    reached = {"reserving", "found"}
    while grown := {after for (state, _), after in MOVES.items() if state in reached} - reached:
        reached |= grown
    assert reached == states
    ends = {"gone"}
    while grown := {state for (state, _), after in MOVES.items() if after in ends} - ends:
        ends |= grown
    assert ends == states


def test_more_results_than_may_be_kept_are_refused():
    core = KeeperCore(kept_max=0)
    (refusal,) = core.on_request({"op": "spawn", "job": JOBS[0], "spec": SPEC}, 0.0)
    assert isinstance(refusal, act.Tell)
    assert (refusal.event["ev"], refusal.event["code"]) == ("refused", "SA-6502")


def test_live_output_is_told_at_most_once_an_interval():
    core = KeeperCore()
    job = JOBS[0]
    core.on_request({"op": "spawn", "job": job, "spec": SPEC}, 0.0)
    core.on_created(job)
    core.on_forked(job, 7, 7, "boot", 1)
    core.on_started_written(job, 0.0)
    core.on_request({"op": "watch", "job": job, "on": True, "from": 0}, 0.0)
    told = []
    for millisecond in range(100):
        now = millisecond / 1000
        core.on_output(job, millisecond + 1, now)
        told += core.on_time(now)
    assert 3 <= len(told) <= 5
    assert [effect.event["ev"] for effect in told if isinstance(effect, act.Tell)] == ["output"] * len(told)
