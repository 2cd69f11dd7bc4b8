"""What goes wrong in one run, drawn from its seed: which kinds of trouble, how much, and when.

A seed first draws a climate (some runs are calm but for one kind of trouble, some have everything), then a list of
events in time. After `FAULTS_END` everything is mended and stays well, so that whatever has to end can end.

Not here: carrying events out (`fleet`). Rules: a pure function of the `random.Random`.
"""

from __future__ import annotations

__all__ = ("FAULTS_END", "KINDS", "ON_A_HOST", "Climate", "Trouble", "draw_climate", "draw_troubles")

from random import Random

# Seconds of trouble. Most jobs are submitted in the first half of them.
FAULTS_END = 30.0

# kind → how many in a run that has this kind of trouble, at most.
KINDS: dict[str, int] = {
    "kill agent": 4,
    "kill keeper": 3,
    "power loss": 2,
    "kill room": 3,
    "kill central": 3,
    "stall network": 3,
    "cut network": 4,
    "silence network": 2,
    "host offline": 3,
    "cut bus room": 2,
    "cut bus central": 2,
    "disk trouble": 3,
    "store trouble": 2,
    "replayed order": 6,
}


ON_A_HOST = frozenset(
    {
        "kill agent",
        "kill keeper",
        "power loss",
        "stall network",
        "cut network",
        "silence network",
        "host offline",
        "host lost",
        "disk trouble",
    }
)


class Climate:
    """How bad things are in one run.

    Attributes:
        slowness: multiplies the delays of the network; `bus_slowness` those of the bus.
        duplicates: the share of bus batches delivered twice.
        reorders: whether the bus keeps the order of batches.
        lossy_kills: whether a killed process loses what it had not synced.
        loses_a_host: whether one host goes and never comes back.
        room_turn: how long, in seconds, a turn of the room's loop may take.
        places: how many commands an agent hands to its keeper at once.
        patient_agent: whether an agent outlives its keeper, or starts anew as the real shell does.
    """

    __slots__ = (
        "bus_slowness",
        "duplicates",
        "kinds",
        "loses_a_host",
        "lossy_kills",
        "patient_agent",
        "places",
        "reorders",
        "room_turn",
        "slowness",
    )

    def __init__(self, random: Random) -> None:
        self.slowness = random.choice((1.0, 1.0, 5.0, 20.0))
        self.bus_slowness = random.choice((1.0, 1.0, 10.0, 60.0))
        self.duplicates = random.choice((0.0, 0.05, 0.3))
        self.reorders = random.random() < 0.4
        self.lossy_kills = random.random() < 0.5
        self.patient_agent = random.random() < 0.3
        self.loses_a_host = random.random() < 0.06
        self.room_turn = random.choice((0.0, 0.0, 0.05, 0.4))
        share = random.choice((0.15, 0.4, 0.8))
        self.places = random.choice((1, 2, 100))
        self.kinds = tuple(kind for kind in KINDS if random.random() < share)


class Trouble:
    """One event: `kind` at second `at`, on host number `host`, over after `lasts` seconds."""

    __slots__ = ("at", "host", "kind", "lasts")

    def __init__(self, kind: str, at: float, host: int, lasts: float) -> None:
        self.kind = kind
        self.at = at
        self.host = host
        self.lasts = lasts


def draw_climate(random: Random) -> Climate:
    """The climate of one run."""
    return Climate(random)


def draw_troubles(random: Random, climate: Climate, hosts: int) -> list[Trouble]:
    """All events of one run, none of which lasts beyond FAULTS_END."""
    troubles: list[Trouble] = []
    for kind in climate.kinds:
        for _ in range(1 + int(random.random() * KINDS[kind])):
            at = random.random() * (FAULTS_END - 1)
            # Many short ones, some that outlast a whole job.
            lasts = min(0.02 + 20.0 * random.random() ** 3, FAULTS_END - at)
            troubles.append(Trouble(kind, at, int(random.random() * hosts), lasts))
    if climate.loses_a_host:
        troubles.append(Trouble("host lost", random.random() * (FAULTS_END - 1), int(random.random() * hosts), 0.0))
    return troubles
