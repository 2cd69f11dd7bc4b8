"""A room tells each distinct output once, and reduces what it is asked to reduce."""

from __future__ import annotations

from typing import Any

import msgspec

from libstaragent.jobs.kept_output import output_of, pack_output
from libstaragent.jobs.reduce import read_part
from libstaragent.model.result import Output, TargetResult, encode_records
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t


def ended(job: str, text: bytes, **changes: Any) -> m.Result:
    output = Output(encode_records([(1, text)]))
    return m.Result(TargetResult(job=job, state="ok", exit_status=0, ran="yes", output=output, **changes))


def groups(place: Any) -> list[t.TargetsEnded]:
    return [report for batch in place.central.batches for report in batch if isinstance(report, t.TargetsEnded)]


async def many(place: Any, job: str, count: int, reduce: str = "") -> list[Any]:
    clients = [await place.up(place.name(number)) for number in range(1, count + 1)]
    expires = place.clock.wall_ms() + 60_000
    targets = tuple((client.agent, None) for client in clients)
    order = t.Dispatch(job, place.signed, expires, expires + 60_000, targets, False, False, "", reduce)
    place.central.order(order)
    for client in clients:
        await client.hear(m.Run)
    return clients


async def test_an_output_is_sent_once_and_named_by_its_digest_after(place: Any) -> None:
    job = place.name(50)
    for client in await many(place, job, 3):
        client.say(ended(job, b"the same\n"))
        await place.central.report(t.TargetEnded, agent=client.agent)
    told = groups(place)
    assert [group.body is not None for group in told] == [True] + [False] * (len(told) - 1)
    assert {group.digest for group in told} == {pack_output(Output(encode_records([(1, b"the same\n")])))[0]}
    assert len([entry for group in told for entry in group.ended]) == 3
    assert all(result.output is None for group in told for _, result in group.ended)


async def test_results_of_one_turn_with_one_output_are_one_message(place: Any) -> None:
    agent = place.name(1)
    client = await place.up(agent)
    jobs = [place.name(50 + number) for number in range(5)]
    for job in jobs:
        place.dispatch(job, agent)
        await client.hear(m.Run)
    client.say(*(ended(job, b"the same\n") for job in jobs))
    await place.central.report(t.TargetEnded, agent=agent)
    (group,) = groups(place)
    assert {result.job for _, result in group.ended} == set(jobs)
    assert group.body is not None and output_of(group.body).head == encode_records([(1, b"the same\n")])


async def test_what_central_asks_for_is_told_again_with_its_output(place: Any) -> None:
    job = place.name(50)
    first, second = await many(place, job, 2)
    for client in (first, second):
        client.say(ended(job, b"the same\n"))
        await place.central.report(t.TargetEnded, agent=client.agent)
    assert groups(place)[-1].body is None
    place.central.order(t.TellAgain(((second.agent, job),)))
    await place.until(lambda: len(groups(place)) == 3)
    again = groups(place)[-1]
    assert again.body is not None and [agent for agent, _ in again.ended] == [second.agent]


async def test_what_an_agent_repeats_is_told_with_its_output(place: Any) -> None:
    job = place.name(50)
    (client,) = await many(place, job, 1)
    for _ in range(2):
        client.say(ended(job, b"once more\n"))
    await place.until(lambda: len([entry for group in groups(place) for entry in group.ended]) == 2)
    client.say(ended(job, b"once more\n"))
    await place.until(lambda: len([entry for group in groups(place) for entry in group.ended]) == 3)
    assert groups(place)[-1].body is not None


async def test_what_a_room_does_not_know_is_told_with_its_output(place: Any) -> None:
    agent, known, unknown = place.name(1), place.name(50), place.name(51)
    client = await place.up(agent)
    place.dispatch(known, agent)
    await client.hear(m.Run)
    client.say(ended(known, b"the same\n"))
    await place.central.report(t.TargetEnded, agent=agent)
    client.say(ended(unknown, b"the same\n"))
    await place.until(lambda: len(groups(place)) == 2)
    assert groups(place)[-1].body is not None


async def test_an_agent_cannot_take_the_output_of_another_for_its_own(place: Any) -> None:
    """There is no field for it; bytes that look like a reference are an output of their own."""
    job = place.name(50)
    honest, liar = await many(place, job, 2)
    honest.say(ended(job, b"the truth\n"))
    await place.central.report(t.TargetEnded, agent=honest.agent)
    digest = groups(place)[0].digest
    output = Output(head=digest)
    liar.say(m.Result(TargetResult(job=job, state="ok", ran="yes", output=output, stdout_sha256=digest)))
    await place.central.report(t.TargetEnded, agent=liar.agent)
    lie = groups(place)[-1]
    assert lie.digest != digest and lie.body is not None and output_of(lie.body) == output


async def test_outputs_of_a_reduced_job_stay_in_the_room(place: Any) -> None:
    job = place.name(50)
    agent = place.name(1)
    (client,) = await many(place, job, 1, reduce="uniq-count")
    client.say(ended(job, b"up\nup\ndown\n", stdout_bytes=11))
    reduced = await place.central.report(t.TargetsReduced, job=job)
    assert read_part(reduced.part).kept == ((b"down", 1), (b"up", 2))
    ((who, result, digest),) = reduced.ended
    assert (who, result.output, result.stdout_bytes) == (agent, None, 11)
    assert digest == pack_output(Output(encode_records([(1, b"up\nup\ndown\n")])))[0]
    place.central.order(t.TellAgain(((agent, job),)))
    await place.until(lambda: len(place.central.of(t.TargetsReduced)) == 2)
    assert place.central.of(t.TargetsReduced)[-1] == reduced


async def test_a_host_that_repeats_itself_in_one_turn_is_in_a_part_once(place: Any) -> None:
    job = place.name(50)
    (client,) = await many(place, job, 1, reduce="count")
    client.say(ended(job, b"one\n"), ended(job, b"one\n"))
    reduced = await place.central.report(t.TargetsReduced, job=job)
    assert (read_part(reduced.part).hosts, len(reduced.ended)) == (1, 1)


async def test_a_failed_result_of_a_reduced_job_travels_as_any_other(place: Any) -> None:
    job = place.name(50)
    (client,) = await many(place, job, 1, reduce="uniq-count")
    result = ended(job, b"half\n").result
    client.say(m.Result(msgspec.structs.replace(result, state="signalled", signal=9)))
    told = await place.central.report(t.TargetEnded, agent=client.agent)
    assert told.result.output == result.output
