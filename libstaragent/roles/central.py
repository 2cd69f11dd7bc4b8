"""Central's decisions about jobs and hosts: what is accepted, where each target stands, when a job is over. Pure;
the shell is agentd/central.

The file is long because every input meets the same tables of jobs and hosts; what has a table of its own is in
`central_plans`, `central_results`, `central_schedules`.

Rules
- Nothing is said before it is on disk. A batch of inputs becomes one `Decision`; the shell commits what it writes,
  and only then calls `committed` and carries out its orders, answers and news. If the commit fails, `rolled_back`
  undoes it here, and everyone repeats.
- Every target ends. Three clocks see to it: the room's word that it never sent an expired order (`unreachable`), the
  host's own result, and at the deadline (expires + timeout + grace) this process: `unreachable` for what was never
  sent and `agent_lost` for what was.
- A terminal state never changes. A result that comes later stands beside it as an amendment (`central_results`).
- A planned job begins on its hosts turn by turn (`central_plans`); all others on all at once.
- Only open jobs, and a bounded number of finished ones, are in memory; a report about another is in
  `Decision.strange`, and the shell gives the job back with `restore`.

Times are wall-clock ms by central's clock, except those inside results, which are the host's.

The file is long because requests, reports and the clock decide about one table of jobs.
"""

from __future__ import annotations

__all__ = ("CentralCore", "signed_members")

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.jobs.reduce import parse_reducer
from libstaragent.jobs.states import advances, is_terminal
from libstaragent.model.result import failed_result
from libstaragent.protocol import trunk as t
from libstaragent.roles.central_plans import CentralPlans, Permit
from libstaragent.roles.central_schedules import ScheduleBook
from libstaragent.roles.central_state import Decision, Ended, HostState, Job
from libstaragent.roles.guards import GuardBook
from libstaragent.roles.pacing import Past
from libstaragent.roles.wheel import Wheel
from libstaragent.security.acts import Cancel, Envelope, Exec, Member, TargetList, TargetRoot, act_name, is_host_act
from libstaragent.security.envelope import open_signed
from libstaragent.security.membership import MembershipTree
from libstaragent.security.signed import Signed

# Finished jobs whose targets are kept in memory, to recognise a result that comes again.
RECENT_JOBS = 256
# When a job that is past its deadline, and could not be ended, is looked at again.
AGAIN_MS = 1000


class CentralCore(CentralPlans):
    """See the module. `verify` is `libstaragent.security.authority.verify_act`, bound to the fleet's roster; `permit`
    raises where the rules say no to a verified act, and gives the name of the one that said yes.

    Attributes:
        deadlines: the ids of open jobs, by when they must have ended.
    """

    def __init__(self, *, verify: Callable[[Signed, int], Envelope], permit: Permit | None = None) -> None:
        super().__init__(verify=verify, permit=permit or _no_rules)
        self.hosts: dict[str, HostState] = {}
        self.guards = GuardBook()
        self._boots: dict[str, str] = {}
        self._recent: OrderedDict[str, None] = OrderedDict()
        self.deadlines: Wheel[str] = Wheel()
        self.schedules = ScheduleBook()

    # Inputs --------------------------------------------------------------------------------------------------------

    def submit(
        self,
        signed: Signed,
        members: Sequence[Member] | None,
        *,
        known: Mapping[str, Member],
        source: str,
        now_ms: int,
        decision: Decision,
        watch: bool = False,
        within_ms: int | None = None,
    ) -> Job:
        """Take a job. `members` are the hosts under the envelope's Merkle root, `known` the fleet's hosts by agent id;
        hosts that are away for `within_ms` are unreachable then, without one at the envelope's end.

        The same envelope again gives the job it made before, also when it has expired since. Raises the coded reason
        when it is refused.
        """
        try:
            envelope = self._verify(signed, now_ms)
        except StarAgentError as error:
            before = self.jobs.get(open_signed(signed).id) if error.code is codes.ENVELOPE_EXPIRED else None
            if before is None or before.signed.payload != signed.payload:
                raise
            return before
        if not is_host_act(envelope.act) or envelope.targets is None:
            raise codes.ACT_UNSUPPORTED.error(f"{act_name(envelope.act)} is not a job for hosts")
        before = self.jobs.get(envelope.id)
        if before is not None:
            if before.signed.payload != signed.payload:
                raise codes.JOB_REPEATED.error(envelope.id)
            return before
        if isinstance(envelope.act, Exec) and envelope.act.reduce:
            parse_reducer(envelope.act.reduce)
        members, tree = signed_members(envelope.targets, members)
        for member in members:
            if known.get(member.agent) != member:
                raise codes.HOST_UNKNOWN.error(member.name)
        owner = self.schedules.check_act(envelope.act, members, now_ms)
        rule = self._permit(envelope, members, source, now_ms, owner)
        job = Job(envelope, signed, members, source=source, submitted_ms=now_ms)
        job.rule = rule
        job.watched = watch
        if within_ms is not None:
            job.deliver_by_ms = min(envelope.expires, now_ms + within_ms)
        decision.new_jobs.append(job)
        self._add(job)
        if job.pacing is None:
            self._dispatch(job, job.open_agents(), decision, again=False, tree=tree)
        else:
            job.pacing.tree = tree
            decision.paced[job.id] = job
            decision.now_ms = now_ms
        return job

    def cancel(self, signed: Signed, *, now_ms: int, decision: Decision, source: str = "") -> Job:
        """Take an operator's cancel. Raises JOB_UNKNOWN, or the reason why it is refused; of a finished job it
        changes nothing.
        """
        envelope = self._verify(signed, now_ms)
        if not isinstance(envelope.act, Cancel):
            raise codes.ACT_UNSUPPORTED.error(f"{act_name(envelope.act)} is not a cancel")
        job = self.jobs.get(envelope.act.job)
        if job is None:
            raise codes.JOB_UNKNOWN.error(envelope.act.job)
        decision.rule = self._permit(envelope, tuple(job.members.values()), source, now_ms, job.operator)
        if job.open:
            if job.cancel is None:
                job.cancel = signed
            decision.cancels.append((job.id, signed, now_ms))
            self._end_held(job, "cancelled", codes.CANCELLED_BEFORE_TURN, now_ms, decision)
            for room, agents in _by_room(job, job.begun_agents()).items():
                decision.orders.append((room, t.CancelTargets(job.id, signed, tuple(agents))))
        return job

    def watch(self, job_id: str, *, on: bool, decision: Decision) -> None:
        """Somebody looks at the live output of a job, or nobody does any more."""
        job = self.jobs.get(job_id)
        if job is None or job.watched == on:
            return
        job.watched = on
        for room, agents in _by_room(job, job.begun_agents()).items():
            decision.orders.append((room, t.WatchTargets(job.id, tuple(agents), on)))

    def reports(self, batch: Iterable[t.Report], *, now_ms: int, decision: Decision) -> None:
        """What rooms say."""
        decision.now_ms = now_ms
        for report in batch:
            if isinstance(report, t.TargetsEnded):
                self._group_ended(report, now_ms, decision)
            elif isinstance(report, t.TargetEnded):
                self._ended(report, now_ms, decision)
            elif isinstance(report, t.TargetsReduced):
                self._reduced(report, now_ms, decision)
            elif isinstance(report, t.TargetProgress):
                self._progress(report, decision)
            elif isinstance(report, t.HostUp):
                self._host_up(report, decision)
            elif isinstance(report, t.HostDown):
                self._host_down(report, decision)
            elif isinstance(report, t.HolderSeen):
                changed = self.guards.knocked(report)
                if changed is not None:
                    decision.guards.append(changed)
            elif isinstance(report, t.Undelivered):
                self._undelivered(report, now_ms, decision)
            elif isinstance(report, t.RoomStarted):
                self._room_started(report, decision)
            elif isinstance(report, t.FiringBegan):
                self._fired(report, now_ms, decision)
            else:
                decision.renewals.append(report)

    def tick(self, *, now_ms: int, decision: Decision) -> None:
        """End what is past its deadline, and let planned jobs go on. Call about once a second."""
        decision.now_ms = now_ms
        self._pace_all(now_ms, decision)
        decision.guards.extend(self.guards.tick(self._connected, now_ms=now_ms))
        due = [job for name in self.deadlines.due(now_ms) if (job := self.jobs.get(name)) is not None and job.open]
        for job in due:
            # Before any of them is ended: neither a fault in that nor a commit that fails may take a deadline away.
            self._set_deadline(job, now_ms + AGAIN_MS)
        for job in due:
            self._run_out(job, now_ms, decision)

    # Recovery ------------------------------------------------------------------------------------------------------

    def restore(self, job: Job, ended: Mapping[str, str], cancel: Signed | None, past: Past | None = None) -> None:
        """A job from the store: at start every open one, later one that a strange report named. `ended` has its
        terminal targets, `past` what else is known of one with a plan.

        How long its submitter wanted it offered is not known any more, and not needed: a room that had it before this
        process started keeps to that and says what it never sent; of any other target nobody can say so, and it is
        lost at its deadline, not unreachable before.
        """
        for agent, state in ended.items():
            if agent in job.states:
                job.move(agent, state)
        job.cancel = cancel
        # Whether an open target was sent is not in the store; nobody may say that nothing ran there.
        if job.pacing is not None and past is not None:
            job.pacing.restore(job.states, past)
        for agent in job.begun_agents():
            job.move(agent, "sent")
        self._add(job)
        if not job.open:
            job.ended_at = job.submitted_ms
            self._remember(job)

    def redispatch(self, decision: Decision) -> None:
        """Give every room its open targets again, after a start of this process."""
        for job in self.jobs.values():
            if job.open:
                self._dispatch(job, job.begun_agents(), decision, again=True)

    def forget(self, jobs: Iterable[str]) -> None:
        """These have ended long ago, and are not in the store any longer."""
        for job in jobs:
            self._recent.pop(job, None)
            self.jobs.pop(job, None)

    # The commit ----------------------------------------------------------------------------------------------------

    def committed(self, decision: Decision) -> None:
        """The batch is on disk: planned jobs go on, by orders that are added to it."""
        for job in decision.new_jobs:
            self.schedules.took(job)
        for entry in (*decision.ended, *decision.amended):
            job = self.jobs.get(entry.job)
            if job is not None:
                at_ms = entry.result.finished_ms or entry.received_ms
                self.schedules.ended(job, entry.agent, entry.result.state, at_ms, entry.result.code)
        for job in decision.finished:
            self._remember(job)
        self._go_on(decision)

    def rolled_back(self, decision: Decision) -> None:
        """The batch could not be written: nothing of it happened."""
        for job in decision.finished:
            job.ended_at = None
        for entry in decision.ended:
            job = self.jobs.get(entry.job)
            if job is not None:
                job.move(entry.agent, entry.before)
                if job.open == 1:
                    self._add(job)
        self._undo_plans(decision)
        for changed in reversed(decision.guards):
            self.guards.undo(changed)
        for job_id, signed, _ in decision.cancels:
            job = self.jobs.get(job_id)
            if job is not None and job.cancel is signed:
                job.cancel = None
        for job in decision.new_jobs:
            self.jobs.pop(job.id, None)
            self.schedules.undone(job, decision.now_ms)

    # Inside --------------------------------------------------------------------------------------------------------

    def _add(self, job: Job) -> None:
        self.jobs[job.id] = job
        if job.open:
            self._set_deadline(job, job.deadline_ms)
            self._keep_planned(job)

    def _set_deadline(self, job: Job, due_ms: int) -> None:
        self.deadlines.discard(job.id, job.due_ms)
        job.due_ms = due_ms
        self.deadlines.add(job.id, due_ms)

    def _remember(self, job: Job) -> None:
        self.deadlines.discard(job.id, job.due_ms)
        self._recent[job.id] = None
        while len(self._recent) > RECENT_JOBS:
            oldest, _ = self._recent.popitem(last=False)
            self.jobs.pop(oldest, None)

    def _dispatch(
        self, job: Job, agents: list[str], decision: Decision, *, again: bool, tree: MembershipTree | None = None
    ) -> None:
        if job.schedule:
            # Its hosts have what they need; a cancel they may not have.
            for room, here in _by_room(job, agents).items() if job.cancel is not None else ():
                decision.orders.append((room, t.CancelTargets(job.id, job.cancel, tuple(here))))  # type: ignore[arg-type]
            return
        if tree is None and isinstance(job.envelope.targets, TargetRoot):
            tree = _tree_of(job)
        for room, here in _by_room(job, agents).items():
            targets = tuple((agent, None if tree is None else tree.proof(agent)) for agent in here)
            boot = self._boots.get(room, "")
            order = t.Dispatch(
                job.id,
                job.signed,
                job.deliver_by_ms,
                job.deadline_ms,
                targets,
                job.watched,
                again,
                boot,
                job.reduce,
                job.pacing is not None,
            )
            decision.orders.append((room, order))
            if job.cancel is not None:
                decision.orders.append((room, t.CancelTargets(job.id, job.cancel, tuple(here))))

    def _fired(self, report: t.FiringBegan, now_ms: int, decision: Decision) -> None:
        """A schedule fired on a host: its job is made by the first who tells."""
        job = self.jobs.get(report.job)
        if job is None:
            if not report.new:
                decision.strange.append(report)
                return
            if not self.schedules.may_claim(report, now_ms):
                return
            job = self.schedules.believed(report, now_ms)
            if job is not None:
                decision.new_jobs.append(job)
                self._add(job)
        if job is None or not job.schedule or report.agent not in job.members:
            # The host need not tell the end of what nobody wants to know.
            decision.orders.append((report.room, t.SettledTargets(((report.agent, report.job),))))
        else:
            decision.orders.append((report.room, t.FiringsKnown(((report.agent, report.job),))))

    def _run_out(self, job: Job, now_ms: int, decision: Decision) -> None:
        for agent in job.open_agents():
            # One may end the others: a plan is stopped by its failures.
            if not is_terminal(job.states[agent]):
                self._lose(job, agent, now_ms, decision)

    def _progress(self, report: t.TargetProgress, decision: Decision) -> None:
        job = self.jobs.get(report.job)
        if job is None or report.agent not in job.states or report.state not in ("sent", "accepted", "running"):
            return
        if advances(job.states[report.agent], report.state):
            job.move(report.agent, report.state)
            decision.progress.append((job.id, report.agent, report.state))

    def _undelivered(self, report: t.Undelivered, now_ms: int, decision: Decision) -> None:
        job = self.jobs.get(report.job)
        if job is None:
            return
        for agent in report.agents:
            member = job.members.get(agent)
            if member is None or self._boots.get(member.room, report.boot) != report.boot:
                # Its room has started anew since and was given the order again: it may be on its way.
                continue
            # A central that started again took it for sent; the room that had it first, and still lives, knows better.
            if job.states.get(agent) in ("queued", "sent"):
                result = failed_result(job.id, "unreachable", codes.HOST_UNREACHABLE.code)
                self._end(job, Ended(job.id, agent, result, job.states[agent], now_ms), decision)

    def _is_old(self, report: t.HostUp | t.HostDown, host: HostState | None) -> bool:
        """Whether a later word of its room about this host was heard before. A room of no name gives no order."""
        if host is None or host.room != report.room or not report.boot:
            return False
        if host.boot == report.boot:
            return report.order <= host.order
        return host.boot == self._boots.get(report.room)

    def _host_up(self, report: t.HostUp, decision: Decision) -> None:
        if self._is_old(report, self.hosts.get(report.agent)):
            return
        self.hosts[report.agent] = HostState(
            agent=report.agent,
            room=report.room,
            up=True,
            at_ms=report.at_ms,
            version=report.version,
            roster=report.roster,
            clock_ahead_ms=report.clock_ahead_ms,
            boot_nonce=report.boot_nonce,
            boot=report.boot,
            order=report.order,
        )
        decision.hosts.append(report)
        changed = self.guards.host_up(report)
        if changed is not None:
            decision.guards.append(changed)

    def _connected(self, agent: str) -> bytes | None:
        host = self.hosts.get(agent)
        return host.boot_nonce if host is not None and host.up else None

    def _host_down(self, report: t.HostDown, decision: Decision) -> None:
        host = self.hosts.get(report.agent)
        if self._is_old(report, host):
            return
        if host is None and report.agent:
            # It was never let in; why not, its operator reads in the list of hosts.
            host = self.hosts[report.agent] = HostState(report.agent, report.room, up=False, at_ms=report.at_ms)
        if host is None or host.room != report.room:
            return
        host.up, host.at_ms, host.code = False, report.at_ms, report.code
        host.boot, host.order = report.boot, report.order
        decision.hosts.append(report)

    def _room_started(self, report: t.RoomStarted, decision: Decision) -> None:
        known = self._boots.get(report.room)
        self._boots[report.room] = report.boot
        # The bus may say it twice; and where central is the one that started, the room's hosts are where they were.
        is_new = known != report.boot or not report.boot
        for host in self.hosts.values():
            # One that this process has told of already: its first word was overtaken, or is said again.
            if (
                host.room == report.room
                and is_new
                and known is not None
                and (host.boot != report.boot or not host.boot)
            ):
                host.up, host.boot, host.order = False, report.boot, 0
        for job in self.jobs.values():
            here = [agent for agent in job.begun_agents() if job.members[agent].room == report.room] if job.open else []
            for agent in here:
                # The room before may have sent it and died before it could say so.
                if is_new and job.states[agent] == "queued":
                    job.move(agent, "sent")
            if here:
                self._dispatch(job, here, decision, again=True)


def _no_rules(envelope: Envelope, members: Sequence[Member], source: str, now_ms: int, owner: str | None) -> str:
    return ""


def _by_room(job: Job, agents: Iterable[str]) -> dict[str, list[str]]:
    rooms: dict[str, list[str]] = {}
    for agent in agents:
        rooms.setdefault(job.members[agent].room, []).append(agent)
    return rooms


def _tree_of(job: Job) -> MembershipTree:
    """The tree over its hosts; kept where it is needed turn by turn, because to build it is a hash a host."""
    if job.pacing is None:
        return MembershipTree(job.members.values())
    if job.pacing.tree is None:
        job.pacing.tree = MembershipTree(job.members.values())
    return job.pacing.tree


def signed_members(
    targets: TargetList | TargetRoot, members: Sequence[Member] | None
) -> tuple[Sequence[Member], MembershipTree | None]:
    """The frozen list of hosts, once it is what the operator signed; and its tree, where there is one."""
    if isinstance(targets, TargetList):
        return targets.members, None
    if members is not None and len(members) == targets.count:
        tree = MembershipTree(members)
        if tree.root == targets.root:
            return members, tree
    raise codes.TARGETS_CHANGED.error(f"{0 if members is None else len(members)} hosts, {targets.count} signed")
