"""The console as an operator uses it: keys in, screen and fleet out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from textual import events
from textual.widgets import Input

from libstaragent.codes import CONSOLE_FAULT, HOST_UNKNOWN, POLICY_DENIED
from libstaragent.model.api import JobView
from opsconsole.keymap import read_keymap
from opsconsole.live_source import job_row
from opsconsole.screens.actions import ActionsScreen
from opsconsole.screens.confirm import ConfirmScreen
from opsconsole.screens.fleet import FleetScreen
from opsconsole.screens.jobs import JobsScreen
from opsconsole.screens.output import OutputScreen
from opsconsole.source import HostRow, JobRow, OutputLines, TargetRow
from opsconsole.widgets.logview import LogView
from opsconsole.widgets.runbar import RunBar
from opsconsole.widgets.vtable import VTable
from tests.console.conftest import Console, opened, small_fleet
from tests.console.memory_source import NOW, MemorySource, host

ENTER = events.Key("enter", "\r")


def current(console: Console) -> str:
    row = console.app.fleet.hosts.current
    assert isinstance(row, HostRow)
    return row.name


async def run_job(console: Console, targets: str = "db01", command: str = "uptime") -> str:
    """Start a job as an operator does, and wait for its screen."""
    await console.press("colon")
    await console.type(f"run {targets} -- {command}")
    await console.press("enter")
    await console.until(lambda: console.app.screen.query_one(RunBar).is_open)
    await console.press("enter")
    await console.until(lambda: isinstance(console.app.screen, OutputScreen) and console.app.screen.ready)
    return list(console.source.job_rows)[-1]


# Seeing the fleet.


async def test_the_fleet_is_seen_with_glyph_and_word_for_each_state(console: Console) -> None:
    await console.sees("● up")
    assert "▲ never" in console.text and "✗ down" in console.text
    assert "● 21 up" in console.lines[0] and "demo" in console.lines[0] and "hosts" in console.lines[0]


async def test_a_host_that_changes_changes_on_the_screen(console: Console) -> None:
    console.source.emit([host("build01", state="up")])
    await console.sees("● 22 up")
    await console.until(lambda: "✗ down" not in console.text)


async def test_a_lost_link_is_said_with_its_code_and_comes_back(console: Console) -> None:
    console.source.failure = CONSOLE_FAULT.error("planted")
    console.source.emit([host("web99")])
    await console.sees("SA-1920")
    await console.sees("planted")
    await console.until(lambda: console.app.fleet.link.live)
    await console.sees("web99")


# Moving.


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ("", "build01"),
        ("j", "db01"),
        ("j down k", "db01"),
        ("G", "web20"),
        ("G g", "build01"),
        ("end home down", "db01"),
        ("ctrl+d", "web14"),
        ("ctrl+d ctrl+u", "build01"),
        ("G k up", "web18"),
        ("pagedown", "web20"),
    ],
)
async def test_keys_move_the_cursor(console: Console, keys: str, name: str) -> None:
    await console.press(*keys.split())
    assert current(console) == name


async def test_the_cursor_is_always_seen() -> None:
    async with opened(MemorySource([host(f"h{number:04d}") for number in range(2000)]), size=(80, 24)) as console:
        await console.press("G")
        assert current(console) == "h1999" and "h1999" in console.text
        await console.press("g")
        assert "h0000" in console.text and "h1999" not in console.text


# Marking, sorting, filtering.


async def test_marks_are_counted_and_the_run_bar_starts_with_them(console: Console) -> None:
    await console.press("j", "space", "space")
    await console.sees("2 marked")
    await console.press("r")
    await console.sees("db[01-02]")
    await console.sees("2 hosts")


async def test_a_range_marks_what_is_between(console: Console) -> None:
    await console.press("v", "j", "j", "v")
    assert console.app.fleet.hosts.marks == {"id-build01", "id-db01", "id-db02"}
    await console.press("ctrl+backslash")
    assert not console.app.fleet.hosts.marks


async def test_a_filter_narrows_while_it_is_typed_and_star_marks_what_it_shows(console: Console) -> None:
    await console.press("slash")
    await console.type("!web")
    await console.sees("3 of 23")
    await console.press("enter", "asterisk", "escape")
    assert len(console.app.fleet.hosts) == 23
    assert len(console.app.fleet.hosts.marks) == 3


async def test_a_broken_filter_is_said_and_changes_nothing(console: Console) -> None:
    await console.press("slash", "left_parenthesis", "enter")
    await console.sees("SA-1022")
    assert len(console.app.fleet.hosts) == 23


async def test_columns_sort_by_key_and_by_name(console: Console) -> None:
    await console.press("greater_than_sign")
    await console.sees("STATE ▲")
    await console.press("s")
    await console.sees("STATE ▼")
    await console.press("colon")
    await console.type("sort room")
    await console.press("enter")
    await console.sees("ROOM ▲")


async def test_details_open_beside_and_close_with_escape(console: Console) -> None:
    await console.press("j", "enter")
    await console.sees("env = prod")
    await console.press("escape")
    await console.until(lambda: "env = prod" not in console.text)


# Running.


async def test_a_command_runs_on_the_host_under_the_cursor(console: Console) -> None:
    await console.press("j", "r")
    await console.sees("1 host ")
    await console.type("uptime")
    await console.press("enter")
    await console.until(lambda: isinstance(console.app.screen, OutputScreen))
    assert console.source.runs == [("db01", ("uptime",), False)]
    await console.sees("$ uptime")


async def test_an_unknown_host_is_refused_before_anything_is_sent(console: Console) -> None:
    await console.press("colon")
    await console.type("run nope -- true")
    await console.press("enter")
    await console.sees("SA-1101")
    await console.press("enter")
    await console.sees(HOST_UNKNOWN.remedy[:30])
    assert console.source.runs == []


async def test_an_open_quote_is_refused(console: Console) -> None:
    await console.press("r")
    await console.type("echo 'open")
    await console.press("enter")
    await console.sees("SA-1024")
    assert console.source.runs == []


async def test_many_hosts_ask_for_their_exact_number(console: Console) -> None:
    await console.press("colon")
    await console.type("run web[01-20] -- true")
    await console.press("enter")
    await console.sees("20 hosts")
    await console.press("enter")
    await console.until(lambda: isinstance(console.app.screen, ConfirmScreen))
    await console.press("1", "9", "enter")
    await console.sees("nothing was done")
    assert console.source.runs == []
    await console.press("backspace", "backspace", "2", "0", "enter")
    await console.until(lambda: console.source.runs)
    assert console.source.runs == [("web[01-20]", ("true",), False)]


async def test_the_context_says_how_many_are_many() -> None:
    source = small_fleet()
    source.confirm_above = 2
    async with opened(source) as console:
        for targets, asked in (("db[01-02]", False), ("web[01-03]", True)):
            await console.press("colon")
            await console.type(f"run {targets} -- true")
            await console.press("enter")
            if asked:
                await console.sees("3 hosts")
            await console.press("enter")
            if not asked:
                await console.until(lambda: source.runs)
                await console.press("escape", "escape")
        await console.until(lambda: isinstance(console.app.screen, ConfirmScreen))
        assert source.runs == [("db[01-02]", ("true",), False)]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"paused": True, "held": 3}, "‖ paused"),
        ({"waits": "resume", "held": 3}, "◔ held"),
        ({"held": 3}, "▶ running"),
        ({"finished_ms": 2, "stopped": True}, "■ stopped"),
        ({"finished_ms": 2, "stopped": True, "cancelled": True}, "■ cancelled"),
        ({"finished_ms": 2}, "● ok"),
    ],
)
async def test_where_a_planned_job_stands_has_a_word_and_a_glyph(fields: dict[str, Any], said: str) -> None:
    view = JobView(
        id="01KPLANNED",
        operator="ann",
        command="true",
        expression="all",
        targets=1,
        **{"counts": {"ok": 1}, "submitted_ms": 1, "expires_ms": 9, "deadline_ms": 9, **fields},
    )
    source = small_fleet()
    source.job_rows["01KPLANNED"] = job_row(view)
    async with opened(source) as console:
        await console.press("J")
        await console.sees(said)
        await console.press("X")
        if view.finished_ms is None:
            await console.until(lambda: isinstance(console.app.screen, ConfirmScreen))
        else:
            await console.sees("has finished")


async def test_a_code_is_explained_by_its_number_and_from_its_row(console: Console) -> None:
    job = await run_job(console, "db01")
    console.source.finish(job, "db01", state="denied", code=POLICY_DENIED.code)
    await console.sees("1 denied")
    await console.press("colon")
    await console.type("explain")
    await console.press("enter")
    await console.sees(POLICY_DENIED.sentence)
    await console.press("colon")
    await console.type("explain 1101")
    await console.press("enter")
    await console.sees(HOST_UNKNOWN.sentence)
    await console.press("colon")
    await console.type("explain SA-9999")
    await console.press("enter")
    await console.sees("there is no error code like this")


async def test_a_shell_is_chosen_never_assumed(console: Console) -> None:
    await console.press("j", "r")
    await console.type("a")
    await console.press("space", "vertical_line", "space", "b")
    await console.sees("without a shell")
    await console.press("f2")
    await console.sees("in a shell")
    await console.press("enter")
    await console.until(lambda: console.source.runs)
    assert console.source.runs == [("db01", ("a | b",), True)]


async def test_escape_closes_the_run_bar_and_nothing_is_sent(console: Console) -> None:
    await console.press("r", "escape")
    assert not console.app.screen.query_one(RunBar).is_open
    assert isinstance(console.app.screen.focused, VTable)
    assert console.source.runs == []


# A job.


async def test_output_is_live_with_the_host_before_each_line(console: Console) -> None:
    job = await run_job(console, "db[01-02]")
    console.source.print(job, "db01", b"first\nsec")
    console.source.print(job, "db02", b"oops\n", stream="stderr")
    await console.sees("db01 │ first")
    await console.sees("db02 ! oops")
    console.source.print(job, "db01", b"ond\n")
    await console.sees("db01 │ second")
    console.source.finish(job, "db01")
    console.source.finish(job, "db02", "exit_nonzero", 3, "SA-6201")
    await console.sees("✗ 1 exit nonzero")
    await console.sees("2/2")


async def test_one_host_is_shown_alone_and_escape_shows_all_again(console: Console) -> None:
    job = await run_job(console, "db[01-02]")
    console.source.print(job, "db01", b"from one\n")
    console.source.print(job, "db02", b"from two\n")
    await console.sees("from two")
    await console.press("enter")
    await console.until(lambda: "from two" not in console.text)
    await console.sees("from one")
    console.source.print(job, "db01", b"more of one\n")
    await console.sees("more of one")
    await console.press("escape")
    await console.sees("from two")


async def test_the_log_follows_only_at_its_bottom(console: Console) -> None:
    job = await run_job(console)
    console.source.print(job, "db01", b"".join(b"line %d\n" % number for number in range(200)))
    await console.sees("line 199")
    await console.press("2", "k")
    await console.sees("paused")
    seen = [line for line in console.lines if "line " in line]
    console.source.print(job, "db01", b"newest\n")
    await console.sees("2 below")
    assert [line for line in console.lines if "line " in line] == seen
    await console.press("G")
    await console.sees("newest")
    await console.sees("following")
    await console.press("k", "j")
    await console.sees("following")


async def test_output_that_is_not_shown_is_said(console: Console) -> None:
    job = await run_job(console)
    console.source.print(job, "db01", b"x\n", omitted=1204)
    await console.sees("⚠ 1,204 bytes not shown")


async def test_long_lines_wrap_or_are_cut(console: Console) -> None:
    job = await run_job(console)
    console.source.print(job, "db01", b"start" + b"." * 200 + b"Z\n")
    await console.sees("Z")
    await console.press("w")
    await console.until(lambda: "Z" not in console.text and "start" in console.text)
    await console.press("2", *(["l"] * 20))
    await console.sees("Z")
    assert "start" not in console.text


async def test_a_filter_narrows_the_log_in_focus(console: Console) -> None:
    job = await run_job(console)
    console.source.print(job, "db01", b"keep 1\ndrop 2\nkeep 3\n")
    await console.sees("drop 2")
    await console.press("2", "slash")
    await console.type("keep")
    await console.until(lambda: "drop 2" not in console.text)
    await console.press("enter", "escape")
    await console.sees("drop 2")


async def test_cancelling_is_a_capital_and_asks_for_the_number(console: Console) -> None:
    job = await run_job(console, "db[01-02]")
    await console.until(lambda: console.app.fleet.jobs.rows.get(job))
    await console.press("X")
    await console.until(lambda: isinstance(console.app.screen, ConfirmScreen))
    await console.press("enter")
    assert console.source.cancelled == []
    await console.press("2", "enter")
    await console.until(lambda: console.source.cancelled == [job])


async def test_a_finished_job_cannot_be_cancelled_and_says_so(console: Console) -> None:
    job = await run_job(console)
    console.source.finish(job, "db01")
    await console.sees("1/1")
    await console.press("X")
    await console.sees("has finished")


async def test_a_job_from_the_list_brings_its_history() -> None:
    source = small_fleet()
    async with opened(source) as first:
        job = await run_job(first)
        source.print(job, "db01", b"from before\n")
        source.finish(job, "db01")
    async with opened(source) as console:
        await console.press("J")
        await console.until(lambda: isinstance(console.app.screen, JobsScreen))
        await console.sees("● ok")
        await console.press("enter")
        await console.sees("db01 │ from before")


async def test_a_job_of_somebody_else_is_read_when_it_is_opened(console: Console) -> None:
    job = JobRow(
        id="01KOTHER", operator="oncall", command="df", targets=1, counts=(("ok", 1),), state="done", started=NOW
    )
    console.source.target_rows["01KOTHER", "db01"] = TargetRow(job="01KOTHER", host="db01", state="ok", exit_status=0)
    console.source.records["01KOTHER", "db01"] = [
        OutputLines(job="01KOTHER", host="db01", stream="stdout", seq=1, data=b"never sent live\n")
    ]
    console.source.emit([job])
    await console.until(lambda: "01KOTHER" in console.app.fleet.jobs.rows)
    await console.press("colon")
    await console.type("job 01KOTHER")
    await console.press("enter")
    await console.sees("db01 │ never sent live")


# Going about.


async def test_the_crumbs_are_the_screen_stack(console: Console) -> None:
    await run_job(console)
    assert console.app.trail()[0] == "hosts"
    await console.press("J")
    await console.until(lambda: isinstance(console.app.screen, JobsScreen))
    assert console.app.trail() == ["hosts", "jobs"]
    await console.until(lambda: console.app.screen.ready)
    await console.press("enter")
    await console.until(lambda: isinstance(console.app.screen, OutputScreen))
    assert len(console.app.trail()) == 3
    await console.press("left_square_bracket")
    await console.until(lambda: isinstance(console.app.screen, JobsScreen))
    await console.press("right_square_bracket")
    await console.until(lambda: isinstance(console.app.screen, OutputScreen))
    await console.press("escape", "escape")
    assert isinstance(console.app.screen, FleetScreen)
    await console.press("escape")
    assert isinstance(console.app.screen, FleetScreen)


async def test_the_list_of_actions_runs_what_is_chosen(console: Console) -> None:
    await console.press("question_mark")
    await console.until(lambda: isinstance(console.app.screen, ActionsScreen))
    await console.sees("KEYS")
    await console.type("mrkall")
    await console.sees("mark all")
    await console.press("enter")
    await console.until(lambda: len(console.app.fleet.hosts.marks) == 23)


async def test_the_palette_finds_what_belongs_elsewhere_with_its_reason(console: Console) -> None:
    await console.press("ctrl+p")
    await console.until(lambda: isinstance(console.app.screen, ActionsScreen))
    await console.type("cancel")
    await console.sees("not in this view")


async def test_the_palette_changes_the_theme(console: Console) -> None:
    await console.press("ctrl+p")
    await console.type("starlight")
    await console.press("enter")
    await console.until(lambda: console.app.theme == "star-light")


async def test_jump_mode_and_digits_go_to_panes(console: Console) -> None:
    await run_job(console)
    assert isinstance(console.app.screen.focused, VTable)
    await console.press("2")
    assert isinstance(console.app.screen.focused, LogView)
    await console.press("ctrl+o", "a")
    assert isinstance(console.app.screen.focused, VTable)
    await console.press("z")
    assert console.app.screen.maximized is not None
    await console.press("escape")
    assert console.app.screen.maximized is None


async def test_an_unknown_command_names_the_nearest(console: Console) -> None:
    await console.press("colon")
    await console.type("jbos")
    await console.press("enter")
    await console.sees("nearest is :jobs")
    await console.press("j")
    await console.until(lambda: "SA-1023" not in console.text)


async def test_tab_completes_and_up_brings_back(console: Console) -> None:
    await console.press("colon")
    await console.type("theme contr")
    await console.press("tab", "enter")
    assert console.app.theme == "contrast"
    await console.press("colon", "up")
    await console.sees("theme contrast")


async def test_ctrl_c_does_not_leave_and_q_does(console: Console) -> None:
    await console.press("ctrl+c")
    await console.sees("leaves the console")
    await console.press("colon", "q", "enter")
    await console.until(lambda: not console.app.is_running or console.app._exit)


async def test_keys_that_come_all_at_once_are_typed_not_obeyed(console: Console) -> None:
    # As from a fast hand, a paste or a slow line: no time between the keys for anything to take the focus.
    typed = "sort room"
    for key in (events.Key("colon", ":"), *(events.Key("space" if c == " " else c, c) for c in typed), ENTER):
        console.app.post_message(key)
    await console.sees("ROOM ▲")
    for key in (events.Key("r", "r"), events.Key("X", "X"), events.Key("q", "q")):
        console.app.post_message(key)
    await console.until(lambda: console.app.screen.query_one("#command", Input).value == "Xq")


async def test_a_keymap_moves_an_action_to_another_key() -> None:
    keymap = read_keymap('[keys]\n"line.down" = "t"\n"jump.open" = "j"\n', file="keymap.toml")
    async with opened(small_fleet(), keymap=keymap) as console:
        await console.press("t")
        assert current(console) == "db01"
        await console.press("down")
        assert current(console) == "db01"


# Read-only.


async def test_read_only_refuses_every_act_in_one_place() -> None:
    async with opened(small_fleet(), read_only=True) as console:
        await console.sees("read-only")
        for verb in ("run db01 -- true", "shell db01 -- true"):
            await console.press("colon")
            await console.type(verb)
            await console.press("enter")
            await console.sees("SA-1320")
        assert not console.app.screen.query_one(RunBar).is_open
        assert " run" not in console.lines[-1]
        assert console.source.runs == []


# Hostile hosts.

HOSTILE = [
    "[/foo]",
    "[@click=app.quit]x[/]",
    "a\x1b[2Jb",
    "c\x1b]52;c;cm0gLXJm\x07d",
    "e\u202ef\u200bg",
    "h\x9b31mi",
    "j\r\nk\tl",
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_host_reaches_the_screen_inert(name: str) -> None:
    row = host(name, os=name, room=name, address=name, version=name, labels=((name, name),))
    async with opened(MemorySource([row])) as console:
        console.source.emit([replace(row, state="down")])
        await console.sees("✗ down")
        await console.press("enter")
        await console.sees("labels")
        console.source.emit([TargetRow(job="none", host=name, state=name)])
        await console.press("r", "escape", "slash")
        await console.type("x")
        await console.press("escape", "question_mark", "escape")
        assert_inert(console)


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_output_reaches_the_screen_inert(name: str) -> None:
    async with opened(small_fleet()) as console:
        job = await run_job(console)
        data = name.encode()
        for piece in (data[:2], data[2:3], data[3:], b"\nafter\n"):
            console.source.print(job, "db01", piece)
        console.source.emit([TargetRow(job=job, host=name, state=name, code=name)])
        await console.sees("after")
        assert_inert(console)


def assert_inert(console: Console) -> None:
    for line in console.lines:
        bad = [character for character in line if ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0]
        assert not bad, repr(line)
        assert not {"\u202e", "\u200b"} & set(line)


# Sizes, colours.


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (200, 60), (20, 5)])
async def test_every_size_works(size: tuple[int, int]) -> None:
    async with opened(small_fleet(), size=size) as console:
        await console.press("j", "enter", "r", "escape", "escape", "J", "question_mark", "escape")
        assert all(len(line) <= size[0] for line in console.lines)
        await console.pilot.resize_terminal(100, 30)
        await console.sees("STATE")


async def test_no_color_uses_a_readable_theme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with opened(small_fleet(), theme="star-light") as console:
        assert console.app.theme == "mono"
        for strip in console.app.screen._compositor.render_strips():
            for segment in strip:
                if segment.text.strip() and segment.style and segment.style.color and segment.style.bgcolor:
                    assert segment.style.color != segment.style.bgcolor, segment
