"""The library without async: the same surface, and the same behaviour over a real socket."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from libstaragent import codes, sync
from libstaragent.client.administration import Administration
from libstaragent.client.events import JobEvents
from libstaragent.client.fleet import Fleet
from libstaragent.client.job import Job
from libstaragent.errors import StarAgentError
from libstaragent.model.api import OutputLive, TargetChanged
from libstaragent.model.result import encode_records

# What only makes sense on an event loop, or has another name there.
ASYNC_ONLY = {"aclose", "open_events", "cancel_job", "pause_job", "read_spool", "result_keys", "events"}


def methods(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(value)
        for name, value in inspect.getmembers(kind)
        if not name.startswith("_") and callable(value)
    }


@pytest.mark.parametrize(
    ("awaited", "plain"),
    [(Fleet, sync.Fleet), (Job, sync.Job), (JobEvents, sync.JobEvents), (Administration, sync.Administration)],
)
def test_both_surfaces_have_the_same_methods_with_the_same_parameters(awaited: type, plain: type) -> None:
    there, here = methods(awaited), methods(plain)
    assert set(there) - ASYNC_ONLY <= set(here) | ASYNC_ONLY
    for name in set(there) & set(here):
        assert list(there[name].parameters) == list(here[name].parameters), name


def test_a_command_without_async(central: Any) -> None:
    def script(story: Any) -> None:
        for member in story.members:
            story.say(OutputLive(story.envelope.id, member.agent, member.name, 0, encode_records([(1, b"hi\n")])))
            story.end(member, "ok", exit_status=0, stdout_bytes=3)
        story.finish()

    central.script = script
    with sync.Fleet.connect(central.context()) as fleet:
        job = fleet.run("web[01-02]", ["echo", "hi"])
        ended = [event.target.host for event in job.events() if isinstance(event, TargetChanged)]
        result = job.result()
        assert [view.id for view in fleet.jobs()] == [job.id]
    assert sorted(ended) == ["web01", "web02"]
    assert (result.ok, result.exit_status) == (True, 0)


def test_errors_come_through_as_they_are(central: Any) -> None:
    with sync.Fleet.connect(central.context()) as fleet:
        with pytest.raises(StarAgentError) as refused:
            fleet.run("nobody", ["true"])
    assert refused.value.code is codes.HOST_UNKNOWN


def test_events_can_be_left_early(central: Any) -> None:
    central.script = lambda story: story.say(
        OutputLive(story.envelope.id, story.members[0].agent, "web01", 0, encode_records([(1, b"x")]))
    )
    with sync.Fleet.connect(central.context()) as fleet:
        events = fleet.run("web01", ["sleep", "9"]).events()
        assert isinstance(next(events), OutputLive)
        events.close()
        assert list(events) == []


def test_outside_of_a_with_statement_it_says_so(central: Any) -> None:
    with pytest.raises(RuntimeError, match="with statement"):
        sync.Fleet.connect(central.context()).hosts()
