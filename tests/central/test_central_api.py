"""The API's surface: what cannot be read, what is too large, what is not there; the document that describes it."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentd.central.api.app import Application
from libstaragent import codes
from libstaragent.security.tls import client_context

Refused = Callable[..., None]


async def raw(stack: Any, data: bytes) -> bytes:
    """Bytes on a TLS connection, and all that comes back."""
    context = client_context(stack.state.ca.certificate.decode())
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.address[1], ssl=context)
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    try:
        await writer.wait_closed()
    except (OSError, ssl.SSLError):
        pass  # it was closed from the other side with our bytes unread
    return answer


async def test_what_is_no_request_of_ours_is_refused_with_a_code(stack: Any, refused: Refused) -> None:
    await stack.log_in()
    refused(await stack.get("/"), codes.PATH_UNKNOWN, 404)
    refused(await stack.get("/v2/hosts"), codes.PATH_UNKNOWN, 404)
    response = await stack.http.delete("/v1/jobs")
    refused(response, codes.METHOD_UNKNOWN, 405)
    assert response.headers["allow"] == "GET, POST"
    assert (await stack.http.head("/v1/health")).status_code == 405
    for body in (b"", b"{", b"[]", b'{"envelope": 1}', b'{"payload": "AA=="}', b'{"unknown": 1}', b"\xff", b"[" * 5000):
        refused(await stack.http.post("/v1/jobs", content=body), codes.REQUEST_MALFORMED, 422)
    for query in (
        "wait=x",
        "wait=-1",
        "wait=301",
        "wait=nan",
        "watch=2",
        "wait=1&wait=2",
        "&".join("abcdefghijklmnopqr"),
    ):
        response = await stack.http.post(f"/v1/jobs?{query}", content=b"{}")
        assert response.json()["code"] == codes.REQUEST_MALFORMED.code, query
    refused(await stack.get("/v1/hosts", limit=0), codes.REQUEST_MALFORMED, 422)
    refused(await stack.get("/v1/hosts", limit="٣"), codes.REQUEST_MALFORMED, 422)
    for path in ("/v1/tokens", "/v1/rosters"):
        refused(await stack.http.post(path, content=b"{}"), codes.SIGNED_MALFORMED, 422)


async def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(stack: Any, refused: Refused) -> None:
    refused(await stack.http.post("/v1/login", content=bytes(9000)), codes.BODY_TOO_LARGE, 413)

    async def pieces() -> Any:
        for _ in range(9):
            yield bytes(1000)

    refused(await stack.http.post("/v1/login", content=pieces()), codes.BODY_TOO_LARGE, 413)
    refused(await stack.http.post("/v1/tokens", content=bytes(400_000)), codes.BODY_TOO_LARGE, 413)
    answer = await raw(stack, b"POST /v1/login HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ") and codes.BODY_TOO_LARGE.code.encode() in answer


async def test_a_head_that_is_too_large_or_no_http_is_refused_and_closed(stack: Any) -> None:
    for head in (
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: 1\r\n" * 200 + b"\r\n",
    ):
        answer = await raw(stack, head)
        assert answer.startswith(b"HTTP/1.1 431 "), head[:20]
        assert codes.HEADERS_TOO_LARGE.code.encode() in answer
    answer = await raw(stack, b"\x16\x03\x01 nonsense\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 422 ") and codes.REQUEST_MALFORMED.code.encode() in answer
    assert (await stack.http.get("/v1/health")).status_code == 200


async def test_a_client_that_never_ends_its_head_is_told_so_and_closed(
    stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentd.central import http_connection

    monkeypatch.setattr(http_connection, "HEAD_SECONDS", 0.05)
    answer = await raw(stack, b"GET /v1/health HTTP/1.1\r\nx: ")
    assert answer.startswith(b"HTTP/1.1 408 ") and codes.REQUEST_SLOW.code.encode() in answer


async def test_a_body_that_stops_coming_is_given_up(stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentd.central.api import call

    monkeypatch.setattr(call, "BODY_SECONDS", 0.05)
    answer = await raw(stack, b"POST /v1/login HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408 ") and codes.REQUEST_SLOW.code.encode() in answer


async def test_an_error_that_was_not_foreseen_has_an_id_in_the_log_and_no_stack_for_the_client(
    stack: Any, refused: Refused, caplog: pytest.LogCaptureFixture
) -> None:
    await stack.log_in()
    del stack.central.hosts
    with caplog.at_level(logging.ERROR):
        response = await stack.get("/v1/hosts")
    refused(response, codes.CENTRAL_BUG, 500)
    assert "AttributeError" not in response.text
    incident = response.json()["message"].rpartition("id ")[2]
    [record] = [record for record in caplog.records if incident in record.getMessage()]
    assert record.exc_info is not None


async def test_more_open_requests_than_it_takes_are_refused(
    stack: Any, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentd.central.api import app

    monkeypatch.setattr(app, "MAX_OPEN_REQUESTS", 0)
    refused(await stack.http.get("/v1/health"), codes.TOO_MANY_REQUESTS, 429)


async def test_an_expression_is_resolved_or_refused_with_a_code(stack: Any, refused: Refused) -> None:
    await stack.log_in()
    members = await stack.add_hosts("web02", "web01", "db01")
    resolved = (await stack.get("/v1/resolve", targets="@front")).json()
    assert [member["name"] for member in resolved["members"]] == ["web01", "web02"]
    assert resolved["members"][0]["agent"] == members[1].agent
    refused(await stack.get("/v1/resolve", targets="web["), codes.TARGET_SYNTAX, 422)
    refused(await stack.get("/v1/resolve"), codes.TARGET_SYNTAX, 422)
    refused(await stack.get("/v1/resolve", targets="web03"), codes.HOST_UNKNOWN, 404)
    refused(await stack.get("/v1/resolve", targets="state=up"), codes.NO_TARGET, 404)
    refused(await stack.get("/v1/resolve", targets="@back"), codes.GROUP_UNKNOWN, 404)
    refused(await stack.get("/v1/hosts/web03"), codes.HOST_UNKNOWN, 404)
    names: list[str] = []
    after = ""
    while after is not None:
        page = (await stack.get("/v1/hosts", limit=2, after=after)).json()
        names += [host["name"] for host in page["hosts"]]
        after = page["next"]
    assert names == ["db01", "web01", "web02"]


class _Unhurried:
    """A host as an expression sees it, whose name is not known before `gate` opens."""

    def __init__(self, name: str, asked: threading.Event, gate: threading.Event) -> None:
        self._name = name
        self._asked = asked
        self._gate = gate
        self.id = name

    @property
    def name(self) -> str:
        self._asked.set()
        assert self._gate.wait(10), "the loop waits for an expression"
        return self._name


async def test_an_expression_that_takes_long_holds_up_nobody_else(stack: Any) -> None:
    await stack.log_in()
    (member,) = await stack.add_hosts("web01")
    asked, gate = threading.Event(), threading.Event()
    stack.central.hosts.get(member.agent).chosen = _Unhurried(member.agent, asked, gate)
    resolving = asyncio.create_task(stack.get("/v1/resolve", targets="*"))
    assert await asyncio.to_thread(asked.wait, 20)
    assert (await stack.http.get("/v1/health")).status_code == 200
    gate.set()
    assert (await resolving).json()["members"][0]["name"] == "web01"


async def test_metrics_count_what_happened(stack: Any) -> None:
    await stack.log_in()
    members = await stack.add_hosts("web01", "web02")
    await stack.post("/v1/jobs?wait=10", stack.people.exec(members))
    text = (await stack.get("/metrics")).text
    values = dict(line.split() for line in text.splitlines() if not line.startswith("#"))
    assert float(values["opsconsole_central_submitted_total"]) == 1
    assert float(values["opsconsole_central_ended_total"]) == 2
    assert float(values["opsconsole_central_hosts"]) == 2
    health = (await stack.http.get("/v1/health")).json()
    assert (health["store"], health["open_jobs"]) == ("ok", 0)


async def test_the_document_is_openapi_3_1_and_has_every_route(stack: Any) -> None:
    response = await stack.http.get("/v1/openapi.json")
    document = response.json()
    assert document["openapi"].startswith("3.1.")
    assert {"title", "version"} <= document["info"].keys()
    application: Application = stack.application
    served = {(path, method.lower()) for path, methods in application.paths.items() for method in methods}
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == served
    identities: list[str] = []
    for path, methods in document["paths"].items():
        for operation in methods.values():
            identities.append(operation["operationId"])
            assert operation["summary"] and operation["responses"]
            named = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "path"}
            assert named == {part.strip("{}") for part in path.split("/") if part.startswith("{")}
            assert any(status.startswith("2") for status in operation["responses"])
            for answer in operation["responses"].values():
                assert answer["description"]
    assert len(set(identities)) == len(identities)
    schemas = document["components"]["schemas"]
    for reference in references(document):
        prefix, _, name = reference.rpartition("/")
        assert (prefix, name in schemas) == ("#/components/schemas", True), reference


def references(node: Any) -> list[str]:
    found: list[str] = []
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            found.append(node["$ref"])
        for value in node.values():
            found += references(value)
    elif isinstance(node, list):
        for value in node:
            found += references(value)
    return found
