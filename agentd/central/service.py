"""Central's shell: what arrives in one turn of the loop, and during the last commit, becomes one round of decisions.

    requests ─┐                  ┌─▶ store: one submission a job, one for all reports ─▶ commit ─┐
    reports ──┼─▶ round: core ───┤                                                               ▼
    tick ─────┘                  └────────────── orders, answers, news, acknowledgements ◀───────┘

One round at a time: what comes while a round is being written waits for the next. So a decision never rests on
another that may still be rolled back, and a busy store makes the rounds larger instead of more.

Not here: any decision (`libstaragent.roles.central`), HTTP (`api`), what views are made of (`views`, `history`).

Rules: no lock and one loop; the store's thread answers through the loop, once a commit. Nothing is said before it is
on disk. A target costs no object of ours unless somebody watches.
"""

from __future__ import annotations

__all__ = ("Central", "Waiter")

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from agentd.bus import LIVE, REPORTS, Bus, Delivery, orders_subject
from agentd.central.directory import Directory, HostRecord
from agentd.central.history import History
from agentd.central.hub import Hub
from agentd.central.news import News
from agentd.central.round import Reports, Round, Unit
from agentd.central.trust import RosterBook, pack_signed
from agentd.central.writes import decision_ops, job_ops
from agentd.store.ops import InsertRoster, Op, TouchHosts
from agentd.store.store import Store
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.protocol import trunk as t
from libstaragent.roles.central import CentralCore, Decision, Ended, Job
from libstaragent.security.signed import Signed

log = logging.getLogger("agentd.central")

TICK_SECONDS = 1.0
# Reports in one round: about a tenth of a second of the fastest store, so that a request waits no longer behind them.
REPORTS_A_ROUND = 4096
# Results that a waiting caller gets with its answer; beyond it they are read in pages.
WAITED_TARGETS = 100
# Last seen is for people: hosts that are up are touched this often, in one write.
TOUCH_SECONDS = 60
# A strange report whose job could not be read from the store is looked at again after this long.
STRANGE_RETRY_SECONDS = 1.0


def wall_ms() -> int:
    """Now, in ms since the epoch."""
    return time.time_ns() // 1_000_000


class Waiter:
    """Somebody waits for the end of one job; `results` are gathered for a small one."""

    __slots__ = ("ended", "results", "waiting")

    def __init__(self, ended: asyncio.Future[None], *, gather: bool) -> None:
        self.ended = ended
        self.results: dict[str, Ended] | None = {} if gather else None
        self.waiting = 0


class Central:
    """See the module.

    `sign` makes an agent's next certificate from its id, its room and its request.

    Attributes:
        core: the decisions. hosts: who is enrolled. counters: totals since the start, for metrics.
        store_failing: whether the last write could not be made.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        store: Store,
        hub: Hub,
        trust: RosterBook,
        sign: Callable[[str, str, bytes], bytes],
        now_ms: Callable[[], int] = wall_ms,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._bus = bus
        self._store = store
        self._lane = store.lane(self._loop.call_soon_threadsafe)
        self._sign = sign
        self.now_ms = now_ms
        self.trust = trust
        self.hub = hub
        self.core = CentralCore(verify=trust.verify)
        self.hosts = Directory(self.core.hosts)
        self.history = History(store.read, self.hosts)
        self.counters = {"submitted": 0, "ended": 0, "amended": 0, "finished": 0, "reports": 0, "refused": 0}
        self.store_failing = False
        self._news = News(hub, self.core, self.hosts)
        self._requests: deque[Callable[[Round], None]] = deque()
        self._reports: deque[Reports] = deque()
        self._waiters: dict[str, Waiter] = {}
        self._rooms: set[str] = set()
        self._tick_due = False
        self._scheduled = False
        self._round: Round | None = None
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._background: set[asyncio.Task[None]] = set()
        self._ticking: asyncio.TimerHandle | None = None
        self._touched = 0.0

    # Life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Pick up what the store has, give the rooms their work again, and listen to them."""
        for record in self.history.enrolled():
            self.hosts.add(record)
            self._rooms.add(record.room)
        jobs = self.history.open_jobs()
        for job, ended, cancel in jobs:
            self.core.restore(job, ended, cancel)
        if jobs:
            log.info("picked up %d open jobs", len(jobs))
        for room in self._rooms:
            self._bus.publish(orders_subject(room), [self.trust.order()])
        decision = Decision()
        self.core.redispatch(decision)
        self._publish_orders([decision])
        self.hub.on_watch = self._watch
        self._bus.subscribe(REPORTS, self._reported)
        self._bus.subscribe_lossy(LIVE, self._news.live)
        self._tick_again()

    def release(self) -> None:
        """Take nothing new, and let nobody wait any longer: the process is about to stop."""
        self._stopping = True
        for waiter in self._waiters.values():
            if not waiter.ended.done():
                waiter.ended.set_exception(TimeoutError())
                # Whoever waits may be gone already.
                waiter.ended.exception()
        self._waiters.clear()

    async def stop(self) -> None:
        """Finish what is being written; call `release` first."""
        self._stopping = True
        if self._ticking is not None:
            self._ticking.cancel()
        await self._idle.wait()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

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
            if error.code is not codes.JOB_REPEATED:
                raise
            # Finished long ago and no longer in memory: the store knows whether it is the same envelope.
            job = await self.recall(error.detail)
            if job is None or job.signed.payload != signed.payload:
                raise
            return job, self._wait_for(job) if wait else None

    def _submit(
        self, signed: Signed, members: Sequence[Any] | None, source: str, watch: bool, wait: bool, within_ms: int | None
    ) -> asyncio.Future[tuple[Job, Waiter | None]]:
        future: asyncio.Future[tuple[Job, Waiter | None]] = self._loop.create_future()

        def decide(turn: Round) -> None:
            decision = Decision()
            try:
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
            except StarAgentError as error:
                _fail(future, error)
                return
            waiter = self._wait_for(job) if wait else None

            def done(error: StarAgentError | None) -> None:
                if error is not None:
                    self._waiters.pop(job.id, None)
                    _fail(future, error)
                elif not future.done():
                    future.set_result((job, waiter))

            if decision.new_jobs:
                turn.fresh[job.id] = turn.add(decision, job_ops(job), done)
            elif job.id in turn.fresh:
                turn.fresh[job.id].done.append(done)
            else:
                done(None)

        self._request(decide)
        return future

    def cancel(self, signed: Signed) -> asyncio.Future[Job]:
        """Take an operator's cancel; the result comes once it is on disk."""
        future: asyncio.Future[Job] = self._loop.create_future()

        def decide(turn: Round) -> None:
            decision = Decision()
            try:
                job = self.core.cancel(signed, now_ms=turn.now_ms, decision=decision)
            except StarAgentError as error:
                _fail(future, error)
                return
            if job.id in turn.fresh:
                # Its own row is not there yet; the next round sees it.
                self._requests.append(decide)
                return
            turn.add(decision, decision_ops(decision), lambda error: _settle(future, job, error))

        self._request(decide)
        return future

    def write(self, ops: Sequence[Op]) -> asyncio.Future[None]:
        """Write what is no matter of jobs: a host, a token, a login. Raises as the store refuses it."""
        future: asyncio.Future[None] = self._loop.create_future()
        try:
            self._lane.submit(ops, lambda error: _settle(future, None, error))
        except StarAgentError as error:
            _fail(future, error)
        return future

    async def take_roster(self, signed: Signed) -> int:
        """The next revision of the roster; its number, once it is on disk and told to the rooms.

        :raises StarAgentError: it may not follow the newest.
        """
        now_ms = self.now_ms()
        roster = self.trust.judge(signed, now_ms)
        await self.write([InsertRoster(roster.revision, pack_signed(signed))])
        self.trust.take(signed, now_ms)
        for room in self._rooms:
            self._bus.publish(orders_subject(room), [self.trust.order()])
        log.info("roster revision %d taken", roster.revision)
        return roster.revision

    def admitted(self, record: HostRecord) -> None:
        """A host that is enrolled on disk."""
        self.hosts.add(record)
        if record.room not in self._rooms:
            self._rooms.add(record.room)
            self._bus.publish(orders_subject(record.room), [self.trust.order()])
        self._news.host(record.id)

    def job(self, job_id: str) -> Job | None:
        """A job that is in memory, and on disk."""
        turn = self._round
        return None if turn is not None and job_id in turn.fresh else self.core.jobs.get(job_id)

    def give_up(self, job: Job, waiter: Waiter) -> None:
        """One who waited does not any more."""
        waiter.waiting -= 1
        if waiter.waiting <= 0 and self._waiters.get(job.id) is waiter:
            del self._waiters[job.id]

    def _wait_for(self, job: Job) -> Waiter | None:
        if not job.open:
            return None
        waiter = self._waiters.get(job.id)
        if waiter is None:
            # Results that came before nobody gathered; then they are read from the store at the end.
            gather = len(job.members) <= WAITED_TARGETS and job.open == len(job.members)
            waiter = self._waiters[job.id] = Waiter(self._loop.create_future(), gather=gather)
        waiter.waiting += 1
        return waiter

    async def recall(self, job_id: str) -> Job | None:
        """A job of this fleet, brought back into memory if it is not there; None where there is none."""
        if job_id in self.core.jobs:
            return self.core.jobs[job_id]
        found = await asyncio.to_thread(self.history.job, job_id)
        if found is None:
            return None
        job, ended, cancel = found
        if job_id not in self.core.jobs:
            ended_at = job.ended_at
            self.core.restore(job, ended, cancel)
            job.ended_at = ended_at
        return self.core.jobs.get(job_id, job)

    # What arrives --------------------------------------------------------------------------------------------------

    def _request(self, decide: Callable[[Round], None]) -> None:
        if self._stopping:
            raise codes.STORE_CLOSED.error()
        self._requests.append(decide)
        self._soon()

    def _reported(self, delivery: Delivery) -> None:
        self._reports.append(Reports(delivery.batch, [delivery]))
        self._soon()

    def _watch(self, job_id: str, on: bool) -> None:
        decision = Decision()
        self.core.watch(job_id, on=on, decision=decision)
        self._publish_orders([decision])

    def _tick_again(self) -> None:
        self._ticking = self._loop.call_later(TICK_SECONDS, self._tick_again)
        self._tick_due = True
        self._soon()
        now = self._loop.time()
        if now - self._touched >= TOUCH_SECONDS:
            self._touched = now
            up = tuple(host.agent for host in self.core.hosts.values() if host.up)
            if up:
                self.write([TouchHosts(up, self.now_ms())]).add_done_callback(_ignore)

    # The round -----------------------------------------------------------------------------------------------------

    def _soon(self) -> None:
        if not self._scheduled and self._round is None:
            self._scheduled = True
            self._idle.clear()
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        turn = self._round = Round(self.now_ms())
        for _ in range(len(self._requests)):
            self._requests.popleft()(turn)
        self._hear(turn)
        if self._tick_due:
            self._tick_due = False
            decision = Decision()
            self.core.tick(now_ms=turn.now_ms, decision=decision)
            if decision.ended:
                turn.add(decision, decision_ops(decision))
        for unit in turn.units:
            if unit.ops:
                turn.open += 1
                try:
                    self._lane.submit(unit.ops, lambda error, unit=unit: self._answered(turn, unit, error))
                except StarAgentError as error:
                    turn.open -= 1
                    unit.error = error
        if not turn.open:
            self._end(turn)

    def _hear(self, turn: Round) -> None:
        decision = Decision()
        taken: list[Reports] = []
        count = 0
        while self._reports and (not taken or count + len(self._reports[0].batch) <= REPORTS_A_ROUND):
            reports = self._reports.popleft()
            taken.append(reports)
            count += len(reports.batch)
            self.core.reports(reports.batch, now_ms=turn.now_ms, decision=decision)
            for report in reports.batch:
                if type(report) is t.RoomStarted:
                    self._rooms.add(report.room)
                    turn.rooms.append(report.room)
        if not taken:
            return
        self.counters["reports"] += count
        deliveries = [delivery for reports in taken for delivery in reports.deliveries]
        if decision.strange:
            # Not settled before the store has said what they belong to; the rest of the batch is done, and repeats do
            # no harm.
            task = self._loop.create_task(self._strange(Reports(decision.strange, deliveries)))
            self._background.add(task)
            task.add_done_callback(self._background.discard)
            deliveries = []

        def done(error: StarAgentError | None) -> None:
            for delivery in deliveries:
                if error is None:
                    delivery.acknowledge()
                else:
                    delivery.refuse()

        turn.add(decision, decision_ops(decision, self.hosts), done)

    def _answered(self, turn: Round, unit: Unit, error: StarAgentError | None) -> None:
        unit.error = error
        turn.open -= 1
        if not turn.open:
            self._end(turn)

    def _end(self, turn: Round) -> None:
        self._round = None
        written: list[Decision] = []
        for unit in turn.units:
            if unit.ops:
                self.store_failing = unit.error is not None and unit.error.code is codes.STORE_FAILED
            if unit.error is None:
                self.core.committed(unit.decision)
                written.append(unit.decision)
            else:
                self.core.rolled_back(unit.decision)
                self.counters["refused"] += 1
                if unit.error.code is not codes.JOB_REPEATED:
                    log.error("a write failed and is undone: %s", unit.error)
        for room in turn.rooms:
            self._bus.publish(orders_subject(room), [self.trust.order()])
        self._publish_orders(written)
        for unit in turn.units:
            for done in unit.done:
                done(unit.error)
        for decision in written:
            self._count(decision)
            self._answer_waiters(decision)
            self._news.tell(decision)
            for renewal in decision.renewals:
                self._bus.publish(orders_subject(renewal.room), [self._renewed(renewal)])
        if self._requests or self._reports or self._tick_due:
            self._soon()
        else:
            self._idle.set()

    def _publish_orders(self, decisions: Sequence[Decision]) -> None:
        rooms: dict[str, list[t.Order]] = {}
        settled: dict[str, list[tuple[str, str]]] = {}
        for decision in decisions:
            for room, order in decision.orders:
                rooms.setdefault(room, []).append(order)
            for room, agent, job in decision.settle:
                settled.setdefault(room, []).append((agent, job))
        for room, pairs in settled.items():
            rooms.setdefault(room, []).append(t.SettledTargets(tuple(pairs)))
        for room, orders in rooms.items():
            self._bus.publish(orders_subject(room), orders)

    def _answer_waiters(self, decision: Decision) -> None:
        waiters = self._waiters
        if not waiters:
            return
        for entry in decision.ended:
            waiter = waiters.get(entry.job)
            if waiter is not None and waiter.results is not None:
                waiter.results[entry.agent] = entry
        for job in decision.finished:
            waiter = waiters.pop(job.id, None)
            if waiter is not None and not waiter.ended.done():
                waiter.ended.set_result(None)

    def _count(self, decision: Decision) -> None:
        counters = self.counters
        counters["submitted"] += len(decision.new_jobs)
        counters["ended"] += len(decision.ended)
        counters["amended"] += len(decision.amended)
        counters["finished"] += len(decision.finished)

    def _renewed(self, request: t.RenewCertificate) -> t.CertificateIssued:
        record = self.hosts.get(request.agent)
        if record is None or record.room != request.room:
            return t.CertificateIssued(request.agent, b"", codes.HOST_UNKNOWN.code)
        try:
            return t.CertificateIssued(request.agent, self._sign(record.id, record.room, request.csr), "")
        except StarAgentError as error:
            return t.CertificateIssued(request.agent, b"", error.code.code)

    async def _strange(self, reports: Reports) -> None:
        try:
            unknown = await self._recall_all({report.result.job for report in reports.batch})
        except StarAgentError as error:
            log.error("a result's job could not be read: %s", error)
            await asyncio.sleep(STRANGE_RETRY_SECONDS)
            for delivery in reports.deliveries:
                delivery.refuse()
            return
        known = [report for report in reports.batch if report.result.job not in unknown]
        for report in reports.batch:
            room = self.hosts.get(report.agent)
            if report.result.job in unknown and room is not None:
                # Nobody here ever accepted it; the host may forget it.
                pairs = ((report.agent, report.result.job),)
                self._bus.publish(orders_subject(room.room), [t.SettledTargets(pairs)])
        self._reports.append(Reports(known, reports.deliveries))
        self._soon()

    async def _recall_all(self, job_ids: set[str]) -> set[str]:
        """Brings jobs of the store back into memory; those that it does not have."""
        return {job_id for job_id in job_ids if await self.recall(job_id) is None}


def _settle(future: asyncio.Future[Any], value: Any, error: StarAgentError | None) -> None:
    if error is not None:
        _fail(future, error)
    elif not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: StarAgentError) -> None:
    # The one who asked may be gone.
    if not future.done():
        future.set_exception(error)


def _ignore(future: asyncio.Future[None]) -> None:
    future.exception()
