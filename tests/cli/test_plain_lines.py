"""What the command line writes, without any fleet: lines, summaries, JSON, help, codes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from libstaragent import codes
from libstaragent.client.output import Gap, Piece
from libstaragent.errors import StarAgentError
from libstaragent.model.api import TargetView
from opsconsole.cli.failure import describe, exit_status_of
from opsconsole.cli.lines_json import JsonWatcher
from opsconsole.cli.parser import build_parser, parse
from opsconsole.cli.summary import summary
from opsconsole.cli.topics import TOPICS
from opsconsole.plain import HostLines, LineWriter

CHECKOUT = Path(__file__).parent.parent.parent


class Streams:
    """stdout and stderr that also remember in which order they were written."""

    def __init__(self) -> None:
        self.both: list[str] = []
        self.out, self.err = self._stream("out"), self._stream("err")

    def _stream(self, name: str) -> io.TextIOWrapper:
        both = self.both

        class Raw(io.RawIOBase):
            def writable(self) -> bool:
                return True

            def write(self, data: Any) -> int:
                both.extend(f"{name}: {line}" for line in bytes(data).decode().splitlines())
                return len(data)

        return io.TextIOWrapper(io.BufferedWriter(Raw()), encoding="utf-8")


def shown(*pieces: Piece | Gap, host: str = "web01", **more: Any) -> list[str]:
    streams = Streams()
    lines = HostLines(LineWriter(streams.out, streams.err), **more)
    for piece in pieces:
        lines.pieces(host, [piece])
    lines.end(host)
    return streams.both


def test_streams_keep_their_order_across_two_descriptors() -> None:
    assert shown(Piece(1, b"a\nb"), Piece(2, b"x\n"), Piece(1, b"c\n"), Piece(2, b"end")) == [
        "out: web01 | a",
        "err: web01 | x",
        "out: web01 | bc",
        "err: web01 | end",
    ]


def test_a_gap_is_named_and_ends_the_line_before_it() -> None:
    assert shown(Piece(1, b"begun"), Gap(42), Piece(1, b"rest\n")) == [
        "out: web01 | begun",
        "err: web01 | [42 bytes omitted]",
        "out: web01 | rest",
    ]


def test_a_hostile_name_and_hostile_output_are_shown_not_obeyed() -> None:
    assert shown(Piece(1, b"\x1b]0;t\x07x\n"), host="w\x1b[2J") == ["out: w␛[2J | ␛x"]


def test_on_a_terminal_names_are_aligned_and_colours_kept() -> None:
    (line,) = shown(Piece(1, b"\x1b[31mred\x1b[0m \x1b[2Jx\n"), names=["web01", "database"], align=True, colour=True)
    assert line.startswith("out: \x1b[") and "web01   " in line
    assert "\x1b[31mred\x1b[0m" in line and "\x1b[2J" not in line


def target(host: str, state: str, **fields: Any) -> TargetView:
    return TargetView(job="j", agent=host, host=host, room="main", state=state, **fields)


def test_a_summary_says_who_failed_and_how() -> None:
    targets = [
        *(target(f"web{number:02}", "ok") for number in range(1, 8)),
        target("web08", "exit_nonzero", exit_status=2),
    ]
    line = summary({"ok": 7, "exit_nonzero": 1, "queued": 0}, targets)
    assert line == "8 targets: 7 ok, 1 exit_nonzero (web08: exit status 2)"


def test_a_summary_of_a_thousand_reasons_stays_a_line() -> None:
    targets = [target(f"web{number:04}", "exit_nonzero", exit_status=number % 200 + 1) for number in range(1000)]
    line = summary({"exit_nonzero": 1000}, targets)
    assert len(line) < 500 and "more" in line


def test_json_joins_characters_that_were_cut() -> None:
    lines: list[str] = []
    watcher = JsonWatcher("job", lines.append)
    watcher.pieces("web01", [Piece(1, b"caf\xc3"), Piece(1, b"\xa9\n"), Piece(1, b"\xe2")])
    watcher.end("web01")
    said = [json.loads(line) for line in lines]
    assert "".join(line.get("text", "") for line in said) == "café\n"
    assert said[-1]["base64"] == "4g=="


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (codes.HOST_UNKNOWN.error("x"), 3),
        (codes.NO_TARGET.error(), 3),
        (codes.TARGET_SYNTAX.error(), 64),
        (codes.COMMAND_LINE.error(), 64),
        (codes.SIGNER_ROLE.error(), 4),
        (codes.CENTRAL_UNREACHABLE.error(), 2),
        (codes.CENTRAL_CERTIFICATE.error(), 1),
    ],
)
def test_an_error_has_an_exit_status(error: StarAgentError, status: int) -> None:
    assert exit_status_of(error) == status


def test_an_error_from_a_host_cannot_act_on_the_terminal() -> None:
    text = describe(codes.SPAWN_FAILED.error("\x1b[2J\nnext line", errno=13))
    assert "\x1b" not in text
    assert text.startswith("SA-6701 spawn_failed: ") and "(errno 13)" in text and "\n  → " in text


def test_what_stands_after_two_dashes_is_never_ours() -> None:
    options = parse(["exec", "-t", "web01", "--", "ls", "--json", "--", "-t"])
    assert (options.command_words, options.json, options.targets) == (["ls", "--json", "--", "-t"], False, "web01")


@pytest.mark.parametrize(
    "words", [["nope"], ["exec"], ["exec", "-t"], ["jobs"], ["token", "--uses", "0"], ["hosts", "a", "--", "b"]]
)
def test_a_line_that_cannot_be_read_ends_with_64(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        parse(words)
    assert ending.value.code == 64
    assert "SA-1031 command_line" in capsys.readouterr().err


def test_every_code_is_explained(alone: Any) -> None:
    assert alone("explain", "SA-1101").out.startswith("SA-1101 host_unknown\n")
    assert alone("explain", "token_unknown", "--json").lines[0]["code"] == "SA-4370"
    assert len(alone("explain", "--all").out.splitlines()) == len(codes.catalogue())
    unknown = alone("explain", "SA-0000")
    assert (unknown.status, "SA-1104 code_unknown" in unknown.err) == (1, True)
    assert alone("explain").status == 64


def test_topics_are_printed_and_unknown_ones_refused(alone: Any) -> None:
    assert alone("help", "targets").out == TOPICS["targets"]
    assert alone("help", "love").status == 64
    assert "topics:" in alone("help").out


def test_every_expression_in_the_help_can_be_read() -> None:
    from libstaragent.targets import parse as read

    for line in TOPICS["targets"].splitlines():
        if line.startswith("  ") and line.strip():
            read(line[2:22].strip().split(";")[0])


def test_without_a_context_it_says_how_to_get_one(alone: Any) -> None:
    done = alone("hosts")
    assert (done.status, done.out) == (1, "")
    assert "SA-1130 context_missing" in done.err and "opsconsole up" in done.err


def test_without_a_terminal_and_without_words_the_usage_is_told(alone: Any) -> None:
    done = alone()
    assert (done.status, done.out) == (64, "")
    assert "usage: opsconsole" in done.err


def test_the_help_loads_nothing_but_the_parser() -> None:
    probe = "import sys; from opsconsole.__main__ import main; main(['--help']); print(sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", probe], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    loaded = set(eval(run.stdout.splitlines()[-1]))
    assert not loaded & {
        "httpx",
        "anyio",
        "asyncio",
        "textual",
        "keyring",
        "msgspec",
        "ssl",
        "nacl",
        "libstaragent.codes",
    }


def test_every_command_has_a_module_or_is_nobodys() -> None:
    import importlib

    commands = next(action for action in build_parser()._actions if action.dest == "module" or action.choices)
    for parser in dict(commands.choices or {}).values():
        importlib.import_module(parser.get_default("module"))


def test_the_document_of_the_command_line_is_current() -> None:
    from opsconsole.cli.document import cli_document

    written = (CHECKOUT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == cli_document(), "run: python -m opsconsole.cli.document > docs/cli.md"
