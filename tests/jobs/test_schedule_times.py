"""When schedules are due: against an oracle that looks at every minute, and the nights when clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libstaragent.client.scheduling import until_of
from libstaragent.errors import StarAgentError
from libstaragent.jobs.cron import read_cron
from libstaragent.jobs.schedule import LATE_MS, firing_id, is_due_at, latest_due, next_after
from libstaragent.model.ids import ulid_time_ms
from libstaragent.security.acts import At, Cron, Every

MINUTE = 60_000
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia")
# Two days, with the change of clocks of most zones in some of them.
SPAN = 2 * 1440


def ms(text: str, zone: str = "UTC", fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()) * 1000


def a_field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.tuples(st.one_of(st.just("*"), span), st.integers(1, high)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    item = st.one_of(number.map(str), span, step)
    return st.one_of(st.just("*"), st.lists(item, min_size=1, max_size=3).map(",".join))


CRON = st.tuples(a_field(0, 59), a_field(0, 23), a_field(1, 31), a_field(1, 12), a_field(0, 7)).map(" ".join)


def values(text: str, low: int, high: int) -> set[int]:
    """A field, read in the plainest way."""
    found = set()
    for value in range(low, high + 1):
        for item in text.split(","):
            span, _, step = item.partition("/")
            first, _, last = ("0", "", str(high)) if span == "*" else span.partition("-")
            begin = low if span == "*" else int(first)
            end = int(last) if last else high if step else begin
            if begin <= value <= end and (value - begin) % int(step or 1) == 0:
                found.add(value)
    return found


def naively_due(fields: str, zone: str, at_ms: int) -> bool:
    local = datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone))
    minute, hour, day, month, weekday = fields.split()
    days = local.day in values(day, 1, 31)
    week = local.isoweekday() % 7 in {number % 7 for number in values(weekday, 0, 7)}
    any_of = (days or week) if not day.startswith("*") and not weekday.startswith("*") else (days and week)
    return (
        local.minute in values(minute, 0, 59)
        and local.hour in values(hour, 0, 23)
        and local.month in values(month, 1, 12)
        and any_of
        and (hour == "*" or local.fold == 0)
    )


@settings(max_examples=25, deadline=None)
@given(CRON, st.sampled_from(ZONES), st.integers(ms("2023-12-01") // MINUTE, ms("2025-02-01") // MINUTE))
def test_the_next_time_is_the_first_minute_that_the_oracle_finds(fields: str, zone: str, start: int) -> None:
    cron = read_cron(fields, zone)
    found = cron.next_after(start * MINUTE)
    expected = next((m * MINUTE for m in range(start + 1, start + SPAN) if naively_due(fields, zone, m * MINUTE)), None)
    if expected is None:
        assert found is None or found >= (start + SPAN) * MINUTE
    else:
        assert found == expected


@settings(max_examples=25, deadline=None)
@given(CRON, st.sampled_from(ZONES), st.integers(0, 40_000_000))
def test_what_comes_next_is_due_and_comes_after(fields: str, zone: str, minute: int) -> None:
    cron = read_cron(fields, zone)
    found = cron.next_after(minute * MINUTE)
    assert found is None or (found > minute * MINUTE and cron.is_due_at(found))


@given(st.text(alphabet="0123456789*/-, ajx", max_size=30), st.text(max_size=12))
def test_any_text_is_read_or_refused_with_its_code(fields: str, zone: str) -> None:
    try:
        read_cron(fields, zone)
    except StarAgentError as error:
        assert error.code.code == "SA-1070"


def test_a_zone_is_a_name_before_it_is_looked_up() -> None:
    # Each dot would be an import within an import.
    with pytest.raises(StarAgentError, match="SA-1070"):
        read_cron("* * * * *", "a" + "." * 400 + "/b")


def test_a_time_that_clocks_leave_out_is_not_due() -> None:
    # On 31 March 2024 Berlin had no 02:30.
    assert read_cron("30 2 * * *", "Europe/Berlin").next_after(ms("2024-03-30T12:00")) == ms("2024-04-01T00:30")


def test_a_time_that_comes_twice_is_due_once_and_each_hour_means_both() -> None:
    first, second = ms("2024-10-27T02:30", "Europe/Berlin"), ms("2024-10-27T02:30", "Europe/Berlin", fold=1)
    assert second - first == 60 * MINUTE
    daily, hourly = read_cron("30 2 * * *", "Europe/Berlin"), read_cron("30 * * * *", "Europe/Berlin")
    assert daily.is_due_at(first) and not daily.is_due_at(second)
    assert hourly.next_after(first) == second


def test_the_29th_of_february_comes_after_eight_years_and_the_30th_never() -> None:
    assert read_cron("0 0 29 2 *", "UTC").next_after(ms("2096-03-01")) == ms("2104-02-29")
    assert read_cron("0 0 30 2 *", "UTC").next_after(ms("2024-01-01")) is None


@given(st.integers(1000, 10**9), st.integers(0, 10**12), st.integers(0, 2 * 10**12))
def test_a_period_is_counted_from_its_start(every: int, start: int, after: int) -> None:
    due = next_after(Every(every, start), after)
    assert due is not None and due > after and due >= start and (due - start) % every == 0
    assert due - every <= after or due == start


def test_after_a_long_rest_only_the_newest_time_is_due_and_older_ones_are_missed() -> None:
    every = Every(1000, 0)
    assert latest_due(every, 0, 100_500) == 100_000
    assert latest_due(Every(3_600_000, 0), 0, 3_600_000 + LATE_MS) is None
    assert latest_due(At(5000), 4999, 10_000_000) == 5000
    assert latest_due(At(5000), 5000, 10_000_000) is None


def test_all_hosts_of_a_firing_make_the_same_id_and_a_boot_is_one_of_its_own() -> None:
    schedule = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    one = firing_id(schedule, 1_700_000_000_000)
    assert one == firing_id(schedule, 1_700_000_000_000) and ulid_time_ms(one) == 1_700_000_000_000
    others = {firing_id(schedule, 1_700_000_000_001), firing_id(schedule, 1_700_000_000_000, "a", "b")}
    assert len({one, *others}) == 3
    assert is_due_at(At(7), 7) and not is_due_at(At(7), 8)


@pytest.mark.parametrize("fields", ["* * * *", "60 * * * *", "5-1 * * * *", "*/0 * * * *", "mon * * * *"])
def test_fields_that_mean_nothing_are_refused(fields: str) -> None:
    with pytest.raises(StarAgentError) as refused:
        read_cron(fields, "UTC")
    assert refused.value.code.code == "SA-1070"


def test_now_is_utc() -> None:
    assert read_cron("0 0 1 1 *", "UTC").is_due_at(int(datetime(2025, 1, 1, tzinfo=UTC).timestamp()) * 1000)


@pytest.mark.parametrize("when", (At(60_000), Every(60_000, 0), Cron("30 3 * * *", "UTC")))
def test_an_end_before_the_first_time_is_refused_with_both(when: At | Every | Cron) -> None:
    first = next_after(when, 1000)
    assert first is not None
    for until in (2.0, first / 1000):
        with pytest.raises(StarAgentError, match=r"never run: the first time is 1970-01-01 .* and the end"):
            until_of(when, until, 1000)
    assert until_of(when, first / 1000 + 1, 1000) == first + 1000
    with pytest.raises(StarAgentError, match="has passed"):
        until_of(when, 0.5, 1000)
    with pytest.raises(StarAgentError, match="more than 400 days"):
        until_of(when, 401 * 86_400.0, 1000)
