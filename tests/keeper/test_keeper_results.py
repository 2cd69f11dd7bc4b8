"""What a command did is what its result says: status, signal, output, in order and to the last byte."""

from __future__ import annotations

import base64
import hashlib
import os
import pwd
import sys

import pytest

from agentd.keeper.spoolfile import SpoolReader, read_output
from libstaragent import codes

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


def test_a_command_that_succeeds_is_ok_with_its_output_and_figures(keeper, new_job):
    job = new_job()
    end = keeper.link.run(job, ["sh", "-c", "echo out; echo err >&2"])
    assert (end["state"], end["exit_status"], end["signal"], end["ran"], end["code"]) == ("ok", 0, None, "yes", None)
    assert (end["stdout_bytes"], end["stderr_bytes"], end["omitted_bytes"]) == (4, 4, 0)
    assert end["stdout_sha256"] == hashlib.sha256(b"out\n").hexdigest()
    assert end["stderr_sha256"] == hashlib.sha256(b"err\n").hexdigest()
    assert end["started_ms"] <= end["finished_ms"]
    assert end["max_rss_kb"] > 0
    assert end["left_running"] == []
    assert sorted(read_output(keeper.spool(job))[0]) == [(1, b"out\n"), (2, b"err\n")]


def test_the_started_event_names_the_process_and_comes_before_the_end(keeper, new_job):
    job = new_job()
    end = keeper.link.run(job, ["sh", "-c", "echo $$"])
    started = keeper.link.event("started", job)
    assert keeper.output(job) == b"%d\n" % started["pid"]
    assert keeper.link.events.index(started) < keeper.link.events.index(end)


def test_exit_137_is_an_exit_status_and_a_real_sigkill_is_a_signal(keeper, new_job):
    plain = keeper.link.run(new_job(), ["sh", "-c", "exit 137"])
    killed = keeper.link.run(new_job(), ["sh", "-c", "kill -9 $$"])
    assert (plain["state"], plain["exit_status"], plain["signal"]) == ("exit_nonzero", 137, None)
    assert (killed["state"], killed["exit_status"], killed["signal"]) == ("signalled", None, 9)


def test_every_stream_is_in_order_and_the_streams_are_in_order_of_arrival(keeper, new_job):
    # The command waits until the keeper has read each line, so the true order between the streams is known.
    script = """
import array, fcntl, os, termios
def write(fd, text):
    os.write(fd, text)
    left = array.array("i", [1])
    while left[0]:
        fcntl.ioctl(fd, termios.FIONREAD, left)
for number in range(40):
    write(1 + number % 3 % 2, b"%d\\n" % number)
"""
    job = new_job()
    assert keeper.link.run(job, [sys.executable, "-c", script])["state"] == "ok"
    head, omitted, _ = read_output(keeper.spool(job))
    lines = [(stream, int(line)) for stream, data in head for line in data.split()]
    assert omitted == 0
    assert lines == [(1 + number % 3 % 2, number) for number in range(40)]


def test_sixty_megabytes_are_hashed_whole_and_kept_by_their_ends(keeper, new_job):
    script = "import sys\nfor n in range(600_000): sys.stdout.write('%099d\\n' % n)"
    job = new_job()
    end = keeper.link.run(job, [sys.executable, "-c", script])
    truth = hashlib.sha256()
    for number in range(600_000):
        truth.update(b"%099d\n" % number)
    assert end["stdout_bytes"] == 60_000_000
    assert end["stdout_sha256"] == truth.hexdigest()
    head, omitted, tail = read_output(keeper.spool(job))
    first = b"".join(data for _, data in head)
    last = b"".join(data for _, data in tail)
    assert first.startswith(b"%099d\n" % 0)
    assert last.endswith(b"%099d\n" % 599_999)
    assert len(first) >= 64 * 1024
    assert len(last) >= 120 * 1024
    assert omitted == end["omitted_bytes"] == 60_000_000 - len(first) - len(last)
    assert os.path.getsize(keeper.spool(job)) < 256 * 1024


def test_a_flood_does_not_grow_the_keeper(keeper, new_job):
    def peak_kb() -> int:
        with open(f"/proc/{keeper.process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

    keeper.link.run(new_job(), ["true"])
    before = peak_kb()
    end = keeper.link.run(new_job(), ["head", "-c", "60000000", "/dev/zero"])
    assert end["stdout_bytes"] == 60_000_000
    assert peak_kb() - before < 4096


def test_binary_output_is_kept_as_it_is(keeper, new_job):
    job = new_job()
    end = keeper.link.run(job, [sys.executable, "-c", "import os; os.write(1, bytes(range(256)) * 16)"])
    assert end["stdout_bytes"] == 4096
    assert keeper.output(job) == bytes(range(256)) * 16


def test_output_can_be_followed_while_it_comes_and_a_lapped_follower_is_told(keeper, new_job, tmp_path):
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    job = new_job()
    keeper.link.spawn(job, ["sh", "-c", f"echo one; cat {fifo}; head -c 1000000 /dev/zero; echo last"])
    keeper.await_output(job, 1)
    with SpoolReader(keeper.spool(job)) as spool:
        assert spool.follow(0) == ([(1, b"one\n")], 4, 0)
        fifo.write_bytes(b"two\n")
        end = keeper.link.event("finished", job)
        assert end["stdout_bytes"] == 1_000_013
        # First what follows without a gap, then, behind the gap, the rest: no byte is taken for another's.
        head, following, missed = spool.follow(4)
        assert missed == 0
        assert b"".join(data for _, data in head).startswith(b"two\n")
        assert following == 4 + sum(len(data) for _, data in head)
        tail, last, missed = spool.follow(following)
        assert missed == end["omitted_bytes"] > 0
        assert b"".join(data for _, data in tail).endswith(b"last\n")
        assert last == following + missed + sum(len(data) for _, data in tail) == 1_000_013


def test_stdin_is_what_was_given_and_empty_otherwise(keeper, new_job):
    given = os.urandom(64 * 1024)
    job, other = new_job(), new_job()
    end = keeper.link.run(job, ["cat"], stdin_b64=base64.b64encode(given).decode())
    assert end["stdout_sha256"] == hashlib.sha256(given).hexdigest()
    assert keeper.link.run(other, ["cat"])["stdout_bytes"] == 0


def test_a_command_that_never_reads_its_stdin_ends_all_the_same(keeper, new_job):
    end = keeper.link.run(new_job(), ["true"], stdin_b64=base64.b64encode(bytes(64 * 1024)).decode())
    assert end["state"] == "ok"


def test_dev_stdout_can_be_opened(keeper, new_job):
    job = new_job()
    assert keeper.link.run(job, ["sh", "-c", "echo there > /dev/stdout"])["state"] == "ok"
    assert keeper.output(job) == b"there\n"


@NEEDS_ROOT
def test_another_user_gets_its_ids_groups_home_and_may_open_dev_stdout(keeper, new_job):
    job = new_job()
    end = keeper.link.run(job, ["sh", "-c", "id -u; id -G; echo $HOME $USER > /dev/stdout"], user="nobody")
    entry = pwd.getpwnam("nobody")
    assert end["state"] == "ok"
    expected = f"{entry.pw_uid}\n{entry.pw_gid}\n{entry.pw_dir} nobody\n"
    assert keeper.output(job).decode() == expected


def test_the_environment_is_minimal_with_what_was_asked_for(keeper, new_job):
    job = new_job()
    keeper.link.run(job, ["env"], env={"COLOUR": "blue", "LANG": "C", "ODD": "\udcff"})
    found = dict(line.split(b"=", 1) for line in keeper.output(job).splitlines())
    assert found[b"COLOUR"] == b"blue"
    assert found[b"LANG"] == b"C"
    assert found[b"ODD"] == b"\xff"
    assert found[b"OPSCONSOLE_JOB"] == job.encode()
    assert set(found) <= {
        *(
            b"COLOUR",
            b"ODD",
            b"LANG",
            b"OPSCONSOLE_JOB",
            b"OPSCONSOLE_KEEPER",
            b"PATH",
            b"HOME",
            b"USER",
            b"LOGNAME",
            b"SHELL",
        ),
        *(b"PWD", b"OLDPWD", b"SHLVL", b"_"),
    }


def test_directory_umask_and_limits_are_applied(keeper, new_job, tmp_path):
    job = new_job()
    command = ["sh", "-c", "pwd; umask; ulimit -n; ulimit -c"]
    keeper.link.run(job, command, cwd=str(tmp_path), umask=0o077, limits={"nofile": 99, "core": 0})
    assert keeper.output(job).split() == [str(tmp_path).encode(), b"0077", b"99", b"0"]


def test_nothing_leaks_into_a_command(keeper, new_job):
    job = new_job()
    script = """
import os, signal
print(sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:4])
print([line.split()[1] for line in open("/proc/self/status") if line.startswith(("SigBlk", "SigIgn"))])
print(os.getsid(0) == os.getpid())
"""
    # Python itself ignores SIGPIPE and SIGXFSZ, so a shell is asked for the signals.
    keeper.link.run(job, ["sh", "-c", "ls /proc/$$/fd; exec grep -E 'Sig(Blk|Ign)' /proc/self/status"])
    words = keeper.output(job).split()
    assert words[:3] == [b"0", b"1", b"2"]
    # The shell's own descriptor for a script is 10 or more; a leak would be 3 or 4.
    assert not {b"3", b"4", b"5"} & set(words)
    assert words[-1] == words[-3] == b"0" * 16
    other = new_job()
    keeper.link.run(other, [sys.executable, "-c", script])
    assert keeper.output(other).splitlines()[0] == b"[0, 1, 2, 3]"
    assert keeper.output(other).splitlines()[2] == b"True"


@pytest.mark.parametrize(
    ("command", "code", "number"),
    [
        ({"argv": ["no-such-command"]}, codes.COMMAND_MISSING, 2),
        ({"argv": ["/no/such/command"]}, codes.COMMAND_MISSING, 2),
        ({"argv": ["/etc/passwd"]}, codes.COMMAND_NOT_EXECUTABLE, 13),
        ({"argv": ["true"], "cwd": "/no/such/directory"}, codes.WORKING_DIRECTORY, 2),
        ({"argv": ["true"], "user": "no-such-user"}, codes.RUN_AS_UNKNOWN, None),
        ({"argv": ["true", "x" * 500_000]}, codes.SPAWN_FAILED, 7),
    ],
)
def test_what_cannot_be_started_has_its_own_code_and_ran_nothing(keeper, new_job, command, code, number):
    end = keeper.link.run(new_job(), **command)
    assert (end["state"], end["code"], end["errno"], end["ran"]) == ("spawn_failed", code.code, number, "no")
    assert end["exit_status"] is None


def test_a_file_that_is_no_program_is_refused_by_the_kernel(keeper, new_job, tmp_path):
    script = tmp_path / "garbage"
    script.write_bytes(b"\x7fELF nonsense")
    script.chmod(0o755)
    end = keeper.link.run(new_job(), [str(script)])
    assert (end["state"], end["code"], end["errno"]) == ("spawn_failed", codes.SPAWN_FAILED.code, 8)


def test_switching_users_without_privilege_is_denied(any_keeper, new_job):
    if any_keeper.state.stat().st_uid == 0:
        pytest.skip("root may")
    end = any_keeper.link.run(new_job(), ["true"], user="root")
    assert (end["state"], end["code"], end["errno"]) == ("spawn_failed", codes.RUN_AS_DENIED.code, 1)


@NEEDS_ROOT
def test_a_command_that_outgrows_its_memory_is_oom(keeper, new_job):
    script = "print('x', flush=True); print(len(bytes(1) * 400_000_000))"
    end = keeper.link.run(new_job(), [sys.executable, "-c", script], limits={"memory": 64_000_000})
    if end["ev"] == "refused":
        pytest.skip("no memory control group can be made here")
    assert (end["state"], end["signal"], end["code"]) == ("oom", 9, codes.COMMAND_OOM.code)


def test_a_memory_limit_that_cannot_be_kept_is_refused_and_not_forgotten(start_keeper, new_job):
    keeper = start_keeper(driver="import agentd.keeper.cgroups as groups\ngroups._mounts = lambda: []")
    refusal = keeper.link.run(new_job(), ["true"], limits={"memory": 64_000_000})
    assert (refusal["ev"], refusal["code"]) == ("refused", codes.MEMORY_LIMIT.code)


@NEEDS_ROOT
def test_a_command_is_not_spared_by_the_oom_killer_because_the_agent_is(start_keeper, new_job):
    keeper = start_keeper(driver="open('/proc/self/oom_score_adj', 'w').write('-500')")
    with open(f"/proc/{keeper.process.pid}/oom_score_adj") as file:
        if file.read() != "-500\n":
            pytest.skip("nobody may be spared here")
    job = new_job()
    keeper.link.run(job, ["cat", "/proc/self/oom_score_adj"])
    assert keeper.output(job) == b"0\n"


def test_a_result_that_cannot_be_kept_for_later_goes_and_the_keeper_stays(keeper, new_job):
    first, second = new_job(), new_job()
    keeper.link.run(first, ["echo", "kept"])
    (keeper.state / "kept").rmdir()
    (keeper.state / "kept").write_text("no folder")
    keeper.link.send(op="forget", job=first)
    assert first not in keeper.link.hello()
    assert not os.path.exists(keeper.spool(first))
    assert keeper.link.run(second, ["true"])["state"] == "ok"
