"""Commands that act on hosts, or sign what does."""

from __future__ import annotations

__all__ = ("add_acting",)

import argparse

from opsconsole.cli.tree.files import fetch_terms, put_terms
from opsconsole.cli.tree.planning import confirm_option, plan_options, reach_options
from opsconsole.cli.tree.shared import (
    Commands,
    command,
    fleet_options,
    gathering_options,
    json_option,
    positive,
    seconds,
    within_a_day,
)

_EXIT_STATUSES = """exit status: 0 all ok, 1 some failed, 2 some unreachable or lost, 3 unknown host or no target,
4 denied, 5 cancelled, 6 stopped by --max-failures, 64 usage"""


def _what_to_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-t", "--targets", metavar="EXPR", required=True, help="the hosts: `opsconsole help targets`")
    parser.add_argument("--shell", metavar="LINE", help="run LINE with /bin/sh instead of ARGV")
    parser.add_argument("--async", dest="background", action="store_true", help="print the job's id and leave")
    parser.add_argument("--timeout", type=seconds, metavar="S", help="seconds it may run (60; with --async 3600)")
    parser.add_argument("--ttl", type=within_a_day, metavar="S", help="seconds a host may take to begin (10; 3600)")
    parser.add_argument("--stdin", metavar="FILE", help="its input, at most 64 KiB; - is ours")
    parser.add_argument("--user", metavar="U", help="run as this user of the host")
    parser.add_argument("--cwd", metavar="DIR", help="run in this directory of the host")
    parser.add_argument("--env", metavar="K=V", action="append", default=[], help="set a variable; may be repeated")
    parser.add_argument("--signed", action="store_true", help="let each host sign its result, and judge what they say")
    parser.add_argument(
        "--reduce",
        metavar="REDUCER|CMD",
        help="count, sum, uniq-count, top-n:N, sort-merge in the rooms; or a command here: `opsconsole help output`",
    )
    parser.add_argument("--reduce-command", metavar="CMD", help="run CMD here, with the stdout of all hosts as input")
    plan_options(parser)
    parser.add_argument("words", metavar="ARGV", nargs="*", help="after --")


def add_acting(commands: Commands) -> None:
    execute = command(
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
    execute.add_argument(
        "--bind-boot", action="store_true", help="for one host with a wrong clock: its present boot counts instead"
    )
    execute.add_argument("--raw", action="store_true", help="one host's bytes as they are, without prefix")
    gathering_options(execute)
    reach_options(execute)
    json_option(execute)
    fleet_options(execute)

    sign = command(
        commands,
        "sign",
        "opsconsole.cli.sign",
        "sign an act and print it, to be sent by other means",
        description="Sign an act and print its JSON, to be sent by other means:\n\n"
        "  opsconsole sign exec -t 'web*' -- uptime |\n"
        "    curl --cacert ca.pem --json @- https://CENTRAL/v1/jobs",
    )
    acts = sign.add_subparsers(metavar="ACT", dest="act", required=True)
    sign_exec = acts.add_parser("exec", help="run a command (POST /v1/jobs)")
    _what_to_run(sign_exec)
    sign_put = acts.add_parser("put", help="place a file (POST and PUT /v1/blobs, then POST /v1/jobs)")
    put_terms(sign_put)
    sign_fetch = acts.add_parser("fetch", help="let hosts read a file (POST /v1/jobs, then `opsconsole fetch --job`)")
    fetch_terms(sign_fetch)
    for act in (sign_exec, sign_put, sign_fetch):
        confirm_option(act)
    for verb, help_ in (
        ("cancel", "stop a job"),
        ("pause", "begin on no further host of a planned job"),
        ("resume", "go on with a planned job"),
    ):
        about_job = acts.add_parser(verb, help=f"{help_} (POST /v1/jobs/JOB/{verb})")
        about_job.add_argument("job", metavar="JOB")
        fleet_options(about_job)
    sign_token = acts.add_parser("token", help="let hosts join (POST /v1/tokens)")
    _token_terms(sign_token)
    for act in (sign_exec, sign_put, sign_fetch, sign_token):
        fleet_options(act)

    token = command(commands, "token", "opsconsole.cli.token", "issue a token with which hosts can join")
    _token_terms(token)
    json_option(token)
    fleet_options(token)

    login = command(commands, "login", "opsconsole.cli.login", "log in for reads, for at most 12 hours")
    login.add_argument("--ttl", type=seconds, metavar="S", help="seconds it lasts (43200)")
    login.add_argument("--print", dest="show", action="store_true", help="print the bearer token, for curl")
    json_option(login)
    fleet_options(login)


def _token_terms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--room", default="main", help="the room that hosts join (main)")
    parser.add_argument("--uses", type=positive, default=1, metavar="N", help="how many hosts (1)")
    parser.add_argument("--ttl", type=seconds, default=3600.0, metavar="S", help="seconds it lasts (3600)")
    parser.add_argument("--name", default="*", metavar="PATTERN", help="names it admits, a shell pattern (*)")
    parser.add_argument("--network", action="append", default=[], metavar="CIDR", help="where hosts must come from")
    parser.add_argument("--label", action="append", default=[], metavar="K=V", help="a label that hosts get")
    parser.add_argument(
        "--replaces", action="store_true", help="the host of that exact --name joins anew; its old identity is refused"
    )
