"""Files to hosts and from hosts, and what hosts keep: every process real, every failure provoked where it happens."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from libstaragent import codes
from libstaragent.protocol.messages import CHUNK_MAX
from libstaragent.security.act_limits import MAX_FILE
from libstaragent.security.acts import Put, ReadSpool
from libstaragent.security.envelope import sign

PATIENCE = 30.0


def file_of(folder: Path, size: int) -> Path:
    path = folder / f"source-{size}"
    path.write_bytes(os.urandom(size))
    return path


def put(site: Any, source: Path, to: Path, *options: str, host: str = "web01") -> Any:
    return site.run("put", str(source), "-t", host, "--to", str(to), *options)


@pytest.mark.parametrize("size", [0, 1, CHUNK_MAX, 2 * CHUNK_MAX, 2 * CHUNK_MAX + 1, 1_000_003])
def test_a_file_arrives_as_it_is(site: Any, tmp_path: Path, size: int) -> None:
    source, target = file_of(tmp_path, size), tmp_path / "placed"
    done = put(site, source, target, "--mode", "0640")
    assert (done.returncode, done.stdout) == (0, "web01\n"), done.stderr
    assert target.read_bytes() == source.read_bytes()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_a_file_goes_to_many_and_comes_back_from_each(site: Any, tmp_path: Path) -> None:
    source = file_of(tmp_path, 300_000)
    assert put(site, source, tmp_path / "a name; with $more", host="web0[1-2]").returncode == 0
    fetch = ("fetch", "--json", "-t", "web0[1-2]", str(tmp_path / "a name; with $more"))
    done = site.run(*fetch, "-o", str(tmp_path / "in"))
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["path"]) for line in told] == [
        tmp_path / "in" / host / "a name; with $more" for host in ("web01", "web02")
    ]
    assert {Path(line["path"]).read_bytes() for line in told} == {source.read_bytes()}


def test_no_rule_means_a_name_with_a_line_in_it(site: Any, tmp_path: Path) -> None:
    done = put(site, file_of(tmp_path, 5), tmp_path / "name\nwith a line")
    assert done.returncode == 4
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["source-5"]


def test_a_link_at_the_path_is_replaced_and_what_it_points_to_is_left(site: Any, tmp_path: Path) -> None:
    other, link = tmp_path / "other", tmp_path / "link"
    other.write_text("mine")
    link.symlink_to(other)
    assert put(site, file_of(tmp_path, 5), link).returncode == 0
    assert not link.is_symlink() and link.stat().st_size == 5
    assert other.read_text() == "mine"


def test_no_link_is_followed_on_the_way(site: Any, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("x")
    (tmp_path / "way").symlink_to(tmp_path / "real")
    done = put(site, file_of(tmp_path, 5), tmp_path / "way" / "file")
    assert (done.returncode, codes.FILE_ELSEWHERE.code in done.stderr) == (1, True)
    assert str(tmp_path / "real" / "file") in done.stderr
    (tmp_path / "end").symlink_to(tmp_path / "real" / "file")
    for path in ("way/file", "end"):
        done = site.run("fetch", "-t", "web01", str(tmp_path / path), "-o", str(tmp_path / "in"))
        assert (done.returncode, codes.FILE_ELSEWHERE.code in done.stderr) == (1, True)
    assert (tmp_path / "real" / "file").read_text() == "x"


def test_what_is_no_file_is_neither_fetched_nor_replaced(site: Any, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        done = site.run("fetch", "-t", "web01", str(tmp_path / name), "-o", str(tmp_path / "in"))
        assert (done.returncode, codes.FILE_NOT_REGULAR.code in done.stderr) == (1, True)
        done = put(site, file_of(tmp_path, 5), tmp_path / name)
        assert (done.returncode, codes.FILE_NOT_REGULAR.code in done.stderr) == (1, True)
    assert (tmp_path / "folder").is_dir() and (tmp_path / "pipe").is_fifo()


def test_a_file_that_is_not_there_or_too_large_says_so(site: Any, tmp_path: Path) -> None:
    done = site.run("fetch", "-t", "web01", str(tmp_path / "none"), "-o", str(tmp_path / "in"))
    assert (done.returncode, codes.FILE_FAILED.code in done.stderr, "errno 2" in done.stderr) == (1, True, True)
    big = file_of(tmp_path, 1001)
    done = site.run("fetch", "-t", "web01", str(big), "-o", str(tmp_path / "in"), "--max-bytes", "1000")
    assert (done.returncode, codes.FILE_TOO_LARGE.code in done.stderr) == (1, True)


def test_an_owner_that_the_host_does_not_know_places_nothing(site: Any, tmp_path: Path) -> None:
    target = tmp_path / "placed"
    target.write_text("old")
    done = put(site, file_of(tmp_path, 5), target, "--owner", "nobody-of-that-name")
    assert (done.returncode, codes.FILE_OWNER_UNKNOWN.code in done.stderr) == (1, True)
    assert target.read_text() == "old"


def test_what_is_too_large_for_the_channel_is_not_begun(site: Any, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(MAX_FILE + 1)
    done = put(site, large, tmp_path / "placed")
    assert (done.returncode, codes.FILE_FOR_DISTRIBUTION.code in done.stderr) == (1, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk_leaves_the_old_file_whole(site: Any, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = psutil.Popen(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(small)]).wait(PATIENCE)
    if mounted != 0:
        pytest.skip("no mount here")
    try:
        target = small / "placed"
        target.write_text("old")
        with pytest.raises(OSError, match="No space"), (small / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        done = put(site, file_of(tmp_path, 300_000), target)
        assert (done.returncode, codes.FILE_FAILED.code in done.stderr, "errno 28" in done.stderr) == (1, True, True)
        assert target.read_text() == "old"
        assert sorted(entry.name for entry in small.iterdir()) == ["filler", "placed"]
    finally:
        psutil.Popen(["umount", str(small)]).wait(PATIENCE)


def test_more_than_came_with_the_result_is_read_from_the_host(site: Any, tmp_path: Path) -> None:
    done = site.run("exec", "--json", "-t", "web01", "--", "seq", "1", "150000")
    job = json.loads(done.stdout.splitlines()[-1])["job"]
    whole = "".join(f"{number}\n" for number in range(1, 150_001)).encode()
    kept = site.run("jobs", "output", job, "web01", "--raw")
    assert len(kept.stdout) < len(whole)
    done = site.run("jobs", "output", job, "web01", "--full", "-o", str(tmp_path / "seq"))
    assert (done.returncode, (tmp_path / "seq").read_bytes()) == (0, whole), done.stderr
    with site.fleet() as fleet:
        rest = b"".join(piece.data for piece in fleet.job(job).read_output("web01", 500_000))
    assert rest == whole[500_000:]


def test_what_printed_nothing_is_not_kept(site: Any) -> None:
    done = site.run("exec", "--json", "-t", "web01", "--", "true")
    job = json.loads(done.stdout.splitlines()[-1])["job"]
    done = site.run("jobs", "output", job, "web01", "--full")
    assert (done.returncode, codes.SPOOL_GONE.code in done.stderr) == (1, True)


def test_another_operators_output_is_not_handed_over_without_the_right(site: Any) -> None:
    """The host itself says no, whatever central thinks: a key that the roster does not know reads nothing."""
    done = site.run("exec", "--json", "-t", "web01", "--", "echo", "secret")
    job = json.loads(done.stdout.splitlines()[-1])["job"]
    envelope = site.envelope(act=ReadSpool(job))
    with site.http(login=False) as http:
        refused = http.post("/v1/reads", content=msgspec.json.encode(sign(envelope, os.urandom(32))))
        allowed = http.post("/v1/reads", content=msgspec.json.encode(sign(envelope, site.seed)))
    assert refused.json()["code"] == codes.SIGNER_UNKNOWN.code
    assert b"secret" in allowed.content


def test_an_upload_is_of_what_was_signed_and_goes_on_where_it_stands(site: Any, tmp_path: Path) -> None:
    data = os.urandom(1000)
    act = Put(path=str(tmp_path / "placed"), size=1000, sha256=hashlib.sha256(data).digest())
    body = msgspec.json.encode(sign(site.envelope(act=act), site.seed))
    name = act.sha256.hex()
    with site.http() as http:
        assert http.post("/v1/jobs", content=body).json()["code"] == codes.BLOB_GONE.code
        assert http.put(f"/v1/blobs/{name}", content=data).json()["code"] == codes.BLOB_UNEXPECTED.code
        assert http.post("/v1/blobs", content=body).json()["offset"] == 0
        assert http.put(f"/v1/blobs/{name}", content=data[:400]).json()["offset"] == 400
        assert http.put(f"/v1/blobs/{name}", content=data).json()["code"] == codes.BLOB_OFFSET.code
        assert http.put(f"/v1/blobs/{name}?offset=400", content=bytes(600)).json()["code"] == codes.BLOB_DIGEST.code
        assert http.post("/v1/blobs", content=body).json()["offset"] == 0
        assert http.put(f"/v1/blobs/{name}", content=data).json()["offset"] == 1000
        answer = http.post("/v1/jobs?wait=30", content=body).json()
    assert answer["targets"][0]["state"] == "ok"
    assert (tmp_path / "placed").read_bytes() == data


def test_a_control_plane_that_changes_the_file_places_nothing(site: Any, tmp_path: Path) -> None:
    data = os.urandom(100_000)
    act = Put(path=str(tmp_path / "placed"), size=len(data), sha256=hashlib.sha256(data).digest())
    body = msgspec.json.encode(sign(site.envelope(act=act), site.seed))
    with site.http() as http:
        http.post("/v1/blobs", content=body)
        http.put(f"/v1/blobs/{act.sha256.hex()}", content=data)
        (site.state / "blobs" / act.sha256.hex()).write_bytes(os.urandom(len(data)))
        target = http.post("/v1/jobs?wait=30", content=body).json()["targets"][0]
    assert (target["state"], target["code"], target["ran"]) == ("bad_signature", codes.FILE_DIGEST.code, "no")
    assert not (tmp_path / "placed").exists()
    assert list((site.host_state("web01") / "drafts").iterdir()) == []


def test_a_part_that_is_another_file_does_not_take_the_name(site: Any, tmp_path: Path) -> None:
    source = file_of(tmp_path, 5000)
    done = site.run("fetch", "-t", "web01", str(source), "-o", str(tmp_path / "in"))
    job = done.stderr.split("job ", 1)[1].split()[0]
    part = tmp_path / "again" / "web01" / f".{source.name}.{job}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(1000))
    done = site.run("fetch", "--job", job, "-o", str(tmp_path / "again"))
    assert (done.returncode, codes.FETCH_DIGEST.code in done.stderr) == (1, True)
    assert not (part.parent / source.name).exists()
    # The part was thrown away: the next attempt begins at the beginning.
    assert site.run("fetch", "--job", job, "-o", str(tmp_path / "again")).returncode == 0
    part.write_bytes(source.read_bytes()[:1234])
    (part.parent / source.name).unlink()
    assert site.run("fetch", "--job", job, "-o", str(tmp_path / "again")).returncode == 0
    assert (part.parent / source.name).read_bytes() == source.read_bytes()


def test_a_host_without_room_for_the_draft_says_so(new_site: Callable[..., Any], tmp_path: Path) -> None:
    site = new_site("web01")
    drafts = site.host_state("web01") / "drafts"
    drafts.rmdir()
    drafts.write_text("no folder")
    done = put(site, file_of(tmp_path, 5), tmp_path / "placed")
    assert (done.returncode, codes.DRAFT_FAILED.code in done.stderr) == (1, True), done
    assert not (tmp_path / "placed").exists()


def growing(path: Path, process: Any) -> int:
    """Waits until there is something of a file, and says how much; the one who makes it must not be done before."""
    while True:
        assert process.poll() is None, process.communicate()
        for entry in path.iterdir() if path.is_dir() else ():
            size = entry.stat().st_size
            if size:
                return size


@pytest.mark.parametrize("victim", ["agent", "keeper", "central"])
def test_a_put_survives_kill_nine_amid_the_transfer(new_site: Callable[..., Any], tmp_path: Path, victim: str) -> None:
    site = new_site("web01")
    source, target = file_of(tmp_path, 48 * 1024 * 1024), tmp_path / "placed"
    target.write_text("old")
    with site.start("put", str(source), "-t", "web01", "--to", str(target)) as process:
        had = growing(site.host_state("web01") / "drafts", process)
        if victim == "agent":
            site.kill_agent("web01")
        elif victim == "keeper":
            site.kill_keeper("web01")
        else:
            site.kill_central()
            assert target.read_text() == "old"
            site.up()
        assert 0 < had < source.stat().st_size
        _, said = process.communicate(timeout=PATIENCE)
        job = said.split("job ", 1)[1].split()[0]
    result = site.result(job)
    assert [(target.state, target.code) for target in result.targets] == [("ok", None)]
    assert target.read_bytes() == source.read_bytes()


def test_a_cancelled_put_leaves_the_old_file_and_no_draft(new_site: Callable[..., Any], tmp_path: Path) -> None:
    site = new_site("web01")
    source, target = file_of(tmp_path, 48 * 1024 * 1024), tmp_path / "placed"
    target.write_text("old")
    drafts = site.host_state("web01") / "drafts"
    with site.start("put", str(source), "-t", "web01", "--to", str(target)) as process:
        growing(drafts, process)
        with site.fleet() as fleet:
            (job,) = fleet.jobs(1)
            fleet.job(job.id).cancel()
            result = fleet.job(job.id).result()
    state = result.targets[0].state
    assert state in ("cancelled", "ok")
    if state == "cancelled":
        assert target.read_text() == "old"
    assert list(drafts.iterdir()) == []
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_a_fetch_goes_on_when_the_host_comes_back(new_site: Callable[..., Any], tmp_path: Path) -> None:
    site = new_site("web01")
    source = file_of(tmp_path, 48 * 1024 * 1024)
    with site.start("fetch", "-t", "web01", str(source), "-o", str(tmp_path / "in")) as process:
        had = growing(tmp_path / "in" / "web01", process)
        site.kill_agent("web01")
        assert 0 < had < source.stat().st_size
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert (tmp_path / "in" / "web01" / source.name).read_bytes() == source.read_bytes()
