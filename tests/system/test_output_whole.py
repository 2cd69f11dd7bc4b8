"""What commands write and what they leave, through the whole of a real fleet: much, binary, hostile, daemons."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import select
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from libstaragent import codes


def test_sixty_megabytes_keep_head_tail_and_the_true_length(site: Any) -> None:
    """The gap is named, its ends are what the command wrote, and length and hash are those of the whole."""
    command = "seq 8000000"
    whole = subprocess.run(["seq", "8000000"], capture_output=True, check=True).stdout
    assert len(whole) > 60_000_000
    done = site.run("exec", "-t", "web01", "--async", "--shell", command)
    result = site.result(done.stdout.strip())
    (target,) = result.targets
    assert (target.state, target.stdout_bytes) == ("ok", len(whole))
    assert target.stdout_sha256 == hashlib.sha256(whole).hexdigest()
    shown = site.run("jobs", "output", "--raw", done.stdout.strip(), "web01")
    omitted = int(re.search(r"\[(\d+) bytes omitted\]", shown.stderr).group(1))  # type: ignore[union-attr]
    kept = shown.stdout.encode()
    assert len(kept) + omitted == len(whole)
    assert kept.startswith(b"1\n2\n3\n") and kept.endswith(b"\n7999999\n8000000\n")
    assert kept[:65536] == whole[:65536] and kept[-65536:] == whole[-65536:]


def test_binary_output_of_one_host_is_the_same_bytes_with_raw(site: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(bytes(range(256)) * 200 + os.urandom(5000) + b"\x1b[2J\x00\xff")
    live = subprocess.run(
        site.command("exec", "-t", "web01", "--raw", "--", "cat", str(data)), capture_output=True, timeout=30
    )
    assert live.returncode == 0 and live.stdout == data.read_bytes()
    with site.fleet() as fleet:
        (job,) = fleet.jobs(1)
    later = subprocess.run(site.command("jobs", "output", "--raw", job.id, "web01"), capture_output=True, timeout=30)
    assert later.returncode == 0 and later.stdout == data.read_bytes()


HOSTILE = (
    rb"\033]0;owned\007",  # a title
    rb"\033]52;c;cm0gLXJmIH4=\007",  # the clipboard
    rb"\033[2J\033[H",  # a cleared screen
    rb"\033c",  # a reset
    rb"\233[31m",  # C1
    rb"\033Pq#0\033\\",  # a picture
    rb"[/markup][bold]",
    rb"\rweb99 | a line of another host",
    rb"\010\010\010",
    b"\xe2\x80\xaegnp.exe",
)


def on_a_terminal(command: list[str]) -> tuple[int, bytes]:
    """What the command writes to a terminal of its own, and what it ends with."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    written = b""
    try:
        while select.select([ours], [], [], 30)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            if not piece:
                break
            written += piece
    finally:
        os.close(ours)
    return process.wait(30), written


def test_hostile_output_reaches_a_terminal_inert(site: Any, tmp_path: Path) -> None:
    script = tmp_path / "hostile.sh"
    script.write_bytes(b"".join(b"printf '" + text.replace(b"\\\\", b"\\\\") + b"\\n'\n" for text in HOSTILE))
    for words in (("exec", "-t", "web01", "--", "sh", str(script)), ("jobs", "list")):
        status, written = on_a_terminal(site.command(*words))
        assert status == 0, written
        assert b"web01" in written or words[0] == "jobs"
        # Nothing but our own colours: no OSC, DCS, C1, cursor movement, backspace or override of direction is left.
        rest = re.sub(rb"\x1b\[[0-9;]*m", b"", written).replace(b"\r\n", b"\n")
        assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", rest), rest
        text = rest.decode()
        assert not re.search("[\x80-\x9f\u202a-\u202e\u2066-\u2069]", text), text
        assert not any(line.startswith("web99") for line in text.splitlines())
    _, written = on_a_terminal(site.command("exec", "-t", "web01", "--", "sh", str(script)))
    assert b"[/markup][bold]" in written


def test_a_hostile_command_is_shown_inert_by_jobs(site: Any) -> None:
    argument = "\x1b]0;owned\x07[/red]\u202e"
    assert site.run("exec", "-t", "web01", "--", "true", argument).returncode == 0
    with site.fleet() as fleet:
        (job,) = fleet.jobs(1)
    for words in (("jobs", "list"), ("jobs", "show", job.id)):
        _, written = on_a_terminal(site.command(*words))
        assert b"\x07" not in written and b"\x1b]" not in written and "\u202e".encode() not in written
        assert b"[/red]" in written


def test_a_job_is_cancelled_during_a_flood_of_output(site: Any, gate: Callable[[str], Any]) -> None:
    begun = gate("begun")
    with site.start("exec", "-t", "web01", "--shell", f"echo $$ > {begun.path}; exec yes") as process:
        flood = int(begun.heard())
        # Some of the flood has come; nobody reads the rest while the cancel is on its way.
        assert process.stdout.readline() == "web01 | y\n"
        assert Path(f"/proc/{flood}").exists()
        with site.fleet() as fleet:
            (job,) = fleet.jobs(1)
        assert site.run("jobs", "cancel", job.id).returncode == 0
        result = site.result(job.id)
        assert result.counts == {"cancelled": 1}
        assert not Path(f"/proc/{flood}").exists()
        assert result.targets[0].stdout_bytes > 65536
        process.communicate(timeout=30)
    assert process.returncode == 5


def test_a_daemon_that_a_command_leaves_is_named_and_does_not_hold_it_up(site: Any, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    daemon_line = f"trap '' TERM HUP; echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 599"
    script = f'setsid sh -c "$DAEMON" & while ! test -e {pid_file}; do :; done; echo left'
    done = site.run("exec", "-t", "web01", "--env", f"DAEMON={daemon_line}", "--shell", script)
    assert (done.returncode, done.stdout) == (0, "web01 | left\n"), done.stderr
    daemon = int(pid_file.read_text())
    with site.process_handle(daemon) as handle:
        with site.fleet() as fleet:
            (job,) = fleet.jobs(1)
        assert "sleep" in site.run("jobs", "show", job.id).stdout
        os.kill(daemon, signal.SIGKILL)
        assert site.gone(handle)


def test_a_timeout_ends_all_that_was_started_however_it_hides(site: Any, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    hidden = f"trap '' TERM HUP INT; echo $$ > {pid_file}; while :; do sleep 599; done"
    script = "setsid sh -c \"$HIDDEN\" & trap '' TERM; while :; do sleep 599; done"
    done = site.run("exec", "-t", "web01", "--timeout", "1", "--env", f"HIDDEN={hidden}", "--shell", script)
    assert done.returncode == 1
    assert "1 timeout" in done.stderr and codes.COMMAND_TIMEOUT.code in done.stderr
    assert not Path(f"/proc/{int(pid_file.read_text())}").exists()


def test_what_cannot_be_started_has_its_code(site: Any, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for words, code in (
        (("--", "/nosuch/program"), codes.COMMAND_MISSING),
        (("--", str(plain)), codes.COMMAND_NOT_EXECUTABLE),
        (("--cwd", "/nosuch", "--", "true"), codes.WORKING_DIRECTORY),
        (("--user", "nosuchuser", "--", "true"), codes.RUN_AS_UNKNOWN),
    ):
        done = site.run("exec", "-t", "web01", *words)
        assert done.returncode == 1 and code.code in done.stderr and "1 spawn_failed" in done.stderr, done.stderr
