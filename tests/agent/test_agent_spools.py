"""What a host keeps of outputs: how long, how much, and what is given up first."""

from __future__ import annotations

import os
from pathlib import Path

from agentd.agent.spools import SWEPT_AT_ONCE, KeptLimits, Spools
from agentd.keeper.kept import KeptSpools
from agentd.keeper.spoolfile import SpoolReader, SpoolWriter
from libstaragent.jobs.spool import Geometry

NOW = 1_000_000.0


def kept(folder: Path, name: str, *, age: float, size: int = 4096) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(os.urandom(size))
    os.utime(folder / name, (NOW - age, NOW - age))


def names_after(folder: Path, limits: KeptLimits, turns: int = 1) -> list[str]:
    spools = Spools(running=folder / "none", kept=folder, limits=limits)
    for turn in range(turns):
        spools.tick(float(turn * 60), NOW)
    return sorted(entry.name for entry in folder.iterdir())


def test_spools_go_when_their_time_is_over(tmp_path: Path) -> None:
    for name, age in (("old", 101.0), ("young", 99.0)):
        kept(tmp_path / "kept", name, age=age)
    assert names_after(tmp_path / "kept", KeptLimits(seconds=100, floor=0)) == ["young"]


def test_the_oldest_go_when_they_are_too_many_or_too_large(tmp_path: Path) -> None:
    for age in range(9):
        kept(tmp_path / "kept", f"age{age}", age=age)
    assert names_after(tmp_path / "kept", KeptLimits(count=3, floor=0)) == ["age0", "age1", "age2"]
    assert names_after(tmp_path / "kept", KeptLimits(bytes=2 * 4096, floor=0)) == ["age0", "age1"]


def test_a_few_go_at_a_time(tmp_path: Path) -> None:
    for age in range(SWEPT_AT_ONCE + 36):
        kept(tmp_path / "kept", f"{age:04}", age=age, size=0)
    assert len(names_after(tmp_path / "kept", KeptLimits(count=0, floor=0))) == 36
    assert names_after(tmp_path / "kept", KeptLimits(count=0, floor=0)) == []


def test_a_folder_that_cannot_be_read_or_changed_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("no folder")
    Spools(running=tmp_path, kept=tmp_path / "kept", limits=KeptLimits()).tick(0.0, NOW)


def test_all_go_where_the_disk_must_stay_free(tmp_path: Path) -> None:
    kept(tmp_path / "kept", "one", age=0)
    assert names_after(tmp_path / "kept", KeptLimits(floor=1 << 60)) == []


def test_limits_come_from_the_environment(monkeypatch: object) -> None:
    os.environ["OPSCONSOLE_KEEP_COUNT"] = "7"
    os.environ["OPSCONSOLE_KEEP_BYTES"] = "many"
    try:
        assert KeptLimits.from_environment() == KeptLimits(count=7)
    finally:
        del os.environ["OPSCONSOLE_KEEP_COUNT"], os.environ["OPSCONSOLE_KEEP_BYTES"]


def spool(path: Path, size: int, *, head: int = 4096, shown: int = 4096, ring: int = 0) -> bytes:
    """A finished spool into which `size` bytes were written; what was written."""
    data = os.urandom(size)
    writer = SpoolWriter.create(str(path), {"job": path.name}, Geometry.for_bytes(head, shown, ring))
    for at in range(0, size, 5000):
        writer.append(1, data[at : at + 5000])
        writer.flush()
    writer.trim()
    writer.write_finished({"stdout_bytes": size, "stderr_bytes": 0})
    writer.close()
    return data


def read_all(path: Path, offset: int, most: int) -> tuple[bytes, int]:
    """All that a follower gets from `offset` on, and how much of it he missed."""
    found, lost = b"", 0
    with SpoolReader(str(path)) as reader:
        while True:
            pairs, after, missed = reader.follow(offset, most)
            lost += missed
            if not pairs:
                return found, lost
            found += b"".join(data for _, data in pairs)
            offset = after


def test_a_ring_holds_more_than_is_shown_and_is_read_from_any_offset(tmp_path: Path) -> None:
    data = spool(tmp_path / "a", 300_000, ring=1_000_000)
    for offset in (0, 1, 4095, 4096, 100_000, 299_999, 300_000):
        assert read_all(tmp_path / "a", offset, 16_000) == (data[offset:], 0)
    with SpoolReader(str(tmp_path / "a")) as reader:
        head, omitted, tail = reader.read_output()
    first, last = b"".join(part for _, part in head), b"".join(part for _, part in tail)
    assert (data.startswith(first), data.endswith(last)) == (True, True)
    assert len(first) + omitted + len(last) == len(data)
    assert len(last) < 3 * 4096


def test_a_lapped_ring_says_how_much_is_missing(tmp_path: Path) -> None:
    data = spool(tmp_path / "a", 300_000, ring=50_000)
    found, lost = read_all(tmp_path / "a", 0, 16_000)
    assert lost + len(found) == 300_000 and lost > 200_000
    assert data.endswith(found[-40_000:])


def test_a_small_spool_takes_little_room(tmp_path: Path) -> None:
    spool(tmp_path / "a", 10, head=64 * 1024, ring=64 * 1024 * 1024)
    assert (tmp_path / "a").stat().st_blocks * 512 <= 24 * 1024


def test_what_is_given_up_for_a_command_without_room_is_the_oldest(tmp_path: Path) -> None:
    folder = KeptSpools(str(tmp_path / "kept"))
    for age in range(70):
        kept(tmp_path / "kept", f"{age:02}", age=age)
    tries: list[int] = []

    def make() -> str:
        tries.append(len(list((tmp_path / "kept").iterdir())))
        if len(tries) == 1:
            raise OSError(28, "No space left on device")
        return "made"

    assert folder.made_room(make) == "made"
    assert tries == [70, 6]
    assert sorted(entry.name for entry in (tmp_path / "kept").iterdir()) == ["00", "01", "02", "03", "04", "05"]
