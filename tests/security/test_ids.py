"""Ids: ULIDs by the specification, checked against another implementation; names by their alphabets."""

from __future__ import annotations

import pytest
import ulid
from hypothesis import given
from hypothesis import strategies as st

from libstaragent.model import ids


@given(st.integers(0, ids.MAX_ULID_MS), st.binary(min_size=10, max_size=10))
def test_a_ulid_is_the_one_another_implementation_makes(now_ms: int, random: bytes) -> None:
    made = ids.new_ulid(now_ms, random)
    assert made == str(ulid.ULID.from_bytes(now_ms.to_bytes(6, "big") + random))
    assert ids.is_ulid(made)
    assert ids.ulid_time_ms(made) == now_ms


@given(st.text(alphabet="0123456789ABCDEFGHJKMNPQRSTVWXYZILOUabc", max_size=30) | st.text())
def test_what_passes_as_a_ulid_reads_back_as_itself(text: str) -> None:
    if ids.is_ulid(text):
        assert str(ulid.ULID.from_str(text)) == text
    else:
        with pytest.raises(ValueError, match="not a ULID"):
            ids.ulid_time_ms(text)


@pytest.mark.parametrize(
    "text", ["", "8" + "0" * 25, "0" * 25, "0" * 27, "I" + "0" * 25, "0" * 25 + "a", "0" * 25 + "é"]
)
def test_these_are_no_ulids(text: str) -> None:
    assert not ids.is_ulid(text)


@pytest.mark.parametrize(("now_ms", "random"), [(-1, bytes(10)), (1 << 48, bytes(10)), (0, bytes(9))])
def test_a_ulid_is_made_of_48_bits_and_10_bytes(now_ms: int, random: bytes) -> None:
    with pytest.raises(ValueError, match="48 bits"):
        ids.new_ulid(now_ms, random)


@pytest.mark.parametrize("text", ["web01", "0a", "web-01.hz.example", "A_b"])
def test_these_are_names(text: str) -> None:
    assert ids.is_host_name(text) and ids.is_room_name(text) and ids.is_user_name(text)


@pytest.mark.parametrize("text", ["", "-rf", ".", "a b", "a/b", "a\n", "[/red]", "é", "a" * 254])
def test_these_are_no_names(text: str) -> None:
    assert not (ids.is_host_name(text) or ids.is_room_name(text) or ids.is_user_name(text))


def test_a_fingerprint_is_64_lower_case_hex_digits() -> None:
    assert ids.is_fingerprint("0f" * 32)
    assert not any(map(ids.is_fingerprint, ["0F" * 32, "0f" * 31, "0g" * 32, ""]))
