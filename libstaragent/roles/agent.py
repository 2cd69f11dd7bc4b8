"""The agent's decisions: what to do with each word of its room, its keeper and its disk. Pure; the shell is
agentd/agent.

The file is long because room and disk meet in each job: apart, no reader could follow one.

It promises two things, whoever is killed when: a job runs at most once, and its result is not lost. So

    accepting   the envelope was verified; its record is on the way to disk
    holding     the record is on disk; the job waits for a place at the keeper (`agent_handover`)
    starting    the keeper was told (its O_EXCL spool is the second lock)
    running     the keeper has written `started`
    reading     the keeper has written `finished`; its spool is being read
    pulling     only of a `Put`, before holding: its file comes piece by piece (`agent_files`)
    recovered   an agent before us took it; whether it was begun, the keeper says
    ending      it ended and never started: that is on the way to disk, then it is said
    reporting   the result was said, and is repeated until the store has it
    settling    the store has it; that is on the way to disk; then the keeper may delete the spool

    accepting ─persisted→ holding ─a place→ starting ─started→ running ─finished→ reading ─read→ reporting ─settled→
    settling ─persisted→ gone

After a restart the journal says what was taken and the keeper what was begun. Taken and not known to the keeper means
that nothing ran: ordered again, it is verified again and starts late. So the word that a job did not run is on disk
before it is said: else the next process would start it. Ids stay known until
24 h after they expire, by the time in operators' signatures. Where a damaged journal lost ids, what was issued before
that was found is not started: it may be one of them. (What is bound to this boot cannot be: no earlier one took it.)

How it is driven: call an input, then carry out and clear `effects` in their order, and send `connection.take()`. The
answer to an effect is another input. `now` is monotonic seconds, `now_ms` the wall clock in ms.
"""

from __future__ import annotations

__all__ = ("AgentCore",)

from collections.abc import Callable, Iterable
from heapq import heappop, heappush

from msgspec.structs import replace

from libstaragent import codes
from libstaragent.errors import Code, StarAgentError
from libstaragent.jobs.journal import Done, Fired, Floor, Kept, Learned, Record, Refused, Removed, Rested, Taken
from libstaragent.model.result import Output, TargetResult, failed_result
from libstaragent.protocol import messages as m
from libstaragent.protocol.connection import AGENT, Connection
from libstaragent.protocol.limits import FEATURES, PROTOCOL_MAX, PROTOCOL_MIN
from libstaragent.roles.agent_acts import wants_signature
from libstaragent.roles.agent_effects import (
    Effect,
    Install,
    KeepHeads,
    Log,
    Persist,
    Renew,
    ToKeeper,
    Verifier,
)
from libstaragent.roles.agent_files import Pulls
from libstaragent.roles.agent_handover import HANDED_MAX, AgentHandover
from libstaragent.roles.agent_keeping import counts_until
from libstaragent.roles.agent_live import AgentLive
from libstaragent.roles.agent_rosters import RosterIntake
from libstaragent.roles.agent_run import LocalRun, begin_by, ids_lost, recovered, result_of
from libstaragent.roles.agent_spools import SpoolReads
from libstaragent.roles.refusals import Refusals, refused_until
from libstaragent.security.acts import SCHEDULE_ACTS, Cancel
from libstaragent.security.envelope import Envelope
from libstaragent.security.heads import Head, HeadRing
from libstaragent.security.result_signature import ResultSigner
from libstaragent.security.signed import Signed

# Commands that one host has open at once, whatever an operator sends; the rest are refused, not queued without end.
OPEN_MAX = 512
# Cancels of jobs that are not here (yet); the oldest is forgotten.
CANCELS_MAX = 1024
# A result that is not acknowledged is said again; the store's commit takes milliseconds.
RESEND_AFTER = 30.0
# Bytes that wait for the room beyond which no result joins them: hundreds of results of a long outage, said at once,
# would overrun the connection (OUTGOING_MAX), and again on the next one. The others go out by the tick.
REPORTS_QUEUED_MAX = 4 * 1024 * 1024


class AgentCore(AgentLive, AgentHandover):
    """See the module."""

    def __init__(
        self,
        *,
        agent: str,
        verifier: Verifier,
        state_of: Callable[[Code], str],
        version: str,
        boot_nonce: bytes,
        hostname: str,
        addresses: tuple[str, ...],
        facts: dict[str, str],
        journal: Iterable[Record] = (),
        signer: ResultSigner | None = None,
        heads: Iterable[Head] = (),
        boot: str = "",
        handed_max: int = HANDED_MAX,
    ) -> None:
        super().__init__(
            agent=agent, boot=boot, verifier=verifier, state_of=state_of, signer=signer, handed_max=handed_max
        )
        self._agent = agent
        self._version = version
        self._boot_nonce = boot_nonce
        self._hostname = hostname
        self._addresses = addresses
        self._facts = facts
        self.heads = HeadRing(heads)
        self.effects: list[Effect] = []
        self.connection: Connection | None = None
        self.refused: m.Refuse | m.GoAway | None = None
        self.open: dict[str, LocalRun] = {}
        # The same ids, the first to expire first.
        self._expiring: list[tuple[int, str]] = []
        self._refusals = Refusals() if signer is None else Refusals(signer.sign)
        self._cancels: dict[str, Envelope] = {}
        self._rosters = RosterIntake(verifier)
        self._tokens: dict[int, tuple[str, str]] = {}
        self._next_token = 1
        self._kept_time_ms = verifier.highest_ms
        self._floor_ms = 0
        self.pulls = Pulls(
            say=self._say, act=lambda effect: self.effects.append(effect), whole=self._pulled, failed=self._not_pulled
        )
        self.reads = SpoolReads(verifier)
        self._recover(journal)

    # The room ------------------------------------------------------------------------------------------------------

    def connected(self, *, connects: int, now: float, now_ms: int) -> None:
        """A connection to the room stands; say HELLO."""
        self.connection = Connection(AGENT, now=now)
        self.connection.send(
            m.Hello(
                protocol_min=PROTOCOL_MIN,
                protocol_max=PROTOCOL_MAX,
                features=FEATURES,
                version=self._version,
                agent=self._agent,
                boot_nonce=self._boot_nonce,
                connects=connects,
                clock_ms=now_ms,
                roster=self._verifier.roster_revision,
                hostname=self._hostname,
                addresses=self._addresses,
                facts=self._facts,
            )
        )

    def disconnected(self) -> None:
        """The connection is gone; what runs goes on."""
        self.connection = None
        self.refused = None
        # The next HELLO says what is believed, and all that follows comes again.
        self._rosters.clear()
        self.reads.clear()
        self._unwatch_all()

    def receive(self, data: bytes, *, now: float, now_ms: int) -> None:
        """Bytes of the room. Raises a coded error when the connection is of no more use."""
        assert self.connection is not None
        self._see_clock(now, now_ms)
        for message in self.connection.receive(data, now):
            self._hear(message, now, now_ms)
        # Last, so that what comes together with its cancel does not start.
        self._hand_on(now)
        self._follow_all()
        self.effects += self.reads.pump(self.connection)

    def ask_renewal(self, csr: bytes) -> bool:
        """Ask for the next certificate; False when there is no connection now."""
        return self._say(m.RenewRequest(csr))

    def tick(self, *, now: float, now_ms: int | None = None) -> None:
        """Repeat unacknowledged results, forget old ids, end what may not start any more. Call about once a second."""
        if now_ms is not None:
            self._see_clock(now, now_ms)
        self._expire(now)
        self._hand_on(now)
        for run in self.open.values():
            if run.state == "reporting" and now - run.last_sent >= RESEND_AFTER:
                self._report(run, now)
        self.pulls.tick(now)
        while self._expiring and self._verifier.may_forget(self._expiring[0][0]):
            job = heappop(self._expiring)[1]
            self._done.pop(job, None)
            self._refusals.forget(job)

    # The disk ------------------------------------------------------------------------------------------------------

    def persisted(self, token: int, errno: int | None, *, now: float) -> None:
        """The answer to Persist: the record is on disk, or could not be written."""
        job, kind = self._tokens.pop(token)
        if kind == "refused":
            self._refusals.written(job, durable=errno is None)
            self._say_refused(job)
            return
        if kind == "kept":
            self._kept(job, errno, now)
            return
        if kind == "fired":
            kind = "taken" if self._fired_written(job, errno, now) else ""
        run = self.open.get(job)
        if run is None:
            return
        if kind == "taken" and run.state == "accepting":
            if errno is not None:
                # Only this process holds the id: the next one may be given the order before this word is heard.
                failed = failed_result(job, "spawn_failed", codes.JOURNAL_FAILED.code, errno=errno, ran="maybe")
                self._finish(job, failed, now)
                return
            run.state = "holding"
            self._say_again(job, run, now)
            self._begin(job, run, now)
            self._hand_on(now)
        elif kind == "ended" and run.state == "ending":
            assert run.result is not None
            self._report_as(run, run.result if errno is None else replace(run.result, ran="maybe"), now)
        elif kind == "done" and run.state == "settling":
            if errno is not None:
                run.state = "recovered" if run.result is None else "reporting"
                return
            del self.open[job]
            self._remember(job, counts_until(run))
            self.effects.append(ToKeeper({"op": "forget", "job": job}))

    def spool_read(self, job: str, output: Output | None, *, now: float) -> None:
        """The answer to ReadSpool."""
        run = self.open.get(job)
        if run is not None and run.state == "reading" and run.summary is not None:
            self._finish(job, result_of(job, run.summary, output), now)

    # Inside --------------------------------------------------------------------------------------------------------

    def _recover(self, journal: Iterable[Record]) -> None:
        for record in journal:
            if type(record) is Taken:
                self.open[record.job] = recovered(record)
            elif type(record) is Fired:
                self.schedules.note(record)
                self._recover_fired(record)
            elif type(record) is Kept or type(record) is Rested or type(record) is Removed:
                self.schedules.note(record)
            elif type(record) is Done:
                self.open.pop(record.job, None)
                self._remember(record.job, record.expires_ms)
            elif type(record) is Refused:
                self.open.pop(record.job, None)
                self._remember(record.job, record.expires_ms)
                self._refusals.add(failed_result(record.job, record.state, record.code))
                self._refusals.written(record.job)
            elif type(record) is Floor:
                self._floor_ms = max(self._floor_ms, record.time_ms)
                for run in self.open.values():
                    run.doubtful = True
                    run.state, run.envelope = "recovered", None
                self.schedules.not_before(record.time_ms)
            elif type(record) is Learned:
                continue
        self._recover_acts()

    def _hear(self, message: object, now: float, now_ms: int) -> None:
        match message:
            case m.Run():
                self._run(message, now, now_ms)
                # Also of one that is said again, as on a new connection.
                self._watch(message.job, message.stream)
            case m.Settled():
                for job in message.jobs:
                    self._settled(job)
            case m.FiringKnown():
                for job in message.jobs:
                    run = self.open.get(job)
                    if run is not None and not run.told:
                        run.told = True
                        self._say_again(job, run, now)
            case m.Ping():
                self._say(m.Pong(now_ms))
                if message.audit_seq:
                    self._see_head(message, now_ms)
            case m.CancelRun():
                self._cancel(message.signed, now, now_ms)
            case m.Watch():
                self._watch(message.job, message.stream)
            case m.Rosters():
                self.effects += self._rosters.take(message.revisions, now_ms)
            case m.Welcome():
                self._repeat(now)
            case m.Read():
                assert self.connection is not None
                self.reads.open(message, self.connection, now_ms)
            case m.StopRead():
                assert self.connection is not None
                self.reads.stop(message.stream)
                self.connection.close_stream(message.stream)
            case m.Chunk():
                self.pulls.came(message, now=now)
            case m.Refuse() | m.GoAway():
                self.refused = message
            case m.RenewNow():
                self.effects.append(Renew())
            case m.Certificate():
                self.effects.append(Install(message.pem, message.code))
            case _:
                raise codes.MESSAGE_UNEXPECTED.error(type(message).__name__)

    def _run(self, message: m.Run, now: float, now_ms: int) -> None:
        job = message.job
        run = self.open.get(job)
        if run is not None:
            if run.state == "recovered":
                self._ordered_again(message, run, now, now_ms)
            self._say_again(job, run, now)
            return
        if job in self._refusals:
            self._say_refused(job)
            return
        if job in self._done:
            self._say(m.Result(TargetResult(job=job, state="interrupted", code=codes.RESULT_GONE.code, ran="maybe")))
            return
        try:
            envelope = self._verifier.verify(message.signed, message.proof, now_ms)
            if envelope.id != job:
                raise codes.ACT_UNSUPPORTED.error("the room gave the envelope another job's id")
            sign = wants_signature(envelope, self._verifier, now_ms, can_sign=self._signer is not None)
            lost = envelope.issued <= self._floor_ms and envelope.boot_nonce is None
            if isinstance(envelope.act, SCHEDULE_ACTS) and not lost:
                self._keep(message, envelope, now_ms, sign=sign)
                self._keep_time()
                return
        except StarAgentError as error:
            result = failed_result(job, self._state_of(error.code), error.code.code, error.detail)
            self._refuse(result, refused_until(message.signed, job, error.code, now_ms))
            return
        if lost:
            self._say(m.Result(ids_lost(job)))
            return
        if len(self.open) >= OPEN_MAX:
            busy = failed_result(job, "spawn_failed", codes.AGENT_BUSY.code, f"{OPEN_MAX} are open")
            self._refuse(busy, envelope.expires)
            return
        run = LocalRun("accepting", expires_ms=envelope.expires, envelope=envelope)
        run.sign = sign
        run.begin_by = begin_by(envelope, now)
        # A cancel that came first: the job is taken all the same, so that no restart finds it new.
        cancel = self._cancels.pop(job, None)
        run.cancelled = cancel is not None and self._may_cancel(cancel, run, now_ms)
        self.open[job] = run
        self._keep_time()
        self._persist(job, "taken", Taken(job, message.signed, envelope.expires), sync=True)

    def _refuse(self, result: TargetResult, until_ms: int | None) -> None:
        """Say no, for good: where the same order could hold when it comes again, its id counts from now on."""
        if until_ms is None or not self._refusals.has_place(result.code):
            self._say(m.Result(result if until_ms is None else self._refusals.pass_over(result, self.effects)))
            return
        self._remember(result.job, until_ms)
        self._refusals.add(result)
        record = Refused(result.job, until_ms, result.state, result.code or "")
        self._persist(result.job, "refused", record, sync=True)

    def _say_refused(self, job: str) -> None:
        word = self._refusals.word(job)
        if word is not None:
            self._say(m.Result(word))

    def _cancel(self, signed: Signed, now: float, now_ms: int) -> None:
        try:
            envelope = self._verifier.verify(signed, None, now_ms)
        except StarAgentError as error:
            # Central said the same to the operator; whoever looks at the host should see it too.
            self.effects.append(Log(error.code, error.detail))
            return
        if not isinstance(envelope.act, Cancel):
            return
        job = envelope.act.job
        run = self.open.get(job)
        if run is None:
            self._cancels[job] = envelope
            if len(self._cancels) > CANCELS_MAX:
                del self._cancels[next(iter(self._cancels))]
            return
        if not self._may_cancel(envelope, run, now_ms):
            return
        run.cancelled = True
        if run.state in ("pulling", "holding") or (run.state == "recovered" and self._keeper_up):
            self._finish(job, TargetResult(job=job, state="cancelled", ran="no"), now)
        elif run.state in ("starting", "running"):
            self._kill(job)

    def _may_cancel(self, cancel: Envelope, run: LocalRun, now_ms: int) -> bool:
        try:
            self._verifier.may_manage(cancel, run.operator, now_ms)
        except StarAgentError as error:
            self.effects.append(Log(error.code, error.detail))
            return False
        return True

    def _see_head(self, ping: m.Ping, now_ms: int) -> None:
        newest = self.heads.newest
        if self.heads.see(ping.audit_seq, ping.audit_hash, now_ms) and newest is not None:
            detail = f"entry {ping.audit_seq} is told, {max(head.seq for head in self.heads.heads)} was seen before"
            self.effects.append(Log(codes.AUDIT_WENT_BACK, detail))
        if self.heads.changed:
            self.heads.changed = False
            self.effects.append(KeepHeads(tuple(self.heads.heads)))

    def _pulled(self, job: str, now: float) -> None:
        self._hold(job, self.open[job])
        self._hand_on(now)

    def _not_pulled(self, job: str, state: str, code: str, errno: int | None, now: float) -> None:
        self._finish(job, failed_result(job, state, code, errno=errno), now)

    def _report(self, run: LocalRun, now: float) -> None:
        assert run.result is not None
        if self.connection is not None and self.connection.queued > REPORTS_QUEUED_MAX:
            run.last_sent = -RESEND_AFTER
            return
        run.last_sent = now
        self._say(m.Result(run.result) if run.told or run.fired is None else run.fired)

    def _remember(self, job: str, expires_ms: int) -> None:
        self._done[job] = expires_ms
        heappush(self._expiring, (expires_ms, job))

    def _settled(self, job: str) -> None:
        self._refusals.settled(job)
        run = self.open.get(job)
        # One that was recovered may have been told of by an agent before us; the store wants nothing more of it.
        if run is not None and (run.state == "reporting" or (run.state == "recovered" and self._keeper_up)):
            run.state = "settling"
            if self.connection is not None and run.stream:
                self.connection.close_stream(run.stream)
            # Synced before the keeper deletes its spool: else a crash would find the job taken, unknown, and not run.
            self._persist(job, "done", Done(job, counts_until(run)), sync=True)

    def _repeat(self, now: float) -> None:
        for job, run in self.open.items():
            self._say_again(job, run, now)
        self.pulls.connected(now)

    def _say_again(self, job: str, run: LocalRun, now: float) -> None:
        if run.state == "reporting":
            self._report(run, now)
        elif run.fired is not None and not run.told:
            self._say(run.fired)
        elif run.state in ("recovered", "pulling", "holding", "starting", "running", "reading"):
            self._say(m.Accepted(job))
            if run.started_ms is not None:
                self._say(m.Started(job, run.started_ms))

    def _keep_time(self) -> None:
        """What an operator's signature taught of time outlives us: else an expired act could come back to life."""
        if self._verifier.highest_ms > self._kept_time_ms:
            self._kept_time_ms = self._verifier.highest_ms
            self._persist("", "learned", Learned(self._kept_time_ms), sync=False)

    def _persist(self, job: str, kind: str, record: Record, *, sync: bool) -> None:
        token = self._next_token
        self._next_token += 1
        self._tokens[token] = (job, kind)
        self.effects.append(Persist(token, record, sync))

    def _say(self, message: m.AgentMessage) -> bool:
        if self.connection is None or self.connection.state != "open":
            return False
        self.connection.send(message)
        return True
