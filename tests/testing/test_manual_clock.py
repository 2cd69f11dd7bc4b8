"""The clock that is turned by hand, and the streams in memory."""

from __future__ import annotations

from random import Random

from libstaragent.testing import ManualClock, MemoryNetwork


def test_things_happen_at_their_time_and_in_the_order_in_which_they_were_asked_for() -> None:
    clock = ManualClock()
    seen: list[tuple[str, float]] = []
    clock.call_later(2.0, lambda: seen.append(("late", clock.now)))
    clock.call_later(1.0, lambda: seen.append(("first", clock.now)))
    clock.call_later(1.0, lambda: seen.append(("second", clock.now)))
    clock.call_later(1.5, lambda: seen.append(("never", clock.now))).cancel()
    clock.advance(1.7)
    assert seen == [("first", 1.0), ("second", 1.0)]
    assert clock.now == 1.7
    clock.advance(1.0)
    assert seen[-1] == ("late", 2.0)


def test_a_stream_arrives_whole_and_in_order_however_it_is_split() -> None:
    clock = ManualClock()
    network = MemoryNetwork(clock, Random(1), slowness=10.0, splits=1.0)
    mine, theirs = network.connect("host")
    got: list[bytes] = []
    theirs.on_data = got.append
    pieces = [bytes([number]) * 9 for number in range(50)]
    for piece in pieces:
        mine.write(piece)
    clock.advance(5)
    assert b"".join(got) == b"".join(pieces)
    assert len(got) > len(pieces)


def test_a_stalled_path_holds_bytes_back_and_a_cut_one_tells_both_ends() -> None:
    clock = ManualClock()
    network = MemoryNetwork(clock, Random(1))
    mine, theirs = network.connect("host")
    got: list[bytes] = []
    lost: list[str] = []
    theirs.on_data = got.append
    mine.on_lost = lambda: lost.append("mine")
    theirs.on_lost = lambda: lost.append("theirs")
    network.stall("host")
    mine.write(b"x")
    clock.advance(5)
    assert got == []
    network.heal("host")
    assert got == [b"x"]
    network.cut("host")
    assert sorted(lost) == ["mine", "theirs"]


def test_a_silenced_connection_loses_bytes_and_nobody_is_told() -> None:
    clock = ManualClock()
    network = MemoryNetwork(clock, Random(1))
    mine, theirs = network.connect("host")
    heard: list[object] = []
    theirs.on_data = heard.append
    theirs.on_lost = lambda: heard.append(None)
    network.silence("host")
    mine.write(b"x")
    mine.close()
    clock.advance(5)
    assert heard == []
