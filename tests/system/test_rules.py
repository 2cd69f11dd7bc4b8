"""Rules, operators and hosts that leave, on a real fleet, as an admin does it from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from libstaragent import codes
from libstaragent.client.context import load_context, save_context
from libstaragent.errors import StarAgentError
from libstaragent.security.policy.model import FOUNDERS
from libstaragent.security.roster import digest, open_roster, sign_roster
from libstaragent.security.signed import Signed, signed_to_json

NARROW = """
[groups]
front = "web*"

[[rule]]
name = "admins"
who = ["role:admin"]
run = ["**"]
shell = true
manage = true
as = ["*"]

[[rule]]
name = "look"
who = ["role:web"]
on = "@front"
run = ["echo {yes,maybe}", "sleep *"]
limits = { targets = 1, timeout = "60s" }

[[case]]
operator = "kim"
roles = ["operator", "web"]
targets = "web01"
argv = ["echo", "yes"]
expect = "allow"
"""


@pytest.fixture(scope="module")
def fleet(module_site: Any) -> Iterator[Any]:
    """A fleet with two hosts, the narrow rules, and the operator kim with a key and a context of her own."""
    site = module_site
    site.up()
    site.add_hosts("web01", "db01")
    (site.folder / "narrow.toml").write_text(NARROW)
    save_context(load_context(site.context), site.folder / "kim.toml")
    made = site.run_as(as_kim(site), "operator", "key", "kim")
    assert made.returncode == 0, made.stderr
    added = site.run(
        "operator", "add", "kim", made.stdout.strip(), "--role", "operator", "--role", "read", "--role", "web"
    )
    assert added.returncode == 0, added.stderr
    applied = site.run("policy", "apply", str(site.folder / "narrow.toml"), "--yes")
    assert applied.returncode == 0, applied.stderr
    assert "roster revision 3" in applied.stdout
    yield site


def as_kim(site: Any) -> list[str]:
    return ["--context", str(site.folder / "kim.toml"), "--key-file", str(site.folder / "kim.key")]


def by_kim(site: Any, *words: str) -> Any:
    at = words.index("--") if "--" in words else len(words)
    return site.run_as([*as_kim(site), *words[at:]], *words[:at])


def test_an_operator_runs_what_a_rule_covers_and_nothing_else(fleet: Any) -> None:
    done = by_kim(fleet, "exec", "-t", "web01", "--", "echo", "yes")
    assert (done.returncode, done.stdout) == (0, "web01 | yes\n"), done.stderr
    for words in (("-t", "web01", "--", "echo", "no"), ("-t", "db01", "--", "echo", "yes")):
        refused = by_kim(fleet, "exec", *words)
        assert refused.returncode == 4
        assert "SA-8301 policy_denied" in refused.stderr
        assert "nearest is rule look" in refused.stderr
    longer = by_kim(fleet, "exec", "-t", "web01", "--timeout", "61", "--", "echo", "yes")
    assert (longer.returncode, "SA-8303 policy_limit" in longer.stderr) == (4, True), longer.stderr


def test_explain_says_which_rule_and_each_near_miss(fleet: Any) -> None:
    done = fleet.run("policy", "explain", "kim", "web01", "--", "echo", "maybe")
    assert done.returncode == 0
    assert done.stdout.startswith("allowed: by rule look\n")
    assert "admins: does not allow it\n    who: kim is not among role:admin\n" in done.stdout
    done = fleet.run("policy", "explain", "kim", "db01", "--json", "--shell", "id")
    assert done.returncode == 4
    look = json.loads(done.stdout)["opinions"][1]
    assert [entry.partition(":")[0] for entry in look["objections"]] == ["on", "shell"]
    nobody = fleet.run("policy", "explain", "nobody", "web01", "--", "id")
    assert "SA-8101 operator_unknown" in nobody.stderr


def test_who_has_not_the_role_is_told_so_before_the_rules_are_asked(fleet: Any) -> None:
    name = "lee"
    save_context(replace(load_context(fleet.context), operator=name), fleet.folder / "lee.toml")
    mine = ["--context", str(fleet.folder / "lee.toml"), "--key-file", str(fleet.folder / "lee.key")]
    made = fleet.run_as(mine, "operator", "key", name)
    assert made.returncode == 0, made.stderr
    added = fleet.run("operator", "add", name, made.stdout.strip(), "--role", "admin", "--role", "read")
    assert added.returncode == 0, added.stderr
    explained = fleet.run("policy", "explain", name, "web01", "--", "echo", "yes")
    assert explained.returncode == 4
    assert f"denied: {codes.SIGNER_ROLE.code} " in explained.stdout
    assert "lee has not the role operator" in explained.stdout
    words = ("exec", "-t", "web01")
    preview = fleet.run_as([*mine, "--", "echo", "yes"], *words, "--preview")
    assert f"refused:   {codes.SIGNER_ROLE.code} " in preview.stdout, preview.stderr
    assert "lee has not the role operator" in preview.stdout
    assert codes.SIGNER_ROLE.code in fleet.run_as([*mine, "--", "echo", "yes"], *words).stderr
    gone = fleet.run("operator", "revoke", name, "--yes")
    assert gone.returncode == 0, gone.stderr


def test_rules_that_leave_nobody_any_right_are_not_applied_without_a_word(fleet: Any, tmp_path: Path) -> None:
    nobody = tmp_path / "nobody.toml"
    nobody.write_text('[[rule]]\nname = "gone"\nwho = ["who-left"]\nrun = ["true"]\n')
    before = fleet.run("policy", "show").stdout
    done = fleet.run("policy", "apply", str(nobody))
    assert done.returncode == 64 and "--yes" in done.stderr
    assert "nobody could do anything any more on any host: of li, kim no one has a right left" in done.stderr
    assert fleet.run("policy", "show").stdout == before
    left = fleet.run("policy", "apply", str(fleet.folder / "narrow.toml"))
    assert "nobody could do anything" not in left.stderr


def test_a_job_of_another_is_not_an_operators_to_cancel(fleet: Any) -> None:
    started = fleet.run("exec", "-t", "web01", "--async", "--", "sleep", "60")
    job = started.stdout.strip()
    refused = by_kim(fleet, "jobs", "cancel", job)
    assert (refused.returncode, "SA-8301" in refused.stderr) == (4, True), refused.stderr
    own = by_kim(fleet, "exec", "-t", "web01", "--async", "--timeout", "60", "--", "sleep", "60").stdout.strip()
    for who, mine in ((by_kim, own), (lambda site, *words: site.run(*words), job)):
        done = who(fleet, "jobs", "cancel", mine)
        assert done.returncode == 0, done.stderr
        assert fleet.result(mine).counts == {"cancelled": 1}


def test_a_file_that_cannot_be_read_changes_nothing(fleet: Any, tmp_path: Path) -> None:
    before = fleet.run("policy", "show").stdout
    broken = tmp_path / "broken.toml"
    for text, word in (
        (NARROW.replace('run = ["**"]', 'run = ["^.*$"]'), "line 8, column 9"),
        (NARROW.replace("limits", "limit"), "did you mean limits?"),
        (NARROW.replace('expect = "allow"', 'expect = "deny"'), "SA-8002 policy_case_failed"),
    ):
        broken.write_text(text)
        done = fleet.run("policy", "apply", str(broken), "--yes")
        assert done.returncode == 64
        assert word in done.stderr
    assert fleet.run("policy", "show").stdout == before
    unread = fleet.run("policy", "check", str(tmp_path / "absent.toml"))
    assert (unread.returncode, "SA-1" in unread.stderr) == (64, True)


def test_a_policy_is_checked_tried_and_compared_before_it_counts(fleet: Any, tmp_path: Path) -> None:
    wide = tmp_path / "wide.toml"
    wide.write_text(NARROW.replace('on = "@front"\n', "").replace("echo {yes,maybe}", "env *"))
    checked = fleet.run_as([], "policy", "check", str(wide))
    assert (checked.returncode, "that is a shell" in checked.stderr) == (0, True)
    tried = fleet.run_as([], "policy", "test", str(wide))
    assert tried.returncode == 1
    assert tried.stdout.startswith("FAIL line 19")
    compared = fleet.run("policy", "diff", "-", str(wide))
    assert "rule look: changed (on, run)" in compared.stdout
    assert "kim gains run env x on db01,web01" in compared.stdout
    assert "kim loses run echo yes on web01" in compared.stdout
    files = fleet.run("policy", "diff", str(fleet.folder / "narrow.toml"), str(wide))
    assert "kim loses run echo yes on web01" in files.stdout
    asked = fleet.run("policy", "apply", str(fleet.folder / "narrow.toml"))
    assert (asked.returncode, "--yes" in asked.stderr) == (64, True)


def test_the_api_and_the_library_say_the_same(fleet: Any) -> None:
    with fleet.http() as http:
        said = http.get("/v1/policy").json()
    with fleet.fleet() as library:
        assert library.administration.policy() == said["text"]
        assert [operator.name for operator in library.administration.operators()] == ["li", "kim"]
        found = library.administration.explain("kim", "web01", library.command(["echo", "yes"]))
        assert (found.allowed, found.rule) == (True, "look")
        assert library.administration.overview().rules == ("admins", "look")
        assert library.administration.renew() == said["revision"] + 1


def test_an_operator_who_is_no_admin_signs_no_roster(fleet: Any) -> None:
    refused = by_kim(fleet, "policy", "apply", str(fleet.folder / "narrow.toml"), "--yes")
    assert (refused.returncode, "SA-4340 roster_signer" in refused.stderr) == (4, True), refused.stderr
    twice = fleet.run("operator", "add", "kim", by_kim(fleet, "operator", "key", "kim").stdout.strip())
    assert (twice.returncode, "SA-8201 operator_exists" in twice.stderr) == (1, True)
    last = fleet.run("operator", "revoke", "li", "--yes")
    assert (last.returncode, "SA-8003 operator_terms" in last.stderr) == (64, True)


def test_the_owner_of_a_host_has_the_last_word(fleet: Any) -> None:
    veto = fleet.host_state("web01") / "veto.toml"
    try:
        veto.write_text('commands = ["echo no **"]\noperators = ["kim"]\n')
        veto.chmod(0o600)
        assert by_kim(fleet, "exec", "-t", "web01", "--json", "--", "echo", "yes").returncode == 4
        said = fleet.run("exec", "-t", "web01", "--json", "--", "echo", "no", "really")
        target = next(json.loads(line) for line in said.stdout.splitlines() if '"target"' in line and "SA-" in line)
        assert (target["state"], target["code"]) == ("denied", "SA-8304")
        assert str(veto) in target["detail"]
        assert fleet.run("exec", "-t", "web01", "--", "echo", "yes").returncode == 0
        veto.write_text("max_jobs = 0\n")
        assert "SA-8502" in fleet.run("exec", "-t", "web01", "--json", "--", "true").stdout
        veto.write_text("command = []\n")
        said = fleet.run("exec", "-t", "web01", "--json", "--", "true")
        assert ("SA-8801" in said.stdout, "unknown key 'command'" in said.stdout) == (True, True)
        veto.write_text("max_jobs = 5\n")
        veto.chmod(0o666)
        assert "others than its owner may write it" in fleet.run("exec", "-t", "web01", "--json", "--", "true").stdout
        assert "SA-8801" in fleet.agent_log("web01")
    finally:
        veto.unlink()
    assert fleet.run("exec", "-t", "web01", "--", "echo", "yes").returncode == 0


def test_a_host_that_is_revoked_goes_and_its_name_can_come_back(fleet: Any) -> None:
    fleet.add_hosts("web09")
    with fleet.fleet() as library:
        agent = library.host("web09").id
    done = fleet.run("hosts", "revoke", "web09", "--yes")
    assert done.returncode == 0, done.stderr
    gone = fleet.run("exec", "-t", "web09", "--", "true")
    assert (gone.returncode, "SA-1101" in gone.stderr) == (3, True), gone.stderr
    assert agent in fleet.run("policy", "show", "--json").stdout
    fleet.stop_agent("web09")
    fleet.start_agent("web09", log_to_pipe=True)
    assert "SA-8306" in fleet.log_line("web09", "SA-8306")
    fleet.stop_agent("web09")
    again = fleet.folder / "hosts" / "web09-new"
    joined = fleet.join_at(again, "web09")
    assert joined.returncode == 0, joined.stderr
    with fleet.fleet() as library:
        assert library.host("web09").id != agent


def test_an_admin_who_was_slower_is_told_and_what_the_other_applied_stays(fleet: Any) -> None:
    (fleet.folder / "faster.toml").write_text(NARROW + '[[rule]]\nname="faster"\nwho="*"\nrun="id"\n')

    def change(roster: Any) -> Any:
        done = fleet.run("policy", "apply", str(fleet.folder / "faster.toml"), "--yes")
        assert done.returncode == 0, done.stderr
        return msgspec.structs.replace(roster, rules=(FOUNDERS,))

    with fleet.fleet() as library, pytest.raises(StarAgentError) as told:
        library.administration.revise(change)
    assert told.value.code is codes.ROSTER_RACED
    shown = fleet.run("policy", "show").stdout
    assert "faster" in shown and "founders" not in shown
    # Once more, on what is there now.
    assert fleet.run("policy", "apply", str(fleet.folder / "narrow.toml"), "--yes").returncode == 0
    assert "faster" not in fleet.run("policy", "show").stdout


def test_that_the_roster_ends_soon_is_said_beside_each_act_and_to_admins_earlier(fleet: Any) -> None:
    assert "roster ends" not in fleet.run("exec", "-t", "web01", "--", "true").stderr
    day_ms = 24 * 3_600_000
    for days, exec_warns, list_warns in ((30, False, True), (5, True, True)):
        with fleet.http() as http:
            newest = msgspec.json.decode(msgspec.json.encode(http.get("/v1/trust").json()["rosters"][-1]), type=Signed)
            before = open_roster(newest)
            ends = before.issued + days * day_ms + 3_600_000
            after = msgspec.structs.replace(
                before, revision=before.revision + 1, previous=digest(newest), valid_until=ends
            )
            assert http.post("/v1/rosters", content=signed_to_json(sign_roster(after, fleet.seed))).status_code == 200
        done = fleet.run("exec", "-t", "web01", "--", "echo", "yes")
        assert (done.returncode, done.stdout) == (0, "web01 | yes\n"), done.stderr
        assert (f"roster ends in {days} days" in done.stderr) is exec_warns
        assert (f"roster ends in {days} days" in fleet.run("operator", "list").stderr) is list_warns
    assert fleet.run("policy", "renew").returncode == 0
    assert "roster ends" not in fleet.run("operator", "list").stderr


def test_an_operator_who_was_revoked_runs_nothing_more(fleet: Any) -> None:
    assert by_kim(fleet, "exec", "-t", "web01", "--", "echo", "yes").returncode == 0
    done = fleet.run("operator", "revoke", "kim", "--yes")
    assert done.returncode == 0, done.stderr
    refused = by_kim(fleet, "exec", "-t", "web01", "--", "echo", "yes")
    assert (refused.returncode, "SA-4373" in refused.stderr) == (4, True), refused.stderr
    assert "kim" not in fleet.run("operator", "list").stdout
