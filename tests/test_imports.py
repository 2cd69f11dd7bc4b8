"""What a process loads, seen at run time: the twin of the import-linter contracts in pyproject.toml.

import-linter reads source; here a fresh interpreter imports the modules and says what came along, so an import hidden
in a string, in a package's `__init__` or in somebody else's library shows too. Each case imports every module of a part
at once: a module that is added is covered from then on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent

# What draws, what serves and what talks HTTP: megabytes and milliseconds that belong to other processes.
CONSOLE_ONLY = {"rich", "textual"}
SERVER_ONLY = {"alembic", "prometheus_client", "psutil", "sqlalchemy", "starlette", "uvicorn", "uvloop"}
CLIENT_ONLY = {"httpx", "httpx_sse", "keyring"}
# X.509 costs 10 MB: central has it, and the short-lived enrolment process.
X509 = {"cryptography"}
THIRD_PARTY = CONSOLE_ONLY | SERVER_ONLY | CLIENT_ONLY | X509 | {
    "ClusterShell", "_cffi_backend", "anyio", "msgspec", "nacl", "platformdirs", "trio", "ulid",
}  # fmt: skip

# Anonymous memory of a process that has imported the agent and does nothing yet: 9 MB with selectors, ssl, msgspec and
# PyNaCl's bindings, measured on 3.11. The goal is 20 MB PSS for the running agent, of which file pages of our binaries
# are 7; what an import adds here is missing there.
AGENT_IMPORT_BUDGET_BYTES = 14 * 1024 * 1024

PROBE = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
memory = {}
if sys.platform == "linux":
    for line in open("/proc/self/smaps_rollup"):
        words = line.split()
        if words[0].endswith(":") and words[-1] == "kB":
            memory[words[0][:-1]] = int(words[1]) * 1024
print(json.dumps({"modules": sorted(sys.modules), "memory": memory}))
"""


class Loaded:
    """What a fresh interpreter holds after importing `names`."""

    def __init__(self, *names: str) -> None:
        run = subprocess.run(
            [sys.executable, "-c", PROBE, *names], cwd=CHECKOUT, capture_output=True, text=True, timeout=50, check=False
        )
        assert run.returncode == 0, run.stderr
        said = json.loads(run.stdout)
        self.modules: set[str] = set(said["modules"])
        self.memory: dict[str, int] = said["memory"]

    def of(self, packages: set[str]) -> list[str]:
        """The loaded modules of these top-level packages, or standing under these dotted names."""
        return sorted(name for name in self.modules if any(name == p or name.startswith(p + ".") for p in packages))


def modules_of(package: str) -> list[str]:
    """Every module of a package by its files; programs, and migrations that run on import, left out."""
    top = CHECKOUT / package.replace(".", "/")
    if top.with_suffix(".py").is_file():
        return [package]
    names: list[str] = []
    for path in sorted(top.rglob("*.py")):
        parts = path.relative_to(CHECKOUT).with_suffix("").parts
        if parts[-1] == "__main__" or "migrations" in parts:
            continue
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    assert names, f"{package} has no module"
    return names


def test_importing_the_library_loads_no_loop_no_client_and_nothing_of_the_roles() -> None:
    loaded = Loaded("libstaragent")
    assert loaded.of(THIRD_PARTY | {"asyncio", "ssl", "agentd", "opsconsole"}) == []


@pytest.mark.parametrize(
    "core", ["libstaragent.protocol", "libstaragent.jobs", "libstaragent.roles", "libstaragent.targets"]
)
def test_a_core_loads_nothing_that_reaches_outside(core: str) -> None:
    loaded = Loaded(*modules_of(core))
    assert loaded.of(CONSOLE_ONLY | SERVER_ONLY | CLIENT_ONLY | X509 | {"anyio", "trio", "asyncio", "ssl"}) == []
    assert loaded.of({"agentd", "opsconsole"}) == []


def test_the_agent_loads_only_what_an_agent_needs() -> None:
    loaded = Loaded(*modules_of("agentd.agent"))
    assert loaded.of(CONSOLE_ONLY | SERVER_ONLY | CLIENT_ONLY | X509 | {"anyio", "trio"}) == []
    assert loaded.of({"agentd.room", "agentd.central", "agentd.store", "agentd.bus", "opsconsole"}) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_agents_imports_fit_their_memory_budget() -> None:
    loaded = Loaded(*modules_of("agentd.agent"))
    assert 0 < loaded.memory["Pss_Anon"] <= AGENT_IMPORT_BUDGET_BYTES


def test_the_keeper_loads_the_standard_library_and_ours_alone() -> None:
    loaded = Loaded(*modules_of("agentd.keeper"))
    assert loaded.of(THIRD_PARTY | {"asyncio", "ssl"}) == []
    assert (
        loaded.of({"agentd.agent", "agentd.room", "agentd.central", "agentd.store", "agentd.bus", "opsconsole"}) == []
    )


def test_the_roles_and_the_console_do_not_load_each_other() -> None:
    assert Loaded(*modules_of("agentd")).of({"opsconsole"} | CONSOLE_ONLY) == []
    assert Loaded(*modules_of("opsconsole")).of({"agentd"}) == []


def test_the_probe_sees_what_it_must() -> None:
    loaded = Loaded("httpx", "nacl.signing")
    assert {"httpx", "nacl"} <= {name.partition(".")[0] for name in loaded.of(THIRD_PARTY)}
