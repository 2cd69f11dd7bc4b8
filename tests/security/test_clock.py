"""Age: what is judged by which clock, at the boundaries."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libstaragent import codes
from libstaragent.errors import Code, StarAgentError
from libstaragent.model.ids import new_ulid
from libstaragent.security.clock import KEEP_ID_MS, MAX_SKEW_MS, TimeJudge
from libstaragent.security.envelope import Cancel, Envelope

NOW_MS = 1_760_000_000_000
HOUR_MS = 3_600_000
NONCE = b"this-boots-nonce"


def envelope(**fields: Any) -> Envelope:
    job = new_ulid(NOW_MS, b"0123456789")
    times = {"issued": NOW_MS, "not_before": NOW_MS, "expires": NOW_MS + HOUR_MS, **fields}
    return Envelope(id=job, fleet="ab" * 32, operator="lin", act=Cancel(job), targets=None, roster=1, **times)


def refusal(judge: TimeJudge, local_ms: int, *, nonce: bytes | None = NONCE, **fields: Any) -> Code | None:
    try:
        judge.check(envelope(**fields), local_ms, boot_nonce=nonce)
    except StarAgentError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    ("local_ms", "code"),
    [
        (NOW_MS, None),
        (NOW_MS + HOUR_MS - 1, None),
        (NOW_MS + HOUR_MS, codes.ENVELOPE_EXPIRED),
        (NOW_MS + 100 * HOUR_MS, codes.ENVELOPE_EXPIRED),
        (NOW_MS - MAX_SKEW_MS, None),
        (NOW_MS - MAX_SKEW_MS - 1, codes.ENVELOPE_CLOCK_SKEW),
        (0, codes.ENVELOPE_CLOCK_SKEW),
    ],
)
def test_the_local_clock_judges_at_the_boundary(local_ms: int, code: Code | None) -> None:
    assert refusal(TimeJudge(), local_ms) is code


@pytest.mark.parametrize(
    ("local_ms", "code"),
    [
        (NOW_MS + HOUR_MS - MAX_SKEW_MS - 1, codes.ENVELOPE_NOT_YET),
        (NOW_MS + HOUR_MS - MAX_SKEW_MS, None),
        (NOW_MS + HOUR_MS, None),
    ],
)
def test_an_act_for_later_waits_for_its_time_with_the_tolerance_of_clocks(local_ms: int, code: Code | None) -> None:
    later = {"not_before": NOW_MS + HOUR_MS, "expires": NOW_MS + 2 * HOUR_MS}
    assert refusal(TimeJudge(), local_ms, **later) is code


def test_an_old_envelope_that_has_not_expired_is_a_queued_job() -> None:
    assert refusal(TimeJudge(), NOW_MS + HOUR_MS - 1) is None


def test_setting_the_clock_back_does_not_revive_an_expired_envelope() -> None:
    judge = TimeJudge()
    assert judge.learn(envelope(issued=NOW_MS + HOUR_MS))
    for local_ms in (NOW_MS + HOUR_MS, NOW_MS + HOUR_MS - MAX_SKEW_MS):
        assert refusal(judge, local_ms) is codes.ENVELOPE_EXPIRED
    assert refusal(judge, NOW_MS) is codes.ENVELOPE_CLOCK_SKEW


def test_the_highest_time_survives_as_one_number() -> None:
    judge = TimeJudge()
    judge.learn(envelope())
    assert refusal(TimeJudge(judge.highest_ms), NOW_MS - MAX_SKEW_MS - 1, issued=0) is codes.ENVELOPE_CLOCK_SKEW


def test_learning_reports_when_it_must_be_persisted() -> None:
    judge = TimeJudge()
    assert judge.learn(envelope())
    assert not judge.learn(envelope())
    assert not judge.learn(envelope(issued=NOW_MS - 1))
    assert judge.highest_ms == NOW_MS == judge.now(0)


@pytest.mark.parametrize("local_ms", [0, NOW_MS, NOW_MS + 100 * HOUR_MS])
def test_an_envelope_bound_to_this_boot_reaches_a_host_with_any_clock(local_ms: int) -> None:
    assert refusal(TimeJudge(NOW_MS + HOUR_MS), local_ms, boot_nonce=NONCE) is None


def test_a_clock_that_runs_ahead_forgets_no_id() -> None:
    judge = TimeJudge(NOW_MS)
    assert not judge.may_forget(NOW_MS - KEEP_ID_MS + 1)
    assert judge.may_forget(NOW_MS - KEEP_ID_MS)


@given(st.integers(0, 3 * NOW_MS), st.integers(0, 3 * NOW_MS), st.booleans())
def test_what_may_be_forgotten_is_never_let_in_again(highest_ms: int, local_ms: int, bound: bool) -> None:
    judge = TimeJudge(highest_ms)
    if judge.may_forget(NOW_MS + HOUR_MS):
        assert refusal(judge, local_ms, boot_nonce=NONCE if bound else None) is not None


@pytest.mark.parametrize("bound", [NONCE, None])
def test_an_envelope_whose_id_was_forgotten_is_refused(bound: bytes | None) -> None:
    judge = TimeJudge(NOW_MS + HOUR_MS + KEEP_ID_MS)
    for local_ms in (0, NOW_MS, NOW_MS + HOUR_MS + KEEP_ID_MS):
        assert refusal(judge, local_ms, boot_nonce=bound) in (codes.ENVELOPE_EXPIRED, codes.ENVELOPE_CLOCK_SKEW)


def test_an_envelope_bound_to_another_boot_is_refused() -> None:
    assert refusal(TimeJudge(), NOW_MS, boot_nonce=b"another boot's..") is codes.ENVELOPE_WRONG_BOOT


def test_a_bound_envelope_teaches_no_time() -> None:
    judge = TimeJudge()
    assert not judge.learn(envelope(boot_nonce=NONCE, issued=NOW_MS * 2))
    assert judge.highest_ms == 0


def test_central_which_has_no_boot_judges_a_bound_envelope_by_its_clock() -> None:
    assert refusal(TimeJudge(), NOW_MS, nonce=None, boot_nonce=NONCE) is None
    assert refusal(TimeJudge(), NOW_MS + HOUR_MS, nonce=None, boot_nonce=NONCE) is codes.ENVELOPE_EXPIRED


@given(st.integers(0, 2 * NOW_MS), st.integers(0, 2 * NOW_MS))
def test_what_the_clocks_let_in_teaches_at_most_the_tolerance_ahead(local_ms: int, issued: int) -> None:
    judge = TimeJudge()
    seen = envelope(issued=issued, not_before=issued, expires=issued + HOUR_MS)
    if refusal(judge, local_ms, issued=issued, not_before=issued, expires=issued + HOUR_MS) is None:
        judge.learn(seen)
    assert judge.highest_ms <= local_ms + MAX_SKEW_MS
