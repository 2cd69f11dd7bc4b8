"""The audit at central: one entry for each act, with what it tells of, and no flood by strangers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from agentd.central.refusals import MAX_TOLD, OPERATOR_BURST, SOURCE_BURST, STRANGERS_BURST, Refusals
from libstaragent import codes
from libstaragent.model import api
from libstaragent.security.acts import Cancel
from libstaragent.security.audit import AuditEntry, decode_entry
from libstaragent.security.audit_check import AuditCheck
from libstaragent.security.policy.model import FOUNDERS, OWN_USER, Limits, Rule


async def entries(stack: Any, **sought: Any) -> list[AuditEntry]:
    """The newest first."""
    answer = await stack.get("/v1/audit", limit=1000, **sought)
    assert answer.status_code == 200, answer.text
    page = msgspec.json.decode(answer.content, type=api.AuditPage)
    return [entry for row in page.entries if (entry := decode_entry(row.body)) is not None]


async def test_a_job_has_one_entry_for_its_start_and_one_for_its_end_however_often_it_is_sent(stack: Any) -> None:
    members = await stack.add_hosts("web01", "web02")
    signed = stack.people.exec(members, "uptime")
    for _ in range(3):
        answer = await stack.http.post("/v1/jobs?wait=10", content=_json(signed))
        assert answer.status_code == 200, answer.text
    await stack.log_in()
    found = [entry for entry in await entries(stack) if entry.subject == stack.people.open(signed).id]
    assert [(entry.act, entry.outcome) for entry in found] == [("end", "ended"), ("exec", "accepted")]
    assert found[0].counts == {"ok": 2}
    assert (found[1].operator, found[1].source, found[1].hosts, found[1].signature) == ("ann", "127.0.0.1", 2, "held")


async def test_every_other_way_in_has_its_entry(stack: Any) -> None:
    members = await stack.add_hosts("web01")
    stack.room.answers = lambda agent, job: None
    job = stack.people.exec(members, "sleep", "9")
    identity = stack.people.open(job).id
    await stack.post("/v1/jobs", job)
    cancel = stack.people.cancel(identity)
    for _ in range(3):
        assert (await stack.post(f"/v1/jobs/{identity}/cancel", cancel)).status_code == 202
    assert (await stack.post("/v1/tokens", stack.people.token())).status_code == 201
    roster = stack.people.roster(stack.state.ca_sha256)
    assert (await stack.post("/v1/rosters", roster)).status_code == 200
    await stack.log_in()
    told = Counter((entry.act, entry.outcome, entry.operator) for entry in await entries(stack))
    assert told[("cancel", "accepted", "ann")] == 1
    assert {
        ("exec", "accepted", "ann"),
        ("cancel", "accepted", "ann"),
        ("issue_token", "accepted", "ann"),
        ("roster", "accepted", "root"),
        ("login", "accepted", "ann"),
    } <= set(told)


async def test_who_stops_what_another_began_is_written_with_the_rule_that_let_him(stack: Any) -> None:
    members = await stack.add_hosts("web01")
    stack.room.answers = lambda agent, job: None
    job = stack.people.exec(members, "sleep", "9")
    identity = stack.people.open(job).id
    await stack.post("/v1/jobs", job)
    for operator in ("eve", "ann"):
        cancel = stack.people.sign(stack.people.envelope(Cancel(identity), operator=operator))
        assert (await stack.post(f"/v1/jobs/{identity}/cancel", cancel)).status_code == 202
    await stack.log_in()
    told = {entry.operator: entry.rule for entry in await entries(stack) if entry.act == "cancel"}
    assert told == {"eve": FOUNDERS.name, "ann": ""}, "one's own job needs no rule"


async def test_the_rule_that_says_no_is_written_and_the_nearest_of_those_that_say_nothing_is_not(stack: Any) -> None:
    no_data = Rule(name="no-data", effect="deny", who=("*",), on="db*", users=("*",))
    few = Rule(
        name="few", effect="allow", who=("ann",), run=(("true",),), users=(OWN_USER,), limits=Limits(timeout_ms=1)
    )
    assert (
        await stack.post("/v1/rosters", stack.people.roster(stack.state.ca_sha256, rules=(no_data, few)))
    ).is_success
    web, db = await stack.add_hosts("web01", "db01")
    for member, argv in ((db, "true"), (web, "true"), (web, "false")):
        assert (await stack.post("/v1/jobs", stack.people.exec([member], argv))).status_code == 403
    await stack.log_in()
    assert [(entry.code, entry.rule) for entry in reversed(await entries(stack, refused=1))] == [
        (codes.POLICY_FORBIDDEN.code, "no-data"),
        (codes.POLICY_LIMIT.code, "few"),
        (codes.POLICY_DENIED.code, ""),
    ]


async def test_a_host_that_leaves_by_the_roster_has_an_entry_of_its_own(stack: Any) -> None:
    web, _ = await stack.add_hosts("web01", "web02")
    revision = stack.people.roster(stack.state.ca_sha256, revoked=(web.agent,))
    assert (await stack.post("/v1/rosters", revision)).status_code == 200
    await stack.log_in()
    (entry,) = [entry for entry in await entries(stack) if entry.act == "revoke"]
    assert (entry.operator, entry.subject, entry.outcome, entry.signature) == ("root", web.agent, "accepted", "held")
    assert "web01" in entry.text and entry.source == "127.0.0.1"
    # The next revision names it too, and tells nothing new.
    assert (
        await stack.post("/v1/rosters", stack.people.roster(stack.state.ca_sha256, revoked=(web.agent,)))
    ).is_success
    assert len([entry for entry in await entries(stack) if entry.act == "revoke"]) == 1


async def test_what_cannot_even_be_read_is_told_and_a_flood_of_it_is_counted(make_stack: Any) -> None:
    async with make_stack() as stack:
        for path in ("/v1/jobs", f"/v1/jobs/{'0' * 26}/cancel", "/v1/tokens", "/v1/rosters", "/v1/enrol", "/v1/login"):
            for body in (b"", b"[1]", b'{"payload":"!"}', b"\xff"):
                assert (await stack.http.post(path, content=body)).status_code == 422
        assert (await stack.http.post("/v1/reads?offset=x", content=b"{}")).status_code == 422
        # What is no act has no entry.
        assert (await stack.http.post("/v1/nothing", content=b"{}")).status_code == 404
        assert (await stack.http.get("/v1/jobs?limit=0")).status_code == 401
    async with make_stack() as stack:
        await stack.log_in()
        found = await entries(stack, refused=1)
    assert {entry.act for entry in found} == {"unreadable", "refusals"}
    assert [entry.count for entry in found if entry.act == "refusals"] == [25 - SOURCE_BURST]
    assert {entry.code for entry in found} <= {codes.REQUEST_MALFORMED.code, codes.SIGNED_MALFORMED.code}
    assert "POST /v1/jobs" in {entry.text for entry in found}


async def test_what_is_refused_is_told_with_its_code_and_whether_the_signature_held(stack: Any) -> None:
    members = await stack.add_hosts("web01")
    held = stack.people.exec(members, "true", operator="bob")
    broken = msgspec.structs.replace(stack.people.exec(members, "true"), signature=bytes(64))
    assert (await stack.post("/v1/jobs", held)).status_code == 403
    assert (await stack.post("/v1/jobs", broken)).status_code == 403
    enrolment = {"token": "opsenrol-nothing", "name": "web09", "csr": "-"}
    assert (await stack.http.post("/v1/enrol", json=enrolment)).status_code == 403
    await stack.log_in()
    found = {(entry.act, entry.code, entry.signature) for entry in await entries(stack, refused=1)}
    assert found == {
        ("exec", codes.SIGNER_ROLE.code, "held"),
        ("exec", codes.SIGNATURE_INVALID.code, "broken"),
        ("enrol", codes.TOKEN_UNKNOWN.code, ""),
    }


async def test_a_flood_of_strangers_is_counted_and_told_in_few_entries(make_stack: Any) -> None:
    flood = 200
    async with make_stack() as stack:
        members = await stack.add_hosts("web01")
        garbage = msgspec.structs.replace(stack.people.exec(members, "true"), key=b"k" * 32)
        for _ in range(flood):
            assert (await stack.post("/v1/jobs", garbage)).status_code == 403
    async with make_stack() as stack:
        await stack.log_in()
        found = await entries(stack, refused=1)
    assert len(found) == SOURCE_BURST + 1
    assert found[0].act == "refusals" and found[0].count == flood - SOURCE_BURST
    assert found[0].source == "127.0.0.1"


async def test_the_whole_chain_is_served_and_each_answer_tells_its_head(stack: Any) -> None:
    members = await stack.add_hosts("web01")
    for _ in range(3):
        answer = await stack.http.post("/v1/jobs?wait=10", content=_json(stack.people.exec(members, "true")))
    number, _, digest = answer.headers[api.AUDIT_HEAD_HEADER].partition(":")
    await stack.log_in()
    head = msgspec.json.decode((await stack.get("/v1/audit/head")).content, type=api.AuditHead)
    check = AuditCheck(stack.people.fleet, head.checkpoints, key=head.key)
    after = 0
    rows: list[api.AuditRow] = []
    while True:
        page = msgspec.json.decode((await stack.get("/v1/audit", after=after, limit=3)).content, type=api.AuditPage)
        rows.extend(page.entries)
        if page.next is None:
            break
        after = page.next
    check.feed((row.seq, row.at_ms, row.body, row.hash) for row in rows)
    assert check.holds and check.last == head.seq and rows[-1].hash == head.hash
    assert rows[int(number) - 1].hash.hex() == digest
    assert api.AUDIT_HEAD_HEADER not in (await stack.http.get("/v1/health")).headers


async def test_what_is_sought_of_an_unknown_host_is_refused(stack: Any, refused: Any) -> None:
    await stack.log_in()
    refused(await stack.get("/v1/audit", host="nobody"), codes.HOST_UNKNOWN, 404)
    refused(await stack.get("/v1/audit", limit="many"), codes.REQUEST_MALFORMED, 422)


def test_refusals_of_an_operator_have_room_of_their_own_whatever_strangers_do() -> None:
    refusals = Refusals()
    for number in range(10_000):
        refusals.may_tell(operator="", source=f"192.0.2.{number % 250}", code="x", now=0.0)
    assert refusals.may_tell(operator="ann", source="192.0.2.1", code="x", now=0.0)


def test_what_refusals_cost_is_bounded_and_nothing_is_lost_from_the_count() -> None:
    refusals = Refusals()
    told = sum(
        refusals.may_tell(operator="", source=f"10.0.{number % 200}.{number % 90}", code="x", now=number / 1000)
        for number in range(60_000)
    )
    entries = refusals.counted()
    # A minute of a thousand a second, from thousands of addresses.
    assert told <= STRANGERS_BURST + 60 * 0.1 + 1
    assert len(entries) <= MAX_TOLD and sum(entry.count for entry in entries) == 60_000 - told
    assert refusals.counted() == []


def test_an_operators_refusals_come_back_with_time() -> None:
    refusals = Refusals()
    for _ in range(int(OPERATOR_BURST)):
        assert refusals.may_tell(operator="ann", source="s", code="x", now=0.0)
    assert not refusals.may_tell(operator="ann", source="s", code="x", now=0.0)
    assert refusals.may_tell(operator="ann", source="s", code="x", now=2.0)


def _json(signed: Any) -> bytes:
    from libstaragent.security.signed import signed_to_json

    return signed_to_json(signed)
