"""What HELLOs say about two machines with one identity, and what they do not say."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as some

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.protocol import trunk as t
from libstaragent.roles.clones import LATE_WITHIN_MS, STRAY_MS, CloneWatch, Heard
from libstaragent.roles.guards import BACKDATED_S, HOLDERS_MAX, Guard, GuardBook, read_guard, write_guard
from libstaragent.security.identity import BACKDATE_MS

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


# HELLOs in the order in which one room heard them.
heard = (Heard(1_000_000, "boot", order) for order in itertools.count(1))


def findings(*hellos: tuple[bytes, int]) -> list[str]:
    watch = CloneWatch()
    return [watch.hello("agent", nonce, connects, next(heard)) for nonce, connects in hellos]


@pytest.mark.parametrize(
    ("what", "hellos"),
    [
        ("reconnects", [(A, 1), (A, 2), (A, 7)]),
        ("restarts", [(A, 1), (B, 2), (C, 3), (C, 4)]),
        ("numbers that were lost with the disk's last seconds", [(A, 5), (A, 9), (B, 12)]),
        ("a late word of a process that is gone and was heard of", [(A, 1), (B, 3), (A, 2), (B, 4)]),
        ("a late word of a process that is gone and was not", [(A, 3), (B, 2), (A, 4)]),
        ("a late word of the same process", [(A, 2), (A, 1), (A, 3)]),
        ("one that tells no number", [(A, 0), (B, 0), (A, 0)]),
    ],
)
def test_what_is_normal_finds_nothing(what: str, hellos: list[tuple[bytes, int]]) -> None:
    assert set(findings(*hellos)) == {""}, what


@pytest.mark.parametrize(
    ("what", "hellos", "finding"),
    [
        ("a cloned disk, both running", [(A, 4), (B, 5), (A, 5)], "two_live"),
        ("a cloned disk of long ago", [(A, 100), (B, 5), (A, 101), (B, 6)], "went_back"),
        ("a backup that came back", [(A, 100), (B, 50), (B, 51)], "went_back"),
        ("a machine's memory that was copied", [(A, 5), (A, 6), (A, 6), (A, 6)], "one_process_twice"),
        ("the same, one ahead", [(A, 5), (A, 9), (A, 6), (A, 10), (A, 7)], "one_process_twice"),
    ],
)
def test_two_machines_are_found(what: str, hellos: list[tuple[bytes, int]], finding: str) -> None:
    found = findings(*hellos)
    assert found[-1] == finding and set(found[:-1]) == {""}, what


@given(some.lists(some.tuples(some.booleans(), some.integers(1, 50)), max_size=60))
def test_one_machine_that_restarts_and_reconnects_is_never_taken_for_two(steps: list[tuple[bool, int]]) -> None:
    watch = CloneWatch()
    nonce, connects = 0, 0
    for restarts, ahead in steps:
        nonce += restarts
        connects += ahead
        assert watch.hello("agent", nonce.to_bytes(16, "big"), connects, next(heard)) == ""


@given(some.data(), some.lists(some.tuples(some.booleans(), some.booleans()), min_size=1, max_size=20))
def test_one_machine_is_never_taken_for_two_however_its_words_are_told_again_and_late(
    data: some.DataObject, steps: list[tuple[bool, bool]]
) -> None:
    nonce = boot = 0
    said: list[tuple[bytes, int, Heard]] = []
    for number, (host_restarts, room_restarts) in enumerate(steps, 1):
        nonce += host_restarts
        boot += room_restarts
        said.append((nonce.to_bytes(16, "big"), number, Heard(number * 1000, f"boot {boot}", number)))
    told = data.draw(some.lists(some.sampled_from(said), max_size=60))
    watch = CloneWatch()
    assert [watch.hello("agent", *word) for word in told] == [""] * len(told)


def test_a_late_word_now_and_then_is_no_second_machine_and_two_at_once_are() -> None:
    def after(pause_ms: int) -> str:
        watch = CloneWatch()
        words = [(5, 0), (4, 0), (6, pause_ms), (5, pause_ms)]
        found = [watch.hello("agent", A, connects, Heard(at, "b", order)) for order, (connects, at) in enumerate(words)]
        return found[-1]

    assert after(LATE_WITHIN_MS) == ""
    assert after(LATE_WITHIN_MS - 1) == "one_process_twice"


@given(some.integers(1, 1000), some.lists(some.booleans(), min_size=1, max_size=60))
def test_two_living_copies_are_found_when_each_has_spoken_twice(base: int, turns: list[bool]) -> None:
    watch = CloneWatch()
    counts = {A: base, B: base}
    spoke = {A: 1, B: 0}
    assert watch.hello("agent", A, base, next(heard)) == ""
    found = ""
    for turn in turns:
        nonce = A if turn else B
        counts[nonce] += 1
        spoke[nonce] += 1
        found = watch.hello("agent", nonce, counts[nonce], next(heard))
    if spoke[A] > 1 and spoke[B] > 1 and turns.index(False) < len(turns) - 1 - turns[::-1].index(True):
        last_a = len(turns) - 1 - turns[::-1].index(True)
        if turns.index(False) < last_a:
            assert found


def hello(nonce: bytes, connects: int, *, at_ms: int = 1_000_000, issued_s: int = 10) -> t.HostUp:
    return t.HostUp(
        agent="agent",
        room="main",
        version="1",
        boot_nonce=nonce,
        hostname=f"host-{nonce[:1].decode()}",
        addresses=(),
        facts={},
        roster=1,
        clock_ahead_ms=0,
        at_ms=at_ms,
        boot="boot",
        order=next(heard).order,
        connects=connects,
        issued_s=issued_s,
    )


def knock(nonce: bytes, connects: int) -> t.HolderSeen:
    return t.HolderSeen(
        agent="agent",
        room="main",
        boot_nonce=nonce,
        connects=connects,
        hostname="other",
        addresses=(),
        issued_s=10,
        at_ms=1,
    )


def a_quarantined_book() -> GuardBook:
    book = GuardBook()
    assert book.host_up(hello(A, 4)) is None and book.host_up(hello(B, 5)) is None
    change = book.host_up(hello(A, 5))
    assert change is not None and change.guard.state == "quarantined"
    assert {holder.nonce for holder in change.guard.holders} == {A, B}
    assert read_guard(write_guard(change.guard)) == change.guard
    return book


def test_the_one_that_is_kept_is_bound_to_a_new_certificate_and_only_a_new_finding_changes_that() -> None:
    book = a_quarantined_book()
    kept = book.resolve("agent", A, now_ms=2_000_000_000)
    assert (kept.guard.state, kept.guard.keep) == ("renewing", A)
    assert kept.guard.issued_after_s == 2_000_000 - BACKDATED_S
    assert book.host_up(hello(A, 6)) is None, "it has not renewed yet"
    bound = book.host_up(hello(A, 7, issued_s=kept.guard.issued_after_s))
    assert bound is not None and bound.guard.state == "bound" and bound.guard.holders == ()
    assert book.host_up(hello(C, 8, issued_s=kept.guard.issued_after_s)) is None, "a restart"
    again = book.host_up(hello(A, 9, issued_s=kept.guard.issued_after_s))
    assert again is not None and again.guard.state == "quarantined"


def test_newest_is_the_one_that_was_first_seen_last() -> None:
    book = GuardBook()
    book.host_up(hello(A, 4, at_ms=1))
    book.host_up(hello(B, 5, at_ms=2))
    book.host_up(hello(A, 5, at_ms=3))
    assert book.resolve("agent", b"", now_ms=4).guard.keep == B


def test_what_is_not_there_cannot_be_resolved() -> None:
    with pytest.raises(StarAgentError) as refused:
        GuardBook().resolve("agent", A, now_ms=1)
    assert refused.value.code is codes.NOT_QUARANTINED
    with pytest.raises(StarAgentError) as refused:
        a_quarantined_book().resolve("agent", C, now_ms=1)
    assert refused.value.code is codes.HOLDER_UNKNOWN and A.hex() in refused.value.detail


def test_a_stray_that_stays_connected_is_found_and_one_that_goes_is_not() -> None:
    for connected, found in ((B, 1), (A, 0), (None, 0)):
        book = GuardBook()
        book.host_up(hello(A, 9))
        assert book.host_up(hello(B, 3)) is None
        assert book.tick(lambda _: B, now_ms=1_000_000 + STRAY_MS - 1) == []
        changes = book.tick(lambda _, nonce=connected: nonce, now_ms=1_000_000 + STRAY_MS)
        assert len(changes) == found


def test_holders_that_knock_are_listed_up_to_a_number_and_a_failed_write_is_undone() -> None:
    book = a_quarantined_book()
    for number in range(3 * HOLDERS_MAX):
        change = book.knocked(knock(number.to_bytes(16, "big"), 1))
        assert change is not None
    assert len(book.get("agent").holders) == HOLDERS_MAX
    before = book.get("agent")
    change = book.knocked(knock(C, 1))
    assert change is not None
    book.undo(change)
    assert book.get("agent") == before
    free = GuardBook()
    free.host_up(hello(A, 4))
    free.host_up(hello(B, 5))
    change = free.host_up(hello(A, 5))
    assert change is not None
    free.undo(change)
    assert free.get("agent") == Guard() and free.guards == {}


def test_a_certificate_is_dated_back_as_the_guard_expects() -> None:
    assert BACKDATED_S * 1000 == BACKDATE_MS
