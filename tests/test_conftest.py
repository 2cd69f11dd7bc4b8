"""The watch on processes left behind sees what it must: a child, and an orphan that hid in a session of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the watch reads /proc")

# Starts `sleep` in a session of its own behind a parent that ends at once: what a daemon does.
ORPHAN = (
    "import subprocess, sys; subprocess.Popen(['sleep', '300'], start_new_session=True, stdout=2); sys.stdout.close()"
)

OFFENDER = f"""
import subprocess, sys

def test_leaves_a_child():
    subprocess.Popen(["sleep", "300"], start_new_session=True).returncode = 0

def test_leaves_an_orphan():
    subprocess.run([sys.executable, "-c", {ORPHAN!r}], check=True)

def test_leaves_nothing():
    subprocess.run(["true"], check=True)
"""


KEEPER_OF_A_CHILD = """
import subprocess
import pytest

@pytest.fixture(scope="session")
def sleeper():
    subprocess.Popen(["sleep", "300"]).returncode = 0

def test_stands_on_it(sleeper):
    pass
"""


def test_a_test_that_leaves_a_process_fails_and_the_process_is_ended(tmp_path: Path) -> None:
    run = run_watched(tmp_path, OFFENDER)
    assert "3 passed, 2 errors" in run.stdout, run.stdout
    assert run.stdout.count("the test left processes running: ") >= 2
    assert "left running at the end of the session" not in run.stdout


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "in-a-worker"])
def test_a_run_that_leaves_a_process_fails(tmp_path: Path, workers: tuple[str, ...]) -> None:
    run = run_watched(tmp_path, KEEPER_OF_A_CHILD, *workers)
    assert "1 passed" in run.stdout, run.stdout
    assert "left running at the end of the session: " in run.stdout
    assert run.returncode == pytest.ExitCode.TESTS_FAILED


def run_watched(folder: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs `tests` in a pytest of their own under this suite's conftest."""
    (folder / "conftest.py").write_text(
        (Path(__file__).parent / "conftest.py")
        .read_text()
        .replace("GONE_WITHIN_SECONDS = 5.0", "GONE_WITHIN_SECONDS = 0.1")
    )
    (folder / "test_offender.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    # The other plugins take seconds to load.
    environment |= {"NO_COLOR": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "no:cacheprovider", "-rEf", *options, str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
    )


def test_the_short_folder_holds_a_unix_socket(short_tmp: Path) -> None:
    assert len(os.fsencode(short_tmp)) <= 40
    assert list(short_tmp.iterdir()) == []
