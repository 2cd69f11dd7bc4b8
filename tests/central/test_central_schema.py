"""The HTTP API held against its own OpenAPI document by schemathesis: no request of a stranger or of an operator is
answered with a 5xx, a status that is not documented, or a body that is not as described.

`scripts/fuzz api N` throws N examples at each operation; here it is a few, in a fixed order.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

EXAMPLES = int(os.environ.get("OPSCONSOLE_FUZZ_EXAMPLES", "4"))
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# Event streams do not end by themselves.
STREAMS = "events$"


@pytest.mark.timeout(3600 if EXAMPLES > 4 else 60)  # a long run is by hand
async def test_every_operation_answers_as_its_document_says(stack: Any, tmp_path: Path) -> None:
    members = await stack.add_hosts("web01", "web02")
    headers = await stack.log_in()
    said = await stack.http.post(
        "/v1/jobs", params={"wait": "10"}, content=msgspec.json.encode(stack.people.exec(members))
    )
    job = said.json()["job"]["id"]
    # Ids that exist, beside those that it makes up.
    (tmp_path / "schemathesis.toml").write_text(f'[parameters]\n"path.id" = ["{job}", "web01", "nothing"]\n')
    ca = tmp_path / "ca.pem"
    ca.write_bytes(stack.state.ca.certificate)
    address = f"https://127.0.0.1:{stack.address[1]}"
    command = [
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("--config-file", str(tmp_path / "schemathesis.toml"), "run", f"{address}/v1/openapi.json"),
        *("--tls-verify", str(ca), "--header", f"Authorization: {headers['authorization']}"),
        *("--checks", CHECKS, "--exclude-path-regex", STREAMS, "--max-examples", str(EXAMPLES)),
        *("--seed", "1", "--phases", "coverage,fuzzing", "--no-color", "--request-timeout", "10"),
    ]
    done = await anyio.run_process(command, check=False, cwd=tmp_path)
    text = done.stdout.decode(errors="replace")
    assert done.returncode == 0, text[-6000:] + done.stderr.decode(errors="replace")[-2000:]
    passed = re.search(r"(\d+) generated, (\d+) passed", text)
    assert passed is not None and int(passed[1]) == int(passed[2]) > 100, text[-3000:]
    assert stack.central.core.jobs[job].open == 0
