"""Who gets in: logins, bearer tokens, enrolment tokens, rosters; every refusal through HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libstaragent import codes
from libstaragent.model import api
from libstaragent.protocol import trunk as t
from libstaragent.security import login
from libstaragent.security.audit import decode_entry
from libstaragent.security.identity import certificate_span, create_agent_key, create_csr
from libstaragent.security.signed import signed_to_json

Refused = Callable[..., None]


def enrolment(token: str, name: str = "web01", **changes: Any) -> bytes:
    return msgspec.json.encode(
        api.Enrolment(token=token, name=name, **{"csr": create_csr(create_agent_key()).decode(), **changes})
    )


async def test_reads_need_a_bearer_token_and_acts_and_public_paths_do_not(stack: Any, refused: Refused) -> None:
    document = (await stack.http.get("/v1/openapi.json")).json()
    secured = [{"bearer": []}]
    readers = {
        path: method
        for path, methods in document["paths"].items()
        for method, said in methods.items()
        if said.get("security") == secured
    }
    assert {"/v1/hosts", "/v1/jobs", "/v1/events", "/metrics"} <= set(readers)
    for path, method in readers.items():
        filled = path.replace("{id}", "x").replace("{sha256}", "ab" * 32)
        refused(await stack.http.request(method.upper(), filled), codes.BEARER_MISSING, 401)
    for text in ("Basic x", "Bearer", "Bearer nonsense", "Bearer opsbearer-" + "0" * 26 + "." + "A" * 43):
        response = await stack.http.get("/v1/hosts", headers={"authorization": text})
        assert response.status_code == 401, text
        assert response.headers["www-authenticate"] == "Bearer"
    assert {path for path in document["paths"] if path not in readers} == {
        "/v1/login", "/v1/rosters", "/v1/trust", "/v1/health", "/v1/openapi.json", "/v1/tokens", "/v1/enrol",
        "/v1/jobs/{id}/cancel", "/v1/jobs/{id}/pause", "/v1/jobs/{id}/resume", "/v1/hosts/{id}/choose",
        "/v1/blobs", "/v1/reads",
    }  # fmt: skip


async def test_a_login_reads_until_its_operator_leaves_the_roster_and_survives_a_restart(
    make_stack: Callable[..., Any], refused: Refused
) -> None:
    async with make_stack() as stack:
        bearer = await stack.log_in("bob")
        assert (await stack.get("/v1/hosts")).status_code == 200
    async with make_stack() as stack:
        stack.bearer = bearer
        assert (await stack.get("/v1/hosts")).status_code == 200
        without_bob = stack.people.roster(stack.state.ca_sha256, operators=["ann"])
        response = await stack.http.post("/v1/rosters", content=signed_to_json(without_bob))
        assert (response.status_code, response.json()) == (200, {"revision": 2})
        refused(await stack.get("/v1/hosts"), codes.BEARER_UNKNOWN, 401)
        assert len((await stack.http.get("/v1/trust")).json()["rosters"]) == 1
        await stack.add_hosts("web01")
        await stack.room.until(lambda: any(len(told.revisions) == 2 for told in stack.room.of(t.RosterRevisions)))


async def test_a_login_that_does_not_answer_its_own_challenge_is_refused(stack: Any, refused: Refused) -> None:
    people = stack.people

    async def ask(operator: str) -> login.Challenge:
        response = await stack.http.get("/v1/login", params={"operator": operator})
        return msgspec.json.decode(response.content, type=login.Challenge)

    async def answer(asked: login.Challenge, seed: bytes, **changes: Any) -> Any:
        signed = login.answer(asked, fleet=asked.fleet, operator=asked.operator, seed=seed)
        return await stack.http.post("/v1/login", content=msgspec.json.encode(api.LoginRequest(signed, **changes)))

    asked = await ask("ann")
    refused(await answer(asked, people.seeds["bob"]), codes.LOGIN_REFUSED, 401)
    assert (await answer(asked, people.seeds["ann"])).status_code == 201
    refused(await answer(asked, people.seeds["ann"]), codes.LOGIN_REFUSED, 401)  # it was asked once
    refused(await answer(await ask("eve"), people.seeds["eve"]), codes.SIGNER_ROLE, 403)
    refused(await answer(await ask("ann"), people.seeds["ann"], ttl_ms=10**9), codes.TOKEN_TERMS, 422)
    refused(
        await answer(msgspec.structs.replace(await ask("ann"), operator="bob"), people.seeds["bob"]),
        codes.LOGIN_REFUSED,
        401,
    )
    garbage = msgspec.json.encode(api.LoginRequest(people.token()))
    refused(await stack.http.post("/v1/login", content=garbage), codes.LOGIN_REFUSED, 401)
    refused(await stack.http.get("/v1/login", params={"operator": "not a name"}), codes.REQUEST_MALFORMED, 422)


async def test_a_login_is_not_lost_to_others_who_ask_for_challenges(stack: Any) -> None:
    asking = stack.application.paths["/v1/login"]["GET"].handler.__self__._access
    asked = asking.ask("ann")
    for _ in range(10_000):
        asking.ask("bob")
    signed = login.answer(asked, fleet=asked.fleet, operator="ann", seed=stack.people.seeds["ann"])
    said = await stack.http.post("/v1/login", content=msgspec.json.encode(api.LoginRequest(signed)))
    assert said.status_code == 201, said.text


@pytest.mark.parametrize("change", [{"operator": "ann"}, {"expires_ms": 2**62}, {"nonce": b"n" * 32}])
async def test_a_challenge_that_central_did_not_make_is_refused(
    stack: Any, refused: Refused, change: dict[str, Any]
) -> None:
    asked = await stack.http.get("/v1/login", params={"operator": "bob"})
    made = msgspec.structs.replace(msgspec.json.decode(asked.content, type=login.Challenge), **change)
    signed = login.answer(made, fleet=made.fleet, operator=made.operator, seed=stack.people.seeds[made.operator])
    said = await stack.http.post("/v1/login", content=msgspec.json.encode(api.LoginRequest(signed)))
    refused(said, codes.LOGIN_REFUSED, 401)


async def test_a_login_and_its_challenge_end_with_their_time(make_stack: Callable[..., Any], refused: Refused) -> None:
    import time

    ahead = 0

    async with make_stack(clock=lambda: time.time_ns() // 1_000_000 + ahead) as stack:
        await stack.log_in()
        assert (await stack.get("/v1/hosts")).status_code == 200
        asked = msgspec.json.decode(
            (await stack.http.get("/v1/login", params={"operator": "ann"})).content, type=login.Challenge
        )
        ahead = 13 * 3_600_000
        refused(await stack.get("/v1/hosts"), codes.LOGIN_EXPIRED, 401)
        signed = login.answer(asked, fleet=asked.fleet, operator="ann", seed=stack.people.seeds["ann"])
        late = await stack.http.post("/v1/login", content=msgspec.json.encode(api.LoginRequest(signed)))
        refused(late, codes.LOGIN_EXPIRED, 401)


async def test_a_host_joins_with_a_token_and_is_known_at_once(stack: Any) -> None:
    response = await stack.http.post("/v1/tokens", content=signed_to_json(stack.people.token(labels={"rack": "7"})))
    assert response.status_code == 201
    issued = msgspec.json.decode(response.content, type=api.TokenIssued)
    response = await stack.http.post(
        "/v1/enrol", content=enrolment(issued.token, facts={"os": "linux"}, addresses=["10.1.2.3"])
    )
    assert response.status_code == 201
    enrolled = msgspec.json.decode(response.content, type=api.Enrolled)
    begin, end = certificate_span(enrolled.certificate.encode())
    assert (enrolled.name, enrolled.room, begin < end) == ("web01", "main", True)
    await stack.log_in()
    host = (await stack.get("/v1/hosts/web01")).json()
    assert (host["id"], host["state"], host["labels"]) == (enrolled.agent, "never", {"rack": "7"})
    assert (host["facts"], host["addresses"]) == ({"os": "linux"}, ["10.1.2.3"])
    resolved = (await stack.get("/v1/resolve", targets="rack=7 & 10.0.0.0/8 & os=linux & state=never")).json()
    assert [member["name"] for member in resolved["members"]] == ["web01"]


async def test_hosts_outlive_a_restart_with_all_that_is_known_of_them(
    make_stack: Callable[..., Any], refused: Refused
) -> None:
    async with make_stack() as stack:
        token = (await stack.http.post("/v1/tokens", content=signed_to_json(stack.people.token()))).json()["token"]
        await stack.http.post("/v1/enrol", content=enrolment(token, addresses=["10.1.2.3"]))
        await stack.log_in()
        [before] = (await stack.get("/v1/hosts")).json()["hosts"]
        subscription = stack.central.hub.subscribe()
        stack.room.report(
            t.HostUp(
                agent=before["id"], room="main", version="9", boot_nonce=b"0" * 16, hostname="h",
                addresses=("10.9.9.9",), facts={"os": "bsd"}, roster=1, clock_ahead_ms=5, at_ms=10**13,
            )
        )  # fmt: skip
        await subscription.ready()
        [changed] = subscription.take()
        assert isinstance(changed, api.HostChanged)
        assert (changed.host.state, changed.host.version, changed.host.clock_ahead_ms) == ("up", "9", 5)
        stack.room.report(t.HostDown(before["id"], "main", codes.PEER_SILENT.code, 10**13 + 1))
        await subscription.ready()
        [changed] = subscription.take()
        assert isinstance(changed, api.HostChanged)
        assert (changed.host.state, changed.host.code) == ("down", codes.PEER_SILENT.code)
        stack.room.report(
            t.HostUp(
                agent=before["id"], room="main", version="9", boot_nonce=b"0" * 16, hostname="h",
                addresses=("10.9.9.9",), facts={"os": "bsd"}, roster=1, clock_ahead_ms=5, at_ms=10**13,
            )
        )  # fmt: skip
        await subscription.ready()
        assert (await stack.get("/v1/resolve", targets="state=up & os=bsd & 10.9.0.0/16")).status_code == 200
        told = len(stack.room.of(t.RosterRevisions))
        # Central has heard of the room before, and now it is another process: its hosts come one by one.
        stack.room.report(t.RoomStarted("main"))
        stack.room.report(t.RoomStarted("main"))
        await stack.room.until(lambda: len(stack.room.of(t.RosterRevisions)) >= told + 2)
        refused(await stack.get("/v1/resolve", targets="state=up"), codes.NO_TARGET, 404)
        bearer = stack.bearer
    async with make_stack() as stack:
        stack.bearer = bearer
        [after] = (await stack.get("/v1/hosts")).json()["hosts"]
    assert (after["id"], after["facts"], after["addresses"]) == (before["id"], {"os": "bsd"}, ["10.9.9.9"])


async def test_a_token_admits_as_many_hosts_as_it_has_uses_and_no_name_twice(stack: Any, refused: Refused) -> None:
    token = (await stack.http.post("/v1/tokens", content=signed_to_json(stack.people.token(uses=2)))).json()["token"]
    assert (await stack.http.post("/v1/enrol", content=enrolment(token, "web01"))).status_code == 201
    refused(await stack.http.post("/v1/enrol", content=enrolment(token, "web01")), codes.HOST_NAME_TAKEN, 409)
    refused(await stack.http.post("/v1/enrol", content=enrolment(token, "web02", csr="x")), codes.CSR_REFUSED, 422)
    assert (await stack.http.post("/v1/enrol", content=enrolment(token, "web02"))).status_code == 201
    refused(await stack.http.post("/v1/enrol", content=enrolment(token, "web03")), codes.TOKEN_USED_UP, 403)


async def test_a_token_is_refused_where_it_does_not_belong(make_stack: Callable[..., Any], refused: Refused) -> None:
    import time

    ahead = 0
    async with make_stack(clock=lambda: time.time_ns() // 1_000_000 + ahead) as stack:
        people = stack.people

        async def token(**terms: Any) -> str:
            return (await stack.http.post("/v1/tokens", content=signed_to_json(people.token(**terms)))).json()["token"]

        async def join(text: str, name: str = "web01", **changes: Any) -> Any:
            return await stack.http.post("/v1/enrol", content=enrolment(text, name, **changes))

        good = await token(uses=9)
        wrong = good[:-2] + ("AA" if good[-2:] != "AA" else "BB")
        refused(await join(wrong), codes.TOKEN_UNKNOWN, 403)
        refused(await join("opsenrol-x"), codes.TOKEN_UNKNOWN, 403)
        refused(await join(good.replace(good[9:35], people.envelope(None).id)), codes.TOKEN_UNKNOWN, 403)
        refused(await join(await token(name_pattern="db*")), codes.TOKEN_SCOPE, 403)
        refused(await join(await token(networks=("10.0.0.0/8",))), codes.TOKEN_SCOPE, 403)
        refused(await join(good, "not a name"), codes.REQUEST_MALFORMED, 422)
        refused(await join(good, facts={f"f{n}": "" for n in range(99)}), codes.REQUEST_MALFORMED, 422)
        refused(await join(good, addresses=["1 2"]), codes.REQUEST_MALFORMED, 422)
        short = await token(ttl_ms=60_000)
        ahead = 61_000
        refused(await join(short), codes.TOKEN_EXPIRED, 410)
        assert stack.store.read.token(good[9:35]).uses_left == 9


async def test_only_an_admin_orders_a_token_and_each_envelope_gives_one(stack: Any, refused: Refused) -> None:
    people = stack.people
    signed = people.token()
    by_eve = people.sign(people.envelope(people.open(signed).act, operator="eve"))
    refused(await stack.post("/v1/tokens", by_eve), codes.SIGNER_ROLE, 403)
    assert (await stack.post("/v1/tokens", signed)).status_code == 201
    refused(await stack.post("/v1/tokens", signed), codes.JOB_REPEATED, 409)
    refused(await stack.post("/v1/tokens", people.cancel(people.envelope(None).id)), codes.ACT_UNSUPPORTED, 422)
    refused(await stack.post("/v1/tokens", people.token(networks=("nonsense",))), codes.TOKEN_TERMS, 422)


async def test_of_two_admins_who_revise_at_once_one_follows_and_the_other_is_told_and_nothing_is_half_done(
    make_stack: Callable[..., Any], refused: Refused
) -> None:
    async with make_stack() as stack:
        people, ca = stack.people, stack.state.ca_sha256
        hosts = await stack.add_hosts(*(f"web{number:02d}" for number in range(8)))
        rivals: list[Any] = []
        for host in hosts:
            rivals.append(people.roster(ca, revoked=(host.agent,)))
            people.revisions.pop()

        async def post(signed: Any) -> Any:
            return await stack.http.post("/v1/rosters", content=signed_to_json(signed))

        answers = await asyncio.gather(*map(post, rivals))
        (winner,) = [at for at, answer in enumerate(answers) if answer.status_code == 200]
        for at, answer in enumerate(answers):
            if at != winner:
                refused(answer, codes.ROSTER_CHAIN, 409)
        assert stack.central.trust.revisions[-1] == rivals[winner]
        # Who was told no does it again, on what is there now.
        people.revisions.append(rivals[winner])
        assert (await post(people.roster(ca))).json() == {"revision": 3}
        await stack.log_in()
        page = msgspec.json.decode((await stack.get("/v1/audit", limit=100)).content, type=api.AuditPage)
        told = [decode_entry(row.body) for row in page.entries]
        assert [entry.subject for entry in told if entry.act == "roster" and not entry.refused] == ["3", "2", "1"]
        assert [entry.subject for entry in told if entry.act == "revoke"] == [hosts[winner].agent]
        assert set(stack.central.hosts.members) == {host.agent for host in hosts} - {hosts[winner].agent}
    async with make_stack() as stack:
        assert stack.central.trust.revisions == people.revisions
        assert set(stack.central.hosts.members) == {host.agent for host in hosts} - {hosts[winner].agent}


async def test_a_roster_that_does_not_follow_is_refused(
    make_stack: Callable[..., Any], refused: Refused, tmp_path: Path
) -> None:
    async with make_stack() as stack:
        people, ca = stack.people, stack.state.ca_sha256
        first = people.revisions[0]

        async def post(signed: Any) -> Any:
            return await stack.http.post("/v1/rosters", content=signed_to_json(signed))

        before = stack.store.audit_end.seq
        for _ in range(3):
            assert (await post(first)).json() == {"revision": 1}
        assert stack.store.audit_end.seq == before, "strangers can write into the audit"
        second = people.roster(ca)
        third = people.roster(ca)
        refused(await post(third), codes.ROSTER_CHAIN, 409)
        assert (await post(second)).json() == {"revision": 2}
        refused(await post(first), codes.ROSTER_OLD, 409)
        altered = msgspec.structs.replace(third, signature=bytes(64))
        refused(await post(altered), codes.SIGNATURE_INVALID, 403)
        other = type(people)()
        refused(await post(other.roster(ca)), codes.ROSTER_OTHER_FLEET, 403)
        by_stranger = msgspec.structs.replace(people.resign(third, people.seeds["eve"]))
        refused(await post(by_stranger), codes.ROSTER_SIGNER, 403)
        assert stack.central.trust.newest.revision == 2
