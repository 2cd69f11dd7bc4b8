"""When a host's schedules fire, and when not any more: clocks, ends, rosters, and journals that were hurt. On the cores
and a journal on a real disk, with real signatures.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentd.agent.journal_file import JournalFile
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.jobs.journal import Fired, Floor, Kept, Record, Removed, Rested, encode_record
from libstaragent.jobs.schedule import AT_GRACE_MS, LATE_MS, firing_id
from libstaragent.model.ids import new_ulid
from libstaragent.roles.agent_schedules import SCHEDULES_MAX, AgentSchedules, Firing
from libstaragent.security.acts import (
    Act,
    At,
    AtBoot,
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
from libstaragent.security.authority import terminal_state, verify_act
from libstaragent.security.clock import MAX_SKEW_MS, TimeJudge
from libstaragent.security.envelope import sign
from libstaragent.security.membership import Proof
from libstaragent.security.roster import Operator, Roster
from libstaragent.security.signed import Signed
from libstaragent.security.signing import public_key
from libstaragent.testing.clock import EPOCH_MS
from libstaragent.testing.trust import PlainTrust

NOW, HOUR = EPOCH_MS, 3_600_000
ME = Member(new_ulid(NOW, b"web01".ljust(10)), "web01", "main")
KEY = b"ann".ljust(32, b".")
SECOND = Every(1000, 0)
# What was due until then does not fire where a damage is found.
FOUND_MS = NOW + 60_000 + MAX_SKEW_MS


class Host(PlainTrust):
    """A host's schedules, verified by a roster that holds for two hours; and its journal."""

    def __init__(self, journal: Path, *, boot: str = "boot 1", operator: str = "ann", highest_ms: int = 0) -> None:
        self.roster = Roster(
            root=public_key(b"root".ljust(32, b".")),
            revision=1,
            previous=b"",
            issued=NOW,
            valid_until=NOW + 2 * HOUR,
            ca=(b"c" * 32,),
            operators=(Operator(operator, public_key(KEY), ("operator",)),),
        )
        self.judge = TimeJudge(highest_ms)
        self.path = journal
        self.file = JournalFile(journal, clock=lambda: NOW + 60_000)
        self.verifier: Any = self.verifier_of_me()
        self.schedules = AgentSchedules(agent=ME.agent, boot=boot, verifier=self.verifier, state_of=terminal_state)
        for record in self.file.records:
            if isinstance(record, Floor):
                self.schedules.not_before(record.time_ms)
            elif isinstance(record, Kept | Fired | Rested | Removed):
                self.schedules.recover((record,))

    def verifier_of_me(self) -> Any:
        host = self

        class Mine:
            highest_ms = property(lambda _: host.judge.highest_ms)

            def verify_kept(self, signed: Signed, proof: Proof | None, now_ms: int) -> Envelope:
                return verify_act(
                    signed,
                    roster=host.roster,
                    fleet=host.roster.fleet,
                    me=ME,
                    proof=proof,
                    local_ms=now_ms,
                    time_judge=host.judge,
                    boot_nonce=b"boot",
                    evaluate=None,
                    kept=True,
                )

        return Mine()

    def write(self, *records: Record) -> None:
        assert self.file.append(records, sync=True) is None
        for record in records:
            self.schedules.note(record)  # type: ignore[arg-type]

    def act(self, act: Act, *, now_ms: int = NOW) -> Any:
        """Take a verified act; its record, on disk."""
        envelope = Envelope(
            id=new_ulid(NOW, os.urandom(10)),
            fleet=self.roster.fleet,
            operator="ann",
            act=act,
            targets=TargetList("web01", (ME,)),
            issued=NOW,
            not_before=NOW,
            expires=NOW + 60_000,
            roster=1,
        )
        record = self.schedules.record_for(envelope, sign(envelope, KEY), None, now_ms)
        self.write(record)
        return record

    def keep(self, when: When, *, until_ms: int = NOW + HOUR, now_ms: int = NOW) -> str:
        return self.act(Schedule("beat", when, Exec(argv=("true",)), until_ms), now_ms=now_ms).schedule

    def due(self, now_ms: int, *, busy: bool = False, places: int = 9) -> list[Firing]:
        """What fires now; written down."""
        fired, over = self.schedules.due(now_ms, places=places, busy=lambda schedule: busy)
        self.write(*(firing.record for firing in fired), *over)
        return fired

    def times(self, now_ms: int) -> list[int]:
        return [firing.record.at_ms - NOW for firing in self.due(now_ms)]


def flip(path: Path, whole: bytes, position: int) -> None:
    """Write a journal whose byte there is another, and that was last written at the time of these tests."""
    path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x40]) + whole[position + 1 :])
    os.utime(path, (NOW / 1000, NOW / 1000))


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Host]:
    """A host on one journal, as often as its agent starts."""
    return lambda **options: Host(tmp_path / "journal", **options)


def test_each_due_time_fires_once_and_the_id_follows_from_it(start: Callable[..., Host]) -> None:
    host = start()
    schedule = host.keep(SECOND)
    (first,) = host.due(NOW + 1000)
    assert first.record.job == firing_id(schedule, NOW + 1000) and first.verdict is None
    assert host.due(NOW + 1999) == [] and host.times(NOW + 2000) == [2000]
    again = start()
    assert again.times(NOW + 2500) == [], "a restart fires nothing again"
    assert again.times(NOW + 9000) == [9000], "of what was passed over only the newest"
    assert again.times(NOW + 9000 + 2 * LATE_MS) == [29_000]


def test_a_clock_that_is_set_back_lets_it_rest_and_extends_nothing(start: Callable[..., Host]) -> None:
    host = start()
    host.keep(SECOND, until_ms=NOW + 20_000)
    assert host.times(NOW + 9000) == [9000]
    assert host.times(NOW + 5000) == [] and host.times(NOW + 9000) == []
    # The latest time in an operator's signature is past its end, whatever this clock says.
    late = start(highest_ms=NOW + 20_000)
    (denied,) = late.due(NOW + 10_000)
    assert denied.verdict is not None and denied.verdict.state == "expired"
    assert late.schedules.wake_ms is None and late.due(NOW + 11_000) == []
    assert start().schedules.wake_ms is None, "it is gone from the disk, too"


def test_what_is_past_its_end_is_over(start: Callable[..., Host]) -> None:
    host = start()
    schedule = host.keep(SECOND, until_ms=NOW + 2000)
    assert host.times(NOW + 1000) == [1000]
    assert host.times(NOW + 2000) == [] and schedule not in host.schedules
    assert schedule not in start().schedules


def test_under_a_roster_that_has_expired_nothing_runs(start: Callable[..., Host]) -> None:
    host = start()
    host.keep(SECOND, until_ms=NOW + 3 * HOUR)
    (firing,) = host.due(NOW + 2 * HOUR + 1000)
    assert firing.verdict is not None and (firing.verdict.ran, firing.verdict.code) == ("no", codes.ROSTER_EXPIRED.code)


def test_of_an_operator_who_has_left_nothing_runs(start: Callable[..., Host]) -> None:
    start().keep(SECOND)
    (firing,) = start(operator="kim").due(NOW + 1000)
    assert firing.verdict is not None and (firing.verdict.ran, firing.verdict.code) == ("no", codes.SIGNER_UNKNOWN.code)


def test_while_the_one_before_runs_it_is_passed_over_and_told(start: Callable[..., Host]) -> None:
    host = start()
    host.keep(SECOND)
    (firing,) = host.due(NOW + 1000, busy=True)
    assert firing.verdict is not None
    assert (firing.verdict.state, firing.verdict.ran) == ("spawn_failed", "no")
    assert firing.verdict.code == codes.SCHEDULE_OVERLAP.code
    assert host.due(NOW + 2000, places=0) == [] and host.schedules.passed_over == 1


@pytest.mark.parametrize(("late_ms", "code"), [(HOUR // 2, None), (AT_GRACE_MS + 1, codes.SCHEDULE_MISSED.code)])
def test_what_is_due_once_runs_late_within_the_hour_and_is_gone(
    start: Callable[..., Host], late_ms: int, code: str | None
) -> None:
    host = start()
    schedule = host.keep(At(NOW + 1000))
    (firing,) = host.due(NOW + 1000 + late_ms)
    assert (None if firing.verdict is None else firing.verdict.code) == code
    assert schedule not in host.schedules and start().due(NOW + HOUR * 2 - 1) == []


def test_at_boot_fires_once_in_each_later_boot(start: Callable[..., Host]) -> None:
    host = start()
    schedule = host.keep(AtBoot())
    assert host.due(NOW + 1000) == []
    (second,) = start(boot="boot 2").due(NOW + 2000)
    assert second.record.job == firing_id(schedule, NOW + 2000, ME.agent, "boot 2")
    assert start(boot="boot 2").due(NOW + 3000) == []
    assert len(start(boot="boot 3").due(NOW + 4000)) == 1


def test_what_rests_or_is_on_its_way_to_rest_does_not_fire(start: Callable[..., Host]) -> None:
    host = start()
    schedule = host.keep(SECOND)
    host.schedules.hold(schedule)
    assert host.schedules.wake_ms is None and host.due(NOW + 1000) == []
    host.schedules.release(schedule)
    host.act(PauseSchedule(schedule, True), now_ms=NOW + 1500)
    assert host.due(NOW + 3000) == []
    host.act(PauseSchedule(schedule, False), now_ms=NOW + 4500)
    assert host.times(NOW + 5000) == [5000], "what was due in the rest is not made up for"
    host.act(Unschedule(schedule), now_ms=NOW + 5500)
    with pytest.raises(StarAgentError) as gone:
        host.act(Unschedule(schedule))
    assert gone.value.code is codes.SCHEDULE_NOT_KEPT and host.due(NOW + 9000) == []


def test_a_host_keeps_so_many_and_refuses_the_next(start: Callable[..., Host]) -> None:
    host = start()
    for _ in range(SCHEDULES_MAX):
        host.keep(AtBoot())
    with pytest.raises(StarAgentError) as full:
        host.keep(AtBoot())
    assert full.value.code is codes.SCHEDULES_FULL


def test_a_torn_end_lost_nothing_that_was_acknowledged(start: Callable[..., Host], tmp_path: Path) -> None:
    host = start()
    schedule = host.keep(SECOND)
    host.due(NOW + 1000)
    whole = host.path.read_bytes()
    torn = encode_record(Fired(schedule, firing_id(schedule, NOW + 2000), NOW + 2000, NOW + 9000, "ann", ""))
    for length in range(len(torn)):
        host.path.write_bytes(whole + torn[:length])
        assert start().times(NOW + 2000) == [2000], "it was not on disk, so it has not started"


def test_wherever_a_byte_is_flipped_nothing_that_was_due_before_fires_again(start: Callable[..., Host]) -> None:
    host = start()
    host.keep(Every(2000, 0))
    for second in (2, 4, 6):
        host.due(NOW + second * 1000)
    whole = host.path.read_bytes()
    hurt = 0
    for position in range(0, len(whole), 7):
        flip(host.path, whole, position)
        again = start()
        found = again.times(NOW + 6500)
        assert found == [], f"byte {position}"
        hurt += any(isinstance(record, Floor) for record in again.file.records)
        # From the time of the finding on it says that it is in doubt, where its own record is whole.
        for firing in again.due(FOUND_MS + 2000):
            assert firing.record.at_ms == FOUND_MS + 2000, f"byte {position}"
            assert firing.verdict is not None, f"byte {position}"
            assert firing.verdict.code == codes.SCHEDULE_DOUBTFUL.code, f"byte {position}"
    assert hurt > len(whole) // 14


@pytest.mark.parametrize("act", [Unschedule, lambda schedule: PauseSchedule(schedule, True)])
def test_where_the_record_that_removed_or_paused_it_is_hurt_a_schedule_runs_nothing_until_it_is_let_go_on(
    start: Callable[..., Host], act: Callable[[str], Act]
) -> None:
    host = start()
    schedule = host.keep(SECOND)
    end = len(host.path.read_bytes())
    host.act(act(schedule))
    whole = host.path.read_bytes()
    for position in range(end, len(whole)):
        flip(host.path, whole, position)
        # What would have run is told with the reason, also at the start after the next.
        for late in (1000, 2000):
            hurt = start()
            (firing,) = hurt.due(FOUND_MS + late)
            assert firing.verdict is not None, f"byte {position}"
            told = (firing.verdict.state, firing.verdict.code, firing.verdict.ran)
            assert told == ("denied", codes.SCHEDULE_DOUBTFUL.code, "no"), f"byte {position}"
    hurt.act(PauseSchedule(schedule, False), now_ms=FOUND_MS + 2000)
    # Each start writes the journal anew: neither the schedule nor one that came since is in doubt once more.
    later = hurt.keep(SECOND, now_ms=FOUND_MS + 2000)
    for late in (3000, 4000, 5000):
        firings = start().due(FOUND_MS + late)
        assert {firing.record.schedule for firing in firings} == {schedule, later}
        assert all(firing.verdict is None for firing in firings)
