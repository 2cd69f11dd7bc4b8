"""The wheel as a user gets it: what is in it, and that its base alone installs from the lock and runs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parent.parent.parent

# A fresh environment, and an install over whatever network there is.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# What a base install must not bring: an extra's packages, named in pyproject.toml.
EXTRAS_ONLY = (
    "textual",
    "rich",
    "starlette",
    "uvicorn",
    "uvloop",
    "sqlalchemy",
    "alembic",
    "psutil",
    "asyncssh",
    "boto3",
)


def run(*command: str | Path, cwd: Path = CHECKOUT) -> str:
    # Nothing of the checkout may leak in: no PYTHONPATH, and no current folder on the path (-I where Python is run).
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that is built from it, by the environment's own backend: no download."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-I", "-m", "build", "--no-isolation", "--outdir", folder, CHECKOUT)
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (path,) = distributions.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def base_install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment that holds the wheel's base install, by the agent's lock and its hashes."""
    folder = tmp_path_factory.mktemp("base") / "venv"
    run(sys.executable, "-I", "-m", "venv", folder)
    python = folder / "bin" / "python"
    lock = CHECKOUT / "requirements-agent.lock"
    run(python, "-I", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", lock)
    # Without an index: what the lock does not hold cannot come in by the wheel's own requirements.
    run(python, "-I", "-m", "pip", "install", "--quiet", "--no-index", wheel)
    return folder / "bin"


def test_the_wheel_holds_the_packages_and_the_themes_and_nothing_of_the_workshop(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    packages = {name for name in ("libstaragent", "agentd", "opsconsole", "p2p") if (CHECKOUT / name).is_dir()}
    assert {top for top in tops if not top.endswith(".dist-info")} == packages
    for theme in (CHECKOUT / "themes").iterdir():
        assert f"opsconsole/themes/{theme.name}" in names
    assert not [name for name in names if name.endswith((".pyc", ".orig")) or "/tests/" in name]
    for package in packages:
        for module in (CHECKOUT / package).rglob("*.py"):
            assert str(module.relative_to(CHECKOUT)) in names


def test_the_wheel_says_what_it_is_and_what_its_extras_are(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
        assert [name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
    assert metadata["Name"] == "opsconsole"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra", [])) == {"all", "aws", "console", "server", "ssh"}


def test_the_sdist_builds_and_carries_the_tests_and_the_locks(distributions: Path) -> None:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "requirements.lock", "tests/conftest.py", "scripts/test"} <= names
    assert not [name for name in names if name.startswith((".venv", ".git/", ".ci"))]


def test_the_base_install_imports_the_library_from_the_wheel_and_holds_no_extra(base_install: Path) -> None:
    where = run(base_install / "python", "-I", "-c", "import libstaragent; print(libstaragent.__file__)").strip()
    assert Path(where).is_relative_to(base_install.parent)
    installed = run(base_install / "python", "-I", "-m", "pip", "list", "--format", "freeze").lower()
    assert "msgspec==" in installed
    assert [name for name in EXTRAS_ONLY if f"\n{name}==" in f"\n{installed}"] == []
    run(base_install / "python", "-I", "-m", "pip", "check")


def test_an_agent_runs_from_the_base_install_and_the_command_line_drives_it(base_install: Path) -> None:
    """The control plane is the checkout's; host and operator have the wheel's base alone."""
    with contextlib.ExitStack() as stack:
        # Short, for the agent's socket below it.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oc-", dir="/tmp")))

        def start(*command: str | Path, **options: Any) -> subprocess.Popen[str]:
            process = subprocess.Popen([*map(str, command)], text=True, stdin=subprocess.DEVNULL, **options)
            stack.callback(end, process)
            return process

        up = start(
            *(sys.executable, "-m", "opsconsole", "up", "--json", "--operator", "li", "--state", folder / "central"),
            *("--listen", "127.0.0.1:0", "--room-listen", "127.0.0.1:0", "--context", folder / "context.toml"),
            *("--key-file", folder / "operator.key", "--root-key-file", folder / "root.key"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert up.stdout is not None
        said = json.loads(up.stdout.readline())
        token = folder / "token"
        token.touch(0o600)
        token.write_text(said["token"])
        state = folder / "host"
        agentd, opsconsole = base_install / "agentd", base_install / "opsconsole"
        joined = run(
            *(agentd, "join", said["join"], "--pin", said["fleet"], "--token-file", token),
            *("--name", "wheel01", "--state", state),
            cwd=folder,
        )
        assert "wheel01 joined room main" in joined
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        agent = start(agentd, "agent", "--state", state, cwd=folder, env=environment)
        # The job waits for the host to come up, and shows where the agent's own program is.
        words = ("exec", "--context", folder / "context.toml", "-t", "wheel01", "--ttl", "60", "--shell")
        shown = run(opsconsole, *words, "tr '\\0' ' ' < /proc/$PPID/cmdline; echo; echo from the wheel", cwd=folder)
        first, second = shown.splitlines()
        assert str(base_install) in first and "agentd agent" in first
        assert second == "wheel01 | from the wheel"
        assert "wheel01" in run(opsconsole, "hosts", "--context", folder / "context.toml", cwd=folder)
        assert agent.poll() is None


def end(process: subprocess.Popen[str]) -> None:
    """SIGTERM, and wait: what is started here leaves by itself."""
    process.terminate()
    process.communicate(timeout=60)
