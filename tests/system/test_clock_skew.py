"""Clocks that are an hour off, on a host and on the operator's machine: real processes whose libc tells another time.

`clock_shift.c` stands before libc, so Python, OpenSSL and all else in the process agree on the wrong time; the product
has no switch for it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libstaragent import codes

HOUR_S = 3600

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None or not sys.platform.startswith("linux"), reason="needs a C compiler and LD_PRELOAD"
)


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The environment of a process whose clock is so many seconds off."""
    library = tmp_path_factory.mktemp("clock") / "clock_shift.so"
    source = Path(__file__).with_name("clock_shift.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)

    def environment(seconds: int) -> dict[str, str]:
        return {"LD_PRELOAD": str(library), "CLOCK_SHIFT_S": str(seconds)}

    probe = [sys.executable, "-c", "import time; print(time.time())"]
    told = subprocess.run(probe, env=os.environ | environment(HOUR_S), capture_output=True, text=True, check=True)
    now = subprocess.run(probe, capture_output=True, text=True, check=True)
    assert abs(float(told.stdout) - float(now.stdout) - HOUR_S) < 60, "the clock was not shifted"
    return environment


@pytest.fixture(scope="module")
def fleet(module_site: Any, shifted: Any) -> Iterator[Any]:
    """One host an hour ahead, one an hour behind, one right."""
    module_site.up()
    module_site.add_hosts("right")
    for name, seconds in (("ahead", HOUR_S), ("behind", -HOUR_S)):
        joined = module_site.join(name)
        assert joined.returncode == 0, joined.stderr
        module_site.start_agent(name, env=shifted(seconds))
    module_site.until_state("up", "ahead", "behind")
    yield module_site


def target_of(done: Any) -> tuple[str, str | None]:
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    (target,) = [line for line in lines if line["event"] == "target" and line["ran"] in ("no", "yes")][-1:]
    return target["state"], target["code"]


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("ahead", ("expired", codes.ENVELOPE_EXPIRED.code)),
        ("behind", ("denied", codes.ENVELOPE_CLOCK_SKEW.code)),
    ],
)
def test_a_host_whose_clock_is_off_refuses_with_a_code_is_marked_and_is_reached_by_its_boot(
    fleet: Any, name: str, end: tuple[str, str]
) -> None:
    refused = fleet.run("exec", "--json", "-t", name, "--", "echo", "hello")
    assert target_of(refused) == end and refused.returncode != 0
    (listed,) = [line for line in fleet.run("hosts").stdout.splitlines() if line.startswith(name)]
    assert ("clock+60m" if name == "ahead" else "clock-60m") in listed
    reached = fleet.run("exec", "--bind-boot", "-t", name, "--", "echo", "hello")
    assert reached.returncode == 0 and f"{name} | hello" in reached.stdout, reached.stderr
    with fleet.fleet() as library:
        (member,) = library.resolve(name)
        assert library.boot_of([member]).hex() == library.host(name).boot_nonce


def test_an_envelope_is_bound_to_one_host_that_is_up(fleet: Any) -> None:
    many = fleet.run("exec", "--bind-boot", "-t", "ahead,behind", "--", "true")
    assert many.returncode == 64 and codes.ONE_BOOT_ONLY.code in many.stderr


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S])
def test_an_operator_whose_clock_is_off_is_told_before_anything_is_signed(
    fleet: Any, shifted: Any, seconds: int
) -> None:
    with fleet.fleet() as library:
        before = library.jobs()
    done = fleet.run("exec", "-t", "right", "--", "true", env=os.environ | shifted(seconds))
    assert done.returncode == 1 and codes.CLOCKS_APART.code in done.stderr
    with fleet.fleet() as library:
        assert library.jobs() == before
    assert fleet.run("exec", "-t", "right", "--", "true").returncode == 0
