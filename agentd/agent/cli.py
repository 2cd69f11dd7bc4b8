"""`agentd agent`, `agentd join` and `agentd renew` on the command line. Imports nothing before it knows which: the
keeper, which is what `agentd agent` becomes first, must stay small.
"""

from __future__ import annotations

__all__ = ("run_agent", "run_join", "run_renew")

import os
import sys

USAGE_STATUS = 64


def run_agent(arguments: list[str]) -> int:
    """``agentd agent [--state DIR]``: the keeper, and under it the agent."""
    directory = _state_argument(arguments)
    if directory is None:
        return USAGE_STATUS
    from agentd.keeper.main import run
    from libstaragent.errors import StarAgentError

    if not os.path.exists(os.path.join(directory, "identity.json")):
        from libstaragent.codes import NOT_JOINED

        return _fail(NOT_JOINED.error(directory))
    try:
        return run(directory, lambda: _be_agent(directory))
    except StarAgentError as error:
        return _fail(error)


def run_join(arguments: list[str]) -> int:
    """``agentd join ADDRESS --pin FINGERPRINT``: the token comes on stdin, at a prompt or from a file, never in
    argv.
    """
    import argparse

    from agentd.agent.state import default_state_dir
    from libstaragent.errors import StarAgentError

    parser = argparse.ArgumentParser(prog="agentd join", description="Make this host a member of a fleet.")
    parser.add_argument("address", metavar="ADDRESS", help="the control plane's API, HOST:PORT")
    parser.add_argument(
        "--pin", required=True, help="fingerprint of the fleet's root key, as `opsconsole up` prints it"
    )
    parser.add_argument("--token-file", help="file of mode 0600 that holds the enrolment token (default: stdin)")
    parser.add_argument("--name", help="what the host is called (default: its hostname)")
    parser.add_argument("--state", help="where the agent keeps itself", default=str(default_state_dir()))
    try:
        options = parser.parse_args(arguments)
    except SystemExit as leaving:
        return USAGE_STATUS if leaving.code else 0

    from pathlib import Path

    from agentd.agent import facts
    from agentd.agent.enrol import join

    try:
        token = _token(options.token_file)
        name = options.name or facts.hostname()
        identity = join(Path(options.state), options.address, pin=options.pin.lower(), token=token, name=name)
    except StarAgentError as error:
        return _fail(error)
    hint = _state_hint(options)
    sys.stdout.write(f"{identity.name} joined room {identity.room} as {identity.agent}; now run: agentd agent{hint}\n")
    return 0


def run_renew(arguments: list[str]) -> int:
    """``agentd renew prepare|install --state DIR``: started by the agent itself."""
    step, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    directory = _state_argument(rest)
    if step not in ("prepare", "install") or directory is None:
        sys.stderr.write("usage: agentd renew prepare|install --state DIR\n")
        return USAGE_STATUS
    from pathlib import Path

    from agentd.agent import enrol
    from libstaragent.errors import StarAgentError

    try:
        (enrol.prepare if step == "prepare" else enrol.install)(Path(directory))
    except StarAgentError as error:
        return _fail(error)
    return 0


def _be_agent(directory: str) -> None:
    from pathlib import Path

    from agentd.agent.main import run
    from libstaragent.errors import StarAgentError

    try:
        run(Path(directory))
    except StarAgentError as error:
        sys.exit(_fail(error))


def _state_argument(arguments: list[str]) -> str | None:
    """The directory; argparse alone would cost the keeper a megabyte."""
    if not arguments:
        from agentd.agent.state import default_state_dir

        return str(default_state_dir())
    if len(arguments) == 2 and arguments[0] == "--state":
        return arguments[1]
    if len(arguments) == 1 and arguments[0].startswith("--state="):
        return arguments[0].partition("=")[2]
    wanted_help = arguments in (["-h"], ["--help"])
    (sys.stdout if wanted_help else sys.stderr).write("usage: agentd agent [--state DIR]\n")
    if wanted_help:
        sys.exit(0)
    return None


def _state_hint(options: object) -> str:
    from agentd.agent.state import default_state_dir

    state = getattr(options, "state", "")
    return "" if state == str(default_state_dir()) else f" --state {state}"


def _token(path: str | None) -> str:
    if path is not None:
        from pathlib import Path

        from libstaragent.security.private_file import read_private

        return read_private(Path(path)).decode("ascii", "replace").strip()
    if sys.stdin.isatty():
        from getpass import getpass

        return getpass("enrolment token: ").strip()
    return sys.stdin.readline(4096).strip()


def _fail(error: Exception) -> int:
    from libstaragent.errors import StarAgentError

    assert isinstance(error, StarAgentError)
    sys.stderr.write(f"agentd: {error}\n  → {error.code.remedy}\n")
    return 1
