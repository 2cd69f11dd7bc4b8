"""No secret of a running fleet is where somebody could see it: argv, environment, logs, or a file that others may read.

The secrets: the seeds of root and operator, enrolment tokens, session tokens, the private keys of CA, listeners, hosts.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from libstaragent.security.secrets import KeyFile

AGENTD = (sys.executable, "-m", "agentd")


def spellings(secret: bytes) -> set[bytes]:
    """How a secret could be written."""
    return {secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret).rstrip(b"=")}


def visible(process: psutil.Process) -> bytes:
    """What any user (argv) or the same user (environment) sees of a process."""
    folder = Path("/proc", str(process.pid))
    return (folder / "cmdline").read_bytes() + b"\0" + (folder / "environ").read_bytes()


def processes_of(site: Any) -> Iterator[psutil.Process]:
    for pid in (site.up_process.pid, *(keeper.pid for keeper in site.keepers.values())):
        process = psutil.Process(pid)
        yield process
        yield from process.children(recursive=True)


def test_no_secret_is_in_a_process_a_log_or_a_file_that_others_may_read(
    site: Any, gate: Callable[[str], Any], tmp_path: Path
) -> None:
    token, bearer = site.issue(), site.bearer()
    kept = json.loads((site.folder / "context.session").read_text())["token"]
    tokens = {token.encode(), site.said["token"].encode(), token.rpartition(".")[2].encode()}
    seeds = spellings(KeyFile(site.key_file).load()) | spellings(KeyFile(site.root_key_file).load())
    secrets = tokens | seeds | {bearer.encode(), kept.encode()}

    # Processes: those that stay, a command line that runs, the command itself, and a join that waits for an answer.
    begun = gate("begun")
    with site.start("exec", "-t", "web01", "--shell", f"echo $$ > {begun.path}; exec sleep 600") as console:
        command = psutil.Process(int(begun.heard()))
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            state = tmp_path / "never"
            joining = subprocess.Popen(
                [*AGENTD, "join", address, "--pin", site.said["fleet"], "--state", str(state)],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            assert joining.stdin is not None
            joining.stdin.write(token.encode() + b"\n")
            joining.stdin.close()
            connection, _ = silent.accept()  # it has its token, and waits for who answers here
            found = [*processes_of(site), psutil.Process(console.pid), command, psutil.Process(joining.pid)]
            assert len({process.pid for process in found}) >= 1 + 1 + 2 * 3 + 3
            for process in found:
                shown = visible(process)
                assert process.pid and not [secret for secret in secrets if secret in shown], process.cmdline()
            connection.close()
            assert joining.wait(30) == 1
        console.send_signal(2)
        console.communicate(timeout=30)
    assert not (state / "identity.json").exists()

    # Files: a secret is only in a file that its owner alone may read; tokens of enrolment are in none at all.
    places: dict[str, set[str]] = {}
    for path in site.folder.rglob("*"):
        if not path.is_file() or path.is_symlink():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        data = path.read_bytes()
        private = b"PRIVATE KEY" in data
        if private or any(secret in data for secret in seeds | {bearer.encode(), kept.encode()}):
            assert mode & 0o077 == 0, (path, oct(mode))
        assert not any(secret in data for secret in tokens), path
        for name, wanted in (("seed", seeds), ("bearer", {bearer.encode(), kept.encode()})):
            if any(secret in data for secret in wanted):
                places.setdefault(name, set()).add(path.name)
    assert places == {"seed": {"operator.key", "root.key"}, "bearer": {"context.session"}}
    for folder in (site.state, *(site.host_state(name) for name in ("web01", "web02", "db01"))):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_key_file_that_others_may_read_is_not_used(site: Any, tmp_path: Path) -> None:
    exposed = tmp_path / "key"
    exposed.write_bytes(site.key_file.read_bytes())
    os.chmod(exposed, 0o644)
    done = site.run("exec", "-t", "web01", "--key-file", str(exposed), "--", "true")
    # Reads go on with the login that is kept; the act needs the key.
    assert done.returncode == 4 and "SA-4380" in done.stderr
    secret = tmp_path / "token"
    secret.write_text(site.issue())
    os.chmod(secret, 0o644)
    done = site.agentd(
        "join", site.said["join"], "--pin", site.said["fleet"], "--token-file", str(secret), "--state",
        str(tmp_path / "s"),
    )  # fmt: skip
    assert done.returncode == 1 and "SA-4380" in done.stderr
    assert not (tmp_path / "s" / "identity.json").exists()
