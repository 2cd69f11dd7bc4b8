"""The fleet, from Python: find hosts, run commands on them, look at jobs.

    async with Fleet.connect() as fleet:
        job = await fleet.run("web[01-03]", ["uptime"])
        async for event in job.events():
            ...
        result = await job.result()

On asyncio and trio. `libstaragent.sync.Fleet` is the same without ``async``.

Not here: HTTP (`transport`), what is signed (`submission`). This is the client's wiring page, and long because each
thing that a fleet can be asked is one method of this class.

Rules: what is run is resolved, frozen and signed here, with a key that never leaves this process; the roster that names
groups and revision is believed by the pin in the context, not because central sent it.
"""

from __future__ import annotations

__all__ = ("Fleet",)

import errno
import os
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import anyio
import msgspec

from libstaragent import codes
from libstaragent.client.audit import (
    AuditRecord,
    AuditVerdict,
    SeenHeads,
    ask_hosts,
    heads_path,
    read_audit,
    verify_chain,
)
from libstaragent.client.clocks import Clocks, boot_of
from libstaragent.client.context import Context, context_path, load_context
from libstaragent.client.events import JobEvents
from libstaragent.client.fleet_events import fleet_events
from libstaragent.client.fleet_files import FleetFiles
from libstaragent.client.job import Job
from libstaragent.client.known_hosts import KnownHosts, known_hosts_path
from libstaragent.client.plans import in_order, plan_for
from libstaragent.client.schedules import FleetSchedules
from libstaragent.client.session import Login, session_path
from libstaragent.client.submission import BACKGROUND, FOREGROUND, Signer, argv_of, check_meant
from libstaragent.client.transport import READ_SECONDS, Transport
from libstaragent.errors import StarAgentError
from libstaragent.model.api import (
    Event,
    Health,
    HostPage,
    HostView,
    JobAnswer,
    JobPage,
    JobSubmission,
    JobView,
    Outcomes,
    Resolved,
    Session,
    TokenIssued,
    Trust,
)
from libstaragent.model.ids import ULID_RANDOM_BYTES
from libstaragent.security.act_limits import MAX_LISTED_TARGETS
from libstaragent.security.acts import Act, Exec, IssueToken, Member, Plan, ResolveClone
from libstaragent.security.envelope import open_signed
from libstaragent.security.roster import Roster, RosterChain
from libstaragent.security.signing import public_key
from libstaragent.security.tls import trusted_ca

PAGE = 1000
# An act towards central is done when it arrives.
TOKEN_ENVELOPE_SECONDS = 60.0
# After these central may have what it was sent, unless no connection was made.
_UNANSWERED = (codes.CENTRAL_SILENT, codes.CENTRAL_UNREACHABLE)
_NEVER_ARRIVED = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH)


if TYPE_CHECKING:
    from libstaragent.client.administration import Administration


class Fleet(FleetSchedules, FleetFiles):
    """A fleet, through its central's API. Made by `connect`, used as an asynchronous context manager."""

    def __init__(
        self,
        context: Context,
        *,
        session_file: Path | None = None,
        known_hosts: Path | None = None,
        heads_file: Path | None = None,
        seed: bytes | None = None,
    ) -> None:
        """A fleet at `context`; `connect` is the usual way.

        :param session_file: where the login is kept between processes; None keeps it in memory.
        :param known_hosts: where the hosts' keys for results are kept; None keeps them in memory.
        :param heads_file: the same for what was seen of the audit.
        :param seed: the operator's key, where it is not to be read from where the context says.
        """
        self.context = context
        self._seed = seed
        self._seen = SeenHeads(context.fleet, heads_file)
        self.transport = Transport(context.api, context.ca, bearer=self._bearer, on_head=self._seen.see)
        self._login = Login(context, self.transport, load_seed=self.load_seed, file=session_file)
        self._known_hosts = KnownHosts(context.fleet, known_hosts)
        self._clocks = Clocks()
        self._signer: Signer | None = None
        self._roster: Roster | None = None
        self._streams: set[JobEvents] = set()

    @classmethod
    def connect(cls, context: Context | Path | None = None) -> Fleet:
        """The fleet of `context`: a value, the path of a context file, or None for the user's own.

        Nothing is sent yet; the first method that needs central connects.

        :raises NotFound: there is no context.
        :raises UsageError: the file is not a context.
        """
        if isinstance(context, Context):
            return cls(context)
        path = context_path(context)
        return cls(
            load_context(path),
            session_file=session_path(path),
            known_hosts=known_hosts_path(path),
            heads_file=heads_path(path),
        )

    async def __aenter__(self) -> Fleet:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections; jobs go on."""
        with anyio.CancelScope(shield=True):
            for events in list(self._streams):
                await events.aclose()
            await self.transport.aclose()
        self._seen.keep()

    # Looking ----------------------------------------------------------------------------------------------------------

    async def health(self) -> Health:
        """How the control plane is; needs no login."""
        return await self.transport.get("/v1/health", Health, login=False)

    async def hosts(self, expression: str | None = None) -> tuple[HostView, ...]:
        """The hosts of the fleet, or those that `expression` means, by name.

        :raises NotFound: a host or group that is named is not there, or nothing matches.
        :raises UsageError: the expression cannot be read.
        """
        wanted = None if expression is None else {member.agent for member in await self.resolve(expression)}
        found: list[HostView] = []
        after: str | None = None
        while True:
            page = await self.transport.get("/v1/hosts", HostPage, after=after, limit=PAGE)
            found.extend(host for host in page.hosts if wanted is None or host.id in wanted)
            after = page.next
            if after is None:
                return tuple(found)

    async def host(self, name: str) -> HostView:
        """The host with this name or agent id.

        :raises NotFound: there is none.
        """
        return await self.transport.get(f"/v1/hosts/{_segment(name)}", HostView)

    async def resolve(self, expression: str) -> tuple[Member, ...]:
        """The hosts that `expression` means now, as they would be signed.

        :raises NotFound: a host or group that is named is not there, or nothing matches.
        :raises UsageError: the expression cannot be read.
        :raises IntegrityError: central named a host that is certainly not meant.
        """
        roster = await self.roster()
        sent_ms = _now_ms()
        resolved = await self.transport.get("/v1/resolve", Resolved, targets=expression)
        self._clocks.seen(resolved.clock_ms, sent_ms=sent_ms, now_ms=_now_ms())
        if not resolved.members:
            raise codes.NO_TARGET.error(expression)
        check_meant(expression, resolved.members, roster)
        return resolved.members

    async def roster(self) -> Roster:
        """The newest revision of the roster, verified by the pin in the context.

        :raises IntegrityError: it is of another fleet, or its chain does not hold.
        :raises Denied: it has expired, or does not name the CA of the context.
        """
        if self._roster is None:
            trust = await self.transport.get("/v1/trust", Trust, login=False)
            roster = RosterChain(self.context.fleet).accept_all(trust.rosters, _now_ms())
            trusted_ca(self.context.ca, roster)
            self._roster = roster
        return self._roster

    @property
    def administration(self) -> Administration:
        """Rules, operators, hosts that leave: what admins sign."""
        from libstaragent.client.administration import Administration  # late: it reads TOML, and most never need it

        return Administration(self)

    def forget_roster(self) -> None:
        """The next act asks for the newest roster again."""
        self._roster = self._signer = None

    async def login(self, *, ttl: float | None = None) -> Session:
        """Logs in anew for `ttl` seconds, 12 hours if None. Reads do it by themselves when they must.

        :raises StarAgentError: the key is not to be had, or central refuses it.
        """
        return await self._login.renew(None if ttl is None else int(ttl * 1000))

    # The audit --------------------------------------------------------------------------------------------------------

    async def audit(
        self,
        limit: int = 50,
        *,
        since_ms: int = 0,
        operator: str | None = None,
        host: str | None = None,
        refused: bool = False,
    ) -> tuple[AuditRecord, ...]:
        """The newest `limit` entries of the audit, newest first: from `since_ms` (ms since the epoch) on, of `operator`
        as claimed, about `host`, those that were `refused`.

        :raises NotFound: there is no such host.
        """
        return await read_audit(
            self.transport, limit=limit, since_ms=since_ms, operator=operator, host=host, refused=refused
        )

    async def verify_audit(self, *, agents: int = 8) -> AuditVerdict:
        """Reads the whole audit, hashes it again, and holds it against what this client and `agents` hosts saw of it.

        :raises StarAgentError: it cannot be read; what does not hold is in the verdict.
        """
        hosts = await ask_hosts(self, agents) if agents else []
        return await verify_chain(self.transport, self.context.fleet, self._seen, hosts)

    # Acting -----------------------------------------------------------------------------------------------------------

    async def run(
        self,
        targets: str,
        argv: Sequence[str],
        *,
        timeout: float | None = None,
        ttl: float | None = None,
        background: bool = False,
        shell: bool = False,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        reduce: str = "",
        signed: bool = False,
        waves: str | Sequence[int | str] | None = None,
        window: int | None = None,
        max_failures: int | str | None = None,
        wait: float = 0.0,
        confirm_waves: bool = False,
        life: float | None = None,
    ) -> Job:
        """Runs a command on the hosts that `targets` means.

        :param timeout: seconds that the command may run: 60, in the `background` an hour.
        :param ttl: seconds within which a host may begin: 10, in the `background` an hour.
        :param shell: `argv` is one line for /bin/sh.
        :param user: the user on the host to run as; None is the agent's own.
        :param reduce: a reducer (`libstaragent.jobs.reduce`) that the rooms apply to stdout: `Job.reduced` has what it
            gives, and the outputs themselves stay on the hosts.
        :param signed: each host signs its result, and `Job.verify` judges them.
        :param waves: begin on so many hosts, then on more, in the order of their names: ``"1,10%,100%"``.
        :param window: begin on no more than so many at once; `ttl` counts from each host's turn.
        :param max_failures: begin on no further host once more than so many, or ``"5%"``, have not ended ok.
        :param wait: seconds of rest between waves.
        :param confirm_waves: wait after each wave but the last for `Job.resume`.
        :param life: seconds after which no further host is begun on; long enough for the plan if None.
        :raises NotFound: a host that is named is not there, or nothing matches; nothing was sent.
        :raises StarAgentError: what cannot be signed, or what central refuses.
        """
        act = self.command(
            argv,
            timeout=timeout,
            background=background,
            shell=shell,
            user=user,
            cwd=cwd,
            env=env,
            stdin=stdin,
            signed=signed,
            reduce=reduce,
        )
        members = await self.resolve(targets)
        plan = self.plan(
            len(members),
            waves=waves,
            window=window,
            max_failures=max_failures,
            wait=wait,
            confirm_waves=confirm_waves,
            ttl=ttl,
            background=background,
        )
        _, submission = await self.sign(
            act,
            expression=targets,
            members=members if plan is None else in_order(members),
            ttl=ttl,
            background=background,
            plan=plan,
            life=life,
        )
        return await self.submit(submission)

    @staticmethod
    def plan(
        count: int,
        *,
        waves: str | Sequence[int | str] | None = None,
        window: int | None = None,
        max_failures: int | str | None = None,
        wait: float = 0.0,
        confirm_waves: bool = False,
        ttl: float | None = None,
        background: bool = False,
    ) -> Plan | None:
        """The plan for `count` hosts, None where nothing of one is asked for; see `run`.

        :raises UsageError: it makes no plan.
        """
        pace = BACKGROUND if background else FOREGROUND
        return plan_for(
            count,
            waves=waves,
            window=window,
            max_failures=max_failures,
            wait=wait,
            confirm=confirm_waves,
            turn=pace.ttl if ttl is None else ttl,
        )

    @staticmethod
    def command(
        argv: Sequence[str],
        *,
        timeout: float | None = None,
        background: bool = False,
        shell: bool = False,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        reduce: str = "",
        signed: bool = False,
    ) -> Exec:
        """The act of running a command; see `run`."""
        pace = BACKGROUND if background else FOREGROUND
        return Exec(
            argv=argv_of(argv, shell=shell),
            shell=shell,
            user=user,
            cwd=cwd,
            env=dict(env or {}),
            stdin=stdin,
            timeout_ms=int((pace.timeout if timeout is None else timeout) * 1000),
            signed=signed,
            reduce=reduce,
        )

    async def sign(
        self,
        act: Act,
        *,
        expression: str = "",
        members: Sequence[Member] | None = None,
        ttl: float | None = None,
        background: bool = False,
        plan: Plan | None = None,
        life: float | None = None,
        boot_nonce: bytes | None = None,
    ) -> tuple[str, JobSubmission]:
        """The id of the act and what to submit for it, now or by other means until it expires. A plan begins on
        `members` in their order, within `life` seconds.

        :param boot_nonce: of the one host that it is for (`HostView.boot_nonce`), whose clock is not asked then.
        :raises Conflict: CLOCKS_APART, nobody would take it.
        """
        signer = await self._signing()
        self._clocks.check()
        pace = BACKGROUND if background else FOREGROUND
        return signer.order(
            act,
            ttl=pace.ttl if ttl is None else ttl,
            now_ms=_now_ms(),
            random=os.urandom(ULID_RANDOM_BYTES),
            expression=expression,
            members=members,
            plan=plan,
            life=life,
            boot_nonce=boot_nonce,
        )

    async def boot_of(self, members: Sequence[Member]) -> bytes:
        """What binds an envelope to the present start of one host's agent: for a host whose clock is wrong.

        :raises UsageError: ONE_BOOT_ONLY, it is not one host, or it is not connected.
        """
        return boot_of([await self.host(member.agent) for member in members[:2]])

    async def submit(self, submission: JobSubmission) -> Job:
        """Sends what was signed; sent again it is the same job, so what was not answered is sent once more.

        :raises StarAgentError: central refuses it, or does not answer; the detail names the job if it may run all the
            same.
        """
        body = msgspec.json.encode(submission)
        try:
            answer = await self.transport.post("/v1/jobs", body, JobAnswer)
        except StarAgentError as error:
            if error.code not in _UNANSWERED or error.errno in _NEVER_ARRIVED:
                raise
            try:
                answer = await self.transport.post("/v1/jobs", body, JobAnswer)
            except StarAgentError as again:
                job = open_signed(submission.envelope).id
                raise error.code.error(f"job {job} may have been taken; {again.detail}", errno=error.errno) from again
        return Job(self, answer.job)

    async def issue_token(
        self,
        *,
        room: str,
        uses: int = 1,
        ttl: float = 3600.0,
        name_pattern: str = "*",
        networks: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        replaces: bool = False,
    ) -> TokenIssued:
        """A token with which hosts can join; it is said only this once.

        :raises Denied: the operator is no admin.
        """
        act = IssueToken(
            room=room,
            uses=uses,
            ttl_ms=int(ttl * 1000),
            name_pattern=name_pattern,
            networks=tuple(networks),
            labels=dict(labels or {}),
            replaces=replaces,
        )
        _, submission = await self.sign(act, ttl=TOKEN_ENVELOPE_SECONDS)
        return await self.transport.post("/v1/tokens", msgspec.json.encode(submission.envelope), TokenIssued)

    async def resolve_clone(self, name: str, *, keep: str | None = None) -> HostView:
        """Says which of the machines that have a host's identity is the host; the others must join anew.

        :param keep: the nonce, in hex, of the one that goes on (`HostView.holders`); None is the one first seen last.
        :raises Denied: the operator is no admin.
        :raises Conflict: NOT_QUARANTINED.
        :raises NotFound: there is no such host, or none of its holders has that nonce.
        """
        host = await self.host(name)
        try:
            nonce = None if keep is None else bytes.fromhex(keep)
        except ValueError:
            raise codes.HOLDER_UNKNOWN.error(f"{keep!r} is no nonce") from None
        _, submission = await self.sign(ResolveClone(host.id, nonce), ttl=TOKEN_ENVELOPE_SECONDS)
        body = msgspec.json.encode(submission.envelope)
        return await self.transport.post(f"/v1/hosts/{_segment(host.id)}/choose", body, HostView)

    # Jobs -------------------------------------------------------------------------------------------------------------

    async def job(self, identity: str) -> Job:
        """The job with this id.

        :raises NotFound: there is none.
        """
        return Job(self, await self.transport.get(f"/v1/jobs/{_segment(identity)}", JobView))

    async def jobs(self, limit: int = 50) -> tuple[JobView, ...]:
        """The newest `limit` jobs, newest first."""
        found: list[JobView] = []
        before: str | None = None
        while len(found) < limit:
            page = await self.transport.get("/v1/jobs", JobPage, before=before, limit=min(PAGE, limit - len(found)))
            found.extend(page.jobs)
            before = page.next
            if before is None:
                break
        return tuple(found[:limit])

    async def outcomes(self, *, since: float = 3600.0, by: Sequence[str] = ("code",)) -> Outcomes:
        """How targets ended in the last `since` seconds, counted apart by what `by` names: see `OUTCOME_GROUPS`.

        :raises UsageError: `by` names something else, or nothing.
        """
        start_ms = max(0, _now_ms() - int(since * 1000))
        return await self.transport.get("/v1/outcomes", Outcomes, since=start_ms, by=",".join(by))

    def events(self) -> AsyncGenerator[Sequence[Event], None]:
        """Hosts and jobs as they change, in batches from now on; close it when it is left before its end.

        :raises StarAgentError: central refuses, or the connection is gone.
        """
        return fleet_events(self.transport)

    def open_events(self, job: JobView, *, output: bool = True) -> JobEvents:
        """The events of `job`; `Job.events` is the usual way."""
        events = JobEvents(self.transport, job, forget=self._streams.discard, output=output)
        self._streams.add(events)
        return events

    async def result_keys(self, agents: Sequence[str]) -> tuple[KnownHosts, Mapping[str, str]]:
        """The keys that were seen before, and what central tells now of these agents; `Job.verify` is the usual way."""
        if len(agents) <= MAX_LISTED_TARGETS:
            found: list[HostView] = []
            for agent in agents:
                try:
                    found.append(await self.host(agent))
                except StarAgentError as error:
                    if error.code is not codes.HOST_UNKNOWN:
                        raise
        else:
            found = list(await self.hosts())
        return self._known_hosts, {host.id: host.result_key for host in found}

    async def cancel_job(self, job: str) -> JobView:
        """Stops `job`; `Job.cancel` is the usual way."""
        signer = await self._signing()
        submission = signer.cancel(job, now_ms=_now_ms(), random=os.urandom(ULID_RANDOM_BYTES))
        path = f"/v1/jobs/{_segment(job)}/cancel"
        answer = await self.transport.post(
            path, msgspec.json.encode(submission.envelope), JobAnswer, seconds=READ_SECONDS
        )
        return answer.job

    async def pause_job(self, job: str, paused: bool) -> JobView:
        """Pauses `job` or goes on with it; `Job.pause` and `Job.resume` are the usual way."""
        signer = await self._signing()
        submission = signer.pause(job, paused=paused, now_ms=_now_ms(), random=os.urandom(ULID_RANDOM_BYTES))
        path = f"/v1/jobs/{_segment(job)}/{'pause' if paused else 'resume'}"
        answer = await self.transport.post(
            path, msgspec.json.encode(submission.envelope), JobAnswer, seconds=READ_SECONDS
        )
        return answer.job

    # Keys -------------------------------------------------------------------------------------------------------------

    async def _signing(self) -> Signer:
        if self._signer is None:
            roster = await self.roster()
            seed = await anyio.to_thread.run_sync(self.load_seed)
            operator = roster.operator_by_key(public_key(seed))
            if operator is None or operator.name != self.context.operator:
                raise codes.SIGNER_UNKNOWN.error(self.context.operator)
            self._signer = Signer(operator=operator.name, seed=seed, roster=roster)
        return self._signer

    def load_seed(self) -> bytes:
        """The operator's key, from where the context says. Raises StarAgentError when it is not to be had."""
        if self._seed is None:
            self._seed = self.context.key_store().load()
        return self._seed

    async def _bearer(self, again: bool) -> str:
        return await self._login.bearer(again)


def _segment(text: str) -> str:
    """`text` as one segment of a path: what a user typed must not become another route."""
    from urllib.parse import quote

    return quote(text, safe="") if text not in (".", "..") else "%2E" * len(text)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
