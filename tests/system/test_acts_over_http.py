"""Acts and reads over the plain HTTP API of a real fleet, as `curl`, a thief or a broken program would send them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libstaragent import codes
from libstaragent.model.api import JobSubmission
from libstaragent.model.ids import new_ulid
from libstaragent.security.acts import Cancel, Exec, IssueToken, Member, TargetList, TargetRoot
from libstaragent.security.envelope import sign, signed_to_json
from libstaragent.security.signed import Signed

HOUR_MS = 3_600_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def refusal(answer: Any, code: Any) -> None:
    """A 4xx of this code that says what to do, and shows nothing of the inside."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    body = answer.json()
    assert (body["code"], body["symbol"], body["remedy"]) == (code.code, code.symbol, code.remedy), body
    assert "Traceback" not in answer.text


def test_the_same_body_twice_is_one_job_that_runs_once(site: Any, referee: Any) -> None:
    envelope = site.envelope("sh", "-c", f"{referee.mark}; echo done")
    body = signed_to_json(sign(envelope, site.seed))
    with site.http() as http:
        first = http.post("/v1/jobs", content=body, params={"wait": 20})
        again = http.post("/v1/jobs", content=body, params={"wait": 20})
        assert first.status_code == again.status_code == 200
        assert first.json()["job"]["id"] == again.json()["job"]["id"] == envelope.id
        assert first.json()["job"]["counts"] == again.json()["job"]["counts"] == {"ok": 1}
        # A later job of the same host has run: nothing of the second copy is still on its way.
        assert http.post(
            "/v1/jobs", content=signed_to_json(sign(site.envelope("true"), site.seed)), params={"wait": 20}
        ).json()["job"]["counts"] == {"ok": 1}
    assert referee.count == 1


def test_another_envelope_with_the_id_of_a_job_is_refused(site: Any, referee: Any) -> None:
    envelope = site.envelope("true")
    other = msgspec.structs.replace(envelope, act=Exec(argv=("sh", "-c", referee.mark)))
    with site.http() as http:
        assert http.post("/v1/jobs", content=signed_to_json(sign(envelope, site.seed))).status_code == 202
        refusal(http.post("/v1/jobs", content=signed_to_json(sign(other, site.seed))), codes.JOB_REPEATED)
    assert site.result(envelope.id).ok and referee.count == 0


ALTERED: dict[str, Any] = {
    "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "fleet": "ab" * 32,
    "operator": "root",
    "act": {"act": "exec", "argv": ["sh", "-c", "echo stolen"]},
    "targets": {"form": "list", "expression": "all", "members": []},
    "issued": 1,
    "not_before": 2,
    "expires": 2_000_000_000_000,
    "roster": 0,
    "boot_nonce": b"0123456789abcdef",
    "plan": {"waves": [], "window": 1, "max_failures": None, "wait_ms": 0, "confirm": False},
}


@pytest.mark.parametrize("field", sorted(ALTERED))
def test_an_envelope_altered_in_any_field_is_refused(site: Any, field: str, referee: Any) -> None:
    envelope = site.envelope("sh", "-c", referee.mark)
    assert set(ALTERED) == set(envelope.__struct_fields__)
    signed = sign(envelope, site.seed)
    plain = msgspec.msgpack.decode(signed.payload)
    assert plain[field] != ALTERED[field]
    payload = msgspec.msgpack.encode(plain | {field: ALTERED[field]}, order="deterministic")
    with site.http() as http:
        refusal(http.post("/v1/jobs", content=signed_to_json(Signed(payload, signed.key, signed.signature))),
                codes.SIGNATURE_INVALID)  # fmt: skip
        for job in (envelope.id, ALTERED["id"]):
            refusal(http.get(f"/v1/jobs/{job}"), codes.JOB_UNKNOWN)
    assert referee.count == 0


def test_an_envelope_that_is_well_signed_but_does_not_hold_is_refused(site: Any, referee: Any) -> None:
    command = ("sh", "-c", referee.mark)
    now = now_ms()
    held = site.envelope(*command)
    unknown = Member(new_ulid(now, os.urandom(10)), "ghost", "main")
    cases = [
        (site.envelope(*command, issued=now - HOUR_MS, not_before=now - HOUR_MS, expires=now - 1000),
         codes.ENVELOPE_EXPIRED),
        (site.envelope(*command, issued=now + HOUR_MS, not_before=now + HOUR_MS, expires=now + 2 * HOUR_MS),
         codes.ENVELOPE_CLOCK_SKEW),
        (site.envelope(*command, not_before=now + HOUR_MS, expires=now + 2 * HOUR_MS), codes.ENVELOPE_NOT_YET),
        (site.envelope(*command, fleet="ab" * 32), codes.ENVELOPE_OTHER_FLEET),
        (site.envelope(*command, operator="somebody"), codes.SIGNER_UNKNOWN),
        (site.envelope(*command, roster=held.roster + 1), codes.ROSTER_BEHIND),
        (site.envelope(*command, targets=TargetList("ghost", (unknown,))), codes.HOST_UNKNOWN),
    ]  # fmt: skip
    with site.http() as http:
        for envelope, code in cases:
            refusal(http.post("/v1/jobs", content=signed_to_json(sign(envelope, site.seed))), code)
            refusal(http.get(f"/v1/jobs/{envelope.id}"), codes.JOB_UNKNOWN)
        stranger = sign(held, os.urandom(32))
        refusal(http.post("/v1/jobs", content=signed_to_json(stranger)), codes.SIGNER_UNKNOWN)
    assert referee.count == 0


def test_what_is_no_envelope_is_refused(site: Any) -> None:
    signed = sign(site.envelope(), site.seed)
    broken = Signed(signed.payload, signed.key, bytes(64))
    ghost = (Member(new_ulid(now_ms(), os.urandom(10)), "ghost", "main"),)
    rooted = sign(site.envelope(targets=TargetRoot("web01", 1, bytes(32))), site.seed)
    with site.http() as http:
        for body, code in (
            (b"", codes.REQUEST_MALFORMED),
            (b"\xff\x00garbage", codes.REQUEST_MALFORMED),
            (b'{"payload": "AAAA"}', codes.REQUEST_MALFORMED),
            (b"[" * 100_000, codes.REQUEST_MALFORMED),
            (b"x" * (64 << 20), codes.BODY_TOO_LARGE),
            (signed_to_json(broken), codes.SIGNATURE_INVALID),
            (msgspec.json.encode(JobSubmission(rooted, ghost)), codes.TARGETS_CHANGED),
            (msgspec.json.encode(JobSubmission(rooted)), codes.TARGETS_CHANGED),
        ):
            refusal(http.post("/v1/jobs", content=body), code)
        refusal(http.get("/v1/nosuch"), codes.PATH_UNKNOWN)
        refusal(http.delete("/v1/jobs"), codes.METHOD_UNKNOWN)
        refusal(http.post("/v1/tokens", content=signed_to_json(signed)), codes.ACT_UNSUPPORTED)
        impossible = site.envelope(act=IssueToken(room="main", uses=1, ttl_ms=1, networks=("nowhere",)), targets=None)
        refusal(http.post("/v1/tokens", content=signed_to_json(sign(impossible, site.seed))), codes.TOKEN_TERMS)
        other = sign(site.envelope(act=Cancel("01ARZ3NDEKTSV4RRFFQ69G5FAV"), targets=None), site.seed)
        refusal(http.post("/v1/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV/cancel", content=signed_to_json(other)),
                codes.JOB_UNKNOWN)  # fmt: skip


def test_reads_need_a_bearer_token_that_is_right_and_in_time(site: Any) -> None:
    with site.http(login=False) as http:
        for path in ("/v1/hosts", "/v1/jobs", "/v1/events", "/metrics", "/v1/resolve?targets=all"):
            refusal(http.get(path), codes.BEARER_MISSING)
            refusal(http.get(path, headers={"authorization": "Bearer nonsense"}), codes.BEARER_UNKNOWN)
        good = site.bearer()
        assert http.get("/v1/hosts", headers={"authorization": f"Bearer {good}"}).status_code == 200
        wrong = good[:-2] + ("AA" if not good.endswith("AA") else "BB")
        refusal(http.get("/v1/hosts", headers={"authorization": f"Bearer {wrong}"}), codes.BEARER_UNKNOWN)
        # A millisecond of life: it is over before the next request.
        late = site.bearer("--ttl", "0.001")
        assert late != good
        refusal(http.get("/v1/hosts", headers={"authorization": f"Bearer {late}"}), codes.LOGIN_EXPIRED)


def test_sign_and_curl_run_a_command_and_read_its_output(site: Any, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes((site.state / "ca.pem").read_bytes())
    signed = site.run("sign", "exec", "-t", "web01,web02", "--", "echo", "by curl")
    assert signed.returncode == 0, signed.stderr

    def curl(*words: str, body: str = "") -> Any:
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--cacert", str(ca), *words],
            input=body, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    api = site.said["api"]
    answer = curl("--data-binary", "@-", f"{api}/v1/jobs?wait=20", body=signed.stdout)
    job = answer["job"]["id"]
    assert job in signed.stderr and answer["job"]["counts"] == {"ok": 2}
    bearer = tmp_path / "bearer"
    bearer.touch(0o600)
    bearer.write_text(f"authorization: Bearer {site.bearer()}\n")
    listed = curl("--header", f"@{bearer}", f"{api}/v1/jobs?limit=1")
    assert [each["id"] for each in listed["jobs"]] == [job]
    assert curl(f"{api}/v1/jobs")["code"] == codes.BEARER_MISSING.code
    # Another CA is not believed, by curl either.
    stranger = subprocess.run(["curl", "--silent", f"{api}/v1/health"], capture_output=True, timeout=30, check=False)
    assert stranger.returncode == 60


def test_sign_and_curl_cancel_it_too(site: Any, gate: Any, tmp_path: Path) -> None:
    begun = gate("begun")
    with site.fleet() as fleet:
        job = fleet.run("web01", ["sh", "-c", f"echo > {begun.path}; exec sleep 600"], background=True)
    begun.heard()
    signed = site.run("sign", "cancel", job.id)
    done = subprocess.run(
        ["curl", "--silent", "--cacert", str(site.state / "ca.pem"), "--data-binary", "@-",
         f"{site.said['api']}/v1/jobs/{job.id}/cancel"],
        input=signed.stdout, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["job"]["cancelled"] is True
    assert site.result(job.id).counts == {"cancelled": 1}
