"""The client against a stand-in for central: resolving, signing, events that survive a broken stream, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libstaragent import codes
from libstaragent.client.fleet import Fleet
from libstaragent.client.output import Piece
from libstaragent.errors import StarAgentError
from libstaragent.model.api import JobChanged, OutputLive, OutputView, TargetChanged
from libstaragent.model.result import encode_records
from libstaragent.security.acts import Exec, Member, TargetList

pytestmark = pytest.mark.anyio


async def test_a_command_is_resolved_signed_and_its_result_given(central: Any) -> None:
    async with Fleet.connect(central.context()) as fleet:
        job = await fleet.run("web[01-02]", ["uptime"], timeout=5)
        result = await job.result()
    story = central.stories[job.id]
    assert isinstance(story.envelope.targets, TargetList)
    assert [member.name for member in story.envelope.targets.members] == ["web01", "web02"]
    assert story.envelope.act == Exec(argv=("uptime",), timeout_ms=5000)
    assert story.envelope.expires - story.envelope.not_before == 40_000  # ten seconds, and the slack for clocks
    assert (result.ok, result.exit_status, dict(result.counts)) == (True, 0, {"ok": 2})


async def test_in_the_background_there_is_an_hour(central: Any) -> None:
    async with Fleet.connect(central.context()) as fleet:
        job = await fleet.run("@front", ["a | b"], shell=True, background=True, user="www")
    envelope = central.stories[job.id].envelope
    assert envelope.expires - envelope.not_before == 3_630_000
    assert envelope.act == Exec(argv=("/bin/sh", "-c", "a | b"), shell=True, user="www", timeout_ms=3_600_000)


async def test_an_unknown_host_is_refused_before_anything_is_sent(central: Any) -> None:
    async with Fleet.connect(central.context()) as fleet:
        with pytest.raises(StarAgentError) as refused:
            await fleet.run("web99", ["uptime"])
    assert refused.value.code is codes.HOST_UNKNOWN
    assert "web99" in refused.value.detail
    assert not any("POST /v1/jobs" in request for request in central.requests)


async def test_hosts_that_are_not_meant_are_not_signed(central: Any) -> None:
    central.resolved = (*central.members[:1], Member("01ARZ3NDEKTSV4RRFFQ69G5FAV", "db01", "main"))
    async with Fleet.connect(central.context()) as fleet:
        with pytest.raises(StarAgentError) as refused:
            await fleet.run("web*", ["uptime"])
    assert refused.value.code is codes.TARGETS_UNEXPECTED


async def test_events_bring_output_and_ends_in_order(central: Any) -> None:
    def script(story: Any) -> None:
        member = story.members[0]
        story.say(OutputLive(story.envelope.id, member.agent, member.name, 0, encode_records([(1, b"hello\n")])))
        story.end(member, "exit_nonzero", exit_status=3, stdout_bytes=6)
        story.finish()

    central.script = script
    async with Fleet.connect(central.context()) as fleet:
        job = await fleet.run("web01", ["false"])
        events = [event async for event in job.events()]
    kinds = [type(event) for event in events]
    assert kinds[-1] is JobChanged and kinds.count(TargetChanged) == 1
    assert sum(isinstance(event, OutputLive) for event in events) <= 1


@pytest.mark.parametrize("cuts", [[0], [1], [2], [0, 1, 0]])
async def test_a_stream_that_is_cut_loses_no_end(central: Any, cuts: list[int]) -> None:
    def script(story: Any) -> None:
        story.cuts = list(cuts)
        for member in story.members:
            story.say(OutputLive(story.envelope.id, member.agent, member.name, 0, encode_records([(1, b"x")])))

    central.script = script
    ended: list[str] = []
    async with Fleet.connect(central.context()) as fleet:
        job = await fleet.run("web*", ["true"])
        story = central.stories[job.id]
        async for event in job.events():
            if story.finished_ms is None and not story.cuts and story.connections > len(cuts):
                for member in story.members:
                    story.end(member, "ok", silent=True)
                story.finish()
            if isinstance(event, TargetChanged):
                ended.append(event.target.host)
    assert story.connections > len(cuts)
    assert sorted(ended) == ["web01", "web02", "web03"]


async def test_an_end_that_the_stream_never_told_is_told(central: Any) -> None:
    def script(story: Any) -> None:
        for member in story.members:
            story.end(member, "ok", silent=True)
        story.finish(silent=True)

    central.script = script
    async with Fleet.connect(central.context()) as fleet:
        job = await fleet.run("web*", ["true"])
        events = [event async for event in job.events()]
    assert sum(isinstance(event, TargetChanged) for event in events) == 3


async def test_leaving_events_early_leaves_nothing_open(central: Any) -> None:
    central.script = lambda story: story.say(
        OutputLive(story.envelope.id, story.members[0].agent, "web01", 0, encode_records([(1, b"x")]))
    )
    async with Fleet.connect(central.context()) as fleet:
        job = await fleet.run("web01", ["sleep", "9"])
        async for event in job.events():
            assert isinstance(event, OutputLive)
            break


async def test_more_than_sixteen_hosts_are_signed_by_their_root(short_tmp: Path, stand_in: Any) -> None:
    with stand_in.StandIn(short_tmp, hosts=40) as central:
        async with Fleet.connect(central.context()) as fleet:
            job = await fleet.run("all", ["true"])
            result = await job.result()
    assert dict(result.counts) == {"ok": 40}
    assert len(result.targets) == 40


async def test_a_cancel_is_signed_and_ends_the_job(central: Any) -> None:
    central.script = lambda story: None
    async with Fleet.connect(central.context()) as fleet:
        job = await fleet.run("web01", ["sleep", "9"])
        await job.cancel()
        result = await job.result()
    assert (result.exit_status, dict(result.counts)) == (5, {"cancelled": 1})


async def test_stored_output_is_given_by_host(central: Any) -> None:
    stored = OutputView(head=encode_records([(1, b"out"), (2, b"err")]), omitted=10, tail=encode_records([(1, b"end")]))
    central.script = lambda story: (
        story.end(story.members[0], "ok", output=stored, stdout_bytes=16, stderr_bytes=3),
        story.finish(),
    )
    async with Fleet.connect(central.context()) as fleet:
        job = await fleet.run("web01", ["true"])
        result = await job.result()
        output = await job.output("web01")
    assert (output.stdout, output.stderr, output.omitted) == (b"outend", b"err", 10)
    assert result.output("web01") == output
    assert output.pieces[0] == Piece(1, b"out")


async def test_a_lost_login_is_renewed_by_itself(central: Any) -> None:
    async with Fleet.connect(central.context()) as fleet:
        await fleet.hosts()
        central.forget_logins()
        assert len(await fleet.hosts()) == 3
    assert central.requests.count("POST /v1/login") == 2


async def test_a_login_is_kept_for_the_next_process(central: Any, short_tmp: Path) -> None:
    from libstaragent.client.context import save_context

    file = short_tmp / "context.toml"
    save_context(central.context(), file)
    for _ in range(2):
        async with Fleet.connect(file) as fleet:
            assert len(await fleet.hosts()) == 3
    assert central.requests.count("POST /v1/login") == 1
    assert (short_tmp / "context.session").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ((200, b"<html>not json"), codes.CENTRAL_ANSWER),
        ((200, b'{"hosts": 3}'), codes.CENTRAL_ANSWER),
        ((500, b"Internal Server Error"), codes.CENTRAL_FAILED),
        ((502, b"<html>Bad Gateway</html>"), codes.CENTRAL_FAILED),
        ((404, b"Not Found"), codes.CENTRAL_ANSWER),
        ((301, b""), codes.CENTRAL_ANSWER),
        ((200, b"[" * 100_000), codes.CENTRAL_ANSWER),
    ],
)
async def test_a_strange_answer_is_a_coded_error(central: Any, fault: tuple[int, bytes], code: object) -> None:
    central.faults["/v1/hosts"] = [fault]
    async with Fleet.connect(central.context()) as fleet:
        with pytest.raises(StarAgentError) as failed:
            await fleet.hosts()
    assert failed.value.code is code
    assert not central.faults["/v1/hosts"]


async def test_a_code_of_a_newer_central_is_raised_with_its_own_words(central: Any) -> None:
    body = (
        b'{"code":"SA-2399","symbol":"window_closed","message":"the window is closed: until 8",'
        b'"remedy":"Wait.","retryable":true}'
    )
    central.faults["/v1/hosts"] = [(403, body)]
    async with Fleet.connect(central.context()) as fleet:
        with pytest.raises(StarAgentError) as failed:
            await fleet.hosts()
    assert (failed.value.code.code, failed.value.detail) == ("SA-2399", "until 8")
    assert str(failed.value) == "SA-2399 the window is closed: until 8"


async def test_another_ca_is_refused_before_anything_is_said(central: Any, short_tmp: Path, stand_in: Any) -> None:
    other = short_tmp / "other"
    other.mkdir()
    with stand_in.StandIn(other) as stranger:
        async with Fleet.connect(central.context(api=stranger.context().api)) as fleet:
            with pytest.raises(StarAgentError) as refused:
                await fleet.hosts()
    assert refused.value.code is codes.CENTRAL_CERTIFICATE
    assert stranger.requests == []


async def test_a_certificate_of_another_name_is_refused(short_tmp: Path, stand_in: Any) -> None:
    with stand_in.StandIn(short_tmp, names="central.example") as central:
        async with Fleet.connect(central.context()) as fleet:
            with pytest.raises(StarAgentError) as refused:
                await fleet.hosts()
    assert refused.value.code is codes.CENTRAL_CERTIFICATE


async def test_a_roster_of_another_fleet_is_not_believed(central: Any) -> None:
    async with Fleet.connect(central.context(fleet="a" * 64)) as fleet:
        with pytest.raises(StarAgentError) as refused:
            await fleet.roster()
    assert refused.value.code is codes.ROSTER_OTHER_FLEET


async def test_a_central_that_is_not_there_is_unreachable_with_its_errno(central: Any, free_port: int) -> None:
    async with Fleet.connect(central.context(api=f"https://127.0.0.1:{free_port}")) as fleet:
        with pytest.raises(StarAgentError) as failed:
            await fleet.hosts()
    assert failed.value.code is codes.CENTRAL_UNREACHABLE
    assert failed.value.errno is not None


async def test_a_job_whose_answer_was_lost_is_sent_again_and_is_the_same_job(central: Any) -> None:
    central.broken["/v1/jobs"] = 1
    async with Fleet.connect(central.context()) as fleet:
        job = await fleet.run("web01", ["true"])
    assert central.broken["/v1/jobs"] == 0
    assert list(central.stories) == [job.id]


async def test_a_job_that_is_never_answered_is_named_so_that_nobody_runs_it_twice(central: Any) -> None:
    central.broken["/v1/jobs"] = 2
    async with Fleet.connect(central.context()) as fleet:
        with pytest.raises(StarAgentError) as failed:
            await fleet.run("web01", ["true"])
    assert failed.value.code is codes.CENTRAL_UNREACHABLE
    (taken,) = central.stories
    assert taken in failed.value.detail
