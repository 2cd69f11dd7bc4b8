"""What must hold at the end of a run, and what must have ended by a time: looked at in a whole fleet.

Not here: what is judged at the moment at which it happens (`referee`). Rules: it looks and changes nothing.
"""

from __future__ import annotations

__all__ = ("check_cancels", "check_end", "leftovers")

from typing import TYPE_CHECKING

from libstaragent.codes import NEVER_STARTED
from libstaragent.jobs.reduce import counts, merge, parse_reducer, read_part, reduce_output
from libstaragent.jobs.states import is_terminal
from libstaragent.model.result import Output, encode_records
from libstaragent.security.acts import Exec
from libstaragent.testing.fleet_audit import check_audit
from libstaragent.testing.weather import FAULTS_END

if TYPE_CHECKING:
    from libstaragent.testing.fleet import Fleet
    from libstaragent.testing.fleet_store import StoredJob

# A cancelled job has ended so long after the faults: a half-open connection is found out after 45 s, then the kill.
CANCEL_PATIENCE = 75.0
# Two readings of one clock, some microseconds apart.
CLOCK_MS = 2
# How late the end of a target may be stored: a tick, a commit, and the bus.
STORE_LATE_MS = 10_000


def leftovers(fleet: Fleet) -> list[str]:
    """What is still held in memory somewhere."""
    held: list[str] = []
    if fleet.bus.unacknowledged:
        held.append(f"bus: {fleet.bus.unacknowledged} batches")
    if fleet.room is not None and fleet.room.core.waiting:
        held.append(f"room: {fleet.room.core.waiting} targets")
    for host in fleet.hosts:
        if host.lost:
            continue
        if host.agent is not None and host.agent.core.open:
            held.append(f"agent {host.machine.name}: {sorted(host.agent.core.open)}")
        if host.machine.drafts.files:
            held.append(f"drafts of {host.machine.name}: {sorted(host.machine.drafts.files)}")
        if host.machine.spools.files:
            held.append(f"keeper {host.machine.name}: {sorted(host.machine.spools.files)}")
    return held


def check_cancels(fleet: Fleet) -> None:
    """Whether what was cancelled, and had time to end since, has ended."""
    for identity, stored in fleet.store.jobs.items():
        if stored.cancel is None or len(stored.ended) == len(stored.members):
            continue
        if fleet.clock.now > max(stored.cancelled_at, FAULTS_END) + CANCEL_PATIENCE:
            lost = {host.machine.name for host in fleet.hosts if host.lost}
            missing = [member.agent for member in stored.members if member.agent not in {*stored.ended, *lost}]
            if not missing:
                continue
            fleet.referee.breaks("a cancelled job ends", f"{identity} on {missing}")


def check_end(fleet: Fleet) -> None:
    """Whether everything has ended as it must, once the last deadline is past."""
    breaks = fleet.referee.breaks
    for identity in fleet.operators.accepted - set(fleet.store.jobs):
        breaks("nothing acknowledged is lost", f"job {identity} was accepted, and is not stored")
    lost = {host.machine.name for host in fleet.hosts if host.lost}
    healthy_ms = fleet.clock.now_ms - int((fleet.clock.now - FAULTS_END) * 1000)
    assert fleet.central is not None
    for identity, stored in fleet.store.jobs.items():
        for member in stored.members:
            entry = stored.ended.get(member.agent)
            what = f"{identity} on {member.agent}"
            if entry is None:
                breaks("every target ends", what)
            elif entry.received_ms > max(stored.deadline_ms, healthy_ms) + STORE_LATE_MS:
                breaks("every target ends by its deadline", what)
            elif (
                entry.result.code == NEVER_STARTED.code
                # A firing is not begun a second time: what is not done in its time is not made up for.
                and not stored.schedule
                and member.agent not in fleet.firings.clocks_set
                and entry.received_ms < stored.envelope.expires - CLOCK_MS
            ):
                breaks("what was accepted is not given up before its time", what)
            run = fleet.referee.runs.get((identity, member.agent))
            if member.agent in lost:
                continue
            if run is not None and run.ended and not fleet.store.knows(identity, member.agent):
                breaks("nothing that ran is lost", what)
        _check_reduction(fleet, identity, stored)
        job = fleet.central.core.jobs.get(identity)
        if job is not None:
            said = {agent: entry.result.state for agent, entry in stored.ended.items()}
            if job.states != said or sum(job.counts.values()) != len(stored.members) or job.open:
                breaks("the counts add up", f"{identity}: {job.counts}, stored {said}")
            if any(job.counts.get(state, 0) != list(said.values()).count(state) for state in job.counts):
                breaks("the counts add up", f"{identity}: {job.counts}, stored {said}")
            if not all(map(is_terminal, job.counts)):
                breaks("the counts add up", f"{identity}: {job.counts}")
    check_audit(fleet.store.audit, fleet.store.jobs, fleet.referee)
    for held in leftovers(fleet):
        breaks("nobody holds on to anything", held)


def _check_reduction(fleet: Fleet, identity: str, stored: StoredJob) -> None:
    """Whether the parts of a job add up to what its hosts printed, each counted once."""
    act = stored.envelope.act
    if not isinstance(act, Exec) or not act.reduce:
        return
    reducer = parse_reducer(act.reduce)
    expected = merge(
        reduce_output(
            reducer,
            Output(encode_records([(1, fleet.referee.runs[identity, agent].text[: entry.result.stdout_bytes])])),
        )
        for agent, entry in stored.ended.items()
        if counts(entry.result)
    )
    found = merge(map(read_part, stored.parts.values()))
    if found != expected:
        fleet.referee.breaks(
            "a reduction is of what its hosts printed", f"{identity}: {found.hosts} hosts, not {expected.hosts}"
        )
