"""How commands ended, counted: from a real fleet to the command line and the library."""

from __future__ import annotations

import json
from typing import Any


def test_ends_are_counted_and_listed(site: Any) -> None:
    assert site.run("exec", "-t", "web01,web02", "--", "true").returncode == 0
    assert site.run("exec", "-t", "db01", "--", "false").returncode == 1
    done = site.run("outcomes", "--json", "--by", "room,version,state")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    by_state = {row["state"]: row for row in rows}
    assert by_state["ok"]["targets"] >= 2 and by_state["ok"]["ok"] == by_state["ok"]["targets"]
    assert by_state["exit_nonzero"]["targets"] >= 1 and by_state["exit_nonzero"]["ok"] == 0
    assert {(row["room"], row["event"]) for row in rows} == {("main", "outcome")}
    assert all(row["version"] for row in rows)
    shown = site.run("outcomes", "--since", "1d", "--by", "time,room").stdout.splitlines()
    assert shown[0].split() == ["TIME", "ROOM", "TARGETS", "OK", "RATE", "SHARE"] and len(shown) >= 2
    with site.fleet() as fleet:
        assert sum(row.targets for row in fleet.outcomes(by=("code",)).rows) >= 3


def test_what_cannot_be_counted_by_is_a_usage_error(site: Any) -> None:
    for words in (("--by", "host"), ("--by", "code,code"), ("--since", "soon")):
        assert site.run("outcomes", *words).returncode == 64
