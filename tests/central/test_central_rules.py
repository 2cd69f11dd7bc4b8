"""The rules of the roster at central: who, from where, on which hosts, what, how much and how often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from libstaragent import codes
from libstaragent.errors import Code
from libstaragent.security.acts import Cancel, Exec, Plan, TargetList
from libstaragent.security.policy.model import FOUNDERS, Limits, Rate, Rule

Refused = Callable[..., None]


def allow(name: str, **fields: Any) -> Rule:
    return Rule(name=name, effect="allow", **{"who": ("ann",), "run": (("uptime",),), **fields})


def deny(name: str, **fields: Any) -> Rule:
    return Rule(name=name, effect="deny", **{"who": ("*",), "users": ("*",), **fields})


async def told(stack: Any, *rules: Rule, **fields: Any) -> int:
    """The next revision of the roster, with these rules; its number."""
    people = stack.people
    response = await stack.http.post(
        "/v1/rosters",
        content=msgspec.json.encode(people.roster(stack.state.ca_sha256, rules=rules, **fields)),
    )
    assert response.status_code == 200, response.text
    return response.json()["revision"]


REFUSALS: dict[str, tuple[tuple[Rule, ...], Code, str]] = {
    "no rule at all": ((), codes.POLICY_DENIED, "no rule"),
    "another command": ((allow("look", run=(("who",),)),), codes.POLICY_DENIED, "rule look"),
    "another operator": ((allow("look", who=("bob",)),), codes.POLICY_DENIED, "no rule is about ann"),
    "another network": ((allow("look", sources=("10.0.0.0/8",)),), codes.POLICY_DENIED, "127.0.0.1 is not within"),
    "another host": ((allow("look", on="db*"),), codes.POLICY_DENIED, "web01 not among db*"),
    "a longer command": ((allow("look", limits=Limits(timeout_ms=1000)),), codes.POLICY_LIMIT, "timeout"),
    "a deny rule": ((FOUNDERS, deny("freeze")), codes.POLICY_FORBIDDEN, "rule freeze"),
    "a deny rule of one host": ((FOUNDERS, deny("freeze", on="web01")), codes.POLICY_FORBIDDEN, "on web01"),
}


@pytest.mark.parametrize(("rules", "code", "word"), REFUSALS.values(), ids=REFUSALS)
async def test_what_no_rule_covers_is_refused_and_the_rule_is_named(
    stack: Any, refused: Refused, rules: tuple[Rule, ...], code: Code, word: str
) -> None:
    members = await stack.add_hosts("web01")
    revision = await told(stack, *rules)
    envelope = stack.people.exec_envelope(members, "uptime", roster=revision)
    response = await stack.post("/v1/jobs", stack.people.sign(envelope))
    refused(response, code, 403)
    assert word in response.json()["message"]
    assert not any(envelope.id in repr(order) for order in stack.room.orders)


async def test_what_one_rule_covers_is_done(stack: Any) -> None:
    members = await stack.add_hosts("web01", "web02")
    everything = allow("look", sources=("127.0.0.0/8",), on="@front", limits=Limits(targets=2, window=1))
    revision = await told(stack, everything)
    signed = stack.people.exec(members, "uptime", roster=revision, plan=Plan(window=1))
    response = await stack.post("/v1/jobs?wait=10", signed)
    assert response.status_code == 200, response.text
    assert stack.central.core.jobs[stack.people.open(signed).id].rule == "look"


async def test_two_rules_are_not_added_up(stack: Any, refused: Refused) -> None:
    members = await stack.add_hosts("web01", "db01")
    await told(stack, allow("front", on="web*"), allow("back", on="db*"))
    refused(await stack.post("/v1/jobs", stack.people.exec(members, "uptime")), codes.POLICY_DENIED, 403)
    for member in members:
        response = await stack.post("/v1/jobs?wait=10", stack.people.exec([member], "uptime"))
        assert response.status_code == 200, response.text


async def test_a_rate_counts_jobs_and_not_the_same_envelope_again(stack: Any, refused: Refused) -> None:
    members = await stack.add_hosts("web01")
    await told(stack, allow("look", limits=Limits(rate=Rate(count=2, per_ms=3_600_000))))
    first = stack.people.exec(members, "uptime")
    for signed in (first, first, first, stack.people.exec(members, "uptime")):
        response = await stack.post("/v1/jobs?wait=10", signed)
        assert response.status_code == 200, response.text
    refused(await stack.post("/v1/jobs", stack.people.exec(members, "uptime")), codes.POLICY_RATE, 503)
    assert (await stack.post("/v1/jobs", first)).status_code == 200, "it was taken before"


async def test_a_job_is_its_operator_s_to_cancel_and_others_need_the_right(stack: Any, refused: Refused) -> None:
    people = stack.people
    members = await stack.add_hosts("web01")
    stack.room.answers = lambda agent, job: None
    look = allow("look", who=("ann", "eve"))
    await told(stack, look)
    job = people.exec_envelope(members, "uptime")
    assert (await stack.post("/v1/jobs", people.sign(job))).status_code == 202
    by_eve = people.sign(people.envelope(Cancel(job.id), operator="eve"))
    refused(await stack.post(f"/v1/jobs/{job.id}/cancel", by_eve), codes.POLICY_DENIED, 403)
    own = people.sign(people.envelope(Cancel(job.id)))
    assert (await stack.post(f"/v1/jobs/{job.id}/cancel", own)).status_code == 202
    await told(stack, look, allow("watch", who=("eve",), run=(), manage=True))
    assert (await stack.post(f"/v1/jobs/{job.id}/cancel", by_eve)).status_code == 202


async def test_labels_that_nobody_signed_open_no_rule(stack: Any, refused: Refused) -> None:
    members = await stack.add_hosts("web01")
    stack.central.hosts.get(members[0].agent).labels["env"] = "test"
    stack.central.hosts.changed(members[0].agent)
    await told(stack, allow("tests", on="env=test"))
    order = stack.people.exec(members, "uptime")
    refused(await stack.post("/v1/jobs", order), codes.POLICY_DENIED, 403)
    await told(stack, allow("tests", on="env=test"), labels={"env=test": "web*"})
    assert (await stack.post("/v1/jobs?wait=10", order)).status_code == 200


async def test_a_host_that_two_values_of_a_label_fit_gets_nothing(stack: Any, refused: Refused) -> None:
    members = await stack.add_hosts("web01")
    await told(stack, FOUNDERS, labels={"env=test": "web*", "env=prod": "*01"})
    order = stack.people.sign(stack.people.envelope(Exec(argv=("uptime",)), TargetList("web01", tuple(members))))
    refused(await stack.post("/v1/jobs", order), codes.POLICY_UNCLEAR, 403)
