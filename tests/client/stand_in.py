"""A stand-in for central, over real TLS sockets: it speaks the API's shapes and misbehaves on request.

For what a real central does not do on demand: broken JSON, streams that are cut, failures, another CA's certificate.
What it is given it verifies like central does (login, envelopes), and what it has it is told by the test.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from libstaragent import codes, targets
from libstaragent.client.context import Context
from libstaragent.errors import StarAgentError
from libstaragent.model import api
from libstaragent.model.host import HostFacts
from libstaragent.model.ids import new_ulid
from libstaragent.security import identity, login
from libstaragent.security.acts import Cancel, Envelope, Exec, IssueToken, Member, ReadSpool, TargetList, act_text
from libstaragent.security.envelope import open_signed
from libstaragent.security.membership import root
from libstaragent.security.policy.model import FOUNDERS
from libstaragent.security.roster import Operator, Roster, sign_roster
from libstaragent.security.signed import Signed
from libstaragent.security.signing import public_key
from libstaragent.security.tls import api_context

DAY_MS = 24 * 3_600_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Story:
    """What a job does: `batches` of events for its stream, the targets as stored, when it has ended."""

    def __init__(self, envelope: Envelope, members: tuple[Member, ...]) -> None:
        self.envelope = envelope
        self.members = members
        self.batches: list[tuple[api.Event, ...]] = []
        self.targets: dict[str, api.TargetView] = {member.agent: self.target(member, "queued") for member in members}
        self.finished_ms: int | None = None
        self.cancelled = False
        self.changed = threading.Condition()
        # Streams end abruptly after so many batches, one number a connection; then they last.
        self.cuts: list[int] = []
        self.connections = 0

    def target(self, member: Member, state: str, **fields: Any) -> api.TargetView:
        return api.TargetView(
            job=self.envelope.id, agent=member.agent, host=member.name, room=member.room, state=state, **fields
        )

    def say(self, *events: api.Event) -> None:
        with self.changed:
            self.batches.append(events)
            self.changed.notify_all()

    def end(self, member: Member, state: str, *, silent: bool = False, **fields: Any) -> None:
        view = self.target(member, state, **fields)
        self.targets[member.agent] = view
        if not silent:
            self.say(api.TargetChanged(msgspec.structs.replace(view, output=msgspec.UNSET)))

    def finish(self, *, silent: bool = False) -> None:
        self.finished_ms = now_ms()
        if not silent:
            self.say(api.JobChanged(self.view()))

    def view(self) -> api.JobView:
        act = self.envelope.act
        counts: dict[str, int] = {}
        for target in self.targets.values():
            counts[target.state] = counts.get(target.state, 0) + 1
        return api.JobView(
            id=self.envelope.id,
            operator=self.envelope.operator,
            command=" ".join(act.argv) if isinstance(act, Exec) else act_text(act),
            expression=self.envelope.targets.expression if self.envelope.targets else "",
            targets=len(self.members),
            counts=counts,
            submitted_ms=self.envelope.issued,
            expires_ms=self.envelope.expires,
            deadline_ms=self.envelope.expires + 60_000,
            finished_ms=self.finished_ms,
            cancelled=self.cancelled,
        )


class StandIn:
    """A central with hosts web01 … and one operator, ada."""

    def __init__(self, folder: Path, *, hosts: int = 3, names: str = "127.0.0.1") -> None:
        self.folder = folder
        root_seed, self.seed = os.urandom(32), os.urandom(32)
        created = now_ms()
        ca = identity.create_ca(fleet="0" * 64, now_ms=created)
        import hashlib
        import ssl

        self.roster = Roster(
            root=public_key(root_seed),
            revision=1,
            previous=b"",
            issued=created,
            valid_until=created + DAY_MS,
            ca=(hashlib.sha256(ssl.PEM_cert_to_DER_cert(ca.certificate.decode())).digest(),),
            operators=(Operator("ada", public_key(self.seed), ("admin", "operator", "read")),),
            groups={"front": "web*"},
            rules=(FOUNDERS,),
        )
        self.signed_roster = sign_roster(self.roster, root_seed)
        self.ca = ca.certificate.decode()
        server = identity.create_server(ca, names=[names], now_ms=created)
        (folder / "server.pem").write_bytes(server.certificate)
        (folder / "server.key").write_bytes(server.key)
        self.members = tuple(
            Member(new_ulid(created, os.urandom(10)), f"web{number:02}", "main") for number in range(1, hosts + 1)
        )
        self.stories: dict[str, Story] = {}
        # What to do with a job that was submitted; by default every target is ok at once.
        self.script: Callable[[Story], None] = self.all_ok
        # Path → answers to give instead of the real ones, one a request.
        self.faults: dict[str, list[tuple[int, bytes]]] = {}
        # Path → how many answers break off after what was asked has been done.
        self.broken: dict[str, int] = {}
        self.requests: list[str] = []
        # What a host's spool is answered with, whatever was asked for.
        self.spools: dict[str, Sequence[bytes]] = {}
        self.resolved: tuple[Member, ...] | None = None
        self._asked: login.Challenge | None = None
        self._kept: dict[str, login.Bearer] = {}

    # Running ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> StandIn:
        routes = [
            ("/v1/health", self._health, "GET"),
            ("/v1/trust", self._trust, "GET"),
            ("/v1/login", self._ask, "GET"),
            ("/v1/login", self._log_in, "POST"),
            ("/v1/tokens", self._issue, "POST"),
            ("/v1/hosts", self._hosts, "GET"),
            ("/v1/hosts/{name}", self._host, "GET"),
            ("/v1/reads", self._read_spool, "POST"),
            ("/v1/resolve", self._resolve, "GET"),
            ("/v1/jobs", self._submit, "POST"),
            ("/v1/jobs", self._jobs, "GET"),
            ("/v1/jobs/{id}", self._job, "GET"),
            ("/v1/jobs/{id}/targets", self._targets, "GET"),
            ("/v1/jobs/{id}/output", self._output, "GET"),
            ("/v1/jobs/{id}/cancel", self._cancel, "POST"),
            ("/v1/jobs/{id}/events", self._events, "GET"),
        ]
        app = Starlette(routes=[Route(path, self._wrapped(call), methods=[method]) for path, call, method in routes])
        config = uvicorn.Config(
            app, host="127.0.0.1", port=0, log_level="error", lifespan="off", timeout_graceful_shutdown=1
        )
        config.load()
        config.ssl = api_context(certificate=self.folder / "server.pem", key=self.folder / "server.key")
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[method-assign]
        self._started = threading.Event()
        startup = self._server.startup

        async def told(sockets: Any = None) -> None:
            await startup(sockets)
            self._started.set()

        self._server.startup = told  # type: ignore[method-assign]
        self._stopping = False
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        assert self._started.wait(20)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        for story in self.stories.values():
            with story.changed:
                story.changed.notify_all()
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    def context(self, **changed: Any) -> Context:
        from libstaragent.security.secrets import KeyFile

        key_file = self.folder / "ada.key"
        if not key_file.exists():
            KeyFile(key_file).save(self.seed)
        context = Context(
            api=f"https://127.0.0.1:{self.port}",
            fleet=self.roster.fleet,
            ca=self.ca,
            operator="ada",
            key_file=str(key_file),
        )
        return msgspec.structs.replace(context, **changed)

    def all_ok(self, story: Story) -> None:
        for member in story.members:
            story.end(member, "ok", exit_status=0, ran="yes")
        story.finish()

    # Answering --------------------------------------------------------------------------------------------------------

    def _wrapped(self, call: Any) -> Any:
        async def endpoint(request: Request) -> Response:
            self.requests.append(f"{request.method} {request.url.path}")
            faults = self.faults.get(request.url.path)
            if faults:
                status, body = faults.pop(0)
                return Response(body, status)
            try:
                answer = await call(request)
            except StarAgentError as error:
                status = 401 if error.code in (codes.BEARER_UNKNOWN, codes.LOGIN_EXPIRED) else 422
                return Response(error_body(error), status)
            response = answer if isinstance(answer, Response) else Response(msgspec.json.encode(answer))
            if self.broken.get(request.url.path):
                self.broken[request.url.path] -= 1
                return Response(response.body[:1], headers={"content-length": str(len(response.body))})
            return response

        return endpoint

    def forget_logins(self) -> None:
        self._kept.clear()

    def _read(self, request: Request) -> None:
        text = request.headers.get("authorization", "").removeprefix("Bearer ")
        kept = self._kept.get(login.bearer_id(text))
        login.check_bearer(kept, text, roster=self.roster, now_ms=now_ms())

    async def _health(self, request: Request) -> api.Health:
        return api.Health(version="0", hosts_up=len(self.members), open_jobs=0, store="ok", uptime_ms=1)

    async def _trust(self, request: Request) -> api.Trust:
        return api.Trust(rosters=(self.signed_roster,), ca=self.ca, room_address="127.0.0.1:1", version="0")

    async def _ask(self, request: Request) -> login.Challenge:
        self._asked = login.challenge(
            fleet=self.roster.fleet,
            operator=request.query_params["operator"],
            nonce=os.urandom(32),
            now_ms=now_ms(),
        )
        return self._asked

    async def _log_in(self, request: Request) -> api.Session:
        asked = msgspec.json.decode(await request.body(), type=api.LoginRequest)
        assert self._asked is not None
        operator = login.check_answer(asked.answer, asked=self._asked, roster=self.roster, now_ms=now_ms())
        token, kept = login.grant(
            operator,
            token=new_ulid(now_ms(), os.urandom(10)),
            secret=os.urandom(32),
            now_ms=now_ms(),
            life_ms=asked.ttl_ms,
        )
        self._kept[kept.id] = kept
        return api.Session(token, kept.expires_ms)

    async def _issue(self, request: Request) -> api.TokenIssued:
        envelope = open_signed(msgspec.json.decode(await request.body(), type=Signed))
        assert isinstance(envelope.act, IssueToken)
        return api.TokenIssued(
            token=f"opsenrol-{envelope.id}.SECRET", expires_ms=now_ms() + envelope.act.ttl_ms, uses=envelope.act.uses
        )

    async def _hosts(self, request: Request) -> api.HostPage:
        self._read(request)
        views = tuple(
            api.HostView(id=member.agent, name=member.name, room=member.room, state="up", changed_ms=now_ms())
            for member in self.members
        )
        return api.HostPage(hosts=views)

    async def _host(self, request: Request) -> api.HostView:
        page = await self._hosts(request)
        return next(host for host in page.hosts if request.path_params["name"] in (host.name, host.id))

    async def _read_spool(self, request: Request) -> Response:
        envelope = open_signed(msgspec.json.decode(await request.body(), type=api.JobSubmission).envelope)
        assert isinstance(envelope.act, ReadSpool) and isinstance(envelope.targets, TargetList)
        data = b"".join(self.spools[envelope.targets.members[0].name])
        return Response(data, media_type="application/x-opsconsole-spool")

    async def _resolve(self, request: Request) -> api.Resolved:
        self._read(request)
        if self.resolved is not None:
            return api.Resolved(members=self.resolved, revision=1)
        facts = [HostFacts(id=one.agent, name=one.name, room=one.room) for one in self.members]
        chosen = targets.select(targets.parse(request.query_params["targets"]), facts, self.roster.groups)
        wanted = {host.id for host in chosen}
        return api.Resolved(members=tuple(one for one in self.members if one.agent in wanted), revision=1)

    async def _submit(self, request: Request) -> api.JobAnswer:
        body = await request.body()
        submission = (
            msgspec.json.decode(body, type=api.JobSubmission)
            if body.startswith(b'{"envelope"')
            else api.JobSubmission(msgspec.json.decode(body, type=Signed))
        )
        envelope = open_signed(submission.envelope)
        if isinstance(envelope.targets, TargetList):
            assert submission.members is None
            members = envelope.targets.members
        else:
            assert submission.members is not None and envelope.targets is not None
            members = submission.members
            assert root(members) == envelope.targets.root and len(members) == envelope.targets.count
        story = self.stories[envelope.id] = Story(envelope, members)
        answer = api.JobAnswer(job=story.view())
        self.script(story)
        return answer

    def _story(self, request: Request) -> Story:
        self._read(request)
        story = self.stories.get(request.path_params["id"])
        if story is None:
            raise codes.JOB_UNKNOWN.error(request.path_params["id"])
        return story

    async def _jobs(self, request: Request) -> api.JobPage:
        self._read(request)
        return api.JobPage(jobs=tuple(story.view() for story in reversed(self.stories.values())))

    async def _job(self, request: Request) -> api.JobView:
        return self._story(request).view()

    async def _targets(self, request: Request) -> api.TargetPage:
        story = self._story(request)
        query = request.query_params
        found = list(story.targets.values())
        found = [view for view in sorted(found, key=lambda view: view.agent) if view.agent > query.get("after", "")]
        limit = int(query.get("limit", "2"))
        page = found[:limit]
        if "output" not in query:
            page = [msgspec.structs.replace(view, output=msgspec.UNSET) for view in page]
        return api.TargetPage(targets=tuple(page), next=page[-1].agent if len(found) > limit else None)

    async def _output(self, request: Request) -> api.OutputView:
        story = self._story(request)
        host = request.query_params["host"]
        view = next(view for view in story.targets.values() if host in (view.agent, view.host))
        return view.output or api.OutputView(head=b"", omitted=0, tail=b"")

    async def _cancel(self, request: Request) -> api.JobAnswer:
        envelope = open_signed(msgspec.json.decode(await request.body(), type=Signed))
        assert isinstance(envelope.act, Cancel) and envelope.act.job == request.path_params["id"]
        story = self.stories[envelope.act.job]
        story.cancelled = True
        for member in story.members:
            if story.targets[member.agent].state in ("queued", "running"):
                story.end(member, "cancelled")
        story.finish()
        return api.JobAnswer(job=story.view())

    async def _events(self, request: Request) -> Response:
        story = self._story(request)
        cut = story.cuts.pop(0) if story.cuts else None
        story.connections += 1
        return StreamingResponse(self._stream(story, cut), media_type="text/event-stream")

    async def _stream(self, story: Story, cut: int | None) -> AsyncIterator[bytes]:
        import anyio

        yield b": subscribed\n\n"
        sent = 0
        while not self._stopping:
            if cut is not None and sent >= cut:
                raise ConnectionResetError("cut, as the test asked")
            if sent < len(story.batches):
                yield b"data: " + msgspec.json.encode(api.EventBatch(story.batches[sent])) + b"\n\n"
                sent += 1
                continue
            await anyio.to_thread.run_sync(self._wait_for_more, story, sent)

    def _wait_for_more(self, story: Story, sent: int) -> None:
        with story.changed:
            story.changed.wait_for(lambda: len(story.batches) > sent or self._stopping, timeout=10)


def error_body(error: StarAgentError) -> bytes:
    code = error.code
    message = f"{code.sentence}: {error.detail}" if error.detail else code.sentence
    return msgspec.json.encode(
        api.ErrorBody(code=code.code, symbol=code.symbol, message=message, remedy=code.remedy, retryable=code.retryable)
    )
