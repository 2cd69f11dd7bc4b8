"""The pure models: ring, table, pacing, the fleet's view and a job's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconsole.filter import NO_FILTER, parse_filter
from opsconsole.fleet_view import KEPT_JOBS, FleetView, age, natural, state_cell, target_columns
from opsconsole.job_view import JobView
from opsconsole.log_model import LogModel
from opsconsole.pacing import Pacer
from opsconsole.ring import Entry, Ring
from opsconsole.sanitize import Line
from opsconsole.screens.output import progress_bar
from opsconsole.source import HostRow, HostState, JobRow, OutputLines, TargetRow


def entries(*texts: str) -> list[Entry]:
    return [Entry("web01", "stdout", Line(text)) for text in texts]


def row(name: str, state: HostState = "up", room: str = "main") -> HostRow:
    return HostRow(id=name, name=name, room=room, state=state)


def names(fleet: FleetView) -> list[str]:
    fleet.hosts.settle(1e9)
    return [host.name for _, host in fleet.hosts.window(0, 1000)]


# The ring.


@given(st.integers(min_value=1, max_value=20), st.lists(st.integers(min_value=0, max_value=9), max_size=20))
def test_a_ring_holds_the_newest_lines_and_counts_the_rest(capacity: int, batches: list[int]) -> None:
    ring, written = Ring(capacity), 0
    for size in batches:
        ring.extend(entries(*(str(written + offset) for offset in range(size))))
        written += size
    assert ring.end == written
    assert ring.dropped == max(0, written - capacity)
    assert [ring[number].line.text for number in range(ring.first, ring.end)] == [
        str(number) for number in range(max(0, written - capacity), written)
    ]


def test_lines_lost_on_the_way_are_counted_with_those_pushed_out() -> None:
    ring = Ring(2)
    ring.extend(entries("a", "b", "c"))
    ring.lose(7)
    assert ring.dropped == 8


def test_a_search_goes_round_once_in_either_direction() -> None:
    ring = Ring(10)
    ring.extend(entries("x", "a", "x", "b"))
    assert ring.search(lambda entry: entry.line.text == "x", start=1) == 2
    assert ring.search(lambda entry: entry.line.text == "x", start=3) == 0
    assert ring.search(lambda entry: entry.line.text == "x", start=1, backwards=True) == 0
    assert ring.search(lambda entry: False, start=0) is None
    with pytest.raises(IndexError):
        ring[4]


def test_a_filtered_log_keeps_up_with_lines_that_come_and_leave() -> None:
    ring = Ring(4)
    model = LogModel(ring)
    model.set_filter(parse_filter("keep"))
    ring.extend(entries("keep 0", "drop 1", "keep 2"))
    model.update()
    assert [model.number(index) for index in range(len(model))] == [0, 2]
    ring.extend(entries("keep 3", "drop 4"))
    model.update()
    assert [model.number(index) for index in range(len(model))] == [2, 3]
    assert model.index(2) == 0 and model.index(99) == 2


# Pacing.


def test_nothing_is_painted_that_has_not_changed_nor_more_often_than_the_interval() -> None:
    pacer = Pacer(0.1)
    assert pacer.due("a", 0.0)
    assert not pacer.due("a", 1.0)
    assert pacer.due("b", 1.01)
    assert not pacer.due("c", 1.05)
    assert pacer.due("c", 1.11)


def test_a_clock_that_jumps_back_does_not_stop_the_paint() -> None:
    pacer = Pacer(0.1)
    assert pacer.due("a", 100.0)
    assert pacer.due("b", 5.0)


# Tables.


def test_hosts_sort_as_people_count() -> None:
    fleet = FleetView()
    fleet.load_hosts([row("web10"), row("web2"), row("db1")])
    assert names(fleet) == ["db1", "web2", "web10"]
    fleet.hosts.reverse()
    assert names(fleet) == ["web10", "web2", "db1"]


@given(st.lists(st.text(max_size=6), max_size=10))
def test_any_names_can_be_compared(texts: list[str]) -> None:
    assert len(sorted(texts, key=natural)) == len(texts)


def test_every_column_sorts() -> None:
    fleet = FleetView()
    fleet.load_hosts([row("a", "down"), row("b")])
    for column in fleet.hosts.columns:
        fleet.hosts.sort_by(column.key)
        assert sorted(names(fleet)) == ["a", "b"]
        fleet.hosts.sort_step(1)


def test_the_cursor_stays_on_its_host_while_rows_move() -> None:
    fleet = FleetView()
    fleet.load_hosts([row("a"), row("b"), row("c")])
    names(fleet)
    fleet.hosts.move_to(1)
    fleet.apply([row("aa")])
    assert names(fleet) == ["a", "aa", "b", "c"]
    assert fleet.hosts.current == row("b")
    assert fleet.hosts.position == 2


def test_a_cursor_whose_row_leaves_takes_the_one_in_its_place() -> None:
    fleet = FleetView()
    fleet.load_hosts([row("a"), row("b"), row("c")])
    names(fleet)
    fleet.hosts.move_to(1)
    fleet.hosts.set_filter(parse_filter("!b"))
    names(fleet)
    assert fleet.hosts.current == row("c")
    fleet.hosts.set_filter(parse_filter("nothing"))
    assert names(fleet) == [] and fleet.hosts.current is None
    fleet.hosts.set_filter(NO_FILTER)
    assert len(names(fleet)) == 3 and fleet.hosts.current is not None


def test_marks_are_what_an_action_is_about_else_the_cursor() -> None:
    fleet = FleetView()
    fleet.load_hosts([row("a"), row("b"), row("c")])
    names(fleet)
    assert fleet.hosts.chosen() == [row("a")]
    fleet.hosts.mark_between(1, 2)
    assert fleet.hosts.chosen() == [row("b"), row("c")]
    fleet.hosts.mark_visible()
    assert len(fleet.hosts.chosen()) == 3
    fleet.hosts.mark_visible()
    assert fleet.hosts.marks == set()


def test_a_large_table_is_sorted_again_at_most_once_a_second() -> None:
    fleet = FleetView()
    fleet.load_hosts(row(f"h{number:04}") for number in range(1, 2000))
    fleet.hosts.settle(10.0)
    fleet.apply([row("a-new-one")])
    fleet.hosts.settle(10.5)
    assert fleet.hosts.window(0, 1)[0][0] == "h0001"
    fleet.hosts.settle(11.0)
    assert fleet.hosts.window(0, 1)[0][0] == "a-new-one"


def test_hosts_are_counted_by_state_as_they_change() -> None:
    fleet = FleetView()
    fleet.load_hosts([row("a"), row("b")])
    fleet.apply([row("a", "down"), row("a", "never"), row("c")])
    assert {state: count for state, count in fleet.host_counts.items() if count} == {"up": 2, "never": 1}


def test_every_state_has_a_glyph_and_a_word() -> None:
    for state in ("up", "down", "never", "ok", "agent_lost", "from a newer fleet"):
        glyph, _, word = state_cell(state).text.partition(" ")
        assert len(glyph) == 1 and word == state.replace("_", " ")


def test_ages_take_four_cells_at_most() -> None:
    assert [age(seconds) for seconds in (-5, 59, 60, 3600, 86_400, 1e9)] == ["0s", "59s", "1m", "1h", "1d", "999d"]


@given(
    st.lists(st.tuples(st.sampled_from(["ok", "exit_nonzero", "unreachable", "queued"]), st.integers(0, 9)), max_size=5)
)
def test_a_progress_bar_fills_its_width_and_hides_no_outcome(counts: list[tuple[str, int]]) -> None:
    total = sum(count for _, count in counts) or 1
    parts = progress_bar(counts, total, 20)
    assert sum(cells for _, cells in parts) == 20
    roles = {state_cell(state).role for state, count in counts if count and state != "queued"}
    assert {role for role, cells in parts if role and cells} == roles


# Jobs.


def record(host: str, seq: int, data: bytes, *, omitted: int = 0) -> OutputLines:
    return OutputLines(job="j", host=host, stream="stdout", seq=seq, data=data, omitted=omitted)


def texts(view: JobView) -> list[str]:
    ring = view.shown.ring
    return [f"{ring[number].host} {ring[number].line.text}" for number in range(ring.first, ring.end)]


def view(*, complete: bool = True) -> JobView:
    return JobView("j", target_columns(), complete=complete)


def test_lines_cut_between_records_are_joined_by_host() -> None:
    job = view()
    job.take_output(record("a", 1, b"he"))
    job.take_output(record("b", 1, b"wor"))
    job.take_output(record("a", 2, b"llo\n"))
    job.take_output(record("b", 2, b"ld\n"))
    assert texts(job) == ["a hello", "b world"]


def test_a_last_line_without_end_appears_when_its_target_ends() -> None:
    job = view()
    job.take_output(record("a", 1, b"no newline"))
    assert texts(job) == []
    job.take_target(TargetRow(job="j", host="a", state="ok", exit_status=0))
    assert texts(job) == ["a no newline"]


def test_history_and_live_output_overlap_without_doubles_or_gaps() -> None:
    job = view(complete=False)
    job.take_output(record("a", 3, b"three\n"))
    job.load(
        [TargetRow(job="j", host="a", state="running")],
        [record("a", 1, b"one\n"), record("a", 2, b"two\n"), record("a", 3, b"three\n")],
    )
    job.take_output(record("a", 4, b"four\n"))
    assert texts(job) == ["a one", "a two", "a three", "a four"]


def test_one_host_is_shown_alone_and_an_answer_that_comes_late_is_dropped() -> None:
    job = view()
    job.take_output(record("a", 1, b"one\n"))
    job.take_output(record("b", 1, b"other\n"))
    job.focus("b")
    job.focus("a")
    job.take_output(record("a", 2, b"two\n"))
    job.load_single("b", [record("b", 1, b"other\n")])
    job.load_single("a", [record("a", 1, b"one\n")])
    assert texts(job) == ["a one", "a two"]
    job.focus(None)
    assert texts(job) == ["a one", "b other", "a two"]


def test_bytes_that_are_not_shown_are_counted() -> None:
    job = view()
    job.take_output(record("a", 1, b"x\n", omitted=12))
    assert job.merged.ring.omitted == 12


def test_only_the_jobs_watched_last_are_kept() -> None:
    fleet = FleetView()
    first = fleet.watch("job-0")
    for number in range(1, KEPT_JOBS + 1):
        fleet.watch(f"job-{number}")
    assert fleet.watch("job-0") is not first


def test_a_job_heard_of_live_needs_no_history_and_one_from_the_list_does() -> None:
    fleet = FleetView()
    listed = JobRow(id="old", operator="ops", command="true", targets=1)
    fleet.load_jobs([listed])
    fleet.apply([JobRow(id="new", operator="ops", command="true", targets=1), listed])
    assert not fleet.watch("new").waiting
    assert fleet.watch("old").waiting
