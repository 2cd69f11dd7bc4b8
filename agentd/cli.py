"""The control plane's commands: `agentd init`, `agentd all`; and the help that names the agent's.

Rules: stdout is data (one line of JSON), stderr is for people; exit status 0 done, 1 a coded error, 64 usage.
"""

from __future__ import annotations

__all__ = ("run",)

import argparse
import importlib.metadata
import sys
from pathlib import Path

from libstaragent.errors import StarAgentError

USAGE_STATUS = 64
DEFAULT_API = "127.0.0.1:7443"
DEFAULT_ROOM = "127.0.0.1:7444"
MAX_PORT = 65535

_AGENT_HELP = """commands on a managed host:
  join ADDRESS --pin FINGERPRINT   make this host a member of a fleet
  agent                            run the agent
"""


def run(words: list[str]) -> int:
    """One command of the control plane; the exit status."""
    parser = _parser()
    try:
        options = parser.parse_args(words)
    except SystemExit as leaving:
        return USAGE_STATUS if leaving.code else 0
    try:
        if options.command == "init":
            return _init(options)
        if options.command == "all":
            return _all(options)
    except StarAgentError as error:
        sys.stderr.write(f"agentd: {error}\n  → {error.code.remedy}\n")
        return 1
    parser.print_help(sys.stderr)
    return USAGE_STATUS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agentd",
        description="The services of opsconsole.",
        epilog=_AGENT_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"agentd {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands of the control plane")
    init = commands.add_parser("init", help="make the state directory and the CA; prints the CA's digest as JSON")
    init.add_argument("--state", required=True, type=Path, metavar="DIR", help="where the control plane keeps itself")
    init.add_argument(
        "--advertise",
        action="append",
        default=[],
        metavar="NAME,…",
        help="names and addresses under which this machine is reached",
    )
    init.add_argument("--fleet", default="", metavar="FINGERPRINT", help="goes into the CA's name")
    everything = commands.add_parser("all", help="run central, a room and the store in one process")
    everything.add_argument("--state", required=True, type=Path, metavar="DIR", help="made by `agentd init`")
    everything.add_argument(
        "--listen-api", type=_listen, default=DEFAULT_API, metavar="HOST:PORT", help=f"HTTPS API ({DEFAULT_API})"
    )
    everything.add_argument(
        "--listen-room", type=_listen, default=DEFAULT_ROOM, metavar="HOST:PORT", help=f"for agents ({DEFAULT_ROOM})"
    )
    everything.add_argument("--room", default="main", type=_room, metavar="NAME", help="the room's name (main)")
    everything.add_argument(
        "--roster",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a signed roster to take, as JSON; the first start needs one",
    )
    return parser


def _init(options: argparse.Namespace) -> int:
    import json

    from agentd.bootstrap import prepare
    from agentd.central.service import wall_ms

    names = [name.strip() for given in options.advertise for name in given.split(",")]
    state = prepare(options.state, advertise=names, fleet=options.fleet, now_ms=wall_ms())
    said = {"state": str(state.directory), "ca_sha256": state.ca_sha256.hex(), "names": list(state.names)}
    sys.stdout.write(json.dumps(said) + "\n")
    return 0


def _all(options: argparse.Namespace) -> int:
    from agentd.all import Options
    from agentd.all import run as run_all

    run_all(
        Options(
            state=options.state,
            listen_api=options.listen_api,
            listen_room=options.listen_room,
            room=options.room,
            rosters=options.roster,
        ),
        version=_version(),
    )
    return 0


def _listen(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _room(text: str) -> str:
    from libstaragent.model.ids import is_room_name

    if not is_room_name(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a room's name")
    return text


def _version() -> str:
    try:
        return importlib.metadata.version("opsconsole")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"
