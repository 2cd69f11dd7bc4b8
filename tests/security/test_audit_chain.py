"""The audit's chain and its heads: what is altered, taken out, cut off or made anew is found, and said where."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libstaragent.security.audit import (
    AuditEntry,
    Checkpoint,
    checkpoint_digest,
    decode_entry,
    encode_entry,
    entry_hash,
    genesis,
    open_checkpoint,
    seal_checkpoint,
    shorten,
)
from libstaragent.security.audit_check import MAX_FINDINGS, AuditCheck
from libstaragent.security.heads import HEADS_KEPT, Head, HeadRing, decode_heads, encode_heads
from libstaragent.security.signing import SEED_BYTES, public_key

FLEET = "f" * 64
SEED = b"s" * SEED_BYTES
Row = tuple[int, int, bytes, bytes]


def chain(count: int, *, begin: int = 1, previous: bytes | None = None, mark: str = "") -> list[Row]:
    rows: list[Row] = []
    digest = genesis(FLEET) if previous is None else previous
    for seq in range(begin, begin + count):
        body = encode_entry(AuditEntry(act="exec", outcome="accepted", text=f"{mark}{seq}"))
        digest = entry_hash(digest, seq, 1000 + seq, body)
        rows.append((seq, 1000 + seq, body, digest))
    return rows


def heads(rows: list[Row], *numbers: int) -> list[Head]:
    return [Head(seq, digest, seq) for seq, _, _, digest in rows if seq in numbers]


def judge(rows: list[Row], seen: list[Head] = [], checkpoints: Any = ()) -> list[tuple[str, int, int]]:  # noqa: B006
    check = AuditCheck(FLEET, checkpoints, wanted=seen)
    check.feed(rows)
    check.compare("web01", seen)
    return [(finding.kind, finding.first, finding.last) for finding in check.findings]


def test_a_chain_holds_against_itself_and_against_every_head_of_it() -> None:
    rows = chain(9)
    assert judge(rows, heads(rows, *range(1, 10))) == []


def test_the_hash_is_that_of_the_documented_bytes() -> None:
    (seq, at_ms, body, digest) = chain(1)[0]
    before = hashlib.sha256(b"opsconsole audit genesis 1\0" + FLEET.encode()).digest()
    numbers = seq.to_bytes(8, "big") + at_ms.to_bytes(8, "big")
    assert digest == hashlib.sha256(b"opsconsole audit 1\0" + before + numbers + body).digest()


def test_the_audit_of_another_fleet_does_not_hold() -> None:
    check = AuditCheck("e" * 64)
    check.feed(chain(3))
    assert [finding.first for finding in check.findings] == [1]


@given(st.integers(3, 30), st.data())
def test_any_altered_byte_number_or_time_is_found_at_its_entry(count: int, data: st.DataObject) -> None:
    rows = chain(count)
    at = data.draw(st.integers(0, count - 1))
    seq, at_ms, body, digest = rows[at]
    what = data.draw(st.sampled_from(("body", "time", "hash")))
    if what == "time":
        rows[at] = (seq, at_ms + 1, body, digest)
    else:
        altered = bytearray(body if what == "body" else digest)
        altered[data.draw(st.integers(0, len(altered) - 1))] ^= data.draw(st.integers(1, 255))
        rows[at] = (seq, at_ms, bytes(altered), digest) if what == "body" else (seq, at_ms, body, bytes(altered))
    found = judge(rows)
    assert found and found[0] == ("changed", seq, seq)


@given(st.integers(3, 30), st.data())
def test_rows_that_were_taken_out_are_found_with_their_numbers(count: int, data: st.DataObject) -> None:
    rows = chain(count)
    first = data.draw(st.integers(0, count - 2))
    last = data.draw(st.integers(first, count - 2))
    assert judge(rows[:first] + rows[last + 1 :]) == [("removed", first + 1, last + 1)]


@given(st.integers(2, 30), st.data())
def test_an_end_that_was_cut_off_is_found_by_who_saw_it(count: int, data: st.DataObject) -> None:
    rows = chain(count)
    left = data.draw(st.integers(0, count - 1))
    assert judge(rows[:left], heads(rows, count)) == [("cut", left + 1, count)]


@given(st.integers(2, 30), st.data())
def test_a_chain_that_was_made_anew_is_found_between_the_heads_that_were_kept(count: int, data: st.DataObject) -> None:
    rows = chain(count)
    true = data.draw(st.integers(0, count - 1))
    seen = sorted(data.draw(st.sets(st.integers(1, count), min_size=1)))
    previous = rows[true - 1][3] if true else None
    forged = rows[:true] + chain(count - true, begin=true + 1, previous=previous, mark="not ")
    found = judge(forged, heads(rows, *seen))
    after = [number for number in seen if number > true]
    if not after:
        assert found == []
    else:
        ((kind, first, last),) = found
        assert kind == "rewritten" and first <= true + 1 <= last == after[0]
        assert first == max([number for number in seen if number <= true], default=0) + 1


def test_a_chain_that_was_cut_and_grew_again_is_one_that_was_made_anew() -> None:
    rows = chain(9)
    grown = rows[:5] + chain(9, begin=6, previous=rows[4][3], mark="other ")
    assert judge(grown, heads(rows, 3, 8)) == [("rewritten", 4, 8)]


def pruned(rows: list[Row], upto: int, before: Any = None, **changes: Any) -> Any:
    (digest,) = (row[3] for row in rows if row[0] == upto)
    fields: dict[str, Any] = {
        "fleet": FLEET,
        "upto": upto,
        "hash": digest,
        "count": upto,
        "upto_ms": 1000 + upto,
        "at_ms": 5000,
        "previous": checkpoint_digest(before) if before is not None else b"",
    }
    return seal_checkpoint(Checkpoint(**{**fields, **changes}), SEED)


def test_a_checkpoint_stands_for_what_was_pruned_and_its_own_head_still_counts() -> None:
    rows = chain(9)
    first = pruned(rows, 3)
    second = pruned(rows, 5, first)
    seen = heads(rows, 2, 5, 9)
    check = AuditCheck(FLEET, (first, second), key=public_key(SEED), wanted=seen)
    check.feed(rows[5:])
    assert check.compare("web01", seen) == 2  # entry 2 is pruned
    assert check.holds and (check.first, check.last, check.begins_after) == (6, 9, 5)


@pytest.mark.parametrize(
    "changes", [{"fleet": "e" * 64}, {"upto": 2}, {"previous": b"x" * 32}], ids=lambda changes: next(iter(changes))
)
def test_a_checkpoint_that_does_not_follow_is_found(changes: dict[str, Any]) -> None:
    rows = chain(9)
    first = pruned(rows, 3)
    second = msgspec.structs.replace(open_checkpoint(pruned(rows, 5, first)), **changes)
    assert judge(rows[5:], [], (first, seal_checkpoint(second, SEED)))[0][0] == "checkpoint"


def test_a_checkpoint_with_another_key_or_a_broken_signature_is_found() -> None:
    rows = chain(9)
    check = AuditCheck(FLEET, (pruned(rows, 5),), key=public_key(b"t" * SEED_BYTES))
    assert [finding.kind for finding in check.findings] == ["checkpoint"]
    broken = msgspec.structs.replace(pruned(rows, 5), signature=bytes(64))
    assert judge(rows[5:], [], (broken,))[0][0] == "checkpoint"


def test_rows_that_do_not_follow_their_checkpoint_are_found() -> None:
    rows = chain(9)
    assert judge(rows[6:], [], (pruned(rows, 5),)) == [("removed", 6, 6)]
    assert judge(rows[5:], [], (pruned(rows, 5, hash=bytes(32)),))[0] == ("changed", 6, 6)


def test_findings_are_bounded_and_the_rest_is_counted() -> None:
    rows = [(seq, at_ms, body, bytes(32)) for seq, at_ms, body, _ in chain(100)]
    check = AuditCheck(FLEET)
    check.feed(rows)
    assert len(check.findings) == MAX_FINDINGS and check.more == 100 - MAX_FINDINGS


def test_what_cannot_be_read_is_no_entry_and_what_can_is_what_was_written() -> None:
    assert decode_entry(b"\xc1 nonsense") is None
    entry = AuditEntry(act="exec", outcome="refused", code="SA-4390", counts={"ok": 3}, members=bytes(32))
    assert decode_entry(encode_entry(entry)) == entry and entry.refused


@given(st.text(max_size=600), st.integers(2, 300))
def test_a_shortened_text_is_one_line_and_no_longer(text: str, most: int) -> None:
    assert len(shorten(text, most)) <= most and "\n" not in shorten(text, most)


# Heads
# ----------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 10_000_000), min_size=1, max_size=300))
def test_the_newest_and_the_oldest_head_are_kept_and_never_more_than_there_is_room_for(gaps: list[int]) -> None:
    ring = HeadRing()
    now = 0
    for seq, gap in enumerate(gaps, 1):
        now += gap
        assert not ring.see(seq, b"h" * 32, now)
        assert ring.newest == Head(seq, b"h" * 32, now)
    assert ring.heads[0].seq == 1 and len(ring.heads) == min(len(gaps), HEADS_KEPT)
    assert [head.seq for head in ring.heads] == sorted(head.seq for head in ring.heads)


def test_heads_of_a_year_of_heartbeats_reach_back_over_it_ever_sparser() -> None:
    ring = HeadRing()
    day, beats = 86_400_000, 20_000
    for beat in range(beats):
        ring.see(beat + 1, b"h" * 32, beat * 365 * day // beats)
    now = (beats - 1) * 365 * day // beats
    ages = [now - head.seen_ms for head in ring.heads]
    assert len(ages) == HEADS_KEPT and ages[0] > 364 * day
    # In each span between an age and ten times as much there are several: whoever made the chain anew at any time has
    # one of them against him.
    for low in (day, 10 * day, 36 * day):
        assert sum(low <= age < 10 * low for age in ages) >= 5


def test_a_head_that_goes_back_or_contradicts_is_told_and_kept() -> None:
    ring = HeadRing()
    assert not ring.see(5, b"a" * 32, 1)
    assert not ring.see(5, b"a" * 32, 2)
    assert ring.see(5, b"b" * 32, 3)
    assert ring.see(4, b"c" * 32, 4)
    assert len(ring.heads) == 3


def test_heads_come_back_from_their_file_and_a_broken_file_says_nothing() -> None:
    kept = (Head(1, b"a" * 32, 5), Head(9, b"b" * 32, 6))
    assert decode_heads(encode_heads(kept)) == kept
    assert decode_heads(b"\x01\x02") == () and decode_heads(bytes(100_000)) == ()
