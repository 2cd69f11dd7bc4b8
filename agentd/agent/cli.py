"""`agentd agent` on the command line. Imports next to nothing: this process becomes the keeper, which stays small."""

from __future__ import annotations

__all__ = ("default_state_dir", "fail", "run_agent", "state_argument")

import os
import sys

USAGE_STATUS = 64


def run_agent(arguments: list[str]) -> int:
    """``agentd agent [--state DIR]``: the keeper, and under it the agent."""
    directory = state_argument(arguments)
    if directory is None:
        return USAGE_STATUS
    from agentd.keeper.main import run
    from libstaragent.errors import StarAgentError

    if not os.path.exists(os.path.join(directory, "identity.json")):
        from libstaragent.codes import NOT_JOINED

        return fail(NOT_JOINED.error(directory))
    try:
        return run(directory, lambda: _be_agent(directory))
    except StarAgentError as error:
        return fail(error)


def default_state_dir() -> str:
    """Where the agent keeps itself: /var/lib for root, the user's state directory otherwise."""
    if os.name == "posix" and os.geteuid() == 0:
        return "/var/lib/opsconsole/agent"
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "opsconsole", "agent")


def _be_agent(directory: str) -> None:
    from pathlib import Path

    from agentd.agent.main import run
    from libstaragent.errors import StarAgentError

    try:
        run(Path(directory))
    except StarAgentError as error:
        sys.exit(fail(error))


def state_argument(arguments: list[str]) -> str | None:
    """The directory; argparse alone would cost the keeper a megabyte."""
    if not arguments:
        return default_state_dir()
    if len(arguments) == 2 and arguments[0] == "--state":
        return arguments[1]
    if len(arguments) == 1 and arguments[0].startswith("--state="):
        return arguments[0].partition("=")[2]
    wanted_help = arguments in (["-h"], ["--help"])
    (sys.stdout if wanted_help else sys.stderr).write("usage: agentd agent [--state DIR]\n")
    if wanted_help:
        sys.exit(0)
    return None


def fail(error: Exception) -> int:
    """Say a coded error with its remedy; the exit status."""
    from libstaragent.errors import StarAgentError

    assert isinstance(error, StarAgentError)
    sys.stderr.write(f"agentd: {error}\n  → {error.code.remedy}\n")
    return 1
