"""A whole fleet under one seed: the wiring page of the simulator, and what must hold at a run's end.

`simulate(seed)` builds hosts (agent, keeper, disk, commands), one room and one central around the real cores, lets
operators submit, watch and cancel, lets the weather of that seed loose on them, then mends everything and looks:

- each target of each accepted job has exactly one terminal state, by its deadline;
- no command ran twice, and none whose target says that it did not run;
- nothing acknowledged is lost: what a host forgot is in the store, and what a host finished is told;
- a cancelled job ends; the counts add up; nobody holds on to anything;
- a planned job keeps to its waves and its window, and begins on nobody while it is paused or after too many failures.

Not here: the processes (`fleet_agent`, `fleet_keeper`, `fleet_room`, `fleet_central`), the referee, the weather.
Rules: a run is a function of seed, bug and sizes alone; no clock but the simulated one.
"""

from __future__ import annotations

__all__ = ("Cores", "Fleet", "Outcome", "simulate")

from random import Random

from libstaragent.errors import StarAgentError
from libstaragent.security.acts import Member
from libstaragent.testing.clock import ManualClock
from libstaragent.testing.cores import Cores, Outcome
from libstaragent.testing.fleet_agent import AgentProcess
from libstaragent.testing.fleet_bus import SimBus
from libstaragent.testing.fleet_central import CentralProcess
from libstaragent.testing.fleet_checks import check_cancels, check_end, leftovers
from libstaragent.testing.fleet_keeper import KeeperProcess, Machine
from libstaragent.testing.fleet_room import RoomProcess
from libstaragent.testing.fleet_store import SimStore
from libstaragent.testing.operators import Operators
from libstaragent.testing.plan_referee import PlanReferee
from libstaragent.testing.putters import Putters
from libstaragent.testing.referee import Referee
from libstaragent.testing.rules import FORBIDDEN_USER
from libstaragent.testing.schedule_referee import ScheduleReferee
from libstaragent.testing.schedulers import Schedulers
from libstaragent.testing.transport import MemoryNetwork, MemoryTransport
from libstaragent.testing.trespassers import Trespassers
from libstaragent.testing.trust import PlainTrust
from libstaragent.testing.weather import FAULTS_END, ON_A_HOST, Trouble, draw_climate, draw_troubles

ROOM = "room"
# After the last deadline: an agent repeats a result every 30 s, and its words and their answers have to travel.
AFTERWARDS = 75.0
# Runs with schedules, and with files and orders that the rules forbid: these of each four seeds.
SCHEDULES_AT = 1
TRESPASSERS_AT = 3
# Of what is never started again.
NEVER = float("inf")


class _Host:
    """One host: what stays, and the processes that run now."""

    __slots__ = ("agent", "connects", "keeper", "lost", "machine", "offline")

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.agent: AgentProcess | None = None
        self.keeper: KeeperProcess | None = None
        self.connects = 0
        self.offline = False
        self.lost = False

    def count_connect(self) -> int:
        """The number of the next connection, which the host keeps on its disk."""
        self.connects += 1
        return self.connects


class Fleet:
    """See the module."""

    def __init__(self, seed: int, *, cores: Cores, hosts: int, jobs: int, tracing: bool, trust: PlainTrust) -> None:
        self.trust = trust
        self.random = Random(seed)
        self.clock = ManualClock()
        self.referee = Referee(self.clock, tracing=tracing)
        self.climate = draw_climate(self.random)
        self.cores = cores
        self.network = MemoryNetwork(self.clock, self.random, slowness=self.climate.slowness)
        self.bus = SimBus(
            self.clock,
            self.random,
            slowness=self.climate.bus_slowness,
            duplicates=self.climate.duplicates,
            reorders=self.climate.reorders,
        )
        self.store = SimStore(self.clock, self.referee)
        self.plans = PlanReferee(self.clock, self.referee, self.store)
        self.referee.on_started = self._started
        self.hosts = [_Host(Machine(f"AGENT{number}".rjust(26, "0"), cores.compact)) for number in range(1, hosts + 1)]
        machines = [host.machine for host in self.hosts]
        self.firings = ScheduleReferee(self.clock, self.referee, {machine.name: machine for machine in machines})
        self.store.on_kept = self.firings.kept
        self.members = {
            host.machine.name: Member(host.machine.name, f"host{number}", ROOM)
            for number, host in enumerate(self.hosts, 1)
        }
        self.events: list[str] = []
        self.room: RoomProcess | None = None
        self.putters: Putters | None = None
        self.central: CentralProcess | None = None
        self.start_central()
        self.start_room()
        for host in self.hosts:
            self.start_keeper(host)
            self.start_agent(host)
        self.operators = Operators(self.clock, self.random, self.referee, trust, tuple(self.members.values()), jobs)
        self.operators.central_of = lambda: self.central if self.central is not None and self.central.alive else None
        self.schedulers: Schedulers | None = None
        if seed % 4 == SCHEDULES_AT:
            members = tuple(self.members.values())
            self.schedulers = Schedulers(self.clock, seed, self.operators, self.firings, members, machines, self.events)
        elif seed % 4 == TRESPASSERS_AT:
            members = tuple(self.members.values())
            Trespassers(self.clock, seed, self.operators, members)
            self.putters = Putters(self.clock, seed, self.operators, self.referee, members, self._carries)
            for machine in machines:
                machine.on_placed = self.putters.took_name
            assert self.room is not None
            self.room.carry(self.putters.wanted)
        for trouble in draw_troubles(self.random, self.climate, hosts):
            self.clock.call_at(trouble.at, self._begin, trouble)

    # Starts --------------------------------------------------------------------------------------------------------

    def start_central(self) -> None:
        """Start central on its store, unless it runs."""
        if self.central is None or not self.central.alive:
            self.referee.note("central", "starts")
            self.central = CentralProcess(
                self.clock,
                self.random,
                self.bus,
                self.store,
                self.referee,
                make=self.cores.central,
                verify=self.trust.verify,
                known=self.members,
                acknowledge_early=self.cores.acknowledge_early,
                audit=self.cores.audit,
                ordering=self.plans.ordering,
            )

    def start_room(self) -> None:
        """Start the room with nothing in memory, unless it runs."""
        if self.room is None or not self.room.alive:
            self.referee.note("room", "starts")
            self.room = RoomProcess(
                self.clock,
                self.bus,
                self.referee,
                ROOM,
                self.cores.room,
                str(self.clock.now),
                turn=self.climate.room_turn,
                wanted=None if self.putters is None else self.putters.wanted,
            )

    def start_keeper(self, host: _Host) -> None:
        """Start the host's keeper on its spools, unless it runs."""
        if not host.lost and (host.keeper is None or not host.keeper.alive):
            self.referee.note(host.machine.name, "keeper starts")
            host.keeper = KeeperProcess(self.clock, self.random, host.machine, self.referee, self.cores.keeper)

    def start_agent(self, host: _Host) -> None:
        """Start the host's agent on its journal, unless it runs."""
        if not host.lost and (host.agent is None or not host.agent.alive):
            self.referee.note(host.machine.name, "agent starts")
            host.agent = AgentProcess(
                self.clock,
                self.random,
                host.machine,
                self.referee,
                make=self.cores.agent,
                dial=lambda agent: self._dial(host, agent),
                keeper_of=lambda: host.keeper if host.keeper is not None and host.keeper.alive else None,
                on_settled=lambda job: self._settled(job, host.machine.name),
                count_connect=host.count_connect,
                places=self.climate.places,
                verifier=self.trust.verifier(self.members[host.machine.name], host.machine.revoked),
                watch=self.firings,
            )

    def _started(self, job: str, agent: str, argv: tuple[str, ...], user: str | None) -> None:
        self.plans.started(job, agent)
        self.firings.started(job, agent, argv)
        if user == FORBIDDEN_USER:
            self.referee.breaks("what the rules forbid does not run", f"{job} on {agent}, as {user}")

    def _carries(self) -> bool:
        return not self.bus.cut_off and self.central is not None and self.central.alive

    def _dial(self, host: _Host, agent: AgentProcess) -> MemoryTransport | None:
        room = self.room
        if host.offline or room is None or not room.alive or self.network.is_stalled(host.machine.name):
            return None
        mine, theirs = self.network.connect(host.machine.name)
        room.accept(host.machine.name, theirs)
        return mine

    def _settled(self, job: str, agent: str) -> None:
        if not self.store.knows(job, agent):
            self.referee.breaks("nothing acknowledged is lost", f"{job} on {agent} is forgotten, and not stored")

    # Faults --------------------------------------------------------------------------------------------------------

    def _begin(self, trouble: Trouble) -> None:
        host = self.hosts[trouble.host]
        name = host.machine.name
        self.events.append(trouble.kind)
        where = f" on {name}" if trouble.kind in ON_A_HOST else ""
        self.referee.note("weather", f"{trouble.kind}{where} for {trouble.lasts:.2f} s")
        later = self.clock.now + trouble.lasts
        match trouble.kind:
            case "kill agent":
                self._kill_agent(host, self.climate.lossy_kills)
                self.clock.call_at(later, self.start_agent, host)
            case "kill keeper" | "power loss":
                self._kill_keeper(host, later, power=trouble.kind == "power loss")
            case "kill room" if self.room is not None:
                self.room.kill()
                self.clock.call_at(later, self.start_room)
            case "kill central" if self.central is not None:
                self.central.kill()
                self.clock.call_at(later, self.start_central)
            case "stall network":
                self.network.stall(name)
                self.clock.call_at(later, self.network.heal, name)
            case "cut network":
                self.network.cut(name)
            case "silence network":
                self.network.silence(name)
            case "host offline":
                host.offline = True
                self.network.cut(name)
                self.clock.call_at(later, self._online, host)
            case "cut bus room":
                self.bus.cut_off |= {"room", "orders"}
                self.clock.call_at(later, self.bus.cut_off.difference_update, {"room", "orders"})
            case "cut bus central":
                self.bus.cut_off |= {"central", "reports"}
                self.clock.call_at(later, self.bus.cut_off.difference_update, {"central", "reports"})
            case "disk trouble":
                self.firings.excused.add(name)
                (host.machine.health.fill if trouble.lasts < 1 else host.machine.health.fail)()
                self.clock.call_at(later, host.machine.health.mend)
            case "host lost":
                self._kill_keeper(host, NEVER, power=True)
                host.lost = True
            case "replayed order":
                self._replay()
            case "store trouble":
                self.store.health.fill()
                self.clock.call_at(later, self.store.health.mend)
            case _:
                raise ValueError(trouble.kind)

    def _replay(self) -> None:
        room = self.room
        if room is None or not room.alive or not room.dispatched:
            return
        dispatch = self.random.choice(room.dispatched)
        for agent, _ in dispatch.targets:
            # Only what ran: what a host refused it may not remember, and no promise says that it does.
            if (dispatch.job, agent) in self.referee.runs:
                self.referee.note("weather", f"replays {dispatch.job} to {agent}")
                room.replay(dispatch, agent)

    def _online(self, host: _Host) -> None:
        host.offline = False

    def _kill_agent(self, host: _Host, lossy: bool) -> None:
        if host.agent is not None and host.agent.alive:
            host.agent.kill()
            if lossy:
                host.machine.journal.crash(self.random)
                host.machine.drafts.crash(self.random)

    def _kill_keeper(self, host: _Host, later: float, *, power: bool) -> None:
        lossy = power or self.climate.lossy_kills
        lived = host.keeper is not None and host.keeper.alive
        if host.keeper is not None and lived:
            host.keeper.kill()
            if lossy:
                host.machine.spools.crash(self.random)
        agent = host.agent
        if power:
            host.machine.boots += 1
            self.network.silence(host.machine.name)
            for command in host.machine.commands.values():
                command.over = True
            host.machine.commands.clear()
            self._kill_agent(host, True)
        elif lived and agent is not None and agent.alive:
            if self.climate.patient_agent:
                agent.later(0.001, agent.keeper_lost)
            else:
                self.clock.call_later(self.random.random() * 0.05, self._kill_agent, host, False)
        if later == NEVER:
            return
        self.clock.call_at(later, self.start_keeper, host)
        self.clock.call_at(later, self.start_agent, host)

    # The run -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until everything has ended, or should have, or a promise is broken."""
        clock, broken = self.clock, self.referee.broken
        try:
            while clock.now < FAULTS_END and not broken and clock.step(FAULTS_END):
                continue
            clock.now = max(clock.now, FAULTS_END)
            if broken:
                return
            self._mend()
            look = FAULTS_END + 1.0
            while not broken:
                while not broken and clock.step(look):
                    continue
                clock.now = max(clock.now, look)
                check_cancels(self)
                if self._settled_down() or clock.now > self._last_moment():
                    break
                look += 1.0
            if not broken:
                check_end(self)
                self.firings.check_end(self)
                if self.putters is not None:
                    self.putters.check_end(self.store)
        except StarAgentError as error:
            self.referee.breaks("cores raise nothing", str(error))

    def _mend(self) -> None:
        self.referee.note("weather", "all is well from here on")
        self.bus.cut_off.clear()
        self.store.health.mend()
        if self.schedulers is not None:
            self.schedulers.mend()
        self.start_central()
        self.start_room()
        for host in self.hosts:
            host.offline = False
            host.machine.health.mend()
            self.network.heal(host.machine.name)
            self.start_keeper(host)
            self.start_agent(host)

    def _last_moment(self) -> float:
        deadlines = [stored.deadline_ms for stored in self.store.jobs.values()]
        last = max(deadlines, default=self.clock.now_ms) / 1000
        return max(last - self.clock.now_ms / 1000 + self.clock.now, FAULTS_END) + AFTERWARDS

    def _settled_down(self) -> bool:
        assert self.room is not None
        return (
            self.operators.done
            and (self.schedulers is None or self.schedulers.over)
            and all(len(stored.ended) == len(stored.members) for stored in self.store.jobs.values())
            and not leftovers(self)
        )


def simulate(
    seed: int,
    *,
    cores: Cores | None = None,
    hosts: int = 3,
    jobs: int = 10,
    tracing: bool = False,
    trust: PlainTrust | None = None,
) -> Outcome:
    """One run. It never raises for what the fleet does wrong: that is in `Outcome.broken`."""
    fleet = Fleet(
        seed,
        cores=cores if cores is not None else Cores(),
        hosts=hosts,
        jobs=jobs,
        tracing=tracing,
        trust=trust if trust is not None else PlainTrust(),
    )
    fleet.run()
    return Outcome(
        seed=seed,
        broken=tuple(fleet.referee.broken),
        trace=tuple(fleet.referee.trace),
        seconds=fleet.clock.now,
        jobs=len(fleet.store.jobs),
        ran=len(fleet.referee.runs),
        events=tuple(fleet.events),
        turns=fleet.plans.turns,
        later_turns=fleet.plans.later,
        fired=fleet.firings.fired,
        firings_ran=fleet.firings.ran,
        placed=0 if fleet.putters is None else fleet.putters.placed,
    )
