"""Firings that hosts claim: which are believed, and of how many a host can make jobs. On the core alone."""

from __future__ import annotations

import itertools
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from libstaragent import codes
from libstaragent.jobs.schedule import firing_id, shortest_ms
from libstaragent.model.ids import new_ulid
from libstaragent.model.result import TargetResult
from libstaragent.protocol import trunk as t
from libstaragent.roles.central import CentralCore
from libstaragent.roles.central_state import Decision, Job
from libstaragent.roles.firing_claims import CLAIMS_AT_ONCE
from libstaragent.security.acts import (
    Act,
    At,
    AtBoot,
    Cron,
    Envelope,
    Every,
    Exec,
    Member,
    PauseSchedule,
    Schedule,
    TargetList,
    Unschedule,
    When,
)
from libstaragent.security.clock import MAX_SKEW_MS
from libstaragent.testing import PlainTrust
from libstaragent.testing.clock import EPOCH_MS

NOW = EPOCH_MS
DAY = 86_400_000
HOURLY = Every(3_600_000, 0)
SECOND = Every(1000, 0)


def new_id() -> str:
    return new_ulid(NOW, os.urandom(10))


ONE, TWO, STRANGER = (Member(new_id(), name, "main") for name in ("web01", "web02", "db01"))
KNOWN = {member.agent: member for member in (ONE, TWO, STRANGER)}


class Books:
    """A central's core, what it decided of each batch, and a store that takes everything at once."""

    def __init__(self) -> None:
        self.trust = PlainTrust()
        self.core = CentralCore(verify=self.trust.verify)
        self.jobs: list[Job] = []

    def act(self, act: Act, *members: Member, now_ms: int = NOW) -> str:
        envelope = Envelope(
            id=new_id(),
            fleet=self.trust.fleet,
            operator="ann",
            act=act,
            targets=TargetList("*", members or (ONE, TWO)),
            issued=now_ms,
            not_before=now_ms,
            expires=now_ms + 60_000,
            roster=1,
        )
        decision = Decision()
        signed = self.trust.sign(envelope)
        self.core.submit(signed, None, known=KNOWN, source="", now_ms=now_ms, decision=decision)
        self.core.committed(decision)
        return envelope.id

    def end(
        self, job: str, member: Member, state: str = "ok", code: str = "", *, now_ms: int = NOW, **more: Any
    ) -> None:
        result = TargetResult(job=job, state=state, code=code or None, ran="maybe", **more)
        self.hear(t.TargetEnded(member.agent, result), now_ms=now_ms)

    def keep(self, when: When, *members: Member, issued_ms: int = NOW, until_ms: int = NOW + 300 * DAY) -> str:
        act = Schedule(f"s{len(self.core.schedules.all())}", when, Exec(argv=("true",)), until_ms)
        job = self.act(act, *members, now_ms=issued_ms)
        for member in members or (ONE, TWO):
            self.end(job, member, now_ms=issued_ms)
        return job

    def hear(self, *reports: t.Report, now_ms: int = NOW, fails: bool = False) -> Decision:
        decision = Decision()
        self.core.reports(reports, now_ms=now_ms, decision=decision)
        if fails:
            self.core.rolled_back(decision)
        else:
            self.core.committed(decision)
            self.jobs += decision.new_jobs
        return decision

    def claim(self, schedule: str, at_ms: int, who: Member = ONE, *, now_ms: int = NOW, **changes: Any) -> str:
        """What is answered: known, settled (not believed), or nothing."""
        boot = changes.pop("boot", "")
        own = (who.agent, boot) if boot else ("", "")
        # Of a time that has no ULID there is no true id either.
        job = changes.pop("job", None) or firing_id(schedule, at_ms if 0 <= at_ms < 1 << 48 else 0, *own)
        report = t.FiringBegan(who.agent, "main", job, schedule, at_ms, boot, True)
        decision = self.hear(report, now_ms=now_ms, **changes)
        kinds = {t.FiringsKnown: "known", t.SettledTargets: "settled"}
        return "".join(kinds[type(order)] for _, order in decision.orders)  # type: ignore[index]


@pytest.fixture
def books() -> Books:
    return Books()


def test_a_firing_is_a_job_of_the_hosts_that_keep_the_schedule(books: Books) -> None:
    schedule = books.keep(SECOND)
    assert books.claim(schedule, NOW, TWO) == "known"
    assert books.claim(schedule, NOW, ONE) == "known"
    (job,) = books.jobs
    assert list(job.members) == [ONE.agent, TWO.agent] and job.schedule == schedule


@pytest.mark.parametrize(
    ("what", "claim"),
    [
        ("another job's id", {"job": new_id()}),
        ("the id of another time", {"job": firing_id("x", NOW)}),
        ("a host that is not in it", {"who": STRANGER}),
        ("a boot where none belongs", {"boot": "b"}),
        ("a time between two", {"at_ms": NOW + 1}),
        ("before it was signed", {"at_ms": NOW - MAX_SKEW_MS - 1000}),
        ("long before", {"at_ms": 0}),
        ("before all times", {"at_ms": -1000}),
        ("when it is yet to come", {"at_ms": NOW + MAX_SKEW_MS}),
        ("at the end of time", {"at_ms": (1 << 53) - (1 << 53) % 1000}),
        ("after its end", {"at_ms": NOW + 300 * DAY, "now_ms": NOW + 301 * DAY}),
    ],
)
def test_what_cannot_be_a_firing_makes_no_job_and_is_counted(books: Books, what: str, claim: dict[str, Any]) -> None:
    schedule = books.keep(SECOND)
    assert books.claim(schedule, claim.pop("at_ms", NOW), **claim) == "settled", what
    assert not books.jobs and books.core.schedules.refused == 1


def test_a_schedule_that_nobody_knows_fires_nothing(books: Books) -> None:
    assert books.claim(new_id(), NOW) == "settled"
    assert books.claim("", NOW) == "settled"
    assert books.core.schedules.refused == 2


def test_what_was_due_once_a_moment_before_it_was_signed_is_believed(books: Books) -> None:
    assert books.claim(books.keep(At(NOW - 1_800_000)), NOW - 1_800_000) == "known"


@pytest.mark.parametrize("when", [SECOND, HOURLY, Cron("0 * * * *"), AtBoot()])
def test_a_host_makes_no_more_jobs_than_it_could_have_kept_and_then_one_a_period(books: Books, when: When) -> None:
    year = NOW + 360 * DAY
    schedule = books.keep(when, until_ms=year + DAY)
    step = max(3_600_000, shortest_ms(when))
    base = NOW - NOW % step + step
    boot = isinstance(when, AtBoot)

    def claim(number: int, now_ms: int) -> str:
        return books.claim(schedule, base + number * step, now_ms=now_ms, boot=f"boot {number}" if boot else "")

    told = [claim(number, year) for number in range(CLAIMS_AT_ONCE + 50)]
    assert told == ["known"] * CLAIMS_AT_ONCE + [""] * 50
    assert len(books.jobs) == CLAIMS_AT_ONCE and books.core.schedules.deferred == 50
    # What exists is answered all the same, and the other host has its own number.
    assert claim(0, year) == "known"
    if not boot:
        assert books.claim(schedule, base + 2000 * step, TWO, now_ms=year) == "known"
    # What was not answered is told again, and has its turn.
    later = year + 2 * shortest_ms(when)
    again = [claim(number, later) for number in range(CLAIMS_AT_ONCE, CLAIMS_AT_ONCE + 4)]
    assert again == ["known", "known", "", ""]


def test_a_claim_that_could_not_be_written_is_not_counted(books: Books) -> None:
    schedule = books.keep(HOURLY)
    at_ms = NOW - NOW % 3_600_000 + 3_600_000
    for _ in range(2 * CLAIMS_AT_ONCE):
        assert books.claim(schedule, at_ms, now_ms=at_ms, fails=True) == "known"
    assert not books.jobs and books.core.schedules.deferred == 0
    assert books.claim(schedule, at_ms, now_ms=at_ms) == "known"


def test_a_host_that_let_it_go_is_believed_for_before_and_not_for_after(books: Books) -> None:
    schedule = books.keep(SECOND)
    books.end(books.act(Unschedule(schedule), ONE), ONE)
    later = NOW + 600_000
    assert books.claim(schedule, NOW - 2000, now_ms=later) == "known"
    assert books.claim(schedule, NOW + MAX_SKEW_MS + 1000, now_ms=later) == "settled"
    assert books.claim(schedule, NOW + MAX_SKEW_MS + 1000, TWO, now_ms=later) == "known"
    before, after = books.jobs
    assert set(before.members) == {ONE.agent, TWO.agent} and set(after.members) == {TWO.agent}


@pytest.mark.parametrize(
    ("state", "code", "expected", "fires"),
    [
        ("ok", "", "kept", True),
        ("agent_lost", "", "unknown", True),
        ("interrupted", codes.RESULT_GONE.code, "unknown", True),
        ("spawn_failed", codes.JOURNAL_FAILED.code, "unknown", True),
        ("denied", codes.SCHEDULES_FULL.code, "refused", False),
        ("unreachable", codes.HOST_UNREACHABLE.code, "refused", False),
    ],
)
def test_where_nobody_can_say_that_it_is_not_kept_it_may_fire(
    books: Books, state: str, code: str, expected: str, fires: bool
) -> None:
    act = Schedule("beat", SECOND, Exec(argv=("true",)), NOW + DAY)
    schedule = books.act(act)
    books.end(schedule, ONE, state, code)
    books.end(schedule, TWO)
    kept = books.core.schedules.get(schedule)
    assert kept is not None and kept.states == {ONE.agent: expected, TWO.agent: "kept"}
    assert kept.reasons.get(ONE.agent, "") == code
    assert books.claim(schedule, NOW, TWO) == "known"
    assert (ONE.agent in books.jobs[0].members) == fires


def test_a_host_that_says_it_keeps_none_is_missing_until_it_is_removed(books: Books) -> None:
    schedule = books.keep(SECOND)
    pause = books.act(PauseSchedule(schedule, True))
    books.end(pause, ONE, "denied", codes.SCHEDULE_NOT_KEPT.code)
    books.end(pause, TWO)
    kept = books.core.schedules.get(schedule)
    assert kept is not None and kept.states == {ONE.agent: "missing", TWO.agent: "paused"}
    assert kept.reasons == {ONE.agent: codes.SCHEDULE_NOT_KEPT.code}
    books.act(PauseSchedule(schedule, False))
    assert kept.states == {ONE.agent: "missing", TWO.agent: "kept"}
    gone = books.act(Unschedule(schedule))
    books.end(gone, ONE, "denied", codes.SCHEDULE_NOT_KEPT.code)
    assert kept.states == {ONE.agent: "removed", TWO.agent: "kept"} and kept.is_live(NOW)
    books.end(gone, TWO)
    assert not kept.is_live(NOW)
    assert books.keep(SECOND)


def test_a_host_that_was_asked_to_pause_before_it_took_the_schedule_is_in_its_firings(books: Books) -> None:
    schedule = books.act(Schedule("beat", SECOND, Exec(argv=("true",)), NOW + DAY))
    pause = books.act(PauseSchedule(schedule, True))
    books.end(pause, ONE, "denied", codes.SCHEDULE_NOT_KEPT.code)
    books.end(schedule, ONE)
    books.end(schedule, TWO)
    assert books.claim(schedule, NOW, TWO) == "known" and set(books.jobs[0].members) == {ONE.agent, TWO.agent}


@pytest.mark.parametrize("order", list(itertools.permutations(("pause", "resume"))))
def test_whichever_is_heard_first_the_later_act_holds(books: Books, order: tuple[str, ...]) -> None:
    schedule = books.keep(SECOND, ONE)
    jobs = {word: books.act(PauseSchedule(schedule, word == "pause"), ONE) for word in ("pause", "resume")}
    kept = books.core.schedules.get(schedule)
    assert kept is not None
    for word in order:
        books.end(jobs[word], ONE, finished_ms=NOW + {"pause": 1000, "resume": 2000}[word])
        assert kept.states == {ONE.agent: "kept"}
    again = books.act(PauseSchedule(schedule, True), ONE)
    books.end(again, ONE, finished_ms=NOW + 3000)
    assert kept.states == {ONE.agent: "paused"} and kept.since == {ONE.agent: NOW + 3000}
    for state, code, after in (("agent_lost", "", "kept"), ("denied", codes.POLICY_DENIED.code, "paused")):
        resume = books.act(PauseSchedule(schedule, False), ONE)
        assert kept.states == {ONE.agent: "kept"}, "ordered: it may go on"
        books.end(resume, ONE, state, code)
        assert kept.states == {ONE.agent: after}
        books.end(resume, ONE, "ok", finished_ms=NOW + 4000)
        books.end(books.act(PauseSchedule(schedule, True), ONE), ONE, finished_ms=NOW + 5000)


FOREIGN = some.tuples(
    some.sampled_from([ONE, TWO, STRANGER]),
    some.integers(-(1 << 40), 1 << 53) | some.integers(-100, 100).map(lambda step: NOW + 1000 * step),
    some.sampled_from(["", "boot"]),
    some.none() | some.text(max_size=30),
)


@settings(max_examples=25, deadline=None)
@given(some.lists(FOREIGN, max_size=30))
def test_whatever_is_claimed_every_job_is_a_due_time_of_the_schedule(claims: list[Any]) -> None:
    books = Books()
    schedule = books.keep(SECOND)
    for who, at_ms, boot, job in claims:
        books.claim(schedule, at_ms, who, boot=boot, **({} if job is None else {"job": job}))
    for job in books.jobs:
        at_ms = job.envelope.not_before
        assert job.id == firing_id(schedule, at_ms) and at_ms % 1000 == 0
        assert NOW - MAX_SKEW_MS <= at_ms < NOW + MAX_SKEW_MS
    assert len({job.id for job in books.jobs}) == len(books.jobs) <= 2 * MAX_SKEW_MS // 1000
