"""A host that has more waiting than a connection may hold gets all of it, piece by piece."""

from __future__ import annotations

from typing import Any

from libstaragent.model.ids import new_ulid
from libstaragent.model.result import TargetResult
from libstaragent.protocol import messages as m
from libstaragent.protocol import trunk as t
from libstaragent.protocol.connection import AGENT, Connection
from libstaragent.protocol.limits import OUTGOING_MAX
from libstaragent.roles.room import LINK_QUEUED_MAX, Link, RoomCore
from libstaragent.roles.room_turns import TURN_BYTES_MAX
from libstaragent.security.signed import MAX_PAYLOAD, Signed

NOW_MS = 1_700_000_000_000
LATER_MS = NOW_MS + 60_000
BIG = 200 * 1024
# More than a connection may hold.
MANY = OUTGOING_MAX // BIG + 10


def a_name(number: int) -> str:
    return new_ulid(NOW_MS, number.to_bytes(10, "big"))


HOST = a_name(1)


def signed(size: int, *, mark: int = 0) -> Signed:
    return Signed(mark.to_bytes(4, "big") + bytes(size - 4), bytes(32), bytes(64))


class Host:
    """An agent's end of a link in memory; it reads when it is told to."""

    def __init__(self, core: RoomCore, *, roster: int = 0, agent: str = HOST) -> None:
        self.core = core
        self.connection = Connection(AGENT, now=0.0)
        self.link: Link = core.opened(agent, now=0.0)
        self.heard: list[Any] = []
        self.say(
            m.Hello(
                protocol_min=1,
                protocol_max=1,
                features=(),
                version="0",
                agent=agent,
                boot_nonce=bytes(16),
                connects=1,
                clock_ms=NOW_MS,
                roster=roster,
                hostname="web01",
                addresses=(),
                facts={},
            )
        )

    def say(self, message: m.AgentMessage) -> None:
        self.connection.send(message)
        self.core.received(self.link, self.connection.take(), now=0.0, now_ms=NOW_MS)

    def read(self, *, now_ms: int = NOW_MS) -> None:
        """Read what is on the link, once."""
        self.heard += self.connection.receive(self.link.connection.take(), 0.0)
        self.core.written(self.link, now_ms=now_ms)
        self.core.next_turn(now_ms=now_ms)

    def read_all(self) -> None:
        while self.link.connection.queued:
            self.read()

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.heard if type(message) is kind]

    @property
    def jobs(self) -> list[str]:
        return [message.job for message in self.of(m.Run)]


def a_room() -> RoomCore:
    return RoomCore(room="main", now=0.0)


def order(core: RoomCore, number: int, *, again: bool = False, size: int = BIG) -> str:
    job = a_name(100 + number)
    dispatch = t.Dispatch(job, signed(size), LATER_MS, LATER_MS + 60_000, ((HOST, None),), watch=False, again=again)
    core.order(dispatch, now_ms=NOW_MS)
    return job


def sent(core: RoomCore) -> list[str]:
    reports = (report for report in core.reports if isinstance(report, t.TargetProgress))
    return [report.job for report in reports if report.state == "sent"]


def test_more_orders_than_a_connection_holds_are_delivered_when_the_host_connects() -> None:
    core = a_room()
    jobs = [order(core, number) for number in range(MANY)]
    host = Host(core)
    assert host.link.connection.state == "open"
    assert host.link.connection.queued <= LINK_QUEUED_MAX + MAX_PAYLOAD
    host.read_all()
    assert host.jobs == jobs
    assert sent(core) == jobs
    assert core.closing == []


def test_more_orders_than_a_connection_holds_are_delivered_to_a_host_that_is_up() -> None:
    core = a_room()
    host = Host(core)
    jobs = [order(core, number) for number in range(MANY)]
    assert host.link.connection.queued <= LINK_QUEUED_MAX + MAX_PAYLOAD
    host.read_all()
    assert host.jobs == jobs
    assert core.closing == []


def test_what_waits_for_room_is_not_sent_and_is_reported_undelivered_when_it_expires() -> None:
    core = a_room()
    host = Host(core)
    jobs = [order(core, number) for number in range(MANY)]
    on_the_link = sent(core)
    assert 0 < len(on_the_link) < MANY
    core.tick(now=1.0, now_ms=LATER_MS + 1000)
    undelivered = [report.job for report in core.reports if isinstance(report, t.Undelivered)]
    assert on_the_link + undelivered == jobs
    host.read_all()
    assert host.jobs == on_the_link


def test_what_expired_a_moment_ago_is_not_delivered_before_the_tick_says_so() -> None:
    core = a_room()
    host = Host(core)
    for number in range(MANY):
        order(core, number)
    on_the_link = sent(core)
    host.read(now_ms=LATER_MS)
    host.read(now_ms=LATER_MS)
    assert sent(core) == host.jobs == on_the_link


def test_what_waited_for_room_when_the_connection_was_lost_comes_on_the_next() -> None:
    core = a_room()
    first = Host(core)
    jobs = [order(core, number) for number in range(MANY)]
    first.read()
    core.closed(first.link, "", now_ms=NOW_MS)
    second = Host(core)
    second.read_all()
    assert second.jobs == jobs


def test_a_cancel_of_what_waits_for_room_ends_it_here() -> None:
    core = a_room()
    host = Host(core)
    jobs = [order(core, number) for number in range(MANY)]
    core.order(t.CancelTargets(jobs[-1], signed(100), (HOST,)), now_ms=NOW_MS)
    assert t.TargetEnded(HOST, TargetResult(job=jobs[-1], state="cancelled", ran="no")) in core.reports
    host.read_all()
    assert host.jobs == jobs[:-1]


def test_a_cancel_overtakes_what_an_earlier_room_sent_and_is_said_again_behind_it() -> None:
    core = a_room()
    host = Host(core)
    jobs = [order(core, number, again=True) for number in range(MANY)]
    core.order(t.CancelTargets(jobs[-1], signed(100), (HOST,)), now_ms=NOW_MS)
    host.read()
    assert jobs[-1] not in host.jobs
    assert len(host.of(m.CancelRun)) == 1
    host.read_all()
    assert (type(host.heard[-2]), host.jobs[-1]) == (m.Run, jobs[-1])
    assert type(host.heard[-1]) is m.CancelRun


def test_a_result_that_came_while_its_order_waited_to_be_repeated_stops_it() -> None:
    core = a_room()
    host = Host(core)
    host.read()
    jobs = [order(core, number, again=True) for number in range(MANY)]
    host.say(m.Result(TargetResult(job=jobs[-1], state="ok", exit_status=0, ran="yes")))
    host.read_all()
    assert host.jobs == jobs[:-1]


def test_a_host_that_is_far_behind_gets_the_whole_chain_in_messages_that_fit() -> None:
    core = a_room()
    revisions = tuple(signed(12 * 1024, mark=number) for number in range(30))
    core.order(t.RosterRevisions(1, revisions), now_ms=NOW_MS)
    host = Host(core, roster=1)
    assert host.link.connection.state == "open"
    host.read_all()
    told = [revision for message in host.of(m.Rosters) for revision in message.revisions]
    assert tuple(told) == revisions[1:]


def test_a_chain_that_is_more_than_a_connection_holds_follows_as_it_is_read_and_orders_come_after_it() -> None:
    core = a_room()
    revisions = tuple(signed(MAX_PAYLOAD, mark=number) for number in range(100))
    core.order(t.RosterRevisions(5, revisions), now_ms=NOW_MS)
    job = order(core, 1, size=100)
    host = Host(core, roster=4)
    assert host.link.connection.queued <= LINK_QUEUED_MAX + MAX_PAYLOAD + 1024
    host.read_all()
    told = [revision for message in host.of(m.Rosters) for revision in message.revisions]
    assert tuple(told) == revisions
    assert host.jobs == [job]
    assert type(host.heard[-1]) is m.Run


def test_small_revisions_fit_a_message_however_many_there_are() -> None:
    core = a_room()
    revisions = tuple(signed(10, mark=number) for number in range(5000))
    core.order(t.RosterRevisions(1, revisions), now_ms=NOW_MS)
    host = Host(core)
    host.read_all()
    assert tuple(revision for message in host.of(m.Rosters) for revision in message.revisions) == revisions


def test_a_new_revision_comes_with_the_one_before_it_to_every_host_that_is_up() -> None:
    core = a_room()
    revisions = tuple(signed(200 * 1024, mark=number) for number in range(3))
    core.order(t.RosterRevisions(1, revisions[:2]), now_ms=NOW_MS)
    host = Host(core, roster=2)
    core.order(t.RosterRevisions(1, revisions), now_ms=NOW_MS)
    host.read_all()
    assert tuple(revision for message in host.of(m.Rosters) for revision in message.revisions) == revisions[1:]


def test_a_large_order_for_many_hosts_goes_out_in_turns_and_reaches_each_of_them_once() -> None:
    core = a_room()
    hosts = [Host(core, agent=a_name(number)) for number in range(1, 101)]
    for host in hosts:
        host.read_all()
    core.dirty.clear()
    targets = tuple((host.link.agent, None) for host in hosts)
    job = a_name(500)
    dispatch = t.Dispatch(job, signed(BIG), LATER_MS, LATER_MS + 60_000, targets, watch=False, again=False)
    core.order(dispatch, now_ms=NOW_MS)
    gone = hosts.pop()
    assert gone.link.connection.queued == 0
    core.closed(gone.link, "", now_ms=NOW_MS)
    turns = 0
    while core.dirty:
        turns += 1
        assert sum(host.link.connection.queued for host in hosts) <= TURN_BYTES_MAX + 2 * BIG
        assert len(sent(core)) == len({host.link.agent for host in hosts if host.jobs or host.link.connection.queued})
        dirty = [host for host in hosts if host.link in core.dirty]
        core.dirty.clear()
        for host in dirty:
            host.heard += host.connection.receive(host.link.connection.take(), 0.0)
            core.written(host.link, now_ms=NOW_MS)
        core.next_turn(now_ms=NOW_MS)
    assert turns >= len(hosts) * BIG // TURN_BYTES_MAX
    assert all(host.jobs == [job] for host in hosts)
    core.tick(now=0.0, now_ms=LATER_MS)
    assert [report.agents for report in core.reports if isinstance(report, t.Undelivered)] == [(gone.link.agent,)]


def test_a_revision_for_all_hosts_is_in_memory_once() -> None:
    core = a_room()
    hosts = [Host(core, agent=a_name(number)) for number in (1, 2)]
    for host in hosts:
        host.read_all()
    core.order(t.RosterRevisions(1, (signed(BIG),)), now_ms=NOW_MS)
    one, other = (host.link.connection.take() for host in hosts)
    assert len(one) > BIG and one is other


async def test_a_host_that_reads_slowly_gets_all_of_it_over_its_socket(place: Any) -> None:
    agent = place.name(1)
    for number in range(MANY):
        expires = place.clock.wall_ms() + 60_000
        dispatch = t.Dispatch(
            place.name(100 + number), signed(BIG), expires, expires, ((agent, None),), watch=False, again=False
        )
        place.central.order(dispatch)
    await place.until(lambda: place.room.core.holds(agent) == MANY)
    client = await place.up(agent)
    jobs = [(await client.hear(m.Run)).job for _ in range(MANY)]
    assert jobs == [place.name(100 + number) for number in range(MANY)]
    assert not place.central.of(t.HostDown)
