"""Reductions: parts merge in any order and grouping into the reduction of everything."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal, localcontext
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.jobs import reduce
from libstaragent.jobs.reduce import (
    Part,
    merge,
    pack_part,
    parse_reducer,
    read_part,
    reduce_output,
    total,
)
from libstaragent.model.result import Output, encode_records

LINES = parse_reducer("uniq-count")
words = st.sampled_from([b"", b"a", b"b", b"ab", b"zz", b"\xff\x00", b"long" * 40, b"long" * 40 + b"er", b"b" * 70])
texts = st.lists(words, max_size=12).map(b"\n".join)


def of(text: bytes, reducer: Any = LINES) -> Part:
    return reduce_output(reducer, Output(encode_records([(1, text)])))


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a few words overflow."""
    monkeypatch.setattr(reduce, "KEPT_LINES", 4)
    monkeypatch.setattr(reduce, "KEPT_BYTES", 100)


@pytest.mark.usefixtures("narrow")
@given(st.lists(texts, max_size=6), st.data())
def test_parts_merge_alike_in_any_order_and_grouping(printed: list[bytes], data: Any) -> None:
    parts = [of(text) for text in printed]
    whole = merge(parts)
    shuffled = data.draw(st.permutations(parts))
    cut = data.draw(st.integers(0, len(parts)))
    assert merge([merge(shuffled[:cut]), merge(shuffled[cut:])]) == whole
    assert merge([whole, Part()]) == merge([Part(), whole]) == whole


@pytest.mark.usefixtures("narrow")
@given(st.lists(texts, max_size=6))
def test_a_merged_part_is_that_of_all_the_text_together(printed: list[bytes]) -> None:
    ended = [text if not text or text.endswith(b"\n") else text + b"\n" for text in printed]
    together = of(b"".join(ended))
    merged = merge(map(of, ended))
    assert merged == msgspec.structs.replace(together, hosts=len(printed))
    lines = Counter(b"".join(ended).split(b"\n")[:-1])
    for line, count in merged.kept:
        assert lines[line] == count
    assert merged.left_out == lines.total() - sum(count for _, count in merged.kept)
    assert (merged.cut is None) == (merged.left_out == 0)


@given(st.lists(st.decimals(-(10**20), 10**20, allow_nan=False, places=6), max_size=20), st.integers(0, 20))
def test_a_sum_is_exact_however_it_is_grouped(numbers: list[Decimal], cut: int) -> None:
    reducer = parse_reducer("sum")
    printed = [f"{number:f}\n".encode() for number in numbers]
    groups = [of(b"".join(printed[:cut]), reducer), of(b"".join(printed[cut:]), reducer)]
    with localcontext() as context:
        context.prec = 60
        assert Decimal(total(merge(groups))) == sum(numbers, Decimal(0))
    assert merge(groups).numbers == len(numbers)


def test_what_is_no_number_is_not_added_and_is_counted() -> None:
    part = of(b"3\n 4.5 \nfive\n1e9\n\n-0.25\n+2\n1,000\n" + b"9" * 40, parse_reducer("sum"))
    assert (total(part), part.numbers, part.lines) == ("9.25", 4, 9)
    assert total(of(b"-0.5\n", parse_reducer("sum"))) == "-0.5"


def test_only_stdout_counts_and_the_last_line_needs_no_newline() -> None:
    output = Output(encode_records([(1, b"one\nt"), (2, b"noise\n"), (1, b"wo")]))
    assert reduce_output(LINES, output).kept == ((b"one", 1), (b"two", 1))
    assert reduce_output(LINES, None) == Part(hosts=1)
    assert of(b"").lines == 0


def test_an_output_that_was_cut_is_counted_apart_and_never_by_half() -> None:
    part = merge([of(b"whole\n"), reduce_output(LINES, Output(encode_records([(1, b"half\n")]), 12, b""))])
    assert (part.hosts, part.cut_hosts, part.cut_bytes, part.kept) == (1, 1, 12, ((b"whole", 1),))


@pytest.mark.parametrize("text", ["uniq-count", "count", "sum", "sort-merge", "top-n", "top-n:3", "top-n:8192"])
def test_a_reducer_is_known_by_its_name(text: str) -> None:
    assert parse_reducer(text).name == text.partition(":")[0]


@pytest.mark.parametrize("text", ["sort", "top-n:0", "top-n:8193", "top-n:", "COUNT", "count ", "", "top-n:１"])
def test_another_name_is_refused(text: str) -> None:
    with pytest.raises(StarAgentError) as caught:
        parse_reducer(text)
    assert caught.value.code is codes.REDUCER_UNKNOWN


def test_a_part_at_its_bounds_is_as_large_as_it_may_travel() -> None:
    lines = b"".join(b"%030d\n" % number for number in range(reduce.KEPT_LINES + 5))
    part = merge([of(lines), of(lines)])
    assert part.left_out > 0
    assert len(pack_part(part)) <= reduce.PART_MAX
    assert read_part(pack_part(part)) == part


@given(st.binary(max_size=64))
def test_bytes_that_are_no_part_are_refused(data: bytes) -> None:
    try:
        read_part(data)
    except msgspec.MsgspecError:
        return


def test_a_part_whose_lines_are_not_in_order_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        read_part(msgspec.msgpack.encode(Part(hosts=1, lines=2, kept=((b"b", 1), (b"a", 1)))))
