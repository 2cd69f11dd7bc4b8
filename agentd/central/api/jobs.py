"""Jobs over HTTP: submit, cancel, list, look.

The path that counts is POST /v1/jobs?wait=S for one target: one decode, one round in and one round out, and an answer
from what is in memory; the store is read only for what nobody gathered.

Not here: routes (`routes`), decisions. Rules: an answer that says a job is there comes after its commit.
"""

from __future__ import annotations

__all__ = ("MAX_SUBMISSION", "JobsApi", "read_submission")

import asyncio
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from agentd.central.api.bodies import MAX_STRANGERS_BODY
from agentd.central.api.call import Call, Reply, read_json
from agentd.central.audit import Claim
from agentd.central.history import History
from agentd.central.service import Central
from agentd.central.views import target_view, whole_result
from agentd.central.waiting import WAITED_TARGETS, Waiter
from libstaragent import codes
from libstaragent.model.api import JobAnswer, JobPage, OutputView, TargetView
from libstaragent.model.ids import is_ulid
from libstaragent.roles.central_state import Job
from libstaragent.security.acts import Cancel, Member, Pause, Resume
from libstaragent.security.envelope import open_signed
from libstaragent.security.signed import Signed

# An envelope, and about 100 bytes a host under its Merkle root: 150,000 hosts.
MAX_SUBMISSION = 16 * 1024 * 1024
# A proxy or a NAT forgets a silent connection after some minutes.
MAX_WAIT_SECONDS = 300.0
# A screen of jobs, with room to scroll.
DEFAULT_PAGE = 100
MAX_PAGE = 1000
# With outputs a target weighs up to 256 KiB of JSON.
MAX_OUTPUT_PAGE = 100
NO_OUTPUT = OutputView(head=b"", omitted=0, tail=b"")


class _Body(Struct, frozen=True, forbid_unknown_fields=True):
    """A `JobSubmission` or a bare `Signed`."""

    envelope: Signed | UnsetType = UNSET
    members: tuple[Member, ...] | None = None
    within_ms: Annotated[int, Meta(ge=0)] | None = None
    payload: bytes | UnsetType = UNSET
    key: bytes | UnsetType = UNSET
    signature: bytes | UnsetType = UNSET


_body = msgspec.json.Decoder(_Body)


class JobsApi:
    """See the module."""

    def __init__(self, central: Central, history: History) -> None:
        self._central = central
        self._history = history

    async def submit(self, call: Call) -> Reply:
        """POST /v1/jobs"""
        wait = call.seconds("wait", high=MAX_WAIT_SECONDS)
        watch = call.flag("watch")
        signed, members, within_ms = read_submission(await call.body(MAX_SUBMISSION))
        call.claim = Claim(signed)
        job, waiter = await self._central.submit(
            signed, members, source=call.address, watch=watch, wait=wait > 0, within_ms=within_ms
        )
        call.let_go()
        if not wait:
            return Reply(JobAnswer(job=self._central.view(job)), status=202 if job.open else 200)
        if waiter is not None:
            try:
                ended = await waiter.ended(wait)
            finally:
                self._central.waiters.leave(job, waiter)
            if not ended:
                return Reply(JobAnswer(job=self._central.view(job)), status=202)
        return Reply(JobAnswer(job=self._central.view(job), targets=await self._results(job, waiter)))

    async def cancel(self, call: Call) -> Reply:
        """POST /v1/jobs/{id}/cancel"""
        return await self._take(call, Cancel)

    async def pause(self, call: Call) -> Reply:
        """POST /v1/jobs/{id}/pause"""
        return await self._take(call, Pause)

    async def resume(self, call: Call) -> Reply:
        """POST /v1/jobs/{id}/resume"""
        return await self._take(call, Resume)

    async def _take(self, call: Call, kind: type[Cancel | Pause | Resume]) -> Reply:
        signed, _, _ = read_submission(await call.body(MAX_STRANGERS_BODY))
        call.claim = Claim(signed)
        act = open_signed(signed).act
        if not isinstance(act, kind):
            raise codes.ACT_UNSUPPORTED.error(
                f"the path is for {kind.__name__.lower()}, the envelope is for another act"
            )
        if act.job != call.part("id"):
            raise codes.REQUEST_MALFORMED.error("the path names another job than the envelope")
        job = await self._central.cancel(signed, source=call.address)
        return Reply(JobAnswer(job=self._central.view(job)), status=202 if job.open else 200)

    async def listed(self, call: Call) -> Reply:
        """GET /v1/jobs"""
        limit = call.number("limit", DEFAULT_PAGE, low=1, high=MAX_PAGE)
        before = call.text("before") or None
        views = await asyncio.to_thread(
            self._history.job_views, limit=limit, before=before, operator=call.text("operator") or None
        )
        live = (self._central.job(view.id) for view in views)
        jobs = tuple(view if job is None else self._central.view(job) for view, job in zip(views, live, strict=True))
        return Reply(JobPage(jobs=jobs, next=jobs[-1].id if len(jobs) == limit else None))

    async def one(self, call: Call) -> Reply:
        """GET /v1/jobs/{id}"""
        job_id = _job_id(call)
        job = self._central.job(job_id)
        view = await asyncio.to_thread(self._history.job_view, job_id) if job is None else self._central.view(job)
        if view is None:
            raise codes.JOB_UNKNOWN.error(job_id)
        return Reply(view)

    async def targets(self, call: Call) -> Reply:
        """GET /v1/jobs/{id}/targets"""
        job_id = _job_id(call)
        output = call.flag("output")
        most = MAX_OUTPUT_PAGE if output else MAX_PAGE
        limit = call.number("limit", DEFAULT_PAGE, low=1, high=most)
        members, open_states = await self._members(job_id)
        page = await asyncio.to_thread(
            self._history.targets,
            job_id,
            members,
            open_states,
            state=call.text("state") or None,
            after=call.text("after"),
            limit=limit,
            output=output,
        )
        return Reply(page)

    async def output(self, call: Call) -> Reply:
        """GET /v1/jobs/{id}/output"""
        job_id = _job_id(call)
        host = call.text("host")
        if not host:
            raise codes.REQUEST_MALFORMED.error("host is missing")
        members, _ = await self._members(job_id)
        member = members.get(host) or next((one for one in members.values() if one.name == host), None)
        if member is None:
            raise codes.HOST_UNKNOWN.error(f"{host[:300]} is no target of {job_id}")
        view = await asyncio.to_thread(self._history.target, job_id, member)
        if view is None and self._central.job(job_id) is not None:
            raise codes.TARGET_OPEN.error(f"{member.name} of {job_id}")
        if view is None or view.output_pruned:
            raise codes.OUTPUT_PRUNED.error(f"{member.name} of {job_id}")
        return Reply(view.output or NO_OUTPUT)

    async def _members(self, job_id: str) -> tuple[dict[str, Member], dict[str, str]]:
        """The hosts of a job, and the states of those that have not ended."""
        job = self._central.job(job_id)
        if job is not None:
            return job.members, self._central.open_states(job)
        members = await asyncio.to_thread(self._history.members, job_id)
        if members is None:
            raise codes.JOB_UNKNOWN.error(job_id)
        return members, {}

    async def _results(self, job: Job, waiter: Waiter | None) -> tuple[TargetView, ...] | None:
        if len(job.members) > WAITED_TARGETS:
            return None
        if waiter is not None and waiter.results is not None and len(waiter.results) == len(job.members):
            return tuple(
                target_view(
                    job.members[agent], whole_result(entry), entry.received_ms, output=True, kept=entry.digest or None
                )
                for agent, entry in waiter.results.items()
            )
        page = await asyncio.to_thread(
            self._history.targets, job.id, job.members, {}, state=None, after="", limit=WAITED_TARGETS, output=True
        )
        return page.targets


def read_submission(data: bytes) -> tuple[Signed, tuple[Member, ...] | None, int | None]:
    """What was signed, the hosts beside it, and how long central offers it.

    :raises UsageError: the body is something else.
    """
    body = read_json(_body, data)
    if body.envelope is not UNSET and body.payload is UNSET and body.key is UNSET and body.signature is UNSET:
        return body.envelope, body.members, body.within_ms
    if (
        body.envelope is not UNSET
        or body.members is not None
        or body.within_ms is not None
        or body.payload is UNSET
        or body.key is UNSET
        or body.signature is UNSET
    ):
        raise codes.REQUEST_MALFORMED.error("neither a submission nor a signed envelope")
    return Signed(body.payload, body.key, body.signature), None, None


def _job_id(call: Call) -> str:
    job_id = call.part("id")
    if not is_ulid(job_id):
        raise codes.JOB_UNKNOWN.error(job_id[:100])
    return job_id
