"""The spool: whatever was torn, cut or overwritten, a reader tells only what was written, and nothing raises."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from agentd.keeper.spoolfile import SpoolReader, SpoolWriter
from libstaragent.jobs.spool import (
    BLANK,
    BLOCK_CAPACITY,
    BLOCK_SIZE,
    DAMAGED,
    FINISHED,
    HEADER_SIZE,
    STARTED,
    WHOLE,
    BlockPacker,
    Geometry,
    collect,
    decode_slot,
    encode_slot,
    records_from,
    split_ends,
)

CHUNKS = st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 9000), st.booleans()), max_size=30)
GEOMETRY = st.builds(Geometry, st.integers(0, 3), st.integers(0, 3))


def write(geometry: Geometry, chunks: list[tuple[int, int, bool]]) -> tuple[bytearray, dict[int, tuple[int, int]], int]:
    """The file's output region after these chunks, the truth (offset → stream, byte), and the end."""
    region = bytearray(geometry.file_end - HEADER_SIZE)
    packer = BlockPacker()
    truth: dict[int, tuple[int, int]] = {}
    counter = itertools.count()

    def put() -> None:
        for index, data in packer.take():
            position = geometry.position(index)
            if position is not None:
                at = position - HEADER_SIZE
                region[at : at + BLOCK_SIZE] = data.ljust(BLOCK_SIZE, b"\0")

    for stream, length, flush in chunks:
        data = bytes(next(counter) % 251 for _ in range(length))
        truth.update({packer.end + place: (stream, byte) for place, byte in enumerate(data)})
        packer.feed(stream, data)
        if flush:
            put()
    put()
    return region, truth, packer.end


def check(records: list[tuple[int, bytes]], at: int, truth: dict[int, tuple[int, int]]) -> int:
    """Compare records that begin at an offset with the truth; the offset after them."""
    for stream, data in records:
        for byte in data:
            assert truth[at] == (stream, byte)
            at += 1
    return at


@settings(max_examples=60, deadline=None)
@given(GEOMETRY, CHUNKS)
def test_head_and_newest_tail_are_told_exactly_and_the_gap_is_counted(geometry, chunks):
    region, truth, end = write(geometry, chunks)
    head, tail = split_ends(geometry, collect(geometry, bytes(region)))
    first, middle, missed = records_from(head, 0)
    assert missed == 0
    assert check(first, 0, truth) == middle
    last, final, omitted = records_from(tail, middle)
    assert check(last, middle + omitted, truth) == final
    if geometry.tail:
        assert final == end
        assert omitted == 0 or end > (geometry.head + geometry.tail - 1) * (BLOCK_CAPACITY // 4)
    if end <= (BLOCK_CAPACITY // 4) * (geometry.head + geometry.tail):
        assert final == end
        assert omitted == 0


@settings(max_examples=60, deadline=None)
@given(GEOMETRY, CHUNKS, st.data())
def test_a_follower_at_any_offset_gets_the_truth_and_the_number_of_bytes_that_it_missed(geometry, chunks, data):
    region, truth, end = write(geometry, chunks)
    offset = data.draw(st.integers(0, end))
    head, tail = split_ends(geometry, collect(geometry, bytes(region)))
    records, following, missed = records_from(head + tail, offset)
    assert sum(len(piece) for _, piece in records) + missed == following - offset
    if not tail:
        assert missed == 0 or not geometry.head
        check(records, following - sum(len(piece) for _, piece in records), truth)
    assert records_from(head + tail, following) == ([], following, 0)


@settings(max_examples=100, deadline=None)
@given(GEOMETRY, CHUNKS, st.integers(0, 2**20), st.binary(min_size=1, max_size=600), st.booleans())
def test_torn_and_cut_regions_never_raise_and_never_tell_a_byte_that_was_not_written(
    geometry, chunks, place, noise, cut
):
    region, truth, _ = write(geometry, chunks)
    if not region:
        return
    place %= len(region)
    hurt = bytes(region[:place]) if cut else bytes(region[:place] + noise + region[place + len(noise) :])[: len(region)]
    head, tail = split_ends(geometry, collect(geometry, hurt))
    for block in head + tail:
        check(block.records(), block.offset, truth)


@given(st.binary(max_size=9000))
def test_any_bytes_can_be_read_as_a_file(data):
    geometry = Geometry(1, 1, 1)
    split_ends(geometry, collect(geometry, data))
    assert decode_slot(STARTED, data)[0] in (BLANK, DAMAGED)


@given(st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=20) | st.none(), max_size=8), st.data())
def test_a_slot_is_whole_or_known_to_be_damaged(value, data):
    encoded = encode_slot(FINISHED, value)
    assert decode_slot(FINISHED, encoded.ljust(FINISHED.size, b"\0")) == (WHOLE, value)
    assert decode_slot(STARTED, encoded)[0] == DAMAGED
    assert decode_slot(FINISHED, bytes(FINISHED.size))[0] == BLANK
    length = data.draw(st.integers(1, len(encoded) - 1))
    torn = encoded[:length].ljust(FINISHED.size, b"\0")
    assert torn.startswith(encoded) or decode_slot(FINISHED, torn)[0] == DAMAGED


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=6000)), max_size=30))
def test_a_reader_follows_a_writer_without_losing_or_inventing_anything(tmp_path_factory, chunks):
    path = str(tmp_path_factory.mktemp("spool") / "job")
    writer = SpoolWriter.create(path, {"job": "x"}, Geometry(2, 2, 2))
    offset = 0
    seen: list[tuple[int, int]] = []
    with SpoolReader(path) as reader:
        for stream, data in chunks:
            writer.append(stream, data)
            writer.flush()
            records, offset, missed = reader.follow(offset)
            assert missed == 0, "a follower that keeps up is never lapped"
            seen += [(from_stream, byte) for from_stream, piece in records for byte in piece]
    writer.close()
    assert seen == [(stream, byte) for stream, data in chunks for byte in data]
