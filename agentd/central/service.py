"""Central's shell: what arrives in one turn of the loop, and during the last commit, becomes one round of decisions.

    requests ─┐                  ┌─▶ store: one submission a job, one for all reports ─▶ commit ─┐
    reports ──┼─▶ round: core ───┤                                                               ▼
    tick ─────┘                  └────────────── orders, answers, news, acknowledgements ◀───────┘

Not here: any decision (`libstaragent.roles.central`), when what is written (`rounds`), HTTP (`api`), what views are
made of (`views`, `history`).

The file is long because every input of central, and all that follows a commit, meet in one object.

Rules: no lock and one loop; the store's thread answers through the loop, once a commit. Nothing is said before it is
on disk. A target costs no object of ours unless somebody watches.
"""

from __future__ import annotations

__all__ = ("Central", "wall_ms")

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from agentd.bus import LIVE, REPORTS, Bus, Delivery
from agentd.central.audit import act_entry, revoke_entry, roster_entry
from agentd.central.blobs import Blobs
from agentd.central.directory import Directory, HostRecord
from agentd.central.history import History
from agentd.central.hub import Hub
from agentd.central.news import News
from agentd.central.outbox import Outbox
from agentd.central.outcomes import Outcomes
from agentd.central.reads import Reads
from agentd.central.refused_acts import RefusedActs
from agentd.central.round import Reports, Round
from agentd.central.rounds import Ask, Rounds, exit_process
from agentd.central.schedules import load_schedules
from agentd.central.strange import StrangeResults
from agentd.central.trust import RosterBook, pack_signed
from agentd.central.views import job_view
from agentd.central.waiting import Waiter, Waiters
from agentd.central.writes import decision_ops, job_ops
from agentd.store.ops import InsertAudit, InsertRoster, Op, RevokeHost, TouchHosts
from agentd.store.store import Store
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.model.api import JobView
from libstaragent.protocol import trunk as t
from libstaragent.roles.central import CentralCore
from libstaragent.roles.central_state import Decision, Job
from libstaragent.roles.guards import Change
from libstaragent.security.acts import Cancel, Pause, Resume
from libstaragent.security.envelope import open_signed
from libstaragent.security.signed import Signed

log = logging.getLogger("agentd.central")

TICK_SECONDS = 1.0
# Last seen is for people: hosts that are up are touched this often, in one write.
TOUCH_SECONDS = 60


def wall_ms() -> int:
    """Now, in ms since the epoch."""
    return time.time_ns() // 1_000_000


class Central:
    """See the module.

    `blobs` is the folder for files on their way to hosts; `sign` makes an agent's next certificate from its id,
    its room and its request; `give_up` ends the process.

    Attributes:
        core: the decisions. hosts: who is enrolled. waiters: for a job's end. on_written: called after each commit.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        store: Store,
        hub: Hub,
        trust: RosterBook,
        blobs: Path,
        sign: Callable[[str, str, bytes], bytes],
        now_ms: Callable[[], int] = wall_ms,
        give_up: Callable[[], None] = exit_process,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._bus = bus
        self._store = store
        self._lane = store.lane(self._loop.call_soon_threadsafe)
        self._sign = sign
        self.now_ms = now_ms
        self.trust = trust
        self.hub = hub
        self.blobs = Blobs(blobs, bus, job=self.job)
        self.core = CentralCore(verify=trust.verify, permit=self.blobs.guarded(trust.rule))
        self.hosts = Directory(self.core.hosts, self.core.guards.guards)
        trust.facts_of = self.hosts.facts_of
        self.history = History(store.read, self.hosts, now_ms)
        self._counters = {"submitted": 0, "ended": 0, "amended": 0, "finished": 0}
        self._news = News(hub, self.core, self.hosts)
        self.outcomes = Outcomes(self.hosts, self.core.hosts)
        self._rounds = Rounds(
            self.core, self.hosts, self._lane, self, outcomes=self.outcomes, now_ms=now_ms, give_up=give_up
        )
        self.waiters = Waiters(self._loop)
        self._outbox = Outbox(bus, trust, self.core.guards, self.hosts)
        self.reads = Reads(bus, self._outbox.say)
        self._revising = asyncio.Lock()
        self._stopping = False
        self.on_written: Callable[[], None] = lambda: None
        self._strange = StrangeResults(self.recall, self._forget, self._rounds.hear)
        self._ticking: asyncio.TimerHandle | None = None
        self._touched = 0.0
        self.refused = RefusedActs(trust, write=self.write, now_ms=now_ms)

    # Life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Pick up what the store has, give the rooms their work again, and listen to them."""
        for record, guard in self.history.enrolled():
            self.hosts.add(record)
            if guard is not None:
                self.core.guards.restore(record.id, guard)
        for agent, guard in self.history.replaced(self.now_ms()):
            self.core.guards.restore(agent, guard)
        for room in {record.room for record in self.hosts.ordered()}:
            self._outbox.meet(room)
        load_schedules(self.core.schedules, self.history)
        jobs = self.history.open_jobs()
        for job, ended, cancel, past in jobs:
            self.core.restore(job, ended, cancel, past)
        if jobs:
            log.info("picked up %d open jobs", len(jobs))
        decision = Decision()
        self.core.redispatch(decision)
        self._outbox.carry_out([decision])
        self.hub.on_watch = self._watch
        self._bus.subscribe(REPORTS, self._reported)
        self.blobs.listen()
        self._bus.subscribe_lossy(LIVE, self._news.live)
        self._tick_again()

    def release(self) -> None:
        """Take nothing new, and let nobody wait any longer: the process is about to stop."""
        self._stopping = True
        self.waiters.release()

    async def stop(self) -> None:
        """Finish what is being written; call `release` first."""
        self._stopping = True
        if self._ticking is not None:
            self._ticking.cancel()
        await self._rounds.idle.wait()
        await self.refused.flush()
        await self._strange.stop()

    # Requests ------------------------------------------------------------------------------------------------------

    async def submit(
        self,
        signed: Signed,
        members: Sequence[Any] | None,
        *,
        source: str,
        watch: bool = False,
        wait: bool = False,
        within_ms: int | None = None,
    ) -> tuple[Job, Waiter | None]:
        """Take a job; returns once it is on disk. The same envelope again gives the same job.

        With `wait`, the second is for `ended`; None when the job has ended already.

        :raises StarAgentError: why it is refused.
        """
        try:
            return await self._submit(signed, members, source, watch, wait, within_ms)
        except StarAgentError as error:
            if error.code not in (codes.JOB_REPEATED, codes.ENVELOPE_EXPIRED):
                raise
            # Finished long ago and no longer in memory: the store knows whether it is the same envelope. Its signer
            # has been judged before its age.
            job = await self.recall(open_signed(signed).id)
            if job is None or job.signed.payload != signed.payload:
                raise
            return job, self.waiters.join(job) if wait else None

    def _submit(
        self, signed: Signed, members: Sequence[Any] | None, source: str, watch: bool, wait: bool, within_ms: int | None
    ) -> asyncio.Future[tuple[Job, Waiter | None]]:
        future: asyncio.Future[tuple[Job, Waiter | None]] = self._loop.create_future()

        def decide(turn: Round, decision: Decision) -> None:
            job = self.core.submit(
                signed,
                members,
                known=self.hosts.members,
                source=source,
                now_ms=turn.now_ms,
                decision=decision,
                watch=watch,
                within_ms=within_ms,
            )
            ops = job_ops(job) if decision.new_jobs else ()
            waiter = self.waiters.join(job) if wait else None

            def done(error: StarAgentError | None) -> None:
                if error is not None:
                    self.waiters.forget(job.id)
                    _fail(future, error)
                elif not future.done():
                    future.set_result((job, waiter))

            if decision.new_jobs:
                turn.fresh[job.id] = turn.add(decision, ops, done)
            elif job.id in turn.fresh:
                turn.fresh[job.id].done.append(done)
            else:
                done(None)

        self._request(decide, future)
        return future

    async def cancel(self, signed: Signed, *, source: str) -> Job:
        """Take an operator's Cancel, Pause or Resume, which came from the address `source`; returns the job once it is
        on disk.

        :raises StarAgentError: why it is refused.
        """
        # Before the store is read for it, and again with the decision.
        act = self.trust.verify(signed, self.now_ms()).act
        if isinstance(act, Cancel | Pause | Resume):
            await self.recall(act.job)
        return await self._cancel(signed, source, self.core.cancel if isinstance(act, Cancel) else self.core.pause)

    def _cancel(self, signed: Signed, source: str, take: Callable[..., Job]) -> asyncio.Future[Job]:
        future: asyncio.Future[Job] = self._loop.create_future()

        def decide(turn: Round, decision: Decision) -> None:
            job = take(signed, now_ms=turn.now_ms, decision=decision, source=source)
            if job.id in turn.fresh:
                # Its own row is not there yet; the next round sees it.
                self.core.rolled_back(decision)
                self._rounds.ask(decide, partial(_fail, future))
                return
            ops = decision_ops(decision)
            if not self.refused.was_taken(signed):
                entry = act_entry(open_signed(signed), signed, source=source, rule=decision.rule, subject=job.id)
                ops.append(InsertAudit(entry, turn.now_ms))

            def done(error: StarAgentError | None) -> None:
                if error is None:
                    self.refused.taken(signed)
                _settle(future, job, error)

            turn.add(decision, ops, done)

        self._request(decide, future)
        return future

    def write(self, ops: Sequence[Op]) -> asyncio.Future[None]:
        """Write what is no matter of jobs: a host, a token, a login. Raises as the store refuses it."""
        future: asyncio.Future[None] = self._loop.create_future()
        try:
            self._lane.submit(ops, lambda error: _settle(future, None, error))
        except StarAgentError as error:
            _fail(future, error)
        return future

    async def take_roster(self, signed: Signed, *, source: str = "") -> int:
        """The next revision of the roster; its number, once it is on disk and told to the rooms.

        :raises StarAgentError: it may not follow the newest.
        """
        # Of two that follow the same one only the first may be written: the second is judged after it.
        async with self._revising:
            now_ms = self.now_ms()
            roster = self.trust.judge(signed, now_ms)
            if self.trust.revisions[-1].payload == signed.payload:
                # Anybody can read it, and send it again as often as he likes.
                return roster.revision
            entry = roster_entry(roster, signed, source=source)
            revoked = [agent for agent in roster.revoked if agent in self.hosts.members]
            ops: list[Op] = [InsertRoster(roster.revision, pack_signed(signed)), InsertAudit(entry, now_ms)]
            for agent in revoked:
                ops += [RevokeHost(agent), InsertAudit(revoke_entry(self.hosts.members[agent], entry), now_ms)]
            await self.write(ops)
            self.trust.take(signed, now_ms)
            for agent in revoked:
                self.hosts.remove(agent)
            self._outbox.tell_roster()
            log.info("roster revision %d taken", roster.revision)
        return roster.revision

    async def guard(self, decide: Callable[[], Change], *also: Op) -> Change:
        """Change how an agent is guarded, and write `also`; returns once that is on disk. Raises as `decide` does."""
        future: asyncio.Future[Change] = self._loop.create_future()

        def weigh(turn: Round, decision: Decision) -> None:
            changed = decide()
            decision.guards.append(changed)
            turn.add(decision, [*decision_ops(decision), *also], lambda error: _settle(future, changed, error))

        self._request(weigh, future)
        return await future

    def replaced(self, record: HostRecord, now_ms: int) -> None:
        """A host that has joined anew, on disk: nobody with its old identity is let in any more."""
        self.hosts.remove(record.id)
        self._outbox.guard(self.core.guards.replaced(record.id, now_ms=now_ms))

    def admitted(self, record: HostRecord) -> None:
        """A host that is enrolled on disk."""
        self.hosts.add(record)
        self._outbox.meet(record.room)
        self._news.host(record.id)

    @property
    def counters(self) -> dict[str, int]:
        """Totals since the start, for metrics."""
        return {
            **self._counters,
            "reports": self._rounds.heard,
            "refused": self._rounds.refused,
            "passed_over": self._strange.passed_over,
            "asked_again": self.core.asked_again,
            "firings_refused": self.core.schedules.refused,
            "firings_deferred": self.core.schedules.deferred,
        }

    @property
    def store_failing(self) -> bool:
        """Whether the last write could not be made, or does not end."""
        return self._rounds.store_failing or self._rounds.stuck

    def job(self, job_id: str) -> Job | None:
        """A job that is in memory, and on disk."""
        turn = self._rounds.present
        return None if turn is not None and job_id in turn.fresh else self.core.jobs.get(job_id)

    def has_ended(self, job: Job) -> bool:
        """Whether the end of a job in memory is on disk: until then its results cannot be read."""
        turn = self._rounds.present
        return job.ended_at is not None and (turn is None or job.id not in turn.ending)

    def open_states(self, job: Job) -> dict[str, str]:
        """The states of a job's targets that have not ended, by agent; one whose end is not on disk yet has not."""
        states = {agent: job.states[agent] for agent in job.open_agents()}
        turn = self._rounds.present
        for unit in () if turn is None else turn.units:
            states.update((entry.agent, entry.before) for entry in unit.decision.ended if entry.job == job.id)
        return states

    def view(self, job: Job) -> JobView:
        """A job in memory as the API shows it: ended only once that is on disk, so that who reads on finds results."""
        return job_view(job, ended=self.has_ended(job))

    async def recall(self, job_id: str) -> Job | None:
        """A job of this fleet, brought back into memory if it is not there; None where there is none."""
        if job_id in self.core.jobs:
            return self.core.jobs[job_id]
        found = await asyncio.to_thread(self.history.job, job_id)
        if found is None:
            return None
        job, ended, cancel, past = found
        if job_id not in self.core.jobs:
            ended_at = job.ended_at
            self.core.restore(job, ended, cancel, past)
            job.ended_at = ended_at
        return self.core.jobs.get(job_id, job)

    # What arrives --------------------------------------------------------------------------------------------------

    def _request(self, decide: Ask, future: asyncio.Future[Any]) -> None:
        if self._stopping:
            raise codes.STORE_CLOSED.error()
        self._rounds.ask(decide, partial(_fail, future))

    def _reported(self, delivery: Delivery) -> None:
        self._rounds.hear(Reports(delivery.batch, [delivery]))

    def _watch(self, job_id: str, on: bool) -> None:
        decision = Decision()
        self.core.watch(job_id, on=on, decision=decision)
        self._outbox.carry_out([decision])

    def _tick_again(self) -> None:
        self._ticking = self._loop.call_later(TICK_SECONDS, self._tick_again)
        self._rounds.tick()
        now = self._loop.time()
        self.refused.tick()
        self.blobs.tick(now)
        self._outbox.tell_audit(self._store.audit_end, self.now_ms())
        if now - self._touched >= TOUCH_SECONDS:
            self._touched = now
            up = tuple(host.agent for host in self.core.hosts.values() if host.up)
            pruning = self.outcomes.pruning(self.now_ms())
            seen = [TouchHosts(up, self.now_ms())] if up else []
            self.write([pruning, *seen]).add_done_callback(_ignore)

    # After a round -------------------------------------------------------------------------------------------------

    def written(self, turn: Round, decisions: Sequence[Decision]) -> None:
        """These decisions are on disk: say so to rooms, to those who wait and to those who watch."""
        for room in turn.rooms:
            self._outbox.greet(room)
            self.hosts.room_changed(room)
        self._outbox.carry_out(decisions)
        self.on_written()
        for decision in decisions:
            self._count(decision)
            for changed in decision.guards:
                self.hosts.changed(changed.agent)
                self._news.host(changed.agent)
                guard = changed.guard
                log.warning("host %s: identity %s %s", changed.agent, guard.state, guard.finding)
            self.waiters.answer(decision)
            for renewal in decision.renewals:
                try:
                    self._outbox.say(renewal.room, self._renewed(renewal))
                except Exception:
                    # The host asks again.
                    log.exception("%s: a certificate was not renewed", codes.CENTRAL_BUG.code)
            try:
                self._news.tell(decision)
            except Exception:
                # Views may fail; what they show is stored.
                log.exception("%s: news were not told", codes.CENTRAL_BUG.code)

    def strange(self, reports: Reports) -> None:
        """Results of jobs that are not in memory: the store says what they belong to."""
        self._strange.look_up(reports)

    def _count(self, decision: Decision) -> None:
        counters = self._counters
        counters["submitted"] += len(decision.new_jobs)
        counters["ended"] += len(decision.ended)
        counters["amended"] += len(decision.amended)
        counters["finished"] += len(decision.finished)
        self.outcomes.committed(decision.ended)

    def _renewed(self, request: t.RenewCertificate) -> t.CertificateIssued:
        record = self.hosts.get(request.agent)
        if record is None or record.room != request.room:
            return t.CertificateIssued(request.agent, b"", codes.HOST_UNKNOWN.code)
        try:
            return t.CertificateIssued(request.agent, self._sign(record.id, record.room, request.csr), "")
        except StarAgentError as error:
            return t.CertificateIssued(request.agent, b"", error.code.code)

    def _forget(self, agent: str, job: str) -> None:
        record = self.hosts.get(agent)
        if record is not None:
            # Nobody here ever accepted it.
            self._outbox.say(record.room, t.SettledTargets(((agent, job),)))


def _settle(future: asyncio.Future[Any], value: Any, error: StarAgentError | None) -> None:
    if error is not None:
        _fail(future, error)
    elif not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    # What is not coded is a fault of ours, and whoever awaits it says so. The one who asked may be gone.
    if not future.done():
        future.set_exception(error)


def _ignore(future: asyncio.Future[None]) -> None:
    future.exception()
