"""After a loss of power the ledger says what was promised, whatever became of the spools that were not synced."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentd.keeper.ledger import Ledger
from libstaragent.jobs.ledger import decode_entries, encode_entry, read_ledger


def lose_power(state: Path) -> None:
    """What a machine that lost power may have: the ledger, of another boot, and of the spools what was synced."""
    path = state / "ledger"
    (header, _), *rest = decode_entries(path.read_bytes())
    assert header["kind"] == "header" and rest
    path.write_bytes(b"".join([encode_entry("header", "another boot", {}), *(data for _, data in rest)]))


@pytest.mark.parametrize("what", ["gone", "empty", "blank"])
def test_an_end_that_was_told_is_there_after_a_loss_of_power_with_its_short_output(start_keeper, new_job, what):
    first = start_keeper()
    job, silent, settled = new_job(), new_job(), new_job()
    told = first.link.run(job, ["sh", "-c", "echo out; echo err >&2; exit 3"])
    first.link.run(silent, ["true"])
    first.link.run(settled, ["true"])
    first.link.send(op="forget", job=settled)
    # What is gone is written down with the next command.
    first.link.run(new_job(), ["true"])
    first.kill()
    lose_power(first.state)
    for name in (job, silent):
        spool = Path(first.spool(name))
        size = spool.stat().st_size
        spool.unlink()
        if what != "gone":
            spool.write_bytes(b"" if what == "empty" else bytes(size))
    second = start_keeper()
    known = second.link.hello()
    for field in ("state", "exit_status", "ran", "started_ms", "stdout_sha256"):
        assert known[job][field] == told[field]
    assert second.output(job) == b"out\nerr\n"
    assert second.slots(job) == ("whole", "whole", "whole")
    assert known[silent]["state"] == "ok"
    assert settled not in known


def test_long_output_is_synced_itself_and_stays(start_keeper, new_job):
    first = start_keeper()
    job = new_job()
    first.link.run(job, ["sh", "-c", "seq 2000"])
    first.kill()
    lose_power(first.state)
    second = start_keeper()
    assert second.link.hello()[job]["state"] == "ok"
    assert second.output(job).split() == [b"%d" % number for number in range(1, 2001)]


def test_a_command_that_ran_when_the_power_went_may_have_run_and_does_not_run_again(start_keeper, new_job, tmp_path):
    marker = tmp_path / "marker"
    command = ["sh", "-c", f"echo ran >> {marker}; echo up; sleep 1000"]
    first = start_keeper()
    job = new_job()
    first.link.spawn(job, command)
    first.await_output(job, 1)
    first.kill()
    lose_power(first.state)
    Path(first.spool(job)).unlink()
    second = start_keeper()
    end = second.link.end_of(job)
    assert (end["state"], end["ran"]) == ("interrupted", "maybe")
    assert second.link.run(job, command)["state"] == "interrupted"
    assert marker.read_text() == "ran\n"


def test_what_had_begun_is_known_though_its_spool_cannot_be_made_anew(start_keeper, new_job):
    first = start_keeper()
    job = new_job()
    first.link.run(job, ["true"])
    first.kill()
    lose_power(first.state)
    spool = Path(first.spool(job))
    spool.unlink()
    spool.mkdir()
    # An agent that does not find it here starts it again.
    assert job in start_keeper().link.hello()


def test_a_ledger_that_cannot_be_read_lets_no_keeper_begin(start_keeper, new_job):
    first = start_keeper()
    first.link.run(new_job(), ["true"])
    first.kill()
    (first.state / "ledger").unlink()
    (first.state / "ledger").mkdir()
    with pytest.raises(OSError, match="directory"):
        Ledger(str(first.state), "boot", lambda job: True).restore(str(first.state / "spool"))


def test_a_ledger_that_is_full_is_written_anew_with_what_still_counts(start_keeper, new_job):
    driver = "from agentd.keeper import ledger\nledger.ROOM = 8192"
    first = start_keeper(driver=driver)
    job = new_job()
    first.link.run(job, ["echo", "kept"])
    for _ in range(20):
        other = new_job()
        first.link.run(other, ["true"])
        first.link.send(op="forget", job=other)
    # Of 42 entries only those of the last commands are there, and the one that counts.
    assert 2 < len(decode_entries((first.state / "ledger").read_bytes())) < 25
    first.kill()
    lose_power(first.state)
    Path(first.spool(job)).unlink()
    second = start_keeper()
    assert second.link.hello()[job]["state"] == "ok"
    assert second.output(job) == b"kept\n"


def test_where_the_ledger_cannot_be_written_each_spool_is_synced_by_itself(start_keeper, new_job):
    first = start_keeper()
    (first.state / ".ledger").mkdir()
    job = new_job()
    assert first.link.run(job, ["echo", "kept"])["state"] == "ok"
    assert not (first.state / "ledger").exists()
    (first.state / ".ledger").rmdir()
    assert first.link.run(new_job(), ["true"])["state"] == "ok"
    assert (first.state / "ledger").exists()
    first.kill()
    lose_power(first.state)
    second = start_keeper()
    assert second.link.hello()[job]["state"] == "ok"
    assert second.output(job) == b"kept\n"


ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(["header", "started", "finished", "gone"]), st.sampled_from("abc"), st.binary(max_size=9)
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(ENTRIES, st.integers(0, 400), st.binary(max_size=60))
def test_whatever_is_cut_or_torn_what_was_written_before_it_is_read(entries, cut, noise):
    written = [encode_entry(kind, job, {"n": n}, output=data) for n, (kind, job, data) in enumerate(entries)]
    whole = b"".join(written)
    found = [data for _, data in decode_entries(whole[:cut] + noise)]
    count = sum(len(data) <= cut for data in (b"".join(written[: n + 1]) for n in range(len(written))))
    assert found[:count] == written[:count]
    read_ledger(whole[:cut] + noise)
