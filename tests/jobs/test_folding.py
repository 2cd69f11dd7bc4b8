"""Folding: identical outputs are one group, similar ones when they differ in values only, and what was cut is told."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from libstaragent.jobs import folding
from libstaragent.jobs.folding import Group, Printed, diff, fold, fold_similar, text_lines
from libstaragent.model.result import Output, encode_records

pieces = st.lists(
    st.tuples(st.sampled_from([1, 2]), st.sampled_from([b"a\n", b"b 1\n", b"b 2\n", b"\xff"])), max_size=4
)


def printed(host: str, text: bytes, *, errors: bytes = b"", state: str = "ok", **changes: Any) -> Printed:
    output = Output(encode_records([(1, text), (2, errors)]))
    values = {"stdout_bytes": len(text), "stderr_bytes": len(errors), "output": output, **changes}
    return Printed(host=host, state=state, **values)


def shape(groups: list[Group]) -> list[tuple[str, ...]]:
    return [group.hosts for group in groups]


def test_identical_outputs_are_one_group_and_the_largest_comes_first() -> None:
    groups = fold([printed("c", b"x\n"), printed("a", b"y\n"), printed("b", b"y\n")])
    assert shape(groups) == [("a", "b"), ("c",)]
    assert text_lines(groups[0].first) == ["y"]


def test_where_the_text_was_parted_and_how_the_streams_were_mixed_does_not_count() -> None:
    one = Output(encode_records([(1, b"out"), (2, b"err"), (1, b"put\n")]))
    other = Output(head=encode_records([(2, b"e")]), tail=encode_records([(1, b"output\n"), (2, b"rr")]))
    assert shape(fold([printed("a", b"", output=one), printed("b", b"", output=other)])) == [("a", "b")]


def test_another_end_with_the_same_text_is_another_group() -> None:
    assert len(fold([printed("a", b"x\n"), printed("b", b"x\n", state="exit_nonzero", exit_status=1)])) == 2


def test_outputs_that_were_cut_and_end_alike_are_two_groups_when_what_was_cut_differs() -> None:
    cut = Output(encode_records([(1, b"head\n")]), 100, encode_records([(1, b"tail\n")]))
    groups = fold([printed(host, b"", output=cut, stdout_sha256=digest) for host, digest in (("a", "11"), ("b", "22"))])
    assert shape(groups) == [("a",), ("b",)]
    assert "100 bytes omitted" in text_lines(groups[0].first)[-1] and "sha256 11" in text_lines(groups[0].first)[-1]
    assert shape(fold_similar([group.first for group in groups])) == [("a",), ("b",)]


def test_what_a_host_says_of_its_hashes_does_not_hide_other_bytes() -> None:
    assert len(fold([printed("a", b"x\n", stdout_sha256="11"), printed("b", b"y\n", stdout_sha256="11")])) == 2


def test_similar_outputs_differ_in_values_and_their_own_names_only() -> None:
    groups = fold_similar(
        [
            printed("web01", b"web01 up 12 days,  load=0.5\n"),
            printed("web02", b"web02 up 3 days, load=0.25\n"),
            printed("db", b"db up 3 days, load=0.25\n"),
            printed("web03", b"web03 down\n"),
        ]
    )
    assert shape(groups) == [("db", "web01", "web02"), ("web03",)]
    assert groups[0].template == "⟨host⟩ up ⟨3 | 12⟩ days, load=⟨0.25 | 0.5⟩\n"
    assert (groups[0].variants, groups[1].template) == (3, "")


def test_words_are_no_values() -> None:
    assert len(fold_similar([printed("a", b"active\n"), printed("b", b"failed\n")])) == 2


def test_many_values_are_told_by_their_ends_and_their_number() -> None:
    groups = fold_similar([printed(f"h{number}", b"%d\n" % (number * 7)) for number in range(1, 200)])
    assert groups[0].template == "⟨7 … 1393, 199 values⟩\n"


@given(st.lists(pieces, max_size=6))
def test_each_host_is_in_one_group_and_similar_groups_are_unions_of_identical_ones(outputs: list[Any]) -> None:
    hosts = [printed(f"h{number:02}", b"", output=Output(encode_records(each))) for number, each in enumerate(outputs)]
    identical, similar = fold(hosts), fold_similar(hosts)
    for groups in (identical, similar):
        assert sorted(host for group in groups for host in group.hosts) == [one.host for one in hosts]
        assert [len(group.hosts) for group in groups] == sorted((len(group.hosts) for group in groups), reverse=True)
    for group in identical:
        assert any(set(group.hosts) <= set(wide.hosts) for wide in similar)
    assert fold(list(reversed(hosts))) == identical


def test_groups_are_compared_with_the_largest() -> None:
    groups = fold(
        [printed(host, b"one\ntwo\nthree\n") for host in "abc"] + [printed("d", b"one\n2\nthree\n", errors=b"oh\n")]
    )
    (found,) = diff(groups)
    assert found.lines == ("@@ -1,3 +1,4 @@", " one", "-two", "+2", " three", "+stderr: oh")
    assert diff([]) == diff(groups[:1]) == []


def test_a_diff_is_bounded_and_says_so() -> None:
    long = b"".join(b"%d\n" % number for number in range(folding.DIFF_LINES_MAX + 10))
    base = [printed("a", long), printed("b", long)]
    (found,) = diff(fold([*base, printed("c", b"first\n" + long)]))
    assert found.cut and found.lines
    many = diff(fold([*base, *(printed(f"x{number:04}", b"%d other\n" % number) for number in range(150))]))
    assert [each.skipped for each in many] == [False] * folding.DIFFED_MAX + [True] * 50


def test_a_diff_of_outputs_that_share_nothing_costs_no_more_than_its_budget(monkeypatch: Any) -> None:
    monkeypatch.setattr(folding, "DIFF_BUDGET", 300)
    lines = [b"".join(b"%d %d\n" % (host, number) for number in range(10)) for host in range(6)]
    found = diff(fold([printed("a", lines[0]), *(printed(f"b{host}", lines[host]) for host in range(6))]))
    assert [each.skipped for each in found] == [False, False, False, True, True]
