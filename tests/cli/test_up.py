"""`opsconsole up`: a fleet from nothing, the same fleet again, and what it refuses."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from libstaragent.client.context import load_context

pytestmark = pytest.mark.timeout(120)  # real processes, each of which makes keys and a store


def test_a_second_start_is_the_same_fleet(new_fleet: Any) -> None:
    first = dict(new_fleet.said)
    assert new_fleet.run("hosts", "--json").status == 0
    status, narration = new_fleet.stop_up()
    assert (status, narration.splitlines()[-1]) == (0, "stopped")
    assert new_fleet.run("hosts").status == 2

    new_fleet.up = new_fleet.start_up()
    assert new_fleet.said["fleet"] == first["fleet"]
    assert load_context(new_fleet.context).api == new_fleet.said["api"]
    assert new_fleet.run("hosts", "--json").status == 0


def test_a_start_beside_a_running_one_finds_it(new_fleet: Any) -> None:
    folder = new_fleet.folder
    done = new_fleet.run(
        *("up", "--json", "--state", str(folder / "central"), "--listen", "127.0.0.1:0"),
        *("--room-listen", "127.0.0.1:0", "--key-file", str(folder / "ada.key")),
    )
    assert done.status == 0, done.err
    assert "running already" in done.err
    assert (done.lines[0]["pid"], done.lines[0]["api"]) == (new_fleet.said["pid"], new_fleet.said["api"])


def test_keys_are_private_and_not_with_the_control_plane(new_fleet: Any) -> None:
    for name in ("ada.key", "root.key"):
        assert stat.S_IMODE((new_fleet.folder / name).stat().st_mode) == 0o600
    seeds = [(new_fleet.folder / name).read_bytes().split()[-1] for name in ("ada.key", "root.key")]
    state = [path for path in (new_fleet.folder / "central").rglob("*") if path.is_file()]
    assert state and not any(seed in path.read_bytes() for seed in seeds for path in state)
    assert not any(seed in new_fleet.context.read_bytes() for seed in seeds)


def test_without_a_keyring_a_file_must_be_named(alone: Any, short_tmp: Path) -> None:
    done = alone("up", "--state", str(short_tmp / "central"), "--listen", "127.0.0.1:0")
    assert (done.status, done.out) == (1, "")
    assert "SA-4781 keyring_absent" in done.err and "--root-key-file" in done.err
    assert not (short_tmp / "central").exists()


def test_a_key_that_others_can_read_is_refused(new_fleet: Any) -> None:
    os.chmod(new_fleet.folder / "ada.key", 0o644)
    done = new_fleet.run("token")
    assert done.status == 4
    assert "SA-4380 key_exposed" in done.err
    os.chmod(new_fleet.folder / "ada.key", 0o600)


def test_another_fleets_context_is_not_overwritten(new_fleet: Any, short_tmp: Path) -> None:
    before = new_fleet.context.read_bytes()
    done = new_fleet.run(
        *("up", "--state", str(short_tmp / "other"), "--key-file", str(short_tmp / "other.key")),
        *("--root-key-file", str(short_tmp / "other-root.key")),
    )
    assert done.status == 1
    assert "SA-1230 fleet_conflict" in done.err
    assert new_fleet.context.read_bytes() == before


def test_a_port_that_is_taken_is_said_with_the_code_of_the_control_plane(alone: Any, short_tmp: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = alone(
            *("up", "--state", str(short_tmp / "central"), "--listen", f"127.0.0.1:{taken.getsockname()[1]}"),
            *("--room-listen", "127.0.0.1:0", "--key-file", str(short_tmp / "key")),
            *("--root-key-file", str(short_tmp / "root"), "--context", str(short_tmp / "context.toml")),
        )
    assert done.status == 1
    assert "listen" in done.err and "SA-" in done.err


def test_every_address_needs_a_name_to_be_reached_by(alone: Any, short_tmp: Path) -> None:
    done = alone("up", "--state", str(short_tmp / "central"), "--listen", "0.0.0.0:0")
    assert done.status == 64
    assert "--advertise" in done.err


def test_a_control_plane_that_dies_ends_up_with_a_code(new_fleet: Any) -> None:
    os.kill(new_fleet.said["pid"], 9)
    _, err = new_fleet.up.communicate(timeout=40)
    assert new_fleet.up.returncode == 1
    assert b"SA-1703 control_plane_failed" in err


def test_ended_before_it_is_up_it_leaves_no_control_plane(alone: Any, short_tmp: Path) -> None:
    process = alone.start(
        *("up", "--state", str(short_tmp / "central"), "--listen", "127.0.0.1:0", "--room-listen", "127.0.0.1:0"),
        *("--key-file", str(short_tmp / "key"), "--root-key-file", str(short_tmp / "root")),
        *("--context", str(short_tmp / "context.toml")),
    )
    assert process.stderr.readline().startswith(b"founded fleet")
    process.terminate()
    process.communicate(timeout=40)
    # Either the start was cut off (143) or the control plane served already and was stopped in order (0).
    assert process.returncode in (0, 143)
    log = short_tmp / "central" / "agentd.log"
    assert not log.exists() or "stopped" in log.read_text() or "fleet" not in log.read_text()


def test_detached_it_goes_on_without_us(new_fleet: Any) -> None:
    new_fleet.stop_up()
    folder = new_fleet.folder
    done = new_fleet.run(
        *("up", "--json", "--detach", "--state", str(folder / "central"), "--listen", "127.0.0.1:0"),
        *("--room-listen", "127.0.0.1:0", "--key-file", str(folder / "ada.key")),
    )
    pid = int(str(done.lines[0]["pid"]))
    try:
        assert done.status == 0
        assert f"this stops it: kill {pid}" in done.err
        assert new_fleet.run("hosts").status == 0
    finally:
        os.kill(pid, 15)
        # Orphaned by our child, so it is ours to wait for where tests reap orphans.
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=40, check=True)
