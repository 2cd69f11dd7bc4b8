"""Files to hosts and from hosts, and what hosts keep: every process real, every failure provoked where it happens.

What the host's system says of a path is tested in tests/keeper. Who is killed is of a fleet that one test has for all
of them: it takes as long to start as they do.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.protocol.messages import CHUNK_MAX
from libstaragent.security.act_limits import MAX_FILE
from libstaragent.security.acts import Put, ReadSpool
from libstaragent.security.envelope import sign

PATIENCE = 30.0
# Large enough to be seen on its way, small enough to be soon there: a tenth of a second on a quick machine.
AMID = 6 * 1024 * 1024
# How often a transfer is begun anew that was through before it was seen.
ATTEMPTS = 10


def file_of(folder: Path, size: int) -> Path:
    path = folder / f"source-{size}"
    path.write_bytes(os.urandom(size))
    return path


def put(site: Any, source: Path, to: Path | str, *options: str, host: str = "web01") -> Any:
    return site.run("put", str(source), "-t", host, "--to", str(to), *options)


def counted(site: Any, name: str) -> float:
    """A counter of the room."""
    with site.http() as http:
        lines = http.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"opsconsole_room_{name}"))


# What arrives ---------------------------------------------------------------------------------------------------------


def test_files_of_every_size_arrive_as_they_are_and_come_back(site: Any, tmp_path: Path) -> None:
    with site.fleet() as fleet:
        for size in (0, 1, CHUNK_MAX, 2 * CHUNK_MAX, 2 * CHUNK_MAX + 1, 1_000_003):
            source, target = file_of(tmp_path, size), tmp_path / f"placed-{size}"
            assert fleet.put(source, "web01", str(target), mode=0o640).result().counts == {"ok": 1}
            assert target.read_bytes() == source.read_bytes()
            assert stat.S_IMODE(target.stat().st_mode) == 0o640
            (fetched,) = fleet.fetch("web01", str(target), tmp_path / "in")
            assert fetched.error is None and fetched.path == tmp_path / "in" / "web01" / target.name
            assert fetched.path.read_bytes() == source.read_bytes()
    left = [entry.name for entry in tmp_path.rglob("*") if entry.name.startswith(".")]
    assert left == []


@pytest.mark.slow
def test_the_largest_file_there_may_be_goes_there_and_back(site: Any, tmp_path: Path) -> None:
    source = file_of(tmp_path, MAX_FILE)
    done = put(site, source, tmp_path / "placed")
    assert (done.returncode, done.stdout) == (0, "web01\n"), done.stderr
    done = site.run("fetch", "-t", "web01", str(tmp_path / "placed"), "-o", str(tmp_path / "in"))
    assert done.returncode == 0, done.stderr
    digests = set()
    for path in (source, tmp_path / "placed", tmp_path / "in" / "web01" / "placed"):
        with path.open("rb") as file:
            digests.add(hashlib.file_digest(file, "sha256").hexdigest())
        path.unlink()
    assert len(digests) == 1


def test_a_file_goes_to_many_through_the_room_once_and_comes_back_from_each(site: Any, tmp_path: Path) -> None:
    source = file_of(tmp_path, 5 * CHUNK_MAX - 1)
    asked = counted(site, "asked_pieces_total")
    assert put(site, source, tmp_path / "a name; with $more", host="web0[1-2],db01").returncode == 0
    assert counted(site, "asked_pieces_total") - asked == 5
    fetch = ("fetch", "--json", "-t", "web0[1-2]", str(tmp_path / "a name; with $more"))
    done = site.run(*fetch, "-o", str(tmp_path / "in"))
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["path"]) for line in told] == [
        tmp_path / "in" / host / "a name; with $more" for host in ("web01", "web02")
    ]
    assert {Path(line["path"]).read_bytes() for line in told} == {source.read_bytes()}


def test_a_fetch_that_is_left_is_gone_on_with_later(site: Any, tmp_path: Path) -> None:
    source = file_of(tmp_path, 10)
    job = site.run("fetch", "--async", "-t", "web01", str(source)).stdout.strip()
    done = site.run("fetch", "--job", job, "-o", str(tmp_path / "in"))
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/in/web01/{source.name}\n"), done.stderr


# What does not --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["name\nwith a line", "a/../b", "a//b"], ids=["two lines", "dots", "two slashes"])
def test_no_rule_means_a_path_that_is_not_plain(site: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()
    done = put(site, file_of(tmp_path, 5), f"{tmp_path}/{name}")
    assert done.returncode == 4
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "source-5"]


@pytest.mark.parametrize(
    "name", [os.fsdecode(b"not \xff utf-8"), "long" * 1100, "folder/"], ids=["not UTF-8", "too long", "a folder"]
)
def test_a_path_that_cannot_be_signed_is_refused_before_anything_is_sent(site: Any, tmp_path: Path, name: str) -> None:
    source = file_of(tmp_path, 5)
    for done in (
        put(site, source, f"{tmp_path}/{name}"),
        site.run("fetch", "-t", "web01", f"{tmp_path}/{name}", "-o", str(tmp_path / "in")),
    ):
        assert (done.returncode, codes.ENVELOPE_FIELD.code in done.stderr) == (64, True), done.stderr
        assert "Traceback" not in done.stderr
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["source-5"]


def test_what_stands_there_is_told_with_its_code_and_left(site: Any, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("x")
    (tmp_path / "way").symlink_to(tmp_path / "real")
    (tmp_path / "end").symlink_to(tmp_path / "real" / "file")
    os.mkfifo(tmp_path / "pipe")
    long = "n" * 256
    source = file_of(tmp_path, 5)
    expected = {
        ("put", "way/file"): (codes.FILE_ELSEWHERE, None),
        ("put", "real"): (codes.FILE_NOT_REGULAR, None),
        ("put", "pipe"): (codes.FILE_NOT_REGULAR, None),
        ("put", "none/file"): (codes.FILE_FAILED, 2),
        ("put", long): (codes.FILE_FAILED, 36),
        ("fetch", "way/file"): (codes.FILE_ELSEWHERE, None),
        ("fetch", "end"): (codes.FILE_ELSEWHERE, None),
        ("fetch", "real"): (codes.FILE_NOT_REGULAR, None),
        ("fetch", "pipe"): (codes.FILE_NOT_REGULAR, None),
        ("fetch", "none"): (codes.FILE_FAILED, 2),
        ("fetch", long): (codes.FILE_FAILED, 36),
    }
    found = {}
    with site.fleet() as fleet:
        for act, name in expected:
            path = str(tmp_path / name)
            if act == "put":
                (target,) = fleet.put(source, "web01", path).result().targets
            else:
                (fetched,) = fleet.fetch("web01", path, tmp_path / "in")
                assert fetched.path is None
                target = fetched.target
            found[act, name] = (codes.by_code(target.code), target.errno)
            assert target.state != "ok"
        (target,) = fleet.put(source, "web01", str(tmp_path / "end"), owner="nobody-of-that-name").result().targets
        assert target.code == codes.FILE_OWNER_UNKNOWN.code and (tmp_path / "end").is_symlink()
        assert fleet.put(source, "web01", str(tmp_path / "end")).result().counts == {"ok": 1}
    assert found == expected
    assert not (tmp_path / "end").is_symlink() and (tmp_path / "end").read_bytes() == source.read_bytes()
    assert (tmp_path / "real" / "file").read_text() == "x" and (tmp_path / "pipe").is_fifo()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["end", "pipe", "real", source.name, "way"]
    done = put(site, source, tmp_path / "way" / "file")
    assert (done.returncode, codes.FILE_ELSEWHERE.code in done.stderr) == (1, True)
    assert str(tmp_path / "real" / "file") in done.stderr and "errno" not in done.stderr


def test_what_is_too_large_says_so(site: Any, tmp_path: Path) -> None:
    big = file_of(tmp_path, 1001)
    done = site.run("fetch", "-t", "web01", str(big), "-o", str(tmp_path / "in"), "--max-bytes", "1000")
    assert (done.returncode, codes.FILE_TOO_LARGE.code in done.stderr) == (1, True)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(MAX_FILE + 1)
    done = put(site, large, tmp_path / "placed")
    assert (done.returncode, codes.FILE_FOR_DISTRIBUTION.code in done.stderr) == (1, True)
    done = site.run("fetch", "-t", "web01", str(large), "-o", str(tmp_path / "in"))
    assert (done.returncode, codes.FILE_TOO_LARGE.code in done.stderr) == (1, True)


def test_a_file_that_is_written_over_while_it_is_fetched_is_not_handed_over(site: Any, tmp_path: Path) -> None:
    source, over, begun = file_of(tmp_path, AMID), threading.Event(), threading.Event()

    def write() -> None:
        with source.open("r+b", buffering=0) as file:
            while not over.is_set():
                os.pwrite(file.fileno(), os.urandom(1), 7)
                begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert begun.wait(PATIENCE)
        done = site.run("fetch", "-t", "web01", str(source), "-o", str(tmp_path / "in"))
    finally:
        over.set()
        writer.join()
    assert (done.returncode, codes.FILE_CHANGED.code in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "in").exists()


def test_a_source_that_is_another_file_by_its_upload_places_nothing(site: Any, tmp_path: Path) -> None:
    source = file_of(tmp_path, 1000)
    with site.fleet() as fleet:
        act = fleet.placing(source, str(tmp_path / "placed"))
        for changed in (os.urandom(1000), os.urandom(999)):
            source.write_bytes(changed)
            with pytest.raises(StarAgentError) as refused:
                fleet.place(act, source, "web01", fleet.resolve("web01"))
            assert refused.value.code is codes.BLOB_DIGEST
    assert not (tmp_path / "placed").exists()


def test_where_something_else_stands_for_the_fetched_file_says_so(site: Any, tmp_path: Path) -> None:
    source = file_of(tmp_path, 10)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "web01").write_text("a file")
    (tmp_path / "two" / "web01" / source.name).mkdir(parents=True)
    for into in ("one", "two"):
        done = site.run("fetch", "-t", "web0[1-2]", str(source), "-o", str(tmp_path / into))
        assert (done.returncode, codes.FILE_REFUSED.code in done.stderr) == (1, True), done.stderr
        # The other host's is there all the same.
        assert done.stdout == f"{tmp_path}/{into}/web02/{source.name}\n"


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


def test_what_was_signed_by_the_command_line_is_carried_by_any_program(site: Any, tmp_path: Path) -> None:
    source, target = file_of(tmp_path, 100_000), tmp_path / "placed"
    done = site.run("sign", "put", str(source), "-t", "web0[1-2]", "--to", str(target), "--window", "1")
    assert done.returncode == 0, done.stderr
    with site.http() as http:
        stands = http.post("/v1/blobs", content=done.stdout).json()
        assert stands["offset"] == 0
        http.put(f"/v1/blobs/{stands['sha256']}", content=source.read_bytes())
        answer = http.post("/v1/jobs?wait=30", content=done.stdout).json()
        assert answer["job"]["counts"] == {"ok": 2} and answer["job"]["plan"]["window"] == 1
        signed = site.run("sign", "fetch", "-t", "web01", str(target)).stdout
        job = http.post("/v1/jobs?wait=30", content=signed).json()["job"]
    assert site.run("fetch", "--job", job["id"], "-o", str(tmp_path / "in")).returncode == 0
    assert (tmp_path / "in" / "web01" / "placed").read_bytes() == source.read_bytes()


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


# Who is killed amid a transfer ----------------------------------------------------------------------------------------


class Held:
    """A transfer that stands still, because one of its processes was stopped amid it."""

    def __init__(self, process: Any, pid: int, had: int) -> None:
        self.process = process
        self.had = had
        self._pid = pid

    def go_on(self) -> None:
        """Let it go on, where it was not killed."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGCONT)

    def end(self) -> str:
        """Its end, which is good; what it narrated."""
        self.go_on()
        _, said = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, said
        return str(said)


@contextlib.contextmanager
def held_amid(
    site: Any, *words: str, there: Callable[[], int], stop: Callable[[Any], int], again: Callable[[], object]
) -> Iterator[Held]:
    """`opsconsole WORDS`, and the process that `stop` names stopped when a part of its file is `there`. What was
    through before it could be stopped is begun anew, after `again` has removed what it left.
    """
    for _ in range(ATTEMPTS):
        with site.start(*words) as process:
            while not there() and process.poll() is None:
                pass
            pid = stop(process)
            os.kill(pid, signal.SIGSTOP)
            held = Held(process, pid, there())
            try:
                if 0 < held.had < AMID and process.poll() is None:
                    yield held
                    return
            finally:
                held.go_on()
            process.communicate(timeout=PATIENCE)
        again()
    pytest.fail("it was through each time")


def sizes(folder: Path, pattern: str) -> int:
    """Bytes of the files that are called so."""
    found = 0
    for path in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            found += path.stat().st_size
    return found


def emptied(folder: Path) -> bool:
    """Whether a folder becomes empty, within our patience."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if not any(folder.iterdir()):
            return True
    return False


def placing(site: Any, folder: Path, *options: str, host: str = "web02", room: bool = False) -> Any:
    """A put over an old file, held amid its way from the room to the host: on the host, or with the `room` stopped."""
    source, target = file_of(folder, AMID), folder / "placed"
    target.write_text("old")
    return held_amid(
        site,
        *("put", str(source), "-t", host, "--to", str(target), *options),
        there=lambda: sizes(site.host_state(host) / "drafts", "*"),
        stop=lambda process: site.said["pid"] if room else site.agent_process(host).pid,
        again=lambda: target.write_text("old"),
    )


def fetching(site: Any, folder: Path, *, host: str = "web02", client: bool = False) -> Any:
    """A fetch to the folder `in`, held amid its way: on the host, or with the `client` stopped."""
    source, into = file_of(folder, AMID), folder / "in"
    return held_amid(
        site,
        *("fetch", "-t", host, str(source), "-o", str(into)),
        there=lambda: sizes(into, f"{host}/.*.part"),
        stop=lambda process: process.pid if client else site.agent_process(host).pid,
        again=lambda: shutil.rmtree(into),
    )


@pytest.mark.timeout(120)
def test_puts_and_fetches_survive_kill_nine_amid_the_transfer(new_site: Callable[..., Any], tmp_path: Path) -> None:
    site = new_site("web01")

    def restart() -> None:
        site.kill_central()
        site.up()

    for name, kill in (("agent", lambda: site.kill_agent("web01")), ("central", restart)):
        (there := tmp_path / name / "there").mkdir(parents=True)
        (back := tmp_path / name / "back").mkdir()
        fetched = back / "in" / "web01" / f"source-{AMID}"
        with (
            fetching(site, back, host="web01", client=True) as fetch,
            placing(site, there, host="web01") as put,
        ):
            assert not fetched.exists()
            kill()
            assert (there / "placed").read_text() == "old"
            put.end()
            fetch.end()
        assert fetched.read_bytes() == (back / fetched.name).read_bytes()
        assert len(list(fetched.parent.iterdir())) == 1
        assert (there / "placed").read_bytes() == (there / f"source-{AMID}").read_bytes()
        assert emptied(site.host_state("web01") / "drafts")
    # With the room stopped: a stopped agent would get SIGHUP from the kernel when its keeper dies.
    with placing(site, tmp_path, host="web01", room=True) as held:
        site.kill_keeper("web01")
        assert (tmp_path / "placed").read_text() == "old"
        held.end()
    assert (tmp_path / "placed").read_bytes() == (tmp_path / f"source-{AMID}").read_bytes()
    assert emptied(site.host_state("web01") / "drafts")


def test_a_cancelled_put_leaves_the_old_file_and_no_draft(site: Any, tmp_path: Path) -> None:
    with placing(site, tmp_path) as held, site.fleet() as fleet:
        job = fleet.job(fleet.jobs(1)[0].id)
        job.cancel()
        held.go_on()
        assert job.result().counts == {"cancelled": 1}
    assert (tmp_path / "placed").read_text() == "old"
    assert emptied(site.host_state("web02") / "drafts")
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_a_put_whose_time_is_up_on_its_way_leaves_the_old_file_and_no_draft(site: Any, tmp_path: Path) -> None:
    with placing(site, tmp_path, "--timeout", "1", room=True) as held:
        assert emptied(site.host_state("web02") / "drafts")
        held.go_on()
        _, said = held.process.communicate(timeout=PATIENCE)
    assert (held.process.returncode, codes.COMMAND_TIMEOUT.code in said) == (1, True), said
    assert (tmp_path / "placed").read_text() == "old"


def test_a_client_killed_amid_its_upload_has_placed_nothing_and_the_next_goes_on(site: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "placed"
    words = ("put", str(source), "-t", "web02", "--to", str(target))
    part = Path()

    def again() -> None:
        nonlocal part
        target.unlink(missing_ok=True)
        source.write_bytes(os.urandom(AMID))
        part = site.state / "blobs" / f"{hashlib.sha256(source.read_bytes()).hexdigest()}.part"

    again()
    with site.fleet() as fleet:
        with held_amid(
            site,
            *words,
            there=lambda: sizes(part.parent, part.name),
            stop=lambda process: process.pid,
            again=again,
        ) as held:
            held.process.kill()
            held.process.wait(PATIENCE)
        # Of those that were through before they were stopped there are jobs; of this one there is none.
        assert all(job.finished_ms is not None for job in fleet.jobs(10)) and not target.exists()
    assert 0 < sizes(part.parent, part.name) < AMID
    assert site.run(*words).returncode == 0
    assert target.read_bytes() == source.read_bytes() and not part.exists()


def test_a_client_killed_amid_its_fetch_leaves_no_file_and_the_next_goes_on(site: Any, tmp_path: Path) -> None:
    fetched = tmp_path / "in" / "web02" / f"source-{AMID}"
    with fetching(site, tmp_path, client=True) as held:
        held.process.kill()
        _, said = held.process.communicate(timeout=PATIENCE)
    assert not fetched.exists() and sizes(fetched.parent, ".*.part") == held.had
    job = said.split("job ", 1)[1].split()[0]
    assert site.run("fetch", "--job", job, "-o", str(tmp_path / "in")).returncode == 0
    assert fetched.read_bytes() == (tmp_path / f"source-{AMID}").read_bytes()
    assert [entry.name for entry in fetched.parent.iterdir()] == [fetched.name]


def test_a_host_without_room_for_the_draft_says_so(site: Any, tmp_path: Path) -> None:
    drafts = site.host_state("web01") / "drafts"
    assert emptied(drafts)
    drafts.rmdir()
    drafts.write_text("no folder")
    try:
        done = put(site, file_of(tmp_path, 5), tmp_path / "placed")
    finally:
        drafts.unlink()
        drafts.mkdir(mode=0o700)
    assert (done.returncode, codes.DRAFT_FAILED.code in done.stderr) == (1, True), done
    assert not (tmp_path / "placed").exists()
