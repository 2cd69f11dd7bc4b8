"""A killed process and a full disk: what was acknowledged is there, and nothing is half done."""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentd.store import Store

WRITES_UNTIL_KILLED = """
import os, sys, threading
from agentd.store import Store
from agentd.store.ops import InsertJob, InsertTarget

store = Store.open(sys.argv[1])
window = threading.Semaphore(64)

def acknowledged(number, future):
    future.result()
    os.write(1, f"{number}\\n".encode())
    window.release()

number = int(sys.argv[2])
while True:
    number += 1
    window.acquire()
    job = f"J{number:08d}"
    future = store.submit([
        InsertJob(id=job, operator="ann", act="exec", title="t", submitted_ms=1, expires_ms=2, deadline_ms=3,
                  source="", envelope=b"e" * 500, members=b""),
        *(InsertTarget(job=job, agent=f"A{each}", state="ok", received_ms=1) for each in range(3)),
    ])
    future.add_done_callback(lambda future, number=number: acknowledged(number, future))
"""


def test_what_was_acknowledged_before_a_kill_is_there_and_nothing_is_half_there(path: Path) -> None:
    acknowledged: set[int] = set()
    for life in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITES_UNTIL_KILLED, str(path), str(life * 1_000_000)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        printed = b""
        while printed.count(b"\n") < 200:
            ready, _, _ = select.select([child.stdout], [], [], 30)
            assert ready, "the child wrote nothing within 30 s"
            chunk = os.read(child.stdout.fileno(), 65536)
            assert chunk, "the child ended by itself"
            printed += chunk
        child.send_signal(signal.SIGKILL)
        printed += child.stdout.read()
        child.stdout.close()
        assert child.wait(30) == -signal.SIGKILL
        acknowledged |= {int(line) for line in printed.splitlines(keepends=True) if line.endswith(b"\n")}

        with Store.open(path) as store:
            kept = {int(job.id[1:]) for job in store.read.open_jobs()}
            assert acknowledged <= kept
            assert all(len(store.read.target_keys(f"J{number:08d}")) == 3 for number in kept)
            assert len(kept) - len(acknowledged) <= (life + 1) * 64, "more is there than was in flight"


FILLS_THE_DISK = """
import errno, json, os, resource, sys
from pathlib import Path
from agentd.store import Store
from agentd.store.ops import InsertOutput, SetMeta
from libstaragent.errors import StarAgentError

folder, how = Path(sys.argv[1]), sys.argv[2]
store = Store.open(folder / "store.db")
store.submit([SetMeta("before", b"1")]).result(20)
filler = folder / "filler"

fault = 0
if how == "limit":
    ceiling = (folder / "store.db-wal").stat().st_size + 300_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (ceiling, resource.RLIM_INFINITY))
    try:
        filler.write_bytes(bytes(ceiling + 1))
    except OSError as error:
        fault = error.errno
else:
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            fault = error.errno

refused, failed = None, 0
for number in range(100):
    answer = store.submit([SetMeta(f"{number}", b"1"), InsertOutput(b"%d" % number, os.urandom(100_000))])
    error = answer.exception(20)
    if error is not None:
        failed += 1
        refused = refused or {
            "code": error.code.code,
            "errno": error.errno,
            "meta": store.read.meta(f"{number}") is None,
            "output": store.read.output(b"%d" % number) is None,
        }
still = store.read.meta("before") == b"1"

if how == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
filler.unlink()
store.submit([SetMeta("after", b"2"), InsertOutput(b"after", bytes(100_000))]).result(20)
store.close()
with Store.open(folder / "store.db") as again:
    kept = [again.read.meta("before") == b"1", again.read.meta("after") == b"2", len(again.read.output(b"after"))]
    whole = all((again.read.meta(f"{n}") is None) == (again.read.output(b"%d" % n) is None) for n in range(100))
print(json.dumps({"fault": fault, "refused": refused, "failed": failed, "still": still, "kept": kept, "whole": whole}))
"""


def assert_survived(report: dict) -> None:
    assert report["refused"]["code"] == "SA-2740"
    assert report["refused"]["meta"] and report["refused"]["output"], "something of a failed submission stayed"
    assert report["failed"] >= 1
    assert report["still"]
    assert report["kept"] == [True, True, 100_000]
    assert report["whole"]


def test_a_write_that_the_os_refuses_fails_with_errno_and_the_store_works_again(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILLS_THE_DISK, str(tmp_path), "limit"], capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["fault"] == errno.EFBIG, "the limit did not bite"
    assert report["refused"]["errno"] in (errno.EIO, errno.ENOSPC)
    assert_survived(report)


def test_a_full_disk_fails_with_enospc_and_the_store_works_again(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    mount = f"mount -t tmpfs -o size=8m tmpfs {tmp_path}"
    if unshare is None or subprocess.run([unshare, "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("a small file system needs user namespaces, which this machine does not give")
    command = f'{mount} && exec "$@"'
    done = subprocess.run(
        [unshare, "-rm", "sh", "-c", command, "sh", sys.executable, "-c", FILLS_THE_DISK, str(tmp_path), "fill"],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["fault"] == errno.ENOSPC, "the disk was not full"
    assert report["refused"]["errno"] == errno.ENOSPC
    assert_survived(report)
