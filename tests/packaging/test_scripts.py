"""The scripts from the outside: what they refuse, what they say, and that a second set-up has nothing to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent.parent

# The system's own commands, without what a developer added.
SYSTEM_PATH = "/usr/bin:/bin"


def script(name: str, *arguments: str, cwd: Path = CHECKOUT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CHECKOUT / "scripts" / name, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def python_without(tmp_path: Path) -> Callable[..., str]:
    """Makes a Python that lacks modules, as Debian's without python3-venv: a wrapper that fails at their names."""

    def make(*words: str) -> str:
        wrapper = tmp_path / "python-without"
        cases = "|".join(f"*{word!r}*" for word in words)
        wrapper.write_text(f'#!/bin/sh\ncase "$*" in {cases}) exit 1 ;; esac\nexec {sys.executable} "$@"\n')
        wrapper.chmod(0o755)
        return str(wrapper)

    return make


@pytest.mark.parametrize("path", sorted((CHECKOUT / "scripts").iterdir()), ids=lambda path: path.name)
def test_a_script_is_executable_and_says_what_it_does(path: Path) -> None:
    if path.suffix:
        pytest.skip("a part of a script")
    assert os.access(path, os.X_OK)
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert all(line.startswith("# ") for line in lines[1:4])
    assert lines[4] == "set -eu"


def test_set_up_twice_does_nothing_the_second_time_from_any_folder(tmp_path: Path) -> None:
    assert script("setup").returncode == 0
    again = script("setup", cwd=tmp_path)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_set_up_without_a_suitable_python_says_so_and_makes_nothing(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    refused = script("setup", OPSCONSOLE_VENV=str(venv), OPSCONSOLE_PYTHON="python-that-is-not-there")
    assert refused.returncode == 1
    assert "no Python >= 3.11 found; tried: python-that-is-not-there" in refused.stderr
    assert not venv.exists()


@pytest.mark.skipif(
    any(shutil.which(tool, path=SYSTEM_PATH) for tool in ("uv", "virtualenv")), reason="this system has another way"
)
def test_set_up_names_the_package_to_install_where_no_environment_can_be_made(
    tmp_path: Path, python_without: Callable[..., str]
) -> None:
    python = python_without("ensurepip", "-m pip", "import virtualenv")
    refused = script("setup", OPSCONSOLE_VENV=str(tmp_path / "venv"), OPSCONSOLE_PYTHON=python, PATH=SYSTEM_PATH)
    assert refused.returncode == 1
    assert "apt-get install python3-venv" in refused.stderr
    assert "dnf install" in refused.stderr


def test_set_up_leaves_a_folder_alone_that_is_no_environment(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter").write_text("dear")
    refused = script("setup", OPSCONSOLE_VENV=str(mine))
    assert refused.returncode == 1
    assert "is no virtual environment" in refused.stderr
    assert [path.name for path in mine.iterdir()] == ["letter"]


def test_bench_and_check_refuse_a_name_that_is_not_there() -> None:
    unknown = script("bench", "no-such-benchmark")
    assert unknown.returncode == 64
    assert "no-such-benchmark" in unknown.stderr
    unknown = script("check", "no-such-check")
    assert unknown.returncode == 64
    assert "lint format layers types shell house" in unknown.stderr


def house_rules(folder: Path, name: str, text: str) -> subprocess.CompletedProcess[str]:
    """What the house rules say of a repository that holds one file."""
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    (folder / name).write_text(text)
    return subprocess.run(
        [sys.executable, CHECKOUT / "scripts" / "house_rules.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("requirements.lock", "--index-url https://example.org/simple\n", "requirements.lock:1: a lock file holds"),
        ("requirements.lock", "thing @ https://example.org/thing.whl\n", "requirements.lock:1: a lock file holds"),
        ("notes.md", "see\n/home/" + "somebody/.cache/thing\n", "notes.md:2: names a place of one machine"),
        ("long.py", "pass\n" * 401, "long.py: 401 lines"),
        (
            "long.py",
            '"""A table.\n\nLong because it is one table.\n"""\n' + "pass\n" * 600,
            "long.py: 604 lines; at most",
        ),
    ],
)
def test_the_house_rules_find(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    said = house_rules(tmp_path, name, text)
    assert said.returncode == 1
    assert complaint in said.stdout


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("requirements.lock", "thing==1.0 \\\n    --hash=sha256:00\n    # via other\n"),
        ("notes.md", "see ~/.config/opsconsole and https://example.org\n"),
        ("long.py", '"""A table.\n\nLong because it is one table.\n"""\n' + "pass\n" * 500),
    ],
)
def test_the_house_rules_let_pass(tmp_path: Path, name: str, text: str) -> None:
    said = house_rules(tmp_path, name, text)
    assert (said.returncode, said.stdout) == (0, "")
