"""The tree of commands and options, and their help.

Not here: doing any of it; each leaf names its module. Rules: argparse and nothing else is imported; what stands after
``--`` is the command to run and is never read as an option of ours; a usage error ends with 64 (sysexits' EX_USAGE).
"""

from __future__ import annotations

__all__ = ("USAGE", "build_parser", "parse")

import argparse
import sys
from typing import TYPE_CHECKING, Any, NoReturn

USAGE = 64

_EXIT_STATUSES = """exit status: 0 all ok, 1 some failed, 2 some unreachable or lost, 3 unknown host or no target,
4 denied, 5 cancelled, 64 usage"""


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        # An option that was cut short by mistake must not become another.
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        if message.startswith("unrecognized arguments"):
            message += f"\n  → see `{self.prog} --help`; put -- before a command to run, and quote a line for --shell"
        self.exit(USAGE, f"{self.prog}: SA-1031 command_line: {message}\n")


if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[Any]


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options; `command_words` is what stands after ``--``.

    :raises SystemExit: help was asked for (0), or the line cannot be read (64).
    """
    words: list[str] = []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, words = arguments[:at], arguments[at + 1 :]
    options = build_parser().parse_args(arguments)
    options.command_words = [*getattr(options, "words", []), *words]
    if words and not hasattr(options, "words"):
        build_parser().error("nothing may stand after -- here")
    return options


def build_parser() -> argparse.ArgumentParser:
    """The whole tree."""
    parser = _Parser(
        prog="opsconsole",
        description="Run anything on a fleet of machines. Without a command it opens the console.",
        epilog="`opsconsole help targets` says how hosts are named; `opsconsole explain CODE` what an error means.",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.set_defaults(module="")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    _looking(commands)
    _acting(commands)
    _setting_up(commands)
    return parser


def _command(
    commands: _Commands, name: str, module: str, help: str, *, description: str | None = None, epilog: str | None = None
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=help,
        description=description or help,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(module=module)
    return parser


def _fleet(parser: argparse.ArgumentParser, *, key: bool = True) -> None:
    group = parser.add_argument_group("which fleet")
    group.add_argument("--context", metavar="FILE", help="the context file (or environment OPSCONSOLE_CONTEXT)")
    if key:
        group.add_argument("--key-file", metavar="FILE", help="the operator's key, mode 0600, instead of the keyring")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a line on stdout")


def _looking(commands: _Commands) -> None:
    console = _command(commands, "console", "opsconsole.cli.console", "open the console on a fleet")
    console.add_argument("--read-only", action="store_true", help="look, do not act")
    console.add_argument("--theme", metavar="NAME", default="star-dark", help="one of themes/ (star-dark)")
    _fleet(console)

    hosts = _command(commands, "hosts", "opsconsole.cli.hosts", "list hosts, or those that EXPR means")
    hosts.add_argument("expression", metavar="EXPR", nargs="?")
    _json(hosts)
    _fleet(hosts)

    jobs = _command(commands, "jobs", "opsconsole.cli.jobs", "list jobs; show, read or cancel one")
    verbs = jobs.add_subparsers(metavar="VERB", dest="verb", required=True)
    listing = verbs.add_parser("list", help="the newest jobs")
    listing.add_argument("--limit", type=_positive, default=20, metavar="N", help="at most N (20)")
    show = verbs.add_parser("show", help="one job and how each of its targets stands")
    show.add_argument("job", metavar="JOB")
    output = verbs.add_parser("output", help="what is kept of a job's output")
    output.add_argument("job", metavar="JOB")
    output.add_argument("host", metavar="HOST", nargs="?")
    output.add_argument("--raw", action="store_true", help="one host's bytes as they were, without prefix")
    cancel = verbs.add_parser("cancel", help="stop a job on every host that has not ended")
    cancel.add_argument("job", metavar="JOB")
    for verb in (listing, show, output, cancel):
        _json(verb)
        _fleet(verb)

    explain = _command(commands, "explain", "opsconsole.cli.explain", "what an error code means and what to do")
    explain.add_argument("code", metavar="CODE", nargs="?")
    explain.add_argument("--all", action="store_true", help="list every code")
    _json(explain)

    topic = _command(commands, "help", "opsconsole.cli.topics", "read about a topic: targets, exit, output")
    topic.add_argument("topic", metavar="TOPIC", nargs="?")


def _what_to_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-t", "--targets", metavar="EXPR", required=True, help="the hosts: `opsconsole help targets`")
    parser.add_argument("--shell", metavar="LINE", help="run LINE with /bin/sh instead of ARGV")
    parser.add_argument("--async", dest="background", action="store_true", help="print the job's id and leave")
    parser.add_argument("--timeout", type=_seconds, metavar="S", help="seconds it may run (60; with --async 3600)")
    parser.add_argument("--ttl", type=_seconds, metavar="S", help="seconds a host may take to begin (10; 3600)")
    parser.add_argument("--stdin", metavar="FILE", help="its input, at most 64 KiB; - is ours")
    parser.add_argument("--user", metavar="U", help="run as this user of the host")
    parser.add_argument("--cwd", metavar="DIR", help="run in this directory of the host")
    parser.add_argument("--env", metavar="K=V", action="append", default=[], help="set a variable; may be repeated")
    parser.add_argument("words", metavar="ARGV", nargs="*", help="after --")


def _acting(commands: _Commands) -> None:
    execute = _command(
        commands,
        "exec",
        "opsconsole.cli.execute",
        "run a command on hosts and show its output as it comes",
        description="Run a command on hosts and show its output as it comes.\n\n"
        "  opsconsole exec -t 'web[01-20]' -- systemctl is-active nginx\n"
        "  opsconsole exec -t web01 --shell 'last | cut -d\" \" -f1 | sort | uniq -c'",
        epilog=_EXIT_STATUSES,
    )
    _what_to_run(execute)
    execute.add_argument("--raw", action="store_true", help="one host's bytes as they are, without prefix")
    execute.add_argument("--yes", action="store_true", help="do not ask before running on many hosts")
    _json(execute)
    _fleet(execute)

    sign = _command(
        commands,
        "sign",
        "opsconsole.cli.sign",
        "sign an act and print it, to be sent by other means",
        description="Sign an act and print its JSON, to be sent by other means:\n\n"
        "  opsconsole sign exec -t web -- uptime |\n"
        "    curl --cacert ca.pem --json @- https://CENTRAL/v1/jobs",
    )
    acts = sign.add_subparsers(metavar="ACT", dest="act", required=True)
    sign_exec = acts.add_parser("exec", help="run a command (POST /v1/jobs)")
    _what_to_run(sign_exec)
    sign_cancel = acts.add_parser("cancel", help="stop a job (POST /v1/jobs/JOB/cancel)")
    sign_cancel.add_argument("job", metavar="JOB")
    sign_token = acts.add_parser("token", help="let hosts join (POST /v1/tokens)")
    _token_terms(sign_token)
    for act in (sign_exec, sign_cancel, sign_token):
        _fleet(act)

    token = _command(commands, "token", "opsconsole.cli.token", "issue a token with which hosts can join")
    _token_terms(token)
    _json(token)
    _fleet(token)

    login = _command(commands, "login", "opsconsole.cli.login", "log in for reads, for at most 12 hours")
    login.add_argument("--ttl", type=_seconds, metavar="S", help="seconds it lasts (43200)")
    login.add_argument("--print", dest="show", action="store_true", help="print the bearer token, for curl")
    _json(login)
    _fleet(login)


def _token_terms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--room", default="main", help="the room that hosts join (main)")
    parser.add_argument("--uses", type=_positive, default=1, metavar="N", help="how many hosts (1)")
    parser.add_argument("--ttl", type=_seconds, default=3600.0, metavar="S", help="seconds it lasts (3600)")
    parser.add_argument("--name", default="*", metavar="PATTERN", help="names it admits, a shell pattern (*)")
    parser.add_argument("--network", action="append", default=[], metavar="CIDR", help="where hosts must come from")
    parser.add_argument("--label", action="append", default=[], metavar="K=V", help="a label that hosts get")


def _setting_up(commands: _Commands) -> None:
    up = _command(commands, "up", "opsconsole.cli.up", "start a fleet's control plane on this machine")
    up.add_argument("--state", metavar="DIR", help="where it keeps its state (the user's data folder)")
    up.add_argument(
        "--listen", metavar="HOST:PORT", default="127.0.0.1:7443", help="the API's address (127.0.0.1:7443)"
    )
    up.add_argument(
        "--room-listen", metavar="HOST:PORT", default="127.0.0.1:7444", help="the agents' address (127.0.0.1:7444)"
    )
    up.add_argument("--advertise", metavar="NAME,…", default="", help="names under which hosts reach this machine")
    up.add_argument("--operator", metavar="NAME", default="", help="the first operator's name (your login)")
    up.add_argument("--root-key-file", metavar="FILE", help="the fleet's root key, mode 0600, instead of the keyring")
    up.add_argument("--detach", action="store_true", help="leave it running and return")
    _json(up)
    _fleet(up)

    demo = _command(commands, "demo", "opsconsole.cli.demo", "try it: a fleet of 8 agents on this machine, for a while")
    demo.add_argument("--script", action="store_true", help="as plain lines, without the console")
    demo.add_argument("--hosts", type=_positive, default=8, metavar="N", help="how many agents (8)")
    _json(demo)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.001 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds")
    return value
