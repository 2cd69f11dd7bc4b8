"""Files of hosts and of a central that lie: what is fetched is what was said, under the name that was asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from libstaragent import codes, sync
from libstaragent.jobs.spool_stream import end_record
from libstaragent.model.result import encode_records
from libstaragent.security.act_limits import MAX_FILE

DATA = b"what the file holds" * 1000
PIECE = encode_records([(1, DATA)])


def told(data: bytes = DATA, **fields: Any) -> dict[str, Any]:
    """What a host says of its file."""
    said = {"stdout_bytes": len(data), "stdout_sha256": hashlib.sha256(data).hexdigest()}
    return {"exit_status": 0, "ran": "yes", **said, **fields}


def fetched(central: Any, tmp_path: Path, said: dict[str, Any], *pieces: bytes) -> Any:
    """A fetch from web01, which says `said` and sends `pieces`."""

    def script(story: Any) -> None:
        story.end(story.members[0], "ok", **said)
        story.finish()

    central.script = script
    central.spools["web01"] = pieces
    with sync.Fleet.connect(central.context()) as fleet:
        (one,) = fleet.fetch("web01", "/var/log/file", tmp_path / "in")
    if one.error is not None:
        assert one.path is None and not (tmp_path / "in" / "web01" / "file").exists()
        assert sum(part.stat().st_size for part in (tmp_path / "in").rglob("*") if part.is_file()) == 0
    return one


def test_a_file_that_is_what_was_said_takes_its_name(central: Any, tmp_path: Path) -> None:
    one = fetched(central, tmp_path, told(), PIECE, end_record(len(DATA)))
    assert one.error is None and one.path.read_bytes() == DATA
    assert [entry.name for entry in one.path.parent.iterdir()] == ["file"]


def test_a_host_that_sends_more_than_it_said_is_not_listened_to_any_longer(central: Any, tmp_path: Path) -> None:
    one = fetched(central, tmp_path, told(), PIECE, encode_records([(1, b"x")]), PIECE, end_record(2 * len(DATA) + 1))
    assert one.error.code is codes.FETCH_DIGEST
    assert one.error.detail == f"more than the {len(DATA)} bytes that it is to be"


def test_a_host_that_sends_less_or_something_else_gives_no_file(central: Any, tmp_path: Path) -> None:
    other = encode_records([(1, DATA[::-1])])
    for pieces in ((end_record(0),), (other, end_record(len(DATA)))):
        assert fetched(central, tmp_path, told(), *pieces).error.code is codes.FETCH_DIGEST


def test_a_host_that_does_not_say_what_its_file_is_gives_none(central: Any, tmp_path: Path) -> None:
    one = fetched(central, tmp_path, told(stdout_sha256=None), PIECE, end_record(len(DATA)))
    assert one.error.code is codes.FETCH_DIGEST
    assert fetched(central, tmp_path, told(stdout_bytes=MAX_FILE + 1), PIECE).error.code is codes.FETCH_DIGEST
    empty = fetched(central, tmp_path, told(b"", stdout_sha256=None))
    assert empty.error is None and empty.path.read_bytes() == b""


def test_a_name_that_would_lead_elsewhere_or_stands_there_twice_is_refused(central: Any, tmp_path: Path) -> None:
    for name in ("../../outside", "..", "/outside", "a/b", "", "web02"):

        def script(story: Any, name: str = name) -> None:
            for member in story.members:
                story.end(member, "ok", **told())
            first = story.members[0].agent
            from msgspec.structs import replace

            story.targets[first] = replace(story.targets[first], host=name)
            story.finish()

        central.script = script
        central.spools = {"web01": (PIECE, end_record(len(DATA))), "web02": (PIECE, end_record(len(DATA)))}
        with sync.Fleet.connect(central.context()) as fleet:
            found = fleet.fetch("web01,web02", "/var/log/file", tmp_path / "in")
        wrong = [one for one in found if one.target.host == name]
        assert [one.error.code for one in wrong] == [codes.CENTRAL_ANSWER] * len(wrong) and wrong, name
        assert len(wrong) == (2 if name == "web02" else 1)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name == "file"]
    assert files == [tmp_path / "in" / "web02" / "file"]


def test_a_name_of_many_bytes_is_fetched_too(central: Any, tmp_path: Path) -> None:
    central.script = lambda story: (story.end(story.members[0], "ok", **told()), story.finish())
    central.spools["web01"] = (PIECE, end_record(len(DATA)))
    name = "ä" * 127
    with sync.Fleet.connect(central.context()) as fleet:
        (one,) = fleet.fetch("web01", f"/tmp/{name}", tmp_path / "in")
    assert one.error is None and one.path == tmp_path / "in" / "web01" / name
