"""Every path of the API, once: routing, authority, limits and the OpenAPI document are read from this table.

Not here: what the handlers do. Rules: `reader` needs a bearer token; `envelope` and `proof` carry their own authority
in the body and are judged by their handler; `anybody` is public: of hosts and jobs it says how many are up or open, and
`/v1/trust` shows the roster, with the operators' names and the groups' expressions.
"""

from __future__ import annotations

__all__ = ("Authority", "Parameter", "Route", "table")

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from msgspec import Struct

from agentd.central.api.access import AccessApi
from agentd.central.api.audit import AuditApi
from agentd.central.api.call import Call, Reply, Stream
from agentd.central.api.events import EventsApi
from agentd.central.api.files import FilesApi
from agentd.central.api.hosts import HostsApi
from agentd.central.api.jobs import JobsApi
from agentd.central.api.outcomes import OutcomesApi
from agentd.central.api.outputs import OutputsApi
from agentd.central.api.policy import PolicyApi
from agentd.central.api.schedules import SchedulesApi
from agentd.central.api.system import SystemApi
from libstaragent import codes
from libstaragent.errors import Code
from libstaragent.model import api, gathered
from libstaragent.model.files import BlobStands
from libstaragent.model.policy import PolicyView
from libstaragent.security.login import Challenge
from libstaragent.security.signed import Signed

Authority = Literal["anybody", "reader", "envelope", "proof"]
Handler = Callable[[Call], Awaitable[Reply | Stream]]


class Parameter(Struct, frozen=True):
    """A query parameter."""

    name: str
    meaning: str
    kind: Literal["string", "integer", "number"] = "string"
    required: bool = False


class Route(Struct, frozen=True, kw_only=True):
    """One path and method. `takes` are the JSON bodies it reads, `gives` what it answers; `status` the success."""

    method: str
    path: str
    handler: Handler
    authority: Authority
    summary: str
    gives: Any = None
    takes: tuple[Any, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    refusals: tuple[Code, ...] = ()
    status: int = 200
    media: str = "application/json"


LIMIT = Parameter("limit", "at most so many", "integer")
AFTER = Parameter("after", "begin after this one: the `next` of the page before")
ENVELOPE = (
    codes.SIGNATURE_INVALID, codes.SIGNED_MALFORMED, codes.SIGNER_UNKNOWN, codes.SIGNER_ROLE, codes.ENVELOPE_EXPIRED,
    codes.ENVELOPE_OTHER_FLEET, codes.ROSTER_BEHIND, codes.STORE_FAILED,
)  # fmt: skip


def table(
    jobs: JobsApi,
    hosts: HostsApi,
    access: AccessApi,
    events: EventsApi,
    system: SystemApi,
    outcomes: OutcomesApi,
    audit: AuditApi,
    outputs: OutputsApi,
    policy: PolicyApi,
    schedules: SchedulesApi,
    files: FilesApi,
) -> tuple[Route, ...]:
    """The API. The first path is the one that is asked most."""
    return (
        Route(
            method="POST", path="/v1/jobs", handler=jobs.submit, authority="envelope",
            summary="Run what an envelope says; the same envelope again is the same job",
            takes=(api.JobSubmission, Signed), gives=api.JobAnswer, status=202,
            parameters=(
                Parameter("wait", "answer when the job has ended, at most after so many seconds", "number"),
                Parameter("watch", "1: its live output will be read", "integer"),
            ),
            refusals=(
                *ENVELOPE, codes.HOST_UNKNOWN, codes.JOB_REPEATED, codes.TARGETS_CHANGED, codes.BODY_TOO_LARGE,
                codes.BODIES_FULL, codes.BEARER_MISSING,
            ),
        ),
        Route(
            method="GET", path="/v1/jobs", handler=jobs.listed, authority="reader",
            summary="Jobs, the newest first", gives=api.JobPage,
            parameters=(LIMIT, Parameter("before", "those older than this id"), Parameter("operator", "of this one")),
        ),
        Route(
            method="GET", path="/v1/jobs/{id}", handler=jobs.one, authority="reader",
            summary="One job", gives=api.JobView, refusals=(codes.JOB_UNKNOWN,),
        ),
        Route(
            method="GET", path="/v1/jobs/{id}/targets", handler=jobs.targets, authority="reader",
            summary="The targets of a job, with their results", gives=api.TargetPage,
            parameters=(
                LIMIT, AFTER, Parameter("state", "those in this state"),
                Parameter("output", "1: with what is kept of their output", "integer"),
            ),
            refusals=(codes.JOB_UNKNOWN,),
        ),
        Route(
            method="GET", path="/v1/jobs/{id}/output", handler=jobs.output, authority="reader",
            summary="What is kept of one target's output", gives=api.OutputView,
            parameters=(Parameter("host", "name or agent id", required=True),),
            refusals=(codes.JOB_UNKNOWN, codes.HOST_UNKNOWN, codes.TARGET_OPEN, codes.OUTPUT_PRUNED),
        ),
        Route(
            method="GET", path="/v1/jobs/{id}/folded", handler=outputs.folded, authority="reader",
            summary="The ended targets of a job in groups of identical outputs, the largest first",
            gives=gathered.FoldedView, parameters=(Parameter("limit", "at most so many groups", "integer"),),
            refusals=(codes.JOB_UNKNOWN,),
        ),
        Route(
            method="GET", path="/v1/jobs/{id}/reduced", handler=outputs.reduced, authority="reader",
            summary="What the rooms have made of the outputs so far", gives=gathered.ReducedView,
            refusals=(codes.JOB_UNKNOWN, codes.NOT_REDUCED),
        ),
        Route(
            method="POST", path="/v1/jobs/{id}/cancel", handler=jobs.cancel, authority="envelope",
            summary="Cancel a job", takes=(api.JobSubmission, Signed), gives=api.JobAnswer, status=202,
            refusals=(*ENVELOPE, codes.JOB_UNKNOWN),
        ),
        Route(
            method="POST", path="/v1/jobs/{id}/pause", handler=jobs.pause, authority="envelope",
            summary="Begin on no further host of a planned job", takes=(api.JobSubmission, Signed), gives=api.JobAnswer,
            status=202, refusals=(*ENVELOPE, codes.JOB_UNKNOWN, codes.NOTHING_HELD),
        ),
        Route(
            method="POST", path="/v1/jobs/{id}/resume", handler=jobs.resume, authority="envelope",
            summary="Go on with a planned job that is paused, or that waits at the end of a wave",
            takes=(api.JobSubmission, Signed), gives=api.JobAnswer, status=202,
            refusals=(*ENVELOPE, codes.JOB_UNKNOWN, codes.NOTHING_HELD),
        ),
        Route(
            method="GET", path="/v1/jobs/{id}/events", handler=events.job, authority="reader",
            summary="What happens in one job, its live output included", gives=api.EventBatch,
            parameters=(Parameter("output", "0: without live output, which hosts then need not send", "integer"),),
            media="text/event-stream", refusals=(codes.JOB_UNKNOWN, codes.TOO_MANY_READERS),
        ),
        Route(
            method="GET", path="/v1/events", handler=events.fleet, authority="reader",
            summary="What happens in the fleet", gives=api.EventBatch, media="text/event-stream",
            refusals=(codes.TOO_MANY_READERS,),
        ),
        Route(
            method="GET", path="/v1/schedules", handler=schedules.listed, authority="reader",
            summary="Schedules, the oldest first", gives=api.ScheduleList,
            parameters=(Parameter("ended", "1: with those that fire no more", "integer"),),
        ),
        Route(
            method="GET", path="/v1/schedules/{id}", handler=schedules.one, authority="reader",
            summary="One schedule, by id or name", gives=api.ScheduleView, refusals=(codes.SCHEDULE_UNKNOWN,),
        ),
        Route(
            method="GET", path="/v1/hosts", handler=hosts.listed, authority="reader",
            summary="Hosts by name", gives=api.HostPage, parameters=(LIMIT, AFTER),
        ),
        Route(
            method="GET", path="/v1/hosts/{id}", handler=hosts.one, authority="reader",
            summary="One host, by id or name", gives=api.HostView, refusals=(codes.HOST_UNKNOWN,),
        ),
        Route(
            method="POST", path="/v1/hosts/{id}/choose", handler=hosts.choose, authority="envelope",
            summary="Which of the machines that have one identity is the host", takes=(Signed,), gives=api.HostView,
            refusals=(*ENVELOPE, codes.HOST_UNKNOWN, codes.HOLDER_UNKNOWN, codes.NOT_QUARANTINED),
        ),
        Route(
            method="GET", path="/v1/resolve", handler=hosts.resolve, authority="reader",
            summary="The hosts that an expression means now", gives=api.Resolved,
            parameters=(Parameter("targets", "the expression", required=True),),
            refusals=(codes.TARGET_SYNTAX, codes.HOST_UNKNOWN, codes.NO_TARGET, codes.GROUP_UNKNOWN),
        ),
        Route(
            method="GET", path="/v1/outcomes", handler=outcomes.listed, authority="reader",
            summary="How targets ended, counted by code, room, version, state and time", gives=api.Outcomes,
            parameters=(
                Parameter("since", "from this time on, ms since the epoch; an hour ago without it", "integer"),
                Parameter("by", "what is counted apart, with commas between: time, room, version, state, code (code)"),
            ),
        ),
        Route(
            method="POST", path="/v1/blobs", handler=files.expect, authority="envelope",
            summary="Say what file a signed put is about; how much of it is here",
            takes=(api.JobSubmission, Signed), gives=BlobStands,
            refusals=(*ENVELOPE, codes.BLOBS_FULL, codes.TARGETS_CHANGED),
        ),
        Route(
            method="PUT", path="/v1/blobs/{sha256}", handler=files.take, authority="reader",
            summary="The next bytes, at most 4 MiB, of a file that was said", gives=BlobStands,
            parameters=(Parameter("offset", "where they belong: where the file stands", "integer"),),
            refusals=(
                codes.BLOB_UNEXPECTED, codes.BLOB_OFFSET, codes.BLOB_DIGEST, codes.BLOBS_FULL, codes.BODY_TOO_LARGE,
            ),
        ),
        Route(
            method="POST", path="/v1/reads", handler=files.read, authority="envelope",
            summary="What a host still keeps of a job's output, as records", takes=(api.JobSubmission, Signed),
            media="application/x-opsconsole-spool",
            parameters=(Parameter("offset", "from this byte of the output on", "integer"),),
            refusals=(
                *ENVELOPE, codes.JOB_UNKNOWN, codes.HOST_UNKNOWN, codes.HOST_UNREACHABLE, codes.SPOOL_GONE,
                codes.READS_FULL, codes.READ_CUT,
            ),
        ),
        Route(
            method="POST", path="/v1/tokens", handler=access.issue, authority="envelope",
            summary="Issue an enrolment token; it is told once", takes=(Signed,), gives=api.TokenIssued, status=201,
            refusals=(*ENVELOPE, codes.TOKEN_TERMS, codes.JOB_REPEATED),
        ),
        Route(
            method="POST", path="/v1/enrol", handler=access.enrol, authority="proof",
            summary="A host joins with a token", takes=(api.Enrolment,), gives=api.Enrolled, status=201,
            refusals=(
                codes.TOKEN_UNKNOWN, codes.TOKEN_EXPIRED, codes.TOKEN_USED_UP, codes.TOKEN_SCOPE, codes.CSR_REFUSED,
                codes.HOST_NAME_TAKEN,
            ),
        ),
        Route(
            method="GET", path="/v1/login", handler=access.ask, authority="anybody",
            summary="A challenge to sign", gives=Challenge,
            parameters=(Parameter("operator", "who will answer it", required=True),),
        ),
        Route(
            method="POST", path="/v1/login", handler=access.log_in, authority="proof",
            summary="A bearer token for an answered challenge", takes=(api.LoginRequest,), gives=api.Session,
            status=201,
            refusals=(codes.LOGIN_REFUSED, codes.LOGIN_EXPIRED, codes.SIGNER_ROLE, codes.TOKEN_TERMS),
        ),
        Route(
            method="POST", path="/v1/rosters", handler=access.roster, authority="proof",
            summary="The next revision of the roster", takes=(Signed,), gives=api.RosterTaken,
            refusals=(codes.ROSTER_CHAIN, codes.ROSTER_SIGNER, codes.ROSTER_OLD, codes.ROSTER_OTHER_FLEET),
        ),
        Route(
            method="GET", path="/v1/audit", handler=audit.listed, authority="reader",
            summary="Entries of the audit: with `after` in their order, else the newest first", gives=api.AuditPage,
            parameters=(
                LIMIT, Parameter("after", "in their order, after this number; 0 begins", "integer"),
                Parameter("before", "those before this number: the `next` of the page before", "integer"),
                Parameter("since_ms", "those from this time on", "integer"),
                Parameter("operator", "those of this one, as claimed"),
                Parameter("host", "those about this host, by id or name"),
                Parameter("refused", "1: those that were refused", "integer"),
            ),
            refusals=(codes.HOST_UNKNOWN,),
        ),
        Route(
            method="GET", path="/v1/audit/head", handler=audit.head, authority="reader",
            summary="The newest entry, the key of checkpoints and all checkpoints", gives=api.AuditHead,
        ),
        Route(
            method="GET", path="/v1/policy", handler=policy.shown, authority="reader",
            summary="The rules, operators and revoked hosts of the newest roster, for a look", gives=PolicyView,
        ),
        Route(
            method="GET", path="/v1/trust", handler=access.trust, authority="anybody",
            summary="What a joining host verifies against its pin", gives=api.Trust,
        ),
        Route(
            method="GET", path="/v1/health", handler=system.health, authority="anybody",
            summary="Whether the control plane works", gives=api.Health,
        ),
        Route(
            method="GET", path="/v1/openapi.json", handler=system.described, authority="anybody",
            summary="This document",
        ),
        Route(
            method="GET", path="/metrics", handler=system.metrics, authority="reader",
            summary="Metrics for Prometheus", media="text/plain",
        ),
    )  # fmt: skip
