"""A damaged journal: what is readable is kept, the damage is told, and no job that may be among the lost runs again."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from agentd.agent.journal_file import DAMAGED_MAX, JournalFile
from libstaragent import codes
from libstaragent.jobs.journal import Done, Floor, Record, Taken, compacted, encode_record, salvage
from libstaragent.model.ids import new_ulid
from libstaragent.protocol import messages as m
from libstaragent.protocol.connection import ROOM, Connection
from libstaragent.roles.agent import AgentCore
from libstaragent.roles.agent_effects import Persist, ToKeeper
from libstaragent.security.acts import Envelope, Exec, Member, TargetList
from libstaragent.security.clock import MAX_SKEW_MS
from libstaragent.security.signed import Signed
from libstaragent.testing.trust import FLEET, OPERATOR, PlainTrust

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000


def a_job(number: int) -> str:
    return new_ulid(NOW_MS, number.to_bytes(10, "big"))


def taken(number: int) -> Taken:
    return Taken(a_job(number), Signed(b"x" * 50, bytes(32), bytes(64)), NOW_MS + DAY_MS)


def jobs(records: list[Record]) -> list[str]:
    return [record.job for record in records if isinstance(record, Taken | Done)]


def flipped(path: Path, *places: int) -> None:
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 1
    path.write_bytes(data)


def a_journal(path: Path, count: int) -> int:
    """A file of so many records; the length of one."""
    journal = JournalFile(path)
    assert journal.append([taken(number) for number in range(count)], sync=True) is None
    journal.close()
    return path.stat().st_size // count


# Each place in a record: its length, its checksum, its body.
@pytest.mark.parametrize("place", [0, 3, 4, 20])
def test_a_flipped_bit_costs_its_record_only_and_is_told(tmp_path: Path, place: int) -> None:
    path, said = tmp_path / "journal", []
    size = a_journal(path, 4)
    flipped(path, size + place)
    damaged = path.read_bytes()
    journal = JournalFile(path, clock=lambda: NOW_MS, log=said.append)
    assert jobs(journal.records) == [a_job(0), a_job(2), a_job(3)]
    floors = [record for record in journal.records if isinstance(record, Floor)]
    assert len(floors) == 1 and floors[0].time_ms >= NOW_MS + MAX_SKEW_MS
    assert (tmp_path / "journal.damaged-1").read_bytes() == damaged
    assert len(said) == 1 and codes.STATE_DAMAGED.code in said[0] and "journal.damaged-1" in said[0]
    journal.close()
    again = JournalFile(path, log=said.append)
    assert again.records == journal.records and len(said) == 1
    again.close()


def test_the_last_record_counts_as_damaged_where_all_of_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    a_journal(path, 1)
    flipped(path, 20)
    journal = JournalFile(path)
    assert [type(record) for record in journal.records] == [Floor]
    journal.close()


def test_a_torn_tail_is_cut_off_without_a_word(tmp_path: Path) -> None:
    path, said = tmp_path / "journal", []
    size = a_journal(path, 3)
    whole = path.read_bytes()
    for length in range(2 * size, 3 * size):
        path.write_bytes(whole[:length])
        journal = JournalFile(path, log=said.append)
        assert jobs(journal.records) == [a_job(0), a_job(1)] and len(journal.records) == 2
        journal.close()
    path.write_bytes(whole + bytes(4096))
    journal = JournalFile(path, log=said.append)
    assert len(journal.records) == 3
    journal.close()
    assert said == [] and not list(tmp_path.glob("journal.damaged-*"))


def test_damaged_files_are_kept_up_to_a_number(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for _ in range(DAMAGED_MAX + 2):
        path.unlink(missing_ok=True)
        a_journal(path, 2)
        flipped(path, 20)
        JournalFile(path).close()
    assert len(list(tmp_path.glob("journal.damaged-*"))) == DAMAGED_MAX


def test_where_a_damaged_journal_cannot_be_written_anew_nothing_of_it_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    size = a_journal(path, 3)
    flipped(path, 20)
    # What a full disk does to the draft, for root too.
    (tmp_path / ".journal").mkdir()
    journal = JournalFile(path)
    assert path.stat().st_size == 3 * size
    assert [type(record) for record in journal.records] == [Taken, Taken, Floor]
    assert journal.append([taken(3)], sync=True) is None
    journal.close()
    again = JournalFile(path)
    assert jobs(again.records) == [a_job(1), a_job(2), a_job(3)]
    again.close()


def test_a_disk_that_takes_no_change_is_told_and_what_comes_after_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = JournalFile(path)
    assert journal.append([taken(1)], sync=True) is None
    (used,) = (
        int(name) for name in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{name}") == str(path)
    )
    writable, readable = os.dup(used), os.open(path, os.O_RDONLY)
    os.dup2(readable, used)
    assert journal.append([taken(2)], sync=True) == errno.EBADF
    os.dup2(writable, used)
    assert journal.append([taken(3)], sync=True) is None
    for descriptor in (writable, readable):
        os.close(descriptor)
    journal.close()
    again = JournalFile(path)
    assert again.records == [taken(1), taken(3)]
    again.close()


def test_what_looks_like_records_in_large_garbage_does_not_take_long_and_a_record_after_it_is_found() -> None:
    # Each candidate asks for a checksum over as much as a record may be: their sum is bounded.
    garbage = (b"\x00\x04\x00\x00" + b"abcd" + b"\x94\x01") * 100_000
    found = salvage(garbage + encode_record(taken(1)))
    assert found.lost and len(found.records) <= 1
    body = encode_record(taken(1))
    assert zlib.crc32(body[8:]) == int.from_bytes(body[4:8], "big")
    assert salvage(b"garbage" * 1000 + body).records == [taken(1)]


def test_what_was_taken_before_the_damage_stays_apart_when_the_journal_is_written_anew() -> None:
    records = [taken(1), Floor(NOW_MS), taken(2)]
    assert compacted(records) == records
    assert compacted(compacted([taken(1), taken(3), Done(a_job(3), 5 * DAY_MS + NOW_MS), *records[1:]])) == [
        *records,
        Done(a_job(3), 5 * DAY_MS + NOW_MS),
    ]


class Host:
    """An agent with a journal, a room, and what it said and did."""

    def __init__(self, *journal: Record) -> None:
        self.member = Member(a_job(0), "web01", "main")
        self.trust = PlainTrust()
        self.core = AgentCore(
            agent=self.member.agent,
            verifier=self.trust.verifier(self.member),
            state_of=lambda code: "denied",
            version="1",
            boot_nonce=bytes(16),
            hostname="web01",
            addresses=(),
            facts={},
            journal=journal,
        )
        self.room = Connection(ROOM, now=0.0)
        self.core.connected(connects=1, now=0.0, now_ms=NOW_MS)
        self.told()
        self.room.send(m.Welcome(protocol=1, features=(), room="main", heartbeat_ms=15_000, clock_ms=NOW_MS))

    def order(self, number: int, *, issued: int, boot_nonce: bytes | None = None) -> None:
        envelope = Envelope(
            id=a_job(number),
            fleet=FLEET,
            operator=OPERATOR,
            act=Exec(argv=("true",)),
            targets=TargetList("web01", (self.member,)),
            issued=issued,
            not_before=issued,
            expires=NOW_MS + DAY_MS,
            roster=1,
            boot_nonce=boot_nonce,
        )
        self.room.send(m.Run(envelope.id, self.trust.sign(envelope), None, 0))
        self.core.receive(self.room.take(), now=0.0, now_ms=NOW_MS)

    def told(self) -> list[Any]:
        assert self.core.connection is not None
        heard = self.room.receive(self.core.connection.take(), 0.0)
        return [message.result for message in heard if isinstance(message, m.Result)]

    def wrote(self) -> list[str]:
        return jobs([effect.record for effect in self.core.effects if isinstance(effect, Persist)])


def test_a_job_that_was_issued_before_the_damage_was_found_is_never_started() -> None:
    host = Host(Floor(NOW_MS))
    host.order(1, issued=NOW_MS)
    (result,) = host.told()
    assert (result.state, result.code, result.ran) == ("interrupted", codes.IDS_LOST.code, "maybe")
    assert not host.core.effects and not host.core.open
    host.order(2, issued=NOW_MS + 1)
    assert host.told() == [] and host.wrote() == [a_job(2)]


def test_a_job_bound_to_this_boot_cannot_be_among_the_lost() -> None:
    host = Host(Floor(NOW_MS))
    host.order(1, issued=NOW_MS - 1, boot_nonce=bytes(16))
    assert host.told() == [] and host.wrote() == [a_job(1)]


def test_what_the_journal_had_taken_before_its_damage_may_have_run() -> None:
    host = Host(taken(1), Floor(NOW_MS), taken(2))
    host.core.receive(host.room.take(), now=0.0, now_ms=NOW_MS)
    host.core.keeper_known([], now=0.0, now_ms=NOW_MS)
    # The other is ordered again, or ends with its time.
    host.core.tick(now=0.0, now_ms=NOW_MS + 10 * DAY_MS)
    for effect in host.core.effects:
        if isinstance(effect, Persist):
            host.core.persisted(effect.token, None, now=0.0)
    results = {result.job: (result.code, result.ran) for result in host.told()}
    assert results == {a_job(1): (codes.IDS_LOST.code, "maybe"), a_job(2): (codes.NEVER_STARTED.code, "no")}
    assert not [effect for effect in host.core.effects if isinstance(effect, ToKeeper)]
