"""No source of connections takes the room's whole rate, and none is remembered without need."""

from __future__ import annotations

import pytest

from libstaragent.roles.admission import (
    ADMIT_BURST,
    ADMIT_RATE,
    SOURCE_BURST,
    SOURCE_RATE,
    Admission,
    source_of,
)


def flood(admission: Admission, address: str, now: float) -> int:
    """How many are admitted from there now, of as many as it likes to try."""
    count = 0
    while admission.admit(address, now):
        count += 1
    return count


def test_one_source_that_never_stops_leaves_half_of_the_rate_to_others() -> None:
    admission = Admission(now=0.0)
    flood(admission, "192.0.2.1", 0.0)
    for second in range(1, 20):
        flood(admission, "192.0.2.1", float(second))
        others = sum(admission.admit(f"198.51.{second}.{number}", float(second)) for number in range(250))
        assert others == ADMIT_RATE - SOURCE_RATE
    assert admission.crowding == 20


def test_a_thousand_agents_of_one_address_come_at_once_and_fifteen_thousand_within_two_minutes() -> None:
    admission = Admission(now=0.0)
    assert flood(admission, "127.0.0.1", 0.0) == SOURCE_BURST >= 1000
    admitted = int(SOURCE_BURST)
    for second in range(1, 120):
        admitted += flood(admission, "127.0.0.1", float(second))
    assert admitted >= 15_000


def test_who_is_turned_away_by_the_room_pays_nothing_of_its_own() -> None:
    admission = Admission(now=0.0)
    for number in range(int(ADMIT_BURST)):
        assert admission.admit(f"10.1.{number // 250}.{number % 250}", 0.0)
    assert not admission.admit("192.0.2.1", 0.0)
    assert (admission.turned_away, admission.crowding) == (1, 0)
    assert len(admission) == ADMIT_BURST


def test_the_table_of_sources_is_bounded_whoever_comes() -> None:
    admission = Admission(now=0.0)
    most = 0
    for step in range(400):
        now = step / 10
        # One that floods all the time must not keep those after it from being forgotten.
        flood(admission, "192.0.2.1", now)
        for number in range(200):
            admission.admit(f"10.{step // 250}.{step % 250}.{number}", now)
        most = max(most, len(admission))
    assert 1000 < most <= ADMIT_BURST + ADMIT_RATE * SOURCE_BURST / SOURCE_RATE
    admission.admit("192.0.2.2", 1000.0)
    assert len(admission) == 1


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::1", "2001:db8:1:2::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::"),
        ("no address:", "no address:"),
    ],
)
def test_a_source_is_an_address_or_an_ipv6_network(address: str, source: str) -> None:
    assert source_of(address) == source
