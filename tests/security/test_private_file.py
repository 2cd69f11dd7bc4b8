"""A secret on disk is narrow from its first byte, whole, never overwritten by chance, not read when others could."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from libstaragent import codes
from libstaragent.errors import Conflict, Denied, DependencyFailed, NotFound
from libstaragent.security.private_file import read_private, write_private

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


def test_what_was_written_is_read_and_is_narrow_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "key", b"secret")
    finally:
        os.umask(before)
    assert read_private(tmp_path / "key") == b"secret"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_file_that_others_can_touch_is_not_read(tmp_path: Path, mode: int) -> None:
    write_private(tmp_path / "key", b"secret")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(Denied) as caught:
        read_private(tmp_path / "key")
    assert caught.value.code is codes.KEY_EXPOSED
    assert f"{mode:04o}" in str(caught.value)


@as_root
def test_a_file_of_another_user_is_not_read(tmp_path: Path) -> None:
    write_private(tmp_path / "key", b"secret")
    os.chown(tmp_path / "key", 12345, 12345)
    with pytest.raises(Denied) as caught:
        read_private(tmp_path / "key")
    assert "12345" in str(caught.value)


def test_a_fifo_or_directory_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(Denied):
            read_private(path)
    with pytest.raises(DependencyFailed):
        read_private(tmp_path)


def test_a_name_that_is_taken_is_kept_unless_asked(tmp_path: Path) -> None:
    write_private(tmp_path / "key", b"old")
    with pytest.raises(Conflict) as caught:
        write_private(tmp_path / "key", b"new")
    assert caught.value.code is codes.KEY_EXISTS
    assert read_private(tmp_path / "key") == b"old"
    write_private(tmp_path / "key", b"new", overwrite=True)
    assert read_private(tmp_path / "key") == b"new"
    assert os.listdir(tmp_path) == ["key"]


def test_of_many_writers_at_once_one_wins_whole(tmp_path: Path) -> None:
    won: list[bytes] = []

    def write(data: bytes) -> None:
        try:
            write_private(tmp_path / "key", data)
        except Conflict:
            return
        won.append(data)

    threads = [threading.Thread(target=write, args=(bytes([at]) * 1000,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [read_private(tmp_path / "key")]


def test_what_is_missing_or_impossible_has_a_code_and_the_errno(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        read_private(tmp_path / "none")
    assert caught.value.code is codes.KEY_MISSING
    with pytest.raises(NotFound):
        write_private(tmp_path / "none" / "key", b"")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DependencyFailed) as failed:
        write_private(tmp_path / "file" / "key", b"")
    assert failed.value.code is codes.KEY_FILE_FAILED
    assert failed.value.errno


def test_a_file_too_large_for_a_secret_is_not_read(tmp_path: Path) -> None:
    write_private(tmp_path / "key", bytes(64 * 1024 + 1))
    with pytest.raises(DependencyFailed):
        read_private(tmp_path / "key")
