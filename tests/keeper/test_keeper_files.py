"""Files that a real keeper places and reads: what stands there already, what the system refuses, who else writes.

A put's draft is written by the test, as the agent would; everything after that is the keeper's.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import hashlib
import itertools
import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentd.keeper.spoolfile import SpoolReader
from libstaragent import codes

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount, make devices and become another user")
NOBODY = 65534
LARGE = 4 * 1024 * 1024

numbers = itertools.count(1)


def new_job() -> str:
    return f"01K{next(numbers):023d}"


def spawn_put(keeper, path, data: bytes, *, job: str | None = None, user: str | None = None, **task: object) -> str:
    job = job or new_job()
    drafts = keeper.state / "drafts"
    drafts.mkdir(exist_ok=True)
    (drafts / job).write_bytes(data)
    task = {"kind": "place", "path": str(path), "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), **task}
    keeper.link.spawn(job, ["put", str(path)], user=user, task=task)
    return job


def end_of(keeper, job: str) -> dict:
    return keeper.link.wait(lambda event: event["ev"] in ("finished", "refused") and event.get("job") == job)


def put(keeper, path, data: bytes = b"new", **options: object) -> dict:
    return end_of(keeper, spawn_put(keeper, path, data, **options))


def fetch(keeper, path, *, max_bytes: int = 64 * 1024 * 1024, user: str | None = None) -> tuple[dict, bytes]:
    """How it ended, and what was read."""
    job = new_job()
    task = {"kind": "read", "path": str(path), "max_bytes": max_bytes}
    end = keeper.link.run(job, ["fetch", str(path)], user=user, task=task, output_spool=max_bytes + (1 << 20))
    if end["ev"] != "finished":
        return end, b""
    data, at = b"", 0
    with SpoolReader(keeper.spool(job)) as spool:
        while found := spool.follow(at)[0]:
            data += b"".join(piece for _, piece in found)
            at = len(data)
    return end, data


def refused(end: dict, code, number: int | None = None) -> None:
    assert (end["code"], end["errno"]) == (code.code, number), end
    assert end["state"] != "ok"


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@contextlib.contextmanager
def mounted(place: Path, *options: str) -> Iterator[None]:
    place.mkdir(exist_ok=True)
    if subprocess.run(["mount", *options, str(place)], check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextlib.contextmanager
def meanwhile(step: Callable[[int], object]) -> Iterator[None]:
    """`step` again and again in a thread, from before to after what is done meanwhile."""
    over, begun = threading.Event(), threading.Event()

    def work() -> None:
        for number in itertools.count():
            step(number)
            begun.set()
            if over.is_set():
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert begun.wait(30)
        yield
    finally:
        over.set()
        thread.join()


# What stands at the path ----------------------------------------------------------------------------------------------


def test_a_folder_or_a_pipe_is_neither_replaced_nor_read(one_keeper, tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        refused(put(one_keeper, tmp_path / name), codes.FILE_NOT_REGULAR)
        refused(fetch(one_keeper, tmp_path / name)[0], codes.FILE_NOT_REGULAR)
    assert names(tmp_path) == ["folder", "pipe"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and (tmp_path / "folder").is_dir()


@NEEDS_ROOT
def test_a_device_is_neither_replaced_nor_read(one_keeper, tmp_path):
    os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    refused(put(one_keeper, tmp_path / "null"), codes.FILE_NOT_REGULAR)
    refused(fetch(one_keeper, tmp_path / "null")[0], codes.FILE_NOT_REGULAR)
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)


def test_a_link_is_replaced_by_a_put_and_refused_by_a_fetch(one_keeper, tmp_path):
    (tmp_path / "other").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    refused(fetch(one_keeper, tmp_path / "link")[0], codes.FILE_ELSEWHERE)
    for name in ("link", "dangling"):
        assert put(one_keeper, tmp_path / name)["state"] == "ok"
        assert not (tmp_path / name).is_symlink() and (tmp_path / name).read_bytes() == b"new"
    assert (tmp_path / "other").read_bytes() == b"mine"
    assert names(tmp_path) == ["dangling", "link", "other"]


@pytest.mark.parametrize("part", ["way/file", "way/deeper/file"])
def test_a_link_on_the_way_is_refused_with_where_it_leads(one_keeper, tmp_path, part):
    (tmp_path / "real" / "deeper").mkdir(parents=True)
    (tmp_path / "way").symlink_to("real")
    end = put(one_keeper, tmp_path / part)
    refused(end, codes.FILE_ELSEWHERE)
    assert str(tmp_path / part.replace("way", "real")) in end["detail"]
    assert names(tmp_path / "real") == ["deeper"] and names(tmp_path / "real" / "deeper") == []


# What the system refuses ----------------------------------------------------------------------------------------------


@NEEDS_ROOT
def test_a_file_system_that_is_read_only_says_so_and_is_read(one_keeper, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    (place / "file").write_bytes(b"old")
    with mounted(place, "--bind", str(place)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        for name in ("file", "another"):
            refused(put(one_keeper, place / name), codes.FILE_FAILED, errno.EROFS)
        assert fetch(one_keeper, place / "file")[1] == b"old"
    assert names(place) == ["file"] and (place / "file").read_bytes() == b"old"


def test_a_folder_that_may_not_be_written_keeps_its_file(bare_keeper):
    place = bare_keeper.state.parent / "closed"
    place.mkdir()
    (place / "file").write_bytes(b"old")
    place.chmod(0o555)
    refused(put(bare_keeper, place / "file"), codes.FILE_FAILED, errno.EACCES)
    place.chmod(0o755)
    assert names(place) == ["file"] and (place / "file").read_bytes() == b"old"


@NEEDS_ROOT
def test_a_full_disk_keeps_the_old_file_and_nothing_else(one_keeper, tmp_path):
    place = tmp_path / "place"
    with mounted(place, "-t", "tmpfs", "-o", "size=256k", "none"):
        (place / "file").write_bytes(b"old")
        refused(put(one_keeper, place / "file", os.urandom(300_000)), codes.FILE_FAILED, errno.ENOSPC)
        assert names(place) == ["file"] and (place / "file").read_bytes() == b"old"
        # There is room again at once: what was written of the draft is gone.
        assert put(one_keeper, place / "file", bytes(200_000))["state"] == "ok"


def test_a_folder_that_is_not_there_is_not_made(one_keeper, tmp_path):
    refused(put(one_keeper, tmp_path / "none" / "file"), codes.FILE_FAILED, errno.ENOENT)
    refused(put(one_keeper, Path("/proc/file")), codes.FILE_FAILED, errno.ENOENT)
    assert names(tmp_path) == []


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["two\nlines", "ä" * 127, " ", "-rf", "$(reboot)", ".opsconsole-01K", "*"])
def test_a_name_is_bytes_and_nothing_more(one_keeper, tmp_path, name):
    assert put(one_keeper, tmp_path / name)["state"] == "ok"
    assert names(tmp_path) == [name]
    assert fetch(one_keeper, tmp_path / name)[1] == b"new"


def test_a_name_that_is_too_long_says_so(one_keeper, tmp_path):
    refused(put(one_keeper, tmp_path / ("n" * 256)), codes.FILE_FAILED, errno.ENAMETOOLONG)
    assert names(tmp_path) == []


@pytest.mark.parametrize("path", ["a/../b", "./b", "a//b", "..", "b/"])
def test_a_path_that_is_not_plain_is_not_even_begun(one_keeper, tmp_path, path):
    (tmp_path / "a").mkdir()
    for end in (put(one_keeper, f"{tmp_path}/{path}"), fetch(one_keeper, f"{tmp_path}/{path}")[0]):
        assert (end["ev"], end["code"]) == ("refused", codes.COMMAND_SPEC.code)
    assert names(tmp_path) == ["a"]


# With whose rights ----------------------------------------------------------------------------------------------------


@NEEDS_ROOT
def test_a_file_gets_the_owner_and_group_that_were_asked_for(one_keeper, tmp_path):
    assert put(one_keeper, tmp_path / "file", owner="nobody", group="daemon", mode=0o4750)["state"] == "ok"
    found = (tmp_path / "file").stat()
    assert (found.st_uid, found.st_gid) == (NOBODY, grp.getgrnam("daemon").gr_gid)
    assert stat.S_IMODE(found.st_mode) == 0o4750


@NEEDS_ROOT
def test_what_a_user_places_is_the_users(one_keeper, bare_keeper):
    # Below a folder that all may enter, as those of pytest are not.
    above = bare_keeper.state.parent / "all"
    place = above / "place"
    place.mkdir(parents=True)
    os.chown(place, NOBODY, NOBODY)
    assert put(one_keeper, place / "file", user="nobody")["state"] == "ok"
    assert (place / "file").stat().st_uid == NOBODY
    refused(put(one_keeper, above / "file", user="nobody"), codes.FILE_FAILED, errno.EACCES)
    refused(put(one_keeper, place / "other", user="nobody", owner="root"), codes.FILE_FAILED, errno.EPERM)
    (above / "secret").write_bytes(b"secret")
    (above / "secret").chmod(0o600)
    refused(fetch(one_keeper, above / "secret", user="nobody")[0], codes.FILE_FAILED, errno.EACCES)
    assert names(place) == ["file"] and names(above) == ["place", "secret"]


def test_an_agent_without_privilege_says_that_it_may_not(bare_keeper):
    place = bare_keeper.state.parent / "place"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    refused(put(bare_keeper, place / "file", user="root"), codes.RUN_AS_DENIED, errno.EPERM)
    refused(put(bare_keeper, place / "file", owner="root"), codes.FILE_FAILED, errno.EPERM)
    refused(fetch(bare_keeper, place / "file", user="root")[0], codes.RUN_AS_DENIED, errno.EPERM)
    refused(put(bare_keeper, place / "file", user="nobody-of-that-name"), codes.RUN_AS_UNKNOWN)
    assert names(place) == []


# Who else writes ------------------------------------------------------------------------------------------------------


def test_of_puts_to_one_path_at_once_one_wins_whole_and_no_reader_sees_a_mixture(one_keeper, tmp_path):
    path = tmp_path / "file"
    files = [bytes([number]) * (LARGE // 4 + number) for number in range(4)]
    path.write_bytes(files[0])
    seen: set[bytes] = set()
    with meanwhile(lambda _: seen.add(hashlib.sha256(path.read_bytes()).digest())):
        for job in [spawn_put(one_keeper, path, data) for data in files * 2]:
            assert end_of(one_keeper, job)["state"] == "ok"
    whole = {hashlib.sha256(data).digest() for data in files}
    assert seen <= whole
    assert path.read_bytes() in files and names(tmp_path) == ["file"]


def test_two_hosts_of_one_job_place_its_file_in_a_folder_that_they_share(one_keeper, bare_keeper):
    place = bare_keeper.state.parent / "shared"
    place.mkdir()
    place.chmod(0o777)
    data = os.urandom(LARGE)
    for _ in range(5):
        job = new_job()
        for keeper in (one_keeper, bare_keeper):
            spawn_put(keeper, place / "file", data, job=job)
        assert [end_of(keeper, job)["state"] for keeper in (one_keeper, bare_keeper)] == ["ok", "ok"]
    assert names(place) == ["file"] and (place / "file").read_bytes() == data


def test_a_file_that_is_written_over_while_it_is_read_is_not_handed_over(one_keeper, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(LARGE))
    with (
        path.open("r+b", buffering=0) as file,
        meanwhile(lambda number: os.pwrite(file.fileno(), b"x", number % LARGE)),
    ):
        end, _ = fetch(one_keeper, path)
    refused(end, codes.FILE_CHANGED)


def test_a_file_that_shrinks_while_it_is_read_is_not_handed_over(one_keeper, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(LARGE))
    with meanwhile(lambda number: os.truncate(path, LARGE - number)):
        end, _ = fetch(one_keeper, path)
    refused(end, codes.FILE_CHANGED)
    assert "shrank" in end["detail"]


def test_of_a_log_that_grows_what_stood_there_at_first_is_read(one_keeper, tmp_path):
    path = tmp_path / "log"
    line = b"%015d\n"
    path.write_bytes(b"".join(line % number for number in range(LARGE // 16)))
    with path.open("ab", buffering=0) as file, meanwhile(lambda number: file.write(line % (LARGE // 16 + number))):
        end, data = fetch(one_keeper, path)
    assert end["state"] == "ok" and len(data) >= LARGE
    assert path.stat().st_size > len(data), "it did not grow"
    assert path.read_bytes().startswith(data) and data.endswith(b"\n")


def test_what_the_kernel_makes_up_is_read_to_its_end_and_bounded(one_keeper):
    end, data = fetch(one_keeper, "/proc/cpuinfo")
    assert end["state"] == "ok" and data == Path("/proc/cpuinfo").read_bytes()[: len(data)] and data
    refused(fetch(one_keeper, "/proc/cpuinfo", max_bytes=1)[0], codes.FILE_TOO_LARGE)
