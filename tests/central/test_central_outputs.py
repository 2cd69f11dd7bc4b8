"""Outputs at central: one body for many results, never a result without its body, parts taken whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from libstaragent import codes
from libstaragent.jobs.kept_output import pack_output
from libstaragent.jobs.reduce import merge, pack_part, parse_reducer, read_part, reduce_output
from libstaragent.model import api, gathered
from libstaragent.model.result import Output, TargetResult, encode_records, records
from libstaragent.protocol import trunk as t
from libstaragent.security.acts import Exec, TargetList

Refused = Callable[..., None]
TEXT = Output(encode_records([(1, b"the same\n")]))
DIGEST, BODY = pack_output(TEXT)
LINES = parse_reducer("uniq-count")


def lean(job: str, **changes: Any) -> TargetResult:
    return TargetResult(**{"job": job, "state": "ok", "exit_status": 0, "ran": "yes", "stdout_bytes": 9, **changes})


async def submitted(stack: Any, *names: str, reduce: str = "") -> tuple[str, list[str]]:
    """A job whose targets the test ends itself, and its agents."""
    members = await stack.add_hosts(*names)
    stack.room.answers = lambda agent, job: None
    act = Exec(argv=("true",), reduce=reduce)
    signed = stack.people.sign(stack.people.envelope(act, TargetList("*", tuple(members))))
    response = await stack.post("/v1/jobs", signed)
    assert response.status_code == 202, response.text
    return response.json()["job"]["id"], [member.agent for member in members]


async def outputs(stack: Any, job: str) -> dict[str, Any]:
    await stack.log_in()
    page = msgspec.json.decode((await stack.get(f"/v1/jobs/{job}/targets", output=1)).content, type=api.TargetPage)
    return {target.agent: target.output for target in page.targets if isinstance(target.output, api.OutputView)}


def settled(stack: Any, job: str, agents: list[str]) -> Callable[[], bool]:
    return lambda: {(agent, job) for agent in agents} <= stack.room.settled


async def test_one_body_stands_for_all_results_of_its_group(stack: Any) -> None:
    job, agents = await submitted(stack, "web01", "web02", "web03")
    first, *others = agents
    stack.room.report(t.TargetsEnded(DIGEST, BODY, 0, ((first, lean(job)),)))
    stack.room.report(t.TargetsEnded(DIGEST, None, 0, tuple((agent, lean(job)) for agent in others)))
    await stack.room.until(settled(stack, job, agents))
    found = await outputs(stack, job)
    assert {agent: list(records(output.head)) for agent, output in found.items()} == {
        agent: [(1, b"the same\n")] for agent in agents
    }


async def test_a_result_whose_body_is_not_here_is_asked_for_and_not_written(stack: Any) -> None:
    job, (first, second) = await submitted(stack, "web01", "web02")
    stack.room.report(t.TargetsEnded(DIGEST, None, 0, ((first, lean(job)), (second, lean(job)))))
    await stack.room.until(lambda: stack.room.of(t.TellAgain))
    assert stack.room.of(t.TellAgain) == [t.TellAgain(((first, job), (second, job)))]
    assert stack.central.job(job).open == 2 and not stack.room.settled
    stack.room.report(t.TargetsEnded(DIGEST, BODY, 0, ((first, lean(job)), (second, lean(job)))))
    await stack.room.until(settled(stack, job, [first, second]))
    assert len(await outputs(stack, job)) == 2


async def test_after_a_restart_central_asks_for_what_it_has_forgotten(make_stack: Any) -> None:
    async with make_stack() as stack:
        job, (first, second) = await submitted(stack, "web01", "web02")
        stack.room.report(t.TargetsEnded(DIGEST, BODY, 0, ((first, lean(job)),)))
        await stack.room.until(settled(stack, job, [first]))
    async with make_stack(answers=lambda agent, job: None) as stack:
        stack.room.report(t.TargetsEnded(DIGEST, None, 0, ((second, lean(job)),)))
        await stack.room.until(lambda: stack.room.of(t.TellAgain) == [t.TellAgain(((second, job),))])


async def test_a_room_that_names_a_wrong_digest_changes_nobodys_output(stack: Any) -> None:
    job, (first, second) = await submitted(stack, "web01", "web02")
    lie = pack_output(Output(b"another"))[1]
    stack.room.report(t.TargetsEnded(DIGEST, lie, 0, ((first, lean(job)),)))
    stack.room.report(t.TargetsEnded(DIGEST, BODY, 0, ((second, lean(job)),)))
    await stack.room.until(settled(stack, job, [second]))
    assert set(await outputs(stack, job)) == {second}
    assert stack.central.job(job).states[first] == "queued"


def part_of(*texts: bytes) -> bytes:
    return pack_part(merge(reduce_output(LINES, Output(encode_records([(1, text)]))) for text in texts))


def merged(stack: Any, job: str) -> Any:
    return merge(read_part(part) for _, part in stack.store.read.reductions(job))


async def test_a_part_is_stored_with_its_results_and_counts_once_however_often_it_comes(stack: Any) -> None:
    job, agents = await submitted(stack, "web01", "web02", reduce="uniq-count")
    assert stack.room.of(t.Dispatch)[0].reduce == "uniq-count"
    reduced = t.TargetsReduced(job, part_of(b"up\n", b"down\n"), tuple((agent, lean(job), DIGEST) for agent in agents))
    stack.room.report(reduced, reduced)
    stack.room.report(reduced)
    await stack.room.until(settled(stack, job, agents))
    await stack.room.until(lambda: stack.central.job(job) is not None and stack.central.job(job).open == 0)
    assert merged(stack, job).kept == ((b"down", 1), (b"up", 1))
    assert await outputs(stack, job) == {}


async def test_a_part_of_which_one_host_has_ended_is_not_taken_and_the_others_are_asked_for(stack: Any) -> None:
    job, (first, second) = await submitted(stack, "web01", "web02", reduce="uniq-count")
    stack.room.report(t.TargetsReduced(job, part_of(b"up\n"), ((first, lean(job), DIGEST),)))
    await stack.room.until(settled(stack, job, [first]))
    both = ((first, lean(job), DIGEST), (second, lean(job), DIGEST))
    stack.room.report(t.TargetsReduced(job, part_of(b"up\n", b"down\n"), both))
    await stack.room.until(lambda: stack.room.of(t.TellAgain) == [t.TellAgain(((second, job),))])
    assert merged(stack, job).kept == ((b"up", 1),)
    stack.room.report(t.TargetsReduced(job, part_of(b"down\n"), ((second, lean(job), DIGEST),)))
    await stack.room.until(settled(stack, job, [second]))
    assert merged(stack, job).kept == ((b"down", 1), (b"up", 1))


async def test_a_result_that_came_past_its_room_is_reduced_here(stack: Any) -> None:
    job, (agent,) = await submitted(stack, "web01", reduce="uniq-count")
    stack.room.report(t.TargetsEnded(DIGEST, BODY, 0, ((agent, lean(job)),)))
    await stack.room.until(settled(stack, job, [agent]))
    assert merged(stack, job).kept == ((b"the same", 1),)


async def test_a_reducer_that_nobody_knows_is_refused(stack: Any, refused: Refused) -> None:
    members = await stack.add_hosts("web01")
    act = Exec(argv=("true",), reduce="sort")
    signed = stack.people.sign(stack.people.envelope(act, TargetList("*", tuple(members))))
    refused(await stack.post("/v1/jobs", signed), codes.REDUCER_UNKNOWN, 422)


async def view(stack: Any, job: str, what: str, kind: type, **parameters: Any) -> Any:
    await stack.log_in()
    response = await stack.get(f"/v1/jobs/{job}/{what}", **parameters)
    assert response.status_code == 200, response.text
    return msgspec.json.decode(response.content, type=kind)


async def test_a_reduction_is_told_with_all_that_is_not_in_it(stack: Any) -> None:
    job, agents = await submitted(stack, *(f"web{number:02}" for number in range(1, 6)), reduce="top-n:1")
    first, second, failed, cut, still_open = agents
    reduced = pack_part(
        merge(
            [
                reduce_output(LINES, Output(encode_records([(1, b"up\nup\n")]))),
                reduce_output(LINES, Output(encode_records([(1, b"down\n")]))),
            ]
        )
    )
    stack.room.report(t.TargetsReduced(job, reduced, ((first, lean(job), DIGEST), (second, lean(job), DIGEST))))
    stack.room.report(t.TargetsEnded(b"", None, 0, ((failed, lean(job, state="signalled", signal=9)),)))
    gone = Output(omitted=77)
    part = pack_part(reduce_output(LINES, gone))
    stack.room.report(t.TargetsReduced(job, part, ((cut, lean(job, output=gone), DIGEST),)))
    await stack.room.until(settled(stack, job, [first, second, failed, cut]))
    found = await view(stack, job, "reduced", gathered.ReducedView)
    assert (found.reducer, found.targets, found.open, found.hosts, found.uncounted) == ("top-n:1", 5, 1, 2, 2)
    assert (found.cut_hosts, found.cut_bytes, found.lines, found.left_out, found.more_rows) == (1, 77, 3, 0, 1)
    assert found.rows == (gathered.ReducedLine(2, b"up"),)
    assert stack.central.job(job).states[still_open] == "queued"


async def test_a_job_without_a_reducer_has_no_reduction(stack: Any, refused: Refused) -> None:
    job, _ = await submitted(stack, "web01")
    await stack.log_in()
    refused(await stack.get(f"/v1/jobs/{job}/reduced"), codes.NOT_REDUCED, 409)
    refused(await stack.get("/v1/jobs/nonsense/reduced"), codes.JOB_UNKNOWN, 404)


async def test_ended_targets_are_folded_by_what_they_printed(stack: Any) -> None:
    job, agents = await submitted(stack, *(f"web{number:02}" for number in range(1, 6)))
    parted = pack_output(Output(encode_records([(1, b"the "), (1, b"same\n")])))
    stack.room.report(
        t.TargetsEnded(DIGEST, BODY, 0, ((agents[0], lean(job)),)),
        t.TargetsEnded(*parted, 0, ((agents[1], lean(job)),)),
        t.TargetsEnded(DIGEST, BODY, 0, ((agents[2], lean(job, state="exit_nonzero", exit_status=3)),)),
        t.TargetsEnded(b"", None, 0, ((agents[3], lean(job, stdout_bytes=0)),)),
    )
    await stack.room.until(settled(stack, job, agents[:4]))
    found = await view(stack, job, "folded", gathered.FoldedView)
    assert found.open == 1
    assert [(group.hosts, group.state, group.exit_status) for group in found.groups] == [
        ("web[01-02]", "ok", 0),
        ("web03", "exit_nonzero", 3),
        ("web04", "ok", 0),
    ]
    assert isinstance(found.groups[0].output, api.OutputView) and found.groups[2].output is None
    few = await view(stack, job, "folded", gathered.FoldedView, limit=1)
    assert (len(few.groups), few.more_groups, few.more_hosts) == (1, 2, 2)
