"""Live output and stored output as one sequence: nothing twice, nothing unnamed."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from libstaragent.client.output import Gap, OutputMerge, Piece, output_pieces
from libstaragent.model.api import OutputLive, OutputView
from libstaragent.model.result import encode_records

Written = list[tuple[int, bytes]]


def live(offset: int, written: Written) -> OutputLive:
    return OutputLive("job", "agent", "web01", offset, encode_records(written))


def flat(pieces: list[Piece | Gap]) -> list[tuple[int, int]]:
    """Each byte as (stream, byte), each byte of a gap as (0, 0)."""
    found: list[tuple[int, int]] = []
    for piece in pieces:
        found += [(0, 0)] * piece.size if isinstance(piece, Gap) else [(piece.stream, byte) for byte in piece.data]
    return found


def test_what_was_live_is_not_repeated_by_what_was_stored() -> None:
    merge = OutputMerge(patient=True)
    first = merge.live(live(0, [(1, b"ab"), (2, b"c")]))
    rest = merge.finish(OutputView(head=encode_records([(1, b"ab"), (2, b"cd")]), omitted=0, tail=b""))
    assert first == [Piece(1, b"ab"), Piece(2, b"c")]
    assert rest == [Piece(2, b"d")]


def test_who_watches_sees_the_gap_and_goes_on() -> None:
    merge = OutputMerge(patient=False)
    assert merge.live(live(5, [(1, b"f")])) == [Gap(5), Piece(1, b"f")]
    assert not merge.whole(6)


def test_who_must_have_everything_waits_for_what_was_stored() -> None:
    merge = OutputMerge(patient=True)
    assert merge.live(live(0, [(1, b"a")])) + merge.live(live(3, [(1, b"d")])) + merge.live(live(1, [(1, b"b")])) == [
        Piece(1, b"a")
    ]
    assert merge.finish(OutputView(head=encode_records([(1, b"abcd")]), omitted=0, tail=b"")) == [Piece(1, b"bcd")]


def test_where_nothing_was_stored_what_was_missed_is_named() -> None:
    merge = OutputMerge(patient=True)
    merge.live(live(0, [(1, b"a")]))
    merge.live(live(3, [(1, b"d")]))
    assert merge.finish(None) == [Gap(3)]


def test_after_the_end_nothing_is_taken() -> None:
    merge = OutputMerge(patient=False)
    merge.finish(None)
    assert merge.live(live(0, [(1, b"a")])) == []
    assert merge.finish(OutputView(head=encode_records([(1, b"a")]), omitted=0, tail=b"")) == []


def test_head_gap_and_tail_of_a_long_output() -> None:
    stored = OutputView(head=encode_records([(1, b"begin")]), omitted=7, tail=encode_records([(2, b"end")]))
    assert output_pieces(stored) == [Piece(1, b"begin"), Gap(7), Piece(2, b"end")]


@given(
    written=st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=6)), max_size=12),
    cuts=st.lists(st.integers(0, 80), max_size=12),
    lost=st.sets(st.integers(0, 12)),
    keep=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    patient=st.booleans(),
    repeat=st.booleans(),
)
def test_whatever_is_lost_every_byte_stands_once_in_its_place_or_in_a_gap(
    written: Written, cuts: list[int], lost: set[int], keep: tuple[int, int], patient: bool, repeat: bool
) -> None:
    whole = [(stream, byte) for stream, data in written for byte in data]
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    merge = OutputMerge(patient=patient)
    pieces: list[Piece | Gap] = []
    for number, (begin, end) in enumerate(itertools.pairwise(edges)):
        if number not in lost and end > begin:
            event = live(begin, records_of(whole[begin:end]))
            pieces += merge.live(event)
            if repeat:
                pieces += merge.live(event)
    head = min(keep[0], len(whole))
    tail = max(head, len(whole) - keep[1])
    stored = OutputView(
        head=encode_records(records_of(whole[:head])),
        omitted=tail - head,
        tail=encode_records(records_of(whole[tail:])),
    )
    complete = merge.whole(len(whole))
    pieces += merge.finish(None if complete else stored)
    shown = flat(pieces)
    assert len(shown) == len(whole)
    assert all(seen in ((0, 0), written_byte) for seen, written_byte in zip(shown, whole, strict=True))
    if patient:
        assert all(shown[at] != (0, 0) for at in (*range(head), *range(tail, len(whole))))


@given(data=st.binary(max_size=200), offset=st.integers(-5, 50))
def test_bytes_that_are_no_records_raise_nothing(data: bytes, offset: int) -> None:
    merge = OutputMerge(patient=False)
    merge.live(OutputLive("job", "agent", "web01", offset, data))
    merge.finish(OutputView(head=data, omitted=offset, tail=data))


def records_of(part: list[tuple[int, int]]) -> Written:
    found: Written = []
    for stream, byte in part:
        if found and found[-1][0] == stream:
            found[-1] = (stream, found[-1][1] + bytes([byte]))
        else:
            found.append((stream, bytes([byte])))
    return found
