"""The audit of a real fleet: what it says of acts, and that a thief of the control plane's database is found out.

The thief of each test does to the SQLite file of a stopped control plane what he could do; then it is started again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec
import pytest

from libstaragent import codes
from libstaragent.security.audit import Checkpoint, entry_hash, genesis, seal_checkpoint
from libstaragent.security.envelope import sign
from libstaragent.security.heads import decode_heads
from libstaragent.security.signed import signed_to_json

Thief = Callable[[sqlite3.Connection, str], None]

COMMAND = b"echo this"
OTHER = b"echo that"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def listed(site: Any, *words: str) -> list[dict[str, Any]]:
    done = site.run("audit", "list", "--json", *words)
    assert done.returncode == 0, done.stderr
    return lines(done.stdout)


def test_allow_and_deny_are_told_with_who_from_where_what_and_on_which_hosts(site: Any) -> None:
    done = site.run("exec", "-t", "web01,web02", "--", "echo", "told")
    assert done.returncode == 0, done.stderr
    unknown = site.envelope("true", operator="nobody")
    with site.http(login=False) as http:
        refused = http.post("/v1/jobs", content=signed_to_json(sign(unknown, site.seed)))
    assert refused.status_code == 403
    newest = listed(site, "--limit", "20")
    deny = next(entry for entry in newest if entry["subject"] == unknown.id)
    assert (deny["outcome"], deny["code"], deny["signature"]) == ("refused", codes.SIGNER_UNKNOWN.code, "held")
    assert (deny["operator"], deny["source"], deny["act"], deny["text"]) == ("nobody", "127.0.0.1", "exec", "true")
    allow = next(entry for entry in newest if entry["text"] == "echo told")
    assert (allow["outcome"], allow["operator"], allow["source"]) == ("accepted", "li", "127.0.0.1")
    assert (allow["hosts"], allow["expression"]) == (2, "web01,web02")
    assert len(allow["members"]) == len(allow["envelope"]) == 64
    end = next(entry for entry in newest if entry["act"] == "end" and entry["subject"] == allow["subject"])
    assert end["counts"] == {"ok": 2} and end["seq"] > allow["seq"]
    assert [entry["seq"] for entry in listed(site, "--denied", "--limit", "1")] == [deny["seq"]]
    assert allow["seq"] in [entry["seq"] for entry in listed(site, "--host", "web02", "--operator", "li")]
    assert allow["seq"] not in [entry["seq"] for entry in listed(site, "--host", "db01")]
    shown = site.run("audit", "list", "--since", "1h")
    assert "echo told" in shown.stdout and "web01,web02" in shown.stdout


def test_logins_rosters_and_enrolments_are_told(site: Any) -> None:
    site.bearer("--ttl", "60")
    acts = {entry["act"] for entry in listed(site, "--limit", "1000")}
    assert {"login", "roster", "enrol", "issue_token"} <= acts
    with site.fleet() as fleet:
        assert fleet.audit(1)[0].entry.act
        assert fleet.verify_audit(agents=0).holds


def test_an_untouched_audit_holds(site: Any) -> None:
    done = site.run("audit", "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the audit holds" in done.stdout and "this client" in done.stdout


class Robbed:
    """A fleet that ran `true` and then a few other things, and whose control plane is stopped. Each thief gets the
    database as it was then.
    """

    def __init__(self, site: Any) -> None:
        self.site = site
        self._database = site.state / "store.db"
        self._heads = site.context.with_suffix(".heads")
        self._kept = {file: file.read_bytes() for file in (self._database, self._heads)}
        with closing(sqlite3.connect(self._database)) as connection:
            # The thief of the whole machine has the file alone: what stands beside it was written into it at the stop.
            self.seq = next(seq for seq, _, body, _ in entries(connection) if COMMAND in body)

    @contextmanager
    def by(self, thief: Thief) -> Iterator[Any]:
        for file, data in self._kept.items():
            file.write_bytes(data)
        with closing(sqlite3.connect(self._database)) as connection, connection:
            thief(connection, self.site.said["fleet"])
        self.site.up()
        try:
            yield self.site
        finally:
            self.site.down()


@pytest.fixture(scope="module")
def robbed(module_site: Any) -> Iterator[Robbed]:
    site = module_site
    site.up()
    site.add_hosts("web01")
    assert site.run("exec", "-t", "web01", "--", *COMMAND.decode().split()).returncode == 0
    for _ in range(5):
        assert site.run("exec", "-t", "web01", "--", "echo", "later").returncode == 0
    last = max(record.seq for record in _audit_of(site))
    # A host hears of the audit when it connects, and else with its heartbeat; central tells rooms every few seconds.
    for _ in range(20):
        site.stop_agent("web01")
        heads = decode_heads((site.host_state("web01") / "heads").read_bytes())
        if heads and heads[-1].seq >= last:
            break
        site.start_agent("web01")
        site.until_state("up", "web01")
        assert site.run("exec", "-t", "web01", "--", "true").returncode == 0
    else:
        pytest.fail("the host was not told of the audit")
    site.down()
    yield Robbed(site)


def _audit_of(site: Any) -> Any:
    with site.fleet() as fleet:
        return fleet.audit(10)


def entries(connection: sqlite3.Connection) -> list[tuple[int, int, bytes, bytes]]:
    return connection.execute("SELECT seq, at_ms, body, hash FROM audit ORDER BY seq").fetchall()


def changes_a_row(connection: sqlite3.Connection, fleet: str) -> None:
    """Another command in place of the one that ran."""
    seq, body = next((seq, body) for seq, _, body, _ in entries(connection) if COMMAND in body)
    connection.execute("UPDATE audit SET body = ? WHERE seq = ?", (body.replace(COMMAND, OTHER), seq))


def removes_a_row(connection: sqlite3.Connection, fleet: str) -> None:
    """The one that tells of the command."""
    seq = next(seq for seq, _, body, _ in entries(connection) if COMMAND in body)
    connection.execute("DELETE FROM audit WHERE seq = ?", (seq,))


def cuts_the_tail(connection: sqlite3.Connection, fleet: str) -> None:
    """From the command on, nothing happened."""
    seq = next(seq for seq, _, body, _ in entries(connection) if COMMAND in body)
    connection.execute("DELETE FROM audit WHERE seq >= ?", (seq,))


def makes_it_anew(connection: sqlite3.Connection, fleet: str) -> None:
    """Another command, and every hash after it computed again: in itself the chain holds."""
    digest = genesis(fleet)
    for seq, at_ms, body, _ in entries(connection):
        forged = body.replace(COMMAND, OTHER)
        digest = entry_hash(digest, seq, at_ms, forged)
        connection.execute("UPDATE audit SET body = ?, hash = ? WHERE seq = ?", (forged, digest, seq))


def claims_that_retention_did_it(connection: sqlite3.Connection, fleet: str) -> None:
    """All up to the command is gone, with a checkpoint in its place; but the key for that is not in the database."""
    seq, at_ms, _, digest = next(row for row in entries(connection) if COMMAND in row[2])
    claimed = Checkpoint(fleet=fleet, upto=seq, hash=digest, count=seq, upto_ms=at_ms, at_ms=at_ms, previous=b"")
    signed = msgspec.msgpack.encode(seal_checkpoint(claimed, b"t" * 32))
    connection.execute("INSERT INTO checkpoints VALUES (?, ?)", (seq, signed))
    connection.execute("DELETE FROM audit WHERE seq <= ?", (seq,))


def gives_it_to_another(connection: sqlite3.Connection, fleet: str) -> None:
    """Lists by operator leave the command out; what is hashed stands as it was."""
    _alter_column(connection, "operator", "eve")


def takes_it_from_its_job(connection: sqlite3.Connection, fleet: str) -> None:
    """Lists by host leave it out."""
    _alter_column(connection, "subject", "")


def calls_it_refused(connection: sqlite3.Connection, fleet: str) -> None:
    """It stands among what was not done."""
    _alter_column(connection, "refused", 1)


def _alter_column(connection: sqlite3.Connection, column: str, value: object) -> None:
    seq = next(seq for seq, _, body, _ in entries(connection) if COMMAND in body)
    done = connection.execute(f"UPDATE audit SET {column} = ? WHERE seq = ?", (value, seq))
    assert done.rowcount == 1


COLUMNS = {gives_it_to_another: "operator", takes_it_from_its_job: "subject", calls_it_refused: "refused"}

FOUND = {
    changes_a_row: codes.AUDIT_CHANGED,
    removes_a_row: codes.AUDIT_REMOVED,
    cuts_the_tail: codes.AUDIT_CUT,
    makes_it_anew: codes.AUDIT_REWRITTEN,
    claims_that_retention_did_it: codes.AUDIT_CHECKPOINT,
}


@pytest.mark.parametrize("thief", FOUND, ids=lambda thief: thief.__name__)
def test_what_a_thief_does_to_the_database_is_found_and_said(robbed: Robbed, thief: Thief) -> None:
    with robbed.by(thief) as site:
        done = site.run("audit", "verify", "--agents", "0", "--json")
        assert done.returncode == 1, done.stdout + done.stderr
        found = next(line for line in lines(done.stdout) if line["event"] == "finding")
        assert found["code"] == FOUND[thief].code
        assert found["first"] <= robbed.seq <= found["last"]
        if thief in (changes_a_row, removes_a_row):
            assert found["first"] == robbed.seq
        shown = site.run("audit", "verify", "--agents", "0")
        assert shown.returncode == 1 and FOUND[thief].symbol in shown.stdout
        assert FOUND[thief].remedy in shown.stderr


@pytest.mark.parametrize("thief", COLUMNS, ids=lambda thief: thief.__name__)
def test_a_column_that_lists_look_by_is_held_against_what_was_hashed(robbed: Robbed, thief: Thief) -> None:
    with robbed.by(thief) as site:
        done = site.run("audit", "verify", "--agents", "0")
        assert done.returncode == 1, done.stdout + done.stderr
        assert codes.AUDIT_CHANGED.code in done.stdout
        assert f"entry {robbed.seq}: its column {COLUMNS[thief]} was altered" in done.stdout
        assert "no host was asked" in done.stderr
        # Whom the column names is not shown as who did it, nor what was done as refused.
        asked = ("--denied",) if thief is calls_it_refused else ("--operator", "eve")
        assert robbed.seq not in [entry["seq"] for entry in listed(site, *asked)]


def test_a_host_is_a_witness_against_a_thief_who_also_has_the_clients_files(robbed: Robbed) -> None:
    with robbed.by(makes_it_anew) as site:
        site.context.with_suffix(".heads").unlink()
        site.start_agent("web01")
        try:
            site.until_state("up", "web01")
            done = site.run("audit", "verify", "--agents", "1")
        finally:
            site.stop_agent("web01")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "host web01 saw another entry" in done.stdout and codes.AUDIT_REWRITTEN.symbol in done.stdout


def test_hosts_are_asked_and_what_they_say_is_signed(site: Any) -> None:
    done = site.run("audit", "verify", "--agents", "2", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    hosts = [line for line in lines(done.stdout) if line["event"] == "witness" and line["name"].startswith("host ")]
    assert len(hosts) == 2
    assert {line["code"] for line in hosts} == {""}


def test_what_nobody_altered_holds_after_a_restart(robbed: Robbed) -> None:
    with robbed.by(lambda connection, fleet: None) as site:
        done = site.run("audit", "verify", "--agents", "0")
        assert done.returncode == 0, done.stdout
