"""Jobs over HTTPS, through core, store and bus: what is answered, what is written, what is repeated."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

import msgspec

from agentd.central.strange import LOOKED_UP_A_MINUTE
from libstaragent import codes
from libstaragent.model import api
from libstaragent.model.result import TargetResult, records
from libstaragent.protocol import trunk as t
from libstaragent.security.acts import Cancel
from libstaragent.security.signed import Signed
from libstaragent.security.signing import SEED_BYTES

Refused = Callable[..., None]


def answer_of(response: Any) -> api.JobAnswer:
    return msgspec.json.decode(response.content, type=api.JobAnswer)


async def test_a_waited_for_job_is_answered_with_its_result_and_its_output(stack: Any) -> None:
    members = await stack.add_hosts("web01")
    response = await stack.post("/v1/jobs?wait=10", stack.people.exec(members, "echo", "hi"))
    assert response.status_code == 200
    answer = answer_of(response)
    assert (answer.job.command, answer.job.counts, answer.job.finished_ms is not None) == ("echo hi", {"ok": 1}, True)
    assert answer.targets is not None
    target = answer.targets[0]
    assert (target.host, target.state, target.exit_status, target.ran) == ("web01", "ok", 0, "yes")
    assert isinstance(target.output, api.OutputView)
    assert list(records(target.output.head)) == [(1, b"done\n")]
    await stack.room.until(lambda: (members[0].agent, answer.job.id) in stack.room.settled)


async def test_without_waiting_the_answer_comes_before_the_result(stack: Any) -> None:
    members = await stack.add_hosts("web01")
    stack.room.answers = lambda agent, job: None
    response = await stack.post("/v1/jobs", stack.people.exec(members))
    assert response.status_code == 202
    assert answer_of(response).job.counts == {"queued": 1}
    response = await stack.post("/v1/jobs?wait=0.01", stack.people.exec(members))
    assert response.status_code == 202, "the time to wait was over"


async def test_a_job_of_a_thousand_hosts_is_signed_by_root_and_ends_on_each(stack: Any) -> None:
    members = await stack.add_hosts(*(f"web{number:04}" for number in range(1000)))
    signed = stack.people.exec(members)
    response = await stack.post("/v1/jobs?wait=20", signed, members)
    answer = answer_of(response)
    assert (answer.job.counts, answer.targets) == ({"ok": 1000}, None)
    [dispatch] = stack.room.of(t.Dispatch)
    assert all(proof is not None for _, proof in dispatch.targets)
    await stack.log_in()
    found: list[str] = []
    after = ""
    while True:
        page = (await stack.get(f"/v1/jobs/{answer.job.id}/targets", after=after, limit=300, state="ok")).json()
        found += [target["agent"] for target in page["targets"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert found == sorted(member.agent for member in members)


async def test_the_same_envelope_again_is_the_same_job_and_runs_once(stack: Any) -> None:
    members = await stack.add_hosts("web01")
    signed = stack.people.exec(members)
    responses = await asyncio.gather(*(stack.post("/v1/jobs?wait=10", signed) for _ in range(5)))
    responses.append(await stack.post("/v1/jobs?wait=10", signed))
    assert {answer_of(response).job.id for response in responses} == {responses[0].json()["job"]["id"]}
    assert {response.status_code for response in responses} == {200}
    assert all(answer_of(response).targets for response in responses)
    assert len(stack.room.of(t.Dispatch)) == 1


async def test_another_envelope_with_a_used_id_is_refused_also_when_the_first_is_no_longer_in_memory(
    stack: Any, refused: Refused
) -> None:
    members = await stack.add_hosts("web01")
    signed = stack.people.exec(members)
    first = answer_of(await stack.post("/v1/jobs?wait=10", signed))
    other = stack.people.exec(members, "false", id=first.job.id)
    refused(await stack.post("/v1/jobs", other), codes.JOB_REPEATED, 409)
    # What a restart or many later jobs bring about.
    del stack.central.core.jobs[first.job.id]
    refused(await stack.post("/v1/jobs", other), codes.JOB_REPEATED, 409)
    again = answer_of(await stack.post("/v1/jobs?wait=10", signed))
    assert (again.job.counts, again.job.finished_ms) == ({"ok": 1}, first.job.finished_ms)
    assert len(stack.room.of(t.Dispatch)) == 1


async def test_a_submission_that_is_altered_in_any_byte_is_refused(stack: Any) -> None:
    members = await stack.add_hosts("web01")
    signed = stack.people.exec(members)
    for field in ("payload", "key", "signature"):
        whole = getattr(signed, field)
        for place in range(0, len(whole), max(1, len(whole) // 16)):
            altered = whole[:place] + bytes((whole[place] ^ 1,)) + whole[place + 1 :]
            response = await stack.post("/v1/jobs", msgspec.structs.replace(signed, **{field: altered}))
            assert response.status_code == 403, (field, place, response.text)
            assert response.json()["code"] in (codes.SIGNATURE_INVALID.code, codes.SIGNER_UNKNOWN.code)
    assert stack.room.of(t.Dispatch) == []


async def test_every_field_that_the_operator_may_not_sign_is_refused_with_its_code(
    stack: Any, refused: Refused
) -> None:
    people = stack.people
    [member] = await stack.add_hosts("web01")
    stranger = msgspec.structs.replace(member, agent=stack.people.envelope(None).id)
    past = {"issued": 1000, "not_before": 1000, "expires": 2000}
    ahead = people.envelope(None).issued + 3_600_000
    cases: list[tuple[Signed, Any, int]] = [
        (people.exec([member], fleet="0" * 64), codes.ENVELOPE_OTHER_FLEET, 403),
        (people.exec([member], operator="bob"), codes.SIGNER_ROLE, 403),
        (people.exec([member], **past), codes.ENVELOPE_EXPIRED, 410),
        (
            people.exec([member], issued=ahead, not_before=ahead, expires=ahead + 1000),
            codes.ENVELOPE_CLOCK_SKEW,
            403,
        ),
        (people.exec([member], not_before=ahead, expires=ahead + 1000), codes.ENVELOPE_NOT_YET, 403),
        (people.exec([member], roster=2), codes.ROSTER_BEHIND, 409),
        (people.exec([stranger]), codes.HOST_UNKNOWN, 404),
        (people.exec([msgspec.structs.replace(member, name="web02")]), codes.HOST_UNKNOWN, 404),
        (people.exec([msgspec.structs.replace(member, room="other")]), codes.HOST_UNKNOWN, 404),
        (people.token(), codes.ACT_UNSUPPORTED, 422),
        (people.cancel(people.envelope(None).id), codes.ACT_UNSUPPORTED, 422),
        (people.sign(people.exec_envelope([member]), by="bob"), codes.SIGNER_UNKNOWN, 403),
    ]
    for signed, code, status in cases:
        refused(await stack.post("/v1/jobs", signed), code, status)
    assert stack.room.of(t.Dispatch) == []


async def test_hosts_that_are_not_those_under_the_signed_root_are_refused(stack: Any, refused: Refused) -> None:
    members = await stack.add_hosts(*(f"web{number:02}" for number in range(20)))
    signed = stack.people.exec(members)
    refused(await stack.post("/v1/jobs", signed), codes.TARGETS_CHANGED, 409)
    refused(await stack.post("/v1/jobs", signed, members[:-1]), codes.TARGETS_CHANGED, 409)
    refused(await stack.post("/v1/jobs", signed, [*members[:-1], members[0]]), codes.MEMBERSHIP_DUPLICATE, 409)


async def test_a_cancel_reaches_the_room_and_the_job_says_so(stack: Any, refused: Refused) -> None:
    members = await stack.add_hosts("web01")
    stack.room.answers = lambda agent, job: None
    job = answer_of(await stack.post("/v1/jobs", stack.people.exec(members))).job
    cancel = stack.people.cancel(job.id)
    response = await stack.post(f"/v1/jobs/{job.id}/cancel", cancel)
    assert response.status_code == 202
    assert answer_of(response).job.cancelled
    await stack.room.until(lambda: bool(stack.room.of(t.CancelTargets)))
    [order] = stack.room.of(t.CancelTargets)
    assert (order.job, order.signed, order.agents) == (job.id, cancel, (members[0].agent,))
    stack.room.report(t.TargetEnded(members[0].agent, TargetResult(job=job.id, state="cancelled", ran="yes")))
    await stack.room.until(lambda: (members[0].agent, job.id) in stack.room.settled)
    again = await stack.post(f"/v1/jobs/{job.id}/cancel", cancel)
    assert (again.status_code, answer_of(again).job.counts) == (200, {"cancelled": 1})
    other = stack.people.envelope(None).id
    refused(await stack.post(f"/v1/jobs/{other}/cancel", stack.people.cancel(other)), codes.JOB_UNKNOWN, 404)
    refused(await stack.post(f"/v1/jobs/{other}/cancel", cancel), codes.REQUEST_MALFORMED, 422)
    refused(await stack.post(f"/v1/jobs/{job.id}/cancel", stack.people.token()), codes.ACT_UNSUPPORTED, 422)


async def test_a_target_past_its_deadline_ends_and_a_later_result_stands_beside_it(
    make_stack: Callable[..., Any], result_ok: Callable[..., TargetResult]
) -> None:
    ahead = 0

    def clock() -> int:
        return time.time_ns() // 1_000_000 + ahead

    async with make_stack(clock=clock) as stack:
        await stack.log_in()
        members = await stack.add_hosts("web01", "web02")
        stack.room.answers = lambda agent, job: None
        job = answer_of(await stack.post("/v1/jobs", stack.people.exec(members))).job
        await stack.room.until(lambda: bool(stack.room.of(t.Dispatch)))
        subscription = stack.central.hub.subscribe(job.id)
        stack.room.report(t.TargetProgress(members[0].agent, job.id, "sent", 0))
        await asyncio.wait_for(subscription.ready(), 10)
        ahead = job.deadline_ms - job.submitted_ms + 1
        while stack.central.core.jobs[job.id].open:
            subscription.take()
            await asyncio.wait_for(subscription.ready(), 10)
        stack.central.hub.unsubscribe(subscription)
        stack.room.report(t.TargetEnded(members[0].agent, result_ok(job.id, b"late\n")))
        await stack.room.until(lambda: (members[0].agent, job.id) in stack.room.settled)
        page = (await stack.get(f"/v1/jobs/{job.id}/targets", output=1)).json()["targets"]
    states = {(target["host"], target["state"], target["code"], target["amendment"]) for target in page}
    assert states == {
        ("web01", "agent_lost", codes.HOST_LOST.code, False),
        ("web01", "ok", None, True),
        ("web02", "unreachable", codes.HOST_UNREACHABLE.code, False),
    }


async def test_a_result_of_a_job_that_nobody_accepted_is_settled_so_that_the_host_forgets_it(
    stack: Any, result_ok: Callable[..., TargetResult]
) -> None:
    [member] = await stack.add_hosts("web01")
    strange = stack.people.envelope(None).id
    stack.room.report(t.TargetEnded(member.agent, result_ok(strange)))
    await stack.room.until(lambda: (member.agent, strange) in stack.room.settled)
    assert stack.store.read.target(strange, member.agent) is None


async def test_a_result_that_comes_again_for_a_job_no_longer_in_memory_changes_nothing(
    stack: Any, result_ok: Callable[..., TargetResult]
) -> None:
    [member] = await stack.add_hosts("web01")
    job = answer_of(await stack.post("/v1/jobs?wait=10", stack.people.exec([member]))).job
    await stack.room.until(lambda: (member.agent, job.id) in stack.room.settled)
    stack.room.settled.clear()
    del stack.central.core.jobs[job.id]
    stack.room.report(t.TargetEnded(member.agent, result_ok(job.id, b"again\n")))
    await stack.room.until(lambda: (member.agent, job.id) in stack.room.settled)
    row = stack.store.read.target(job.id, member.agent)
    assert (row.state, row.stdout_bytes) == ("ok", len(b"done\n"))
    assert stack.store.read.amendments(job.id) == []


async def test_lists_and_single_jobs_are_read_from_memory_and_from_the_store_alike(
    stack: Any, refused: Refused
) -> None:
    await stack.log_in()
    members = await stack.add_hosts("web01", "web02")
    ids = [answer_of(await stack.post("/v1/jobs?wait=10", stack.people.exec(members))).job.id for _ in range(3)]
    from_memory = [(await stack.get(f"/v1/jobs/{job}")).json() for job in ids]
    listed = (await stack.get("/v1/jobs", limit=2)).json()
    assert [job["id"] for job in listed["jobs"]] == [ids[2], ids[1]]
    rest = (await stack.get("/v1/jobs", before=listed["next"], limit=2)).json()
    assert ([job["id"] for job in rest["jobs"]], rest["next"]) == ([ids[0]], None)
    stack.central.core.jobs.clear()
    assert [(await stack.get(f"/v1/jobs/{job}")).json() for job in ids] == from_memory
    assert (await stack.get("/v1/jobs", operator="bob")).json()["jobs"] == []
    output = (await stack.get(f"/v1/jobs/{ids[0]}/output", host="web02")).json()
    assert msgspec.convert(output, api.OutputView).head.endswith(b"done\n")
    refused(await stack.get(f"/v1/jobs/{ids[0]}/output", host="db01"), codes.HOST_UNKNOWN, 404)
    refused(await stack.get(f"/v1/jobs/{ids[0]}/output"), codes.REQUEST_MALFORMED, 422)
    refused(await stack.get(f"/v1/jobs/{stack.people.envelope(None).id}"), codes.JOB_UNKNOWN, 404)
    refused(await stack.get("/v1/jobs/../etc"), codes.PATH_UNKNOWN, 404)
    refused(await stack.get("/v1/jobs/nonsense"), codes.JOB_UNKNOWN, 404)


async def test_output_of_a_target_that_still_runs_is_asked_for_too_early(stack: Any, refused: Refused) -> None:
    await stack.log_in()
    members = await stack.add_hosts("web01")
    stack.room.answers = lambda agent, job: None
    job = answer_of(await stack.post("/v1/jobs", stack.people.exec(members))).job
    refused(await stack.get(f"/v1/jobs/{job.id}/output", host="web01"), codes.TARGET_OPEN, 409)
    [target] = (await stack.get(f"/v1/jobs/{job.id}/targets")).json()["targets"]
    assert (target["state"], target["host"]) == ("queued", "web01")


async def test_an_envelope_again_after_its_end_is_still_its_job(
    make_stack: Callable[..., Any], refused: Callable[..., None]
) -> None:
    shift = [0]

    def clock() -> int:
        return time.time_ns() // 1_000_000 + shift[0]

    async with make_stack(clock=clock) as stack:
        members = await stack.add_hosts("web01")
        signed, never = stack.people.exec(members), stack.people.exec(members)
        first = (await stack.post("/v1/jobs?wait=10", signed)).json()["job"]
        shift[0] = 61_000
        again = await stack.post("/v1/jobs?wait=10", signed)
        assert (again.status_code, again.json()["job"]) == (200, first)
        refused(await stack.post("/v1/jobs", never), codes.ENVELOPE_EXPIRED, 410)
        members = stack.members
    async with make_stack(clock=clock) as stack:
        assert stack.people.open(signed).id not in stack.central.core.jobs
        again = await stack.post("/v1/jobs?wait=10", signed)
        assert (again.status_code, again.json()["job"]["counts"]) == (200, {"ok": 1})
        assert stack.room.of(t.Dispatch) == []
        refused(await stack.post("/v1/jobs", never), codes.ENVELOPE_EXPIRED, 410)


async def test_a_cancel_of_a_stranger_reads_nothing_and_is_refused(stack: Any, refused: Callable[..., None]) -> None:
    people = stack.people
    recalled: list[str] = []
    real = stack.central.recall

    async def recall(job: str) -> Any:
        recalled.append(job)
        return await real(job)

    stack.central.recall = recall
    job = people.envelope(None).id
    people.seeds["mallory"] = secrets.token_bytes(SEED_BYTES)
    cancel = people.sign(people.envelope(Cancel(job), operator="mallory"))
    refused(await stack.post(f"/v1/jobs/{job}/cancel", cancel), codes.SIGNER_UNKNOWN, 403)
    assert recalled == []
    refused(await stack.post(f"/v1/jobs/{job}/cancel", people.cancel(job)), codes.JOB_UNKNOWN, 404)
    assert recalled == [job]


async def test_one_host_has_so_many_unknown_results_looked_up_and_the_others_theirs(
    stack: Any, result_ok: Callable[..., TargetResult]
) -> None:
    bad, good = await stack.add_hosts("web01", "web02")
    read: list[str] = []
    real = stack.central.history.job
    stack.central.history.job = lambda job: (read.append(job), real(job))[1]
    made_up = [stack.people.envelope(None).id for _ in range(LOOKED_UP_A_MINUTE + 50)]
    other = stack.people.envelope(None).id
    stack.room.report(*(t.TargetEnded(bad.agent, result_ok(job)) for job in made_up))
    stack.room.report(t.TargetEnded(good.agent, result_ok(other)), t.TargetEnded(good.agent, result_ok("no id")))
    await stack.room.until(lambda: {(good.agent, other), (good.agent, "no id")} <= stack.room.settled)
    await stack.room.until(lambda: len(stack.room.settled) == LOOKED_UP_A_MINUTE + 2)
    assert len(read) == LOOKED_UP_A_MINUTE + 1
    assert stack.central.counters["passed_over"] == 50


async def test_a_page_of_jobs_reads_its_cancels_at_once(stack: Any) -> None:
    members = await stack.add_hosts("web01")
    stack.room.answers = lambda agent, job: None
    jobs = [(await stack.post("/v1/jobs", stack.people.exec(members))).json()["job"]["id"] for _ in range(3)]
    await stack.post(f"/v1/jobs/{jobs[1]}/cancel", stack.people.cancel(jobs[1]))
    views = stack.central.history.job_views(limit=10, before=None, operator=None)
    assert [(view.id, view.cancelled) for view in views] == [(jobs[2], False), (jobs[1], True), (jobs[0], False)]
