"""`agentd join` and `agentd renew` on the command line."""

from __future__ import annotations

__all__ = ("run_join", "run_renew")

import argparse
import sys
from getpass import getpass
from pathlib import Path

from agentd.agent import facts
from agentd.agent.cli import USAGE_STATUS, default_state_dir, fail, state_argument
from agentd.enrol import host
from libstaragent.errors import StarAgentError
from libstaragent.security.private_file import read_private


def run_join(arguments: list[str]) -> int:
    """``agentd join ADDRESS --pin FINGERPRINT``: the token comes on stdin, at a prompt or from a file, never in
    argv.
    """
    parser = argparse.ArgumentParser(prog="agentd join", description="Make this host a member of a fleet.")
    parser.add_argument("address", metavar="ADDRESS", help="the control plane's API, HOST:PORT")
    parser.add_argument(
        "--pin", required=True, help="fingerprint of the fleet's root key, as `opsconsole up` prints it"
    )
    parser.add_argument("--token-file", help="file of mode 0600 that holds the enrolment token (default: stdin)")
    parser.add_argument("--name", help="what the host is called (default: its hostname)")
    parser.add_argument(
        "--anew", action="store_true", help="give up the identity that is in the state directory, and set it aside"
    )
    parser.add_argument("--state", help="where the agent keeps itself", default=default_state_dir())
    try:
        options = parser.parse_args(arguments)
    except SystemExit as leaving:
        return USAGE_STATUS if leaving.code else 0
    try:
        token = _token(options.token_file)
        name = options.name or facts.hostname()
        identity = host.join(
            Path(options.state),
            options.address.removeprefix("https://").rstrip("/"),  # as `opsconsole up` prints the API, too
            pin=options.pin.lower(),
            token=token,
            name=name,
            anew=options.anew,
        )
    except StarAgentError as error:
        return fail(error)
    hint = _state_hint(options)
    sys.stdout.write(f"{identity.name} joined room {identity.room} as {identity.agent}; now run: agentd agent{hint}\n")
    return 0


def run_renew(arguments: list[str]) -> int:
    """``agentd renew prepare|install --state DIR``: started by the agent itself."""
    step, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    directory = state_argument(rest)
    if step not in ("prepare", "install") or directory is None:
        sys.stderr.write("usage: agentd renew prepare|install --state DIR\n")
        return USAGE_STATUS
    try:
        (host.prepare if step == "prepare" else host.install)(Path(directory))
    except StarAgentError as error:
        return fail(error)
    return 0


def _state_hint(options: argparse.Namespace) -> str:
    state = str(options.state)
    return "" if state == default_state_dir() else f" --state {state}"


def _token(path: str | None) -> str:
    if path is not None:
        return read_private(Path(path)).decode("ascii", "replace").strip()
    if sys.stdin.isatty():
        return getpass("enrolment token: ").strip()
    return sys.stdin.readline(4096).strip()
