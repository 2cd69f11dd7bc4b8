"""A real agent process: it runs what an operator signed, once, and loses no result."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import anyio
import msgspec
import psutil
import pytest

from agentd.agent.keeper_link import WAITING_MAX, KeeperLink
from agentd.agent.state import write_whole
from agentd.bus import orders_subject
from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.model.result import records
from libstaragent.protocol import trunk as t
from libstaragent.roles.keeper_frames import FrameReader
from libstaragent.security.envelope import Cancel, Envelope, Exec, Member, Signed, TargetList, TargetRoot, sign
from libstaragent.security.membership import MembershipTree
from libstaragent.security.roster import Operator, digest
from libstaragent.security.signing import public_key
from tests.agent.conftest import PATIENCE, ROOM, AgentUnderTest, Fleet, new_id, now_ms


def text_of(data: bytes, stream: int = 1) -> bytes:
    return b"".join(part for number, part in records(data) if number == stream)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that only waits to be reaped (by us, as its subreaper) has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_command_runs_and_its_output_streams_and_status_come_back(agent: AgentUnderTest) -> None:
    agent.start()
    up = await agent.up()
    assert up.agent == agent.member.agent and up.facts["os"]
    result = await agent.result(agent.run("sh", "-c", "echo out; echo err >&2; exit 3"))
    assert (result.state, result.exit_status, result.ran) == ("exit_nonzero", 3, "yes")
    assert result.output is not None
    assert text_of(result.output.head, 1) == b"out\n" and text_of(result.output.head, 2) == b"err\n"
    assert (result.stdout_bytes, result.stderr_bytes) == (4, 4)


async def test_exit_137_is_an_exit_and_a_real_kill_is_a_signal(agent: AgentUnderTest) -> None:
    agent.start()
    exited = await agent.result(agent.run("sh", "-c", "exit 137"))
    killed = await agent.result(agent.run("sh", "-c", "kill -9 $$"))
    assert (exited.state, exited.exit_status, exited.signal) == ("exit_nonzero", 137, None)
    assert (killed.state, killed.exit_status, killed.signal) == ("signalled", None, signal.SIGKILL)


async def test_live_output_comes_while_the_command_runs(agent: AgentUnderTest, tmp_path: Path) -> None:
    agent.start()
    await agent.up()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job = agent.run("sh", "-c", f"echo before; read line < {gate}; echo after", watch=True)
    await agent.progress(job, "running")
    descriptor = os.open(gate, os.O_WRONLY)  # opens when the command reads, so `before` was written
    os.write(descriptor, b"go\n")
    os.close(descriptor)
    result = await agent.result(job)
    assert result.output is not None and text_of(result.output.head) == b"before\nafter\n"
    chunks = [chunk for chunk in agent.live if isinstance(chunk, t.LiveChunk)]
    assert chunks and chunks[0].offset == 0 and text_of(chunks[0].data).startswith(b"before\n")


async def test_sixty_megabytes_keep_head_tail_and_the_true_length(agent: AgentUnderTest) -> None:
    agent.start()
    result = await agent.result(agent.run("sh", "-c", "head -c 60000000 /dev/zero | tr '\\0' 'x'; echo end"))
    assert result.state == "ok" and result.stdout_bytes == 60_000_004
    assert result.output is not None and text_of(result.output.tail).endswith(b"xend\n")
    kept = len(text_of(result.output.head)) + len(text_of(result.output.tail))
    assert kept + result.output.omitted == 60_000_004 and kept < 256 * 1024


async def test_binary_output_arrives_as_it_was(agent: AgentUnderTest) -> None:
    agent.start()
    result = await agent.result(agent.run("printf", r"\000\001\377\033[31m\n\r[/foo]"))
    assert result.output is not None and text_of(result.output.head) == b"\0\1\xff\x1b[31m\n\r[/foo]"


async def test_stdin_of_the_envelope_reaches_the_command(agent: AgentUnderTest) -> None:
    agent.start()
    result = await agent.result(agent.run("cat", stdin=b"\0line\n"))
    assert result.output is not None and text_of(result.output.head) == b"\0line\n"


async def test_a_command_past_its_timeout_is_killed_with_all_it_started(agent: AgentUnderTest, tmp_path: Path) -> None:
    agent.start()
    note = tmp_path / "daemon"
    script = f"trap '' TERM; setsid sh -c 'echo $$ > {note}; exec sleep 300' & while :; do sleep 300; done"
    result = await agent.result(agent.run("sh", "-c", script, timeout_ms=700, kill_grace_ms=200))
    assert result.state == "timeout"
    assert is_gone(int(note.read_text()))


async def test_a_signed_cancel_stops_what_runs(agent: AgentUnderTest) -> None:
    agent.start()
    job = agent.run("sleep", "300")
    await agent.progress(job, "running")
    cancel = sign(agent.envelope(Cancel(job), targets=None), agent.fleet.operator)
    agent.bus.publish(orders_subject(ROOM), [t.CancelTargets(job, cancel, (agent.member.agent,))])
    assert (await agent.result(job)).state == "cancelled"


async def test_a_cancel_that_nobody_signed_stops_nothing(agent: AgentUnderTest) -> None:
    agent.start()
    job = agent.run("sh", "-c", "sleep 1; echo done")
    await agent.progress(job, "running")
    forged = sign(agent.envelope(Cancel(job), targets=None), os.urandom(32))
    agent.bus.publish(orders_subject(ROOM), [t.CancelTargets(job, forged, (agent.member.agent,))])
    assert (await agent.result(job)).state == "ok"


async def test_an_agent_killed_in_mid_command_still_brings_the_result(agent: AgentUnderTest) -> None:
    agent.start()
    await agent.up()
    job = agent.run("sh", "-c", "sleep 1; echo survived")
    await agent.progress(job, "running")
    victim = agent.agent_process
    victim.kill()
    assert victim.wait(PATIENCE) in (None, -signal.SIGKILL) and not victim.is_running()
    result = await agent.result(job)
    assert result.state == "ok" and result.output is not None
    assert text_of(result.output.head) == b"survived\n"
    await agent.up(2)


async def test_a_keeper_killed_in_mid_command_ends_it_as_interrupted(agent: AgentUnderTest, tmp_path: Path) -> None:
    agent.start()
    await agent.up()
    note = tmp_path / "pid"
    job = agent.run("sh", "-c", f"echo $$ > {note}.new; mv {note}.new {note}; exec sleep 300")
    await agent.progress(job, "running")
    assert agent.process is not None
    agent_process = agent.agent_process
    agent.process.kill()
    assert agent.process.wait(PATIENCE) == -signal.SIGKILL
    # The agent, an orphan now, becomes keeper and agent anew.
    agent.process = _Adopted(agent_process)  # type: ignore[assignment]
    result = await agent.result(job)
    assert (result.state, result.ran) == ("interrupted", "maybe")
    await agent.up(2)
    if note.exists():
        assert is_gone(int(note.read_text()))


class _Adopted:
    """The few words of Popen that the fixture needs, for a process that is not our child by Popen."""

    def __init__(self, process: psutil.Process) -> None:
        self.pid = process.pid
        self._process = process

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self, timeout: float) -> None:
        self._process.wait(timeout)


async def test_what_was_accepted_and_never_started_ends_with_its_time_when_nobody_orders_it_again(
    agent: AgentUnderTest, tmp_path: Path
) -> None:
    agent.start()
    await agent.up()
    assert agent.process is not None
    mark = tmp_path / "mark"
    # Stopped, the keeper hears of nothing; the agent has promised a result all the same.
    os.kill(agent.process.pid, signal.SIGSTOP)
    envelope = agent.envelope(Exec(argv=("touch", str(mark))), expires=now_ms() + 2_000)
    agent.dispatch(sign(envelope, agent.fleet.operator), envelope.id)
    await agent.progress(envelope.id, "accepted")
    agent.agent_process.kill()
    agent.process.kill()
    agent.process.wait(PATIENCE)
    await agent.restart_room()
    agent.start()
    result = await agent.result(envelope.id)
    assert (result.state, result.code, result.ran) == ("interrupted", codes.NEVER_STARTED.code, "no")
    assert not mark.exists()


async def test_a_result_is_repeated_until_it_is_settled_and_across_a_new_room(agent: AgentUnderTest) -> None:
    agent.settle = False
    agent.start()
    job = agent.run("echo", "kept")
    await agent.result(job)
    await agent.restart_room()
    agent.settle = True
    await agent.until(lambda: len(agent.results_of(job)) == 2)
    first, second = agent.results_of(job)
    assert first == second


async def test_the_same_order_again_does_not_run_again(agent: AgentUnderTest, tmp_path: Path) -> None:
    agent.start()
    referee = tmp_path / "referee"
    envelope = agent.envelope(Exec(argv=("sh", "-c", f"echo ran >> {referee}")))
    signed = sign(envelope, agent.fleet.operator)
    agent.dispatch(signed, envelope.id)
    assert (await agent.result(envelope.id)).state == "ok"
    # What comes after the settling on the same connection is answered after it is on disk.
    assert (await agent.result(agent.run("true"))).state == "ok"
    agent.stop()
    await agent.restart_room()
    agent.start()
    await agent.up(2)
    agent.dispatch(signed, envelope.id)
    await agent.until(lambda: len(agent.results_of(envelope.id)) == 2)
    assert agent.results_of(envelope.id)[1].code == codes.RESULT_GONE.code
    assert referee.read_text() == "ran\n"


ALTERED: dict[str, Callable[[Envelope], object]] = {
    "operator": lambda _: "mallory",
    "act": lambda _: Exec(argv=("id",)),
    "expires": lambda signed: signed.expires + 1,
    "issued": lambda signed: signed.issued - 1,
    "not_before": lambda signed: signed.not_before + 1,
    "roster": lambda signed: signed.roster + 1,
    "id": lambda _: new_id(),
    "targets": lambda _: TargetList("x", (Member(new_id(), "x", ROOM),)),
    "boot_nonce": lambda _: b"n" * 16,
    "fleet": lambda _: "0" * 64,
}


@pytest.mark.parametrize("field", ALTERED)
async def test_an_envelope_altered_on_its_way_is_a_bad_signature(
    agent: AgentUnderTest, field: str, tmp_path: Path
) -> None:
    agent.start()
    referee = tmp_path / "referee"
    envelope = agent.envelope(Exec(argv=("touch", str(referee))))
    signed = sign(envelope, agent.fleet.operator)
    altered = msgspec.structs.replace(envelope, **{field: ALTERED[field](envelope)})
    payload = sign(altered, os.urandom(32)).payload
    agent.dispatch(Signed(payload, signed.key, signed.signature), envelope.id)
    result = await agent.result(envelope.id)
    assert (result.state, result.code, result.ran) == ("bad_signature", codes.SIGNATURE_INVALID.code, "no")
    assert not referee.exists()


async def test_a_stranger_s_signature_is_refused(agent: AgentUnderTest) -> None:
    agent.start()
    envelope = agent.envelope(Exec(argv=("true",)))
    agent.dispatch(sign(envelope, os.urandom(32)), envelope.id)
    result = await agent.result(envelope.id)
    assert (result.state, result.code) == ("bad_signature", codes.SIGNER_UNKNOWN.code)


async def test_an_expired_envelope_is_not_run(agent: AgentUnderTest) -> None:
    agent.start()
    past = now_ms() - 60_000
    envelope = agent.envelope(Exec(argv=("true",)), issued=past, not_before=past, expires=past + 1000)
    agent.dispatch(sign(envelope, agent.fleet.operator), envelope.id)
    result = await agent.result(envelope.id)
    assert (result.state, result.code, result.ran) == ("expired", codes.ENVELOPE_EXPIRED.code, "no")


async def test_an_envelope_from_a_clock_far_ahead_is_refused_with_its_code(agent: AgentUnderTest) -> None:
    agent.start()
    ahead = now_ms() + 3_600_000
    envelope = agent.envelope(Exec(argv=("true",)), issued=ahead, not_before=ahead, expires=ahead + 60_000)
    agent.dispatch(sign(envelope, agent.fleet.operator), envelope.id)
    result = await agent.result(envelope.id)
    assert (result.state, result.code) == ("denied", codes.ENVELOPE_CLOCK_SKEW.code)


async def test_another_host_s_membership_path_is_refused(agent: AgentUnderTest) -> None:
    agent.start()
    others = [Member(new_id(), f"db{number:02}", ROOM) for number in range(20)]
    tree = MembershipTree([agent.member, *others])
    targets = TargetRoot("all", 21, tree.root)
    wrong = agent.envelope(Exec(argv=("true",)), targets=targets)
    agent.dispatch(sign(wrong, agent.fleet.operator), wrong.id, proof=tree.proof(others[3].agent))
    result = await agent.result(wrong.id)
    assert (result.state, result.code) == ("denied", codes.ENVELOPE_NOT_MEMBER.code)
    right = agent.envelope(Exec(argv=("true",)), targets=targets)
    agent.dispatch(sign(right, agent.fleet.operator), right.id, proof=tree.proof(agent.member.agent))
    assert (await agent.result(right.id)).state == "ok"


async def test_an_expression_that_does_not_match_this_host_is_refused(agent: AgentUnderTest) -> None:
    agent.start()
    envelope = agent.envelope(Exec(argv=("true",)), targets=TargetList("db01", (agent.member,)))
    agent.dispatch(sign(envelope, agent.fleet.operator), envelope.id)
    result = await agent.result(envelope.id)
    assert (result.state, result.code) == ("denied", codes.ENVELOPE_EXPRESSION.code)


async def test_a_new_roster_revision_is_taken_and_a_forged_one_is_not(agent: AgentUnderTest) -> None:
    agent.start()
    await agent.up()
    other = os.urandom(32)
    forged = Fleet().signed_roster(2, digest(agent.fleet.roster))
    agent.bus.publish(orders_subject(ROOM), [t.RosterRevisions(1, (agent.fleet.roster, forged))])
    second = agent.fleet.signed_roster(2, digest(agent.fleet.roster), Operator("wu", public_key(other), ("operator",)))
    agent.bus.publish(orders_subject(ROOM), [t.RosterRevisions(1, (agent.fleet.roster, second))])
    revoked = agent.envelope(Exec(argv=("true",)))
    agent.dispatch(sign(revoked, agent.fleet.operator), revoked.id)
    assert (await agent.result(revoked.id)).code == codes.SIGNER_UNKNOWN.code
    allowed = agent.envelope(Exec(argv=("true",)), operator="wu", roster=2)
    agent.dispatch(sign(allowed, other), allowed.id)
    assert (await agent.result(allowed.id)).state == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
async def test_on_a_full_disk_nothing_runs_and_the_host_says_so(agent: AgentUnderTest, tmp_path: Path) -> None:
    await anyio.run_process(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(agent.state.directory)])
    try:
        agent.enrol()
        agent.start()
        await agent.up()
        filler = agent.state.directory / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(b"\0" * 4096)
        referee = tmp_path / "referee"
        result = await agent.result(agent.run("touch", str(referee)))
        assert result.state == "spawn_failed" and result.errno == 28 and result.ran == "maybe"
        assert not referee.exists()
        # Started again on the full disk, the host is still there to say what is wrong with it.
        agent.stop()
        agent.start()
        await agent.up(2)
        again = await agent.result(agent.run("touch", str(referee)))
        assert again.state == "spawn_failed" and again.errno == 28 and not referee.exists()
        filler.unlink()
        assert (await agent.result(agent.run("true"))).state == "ok"
        agent.stop()
    finally:
        agent.stop()
        await anyio.run_process(["umount", str(agent.state.directory)])


async def test_a_certificate_is_renewed_with_a_new_key(agent: AgentUnderTest) -> None:
    from libstaragent.security import identity as x509

    agent.enrol(renew_at_ms=1)
    before = agent.state.identity_pem.read_bytes()
    agent.start()
    request = await agent.report(lambda report: isinstance(report, t.RenewCertificate))
    pem = x509.sign_csr(agent.fleet.ca, request.csr, agent=agent.member.agent, room=ROOM, now_ms=now_ms())
    agent.bus.publish(orders_subject(ROOM), [t.CertificateIssued(agent.member.agent, pem, "")])
    # The agent tells nobody; it is seen when it connects with the new one.
    while pem not in agent.state.identity_pem.read_bytes():
        assert (await agent.result(agent.run("true"))).state == "ok"
    assert agent.state.identity_pem.read_bytes() != before
    agent.stop()
    agent.start()
    await agent.up(2)


async def test_what_a_command_leaves_running_is_named(agent: AgentUnderTest, tmp_path: Path) -> None:
    agent.start()
    note = tmp_path / "pid"
    result = await agent.result(agent.run("sh", "-c", f"setsid sleep 300 & echo $! > {note}"))
    pid = int(note.read_text())
    try:
        assert result.state == "ok" and result.left_count == 1
        assert psutil.pid_exists(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


async def test_dates_of_certificates_are_asked_again_at_each_connection(agent: AgentUnderTest) -> None:
    from libstaragent.security import identity as x509

    # To this host's clock the room's certificate has long expired: which of the two is wrong, nobody here can know.
    server = x509.create_server(agent.fleet.ca, names=["127.0.0.1"], now_ms=1_600_000_000_000)
    write_whole(agent.directory / "room.key", server.key)
    (agent.directory / "room.pem").write_bytes(server.certificate)
    await agent.restart_room()
    agent.start()
    await agent.up()
    assert agent.log.count(codes.CERTIFICATE_REFUSED.code) == 1
    await agent.restart_room()
    await agent.up(2)
    assert agent.log.count(codes.CERTIFICATE_REFUSED.code) == 2


async def test_a_roster_that_does_not_hold_is_named_in_the_log(agent: AgentUnderTest) -> None:
    agent.start()
    await agent.up()
    forged = Fleet().signed_roster(2, digest(agent.fleet.roster))
    agent.bus.publish(orders_subject(ROOM), [t.RosterRevisions(1, (agent.fleet.roster, forged))])
    assert (await agent.result(agent.run("true"))).state == "ok"
    assert "dropped: SA-4" in agent.log


async def test_a_damaged_journal_is_said_and_no_order_from_before_runs_again(
    agent: AgentUnderTest, tmp_path: Path
) -> None:
    referee = tmp_path / "referee"
    envelope = agent.envelope(Exec(argv=("sh", "-c", f"echo ran >> {referee}")))
    signed = sign(envelope, agent.fleet.operator)
    agent.start()
    await agent.up()
    agent.dispatch(signed, envelope.id)
    assert (await agent.result(envelope.id)).state == "ok"
    assert (await agent.result(agent.run("true"))).state == "ok"
    agent.stop()
    data = bytearray(agent.state.journal.read_bytes())
    # Both of the order's records, the taken one and the done one: nothing here knows its id any more.
    place = -1
    while (place := data.find(envelope.id.encode(), place + 1)) >= 0:
        data[place] ^= 1
    agent.state.journal.write_bytes(data)
    await agent.restart_room()
    agent.start()
    await agent.up(2)
    agent.dispatch(signed, envelope.id)
    await agent.until(lambda: len(agent.results_of(envelope.id)) == 2)
    again = agent.results_of(envelope.id)[1]
    assert (again.state, again.code, again.ran) == ("interrupted", codes.IDS_LOST.code, "maybe")
    assert referee.read_text() == "ran\n"
    assert codes.STATE_DAMAGED.code in agent.log


async def test_a_keeper_that_is_behind_is_waited_for_and_the_agent_goes_on(agent: AgentUnderTest) -> None:
    agent.start()
    await agent.up()
    assert agent.process is not None
    before = agent.agent_process.pid
    os.kill(agent.process.pid, signal.SIGSTOP)
    try:
        # More than a socket between two processes holds.
        jobs = [agent.run("wc", "-c", stdin=b"x" * 65_000) for _ in range(12)]
        for job in jobs:
            await agent.progress(job, "accepted")
    finally:
        os.kill(agent.process.pid, signal.SIGCONT)
    results = [await agent.result(job) for job in jobs]
    assert [result.state for result in results] == ["ok"] * len(jobs)
    assert agent.agent_process.pid == before


def test_what_waits_for_a_keeper_is_bounded_and_all_of_it_arrives(short_tmp: Path) -> None:
    path = short_tmp / "keeper.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        link = KeeperLink(path)
        keeper, _ = listening.accept()
    with keeper:
        spawn = {"op": "spawn", "job": "x", "stdin_b64": "A" * 200_000}
        taken = 0
        with pytest.raises(StarAgentError, match="SA-5501"):
            while True:
                link.send(spawn)
                taken += 1
        assert taken * 200_000 > WAITING_MAX - 400_000
        link.send({"op": "forget", "job": "x"})
        reader, heard = FrameReader(), []
        while len(heard) < taken + 2:
            link.flush()
            heard += reader.feed(keeper.recv(1 << 20))
        assert [frame["op"] for frame in heard] == ["hello", *["spawn"] * taken, "forget"]
        assert not link.wants_write
    with pytest.raises(OSError):
        for _ in range(2):
            link.send({"op": "forget", "job": "x"})
    link.close()
