"""Commands that move files."""

from __future__ import annotations

__all__ = ("add_files", "fetch_terms", "put_terms")

import argparse

from opsconsole.cli.tree.planning import plan_options, reach_options
from opsconsole.cli.tree.shared import Commands, command, fleet_options, json_option, positive, seconds


def add_files(commands: Commands) -> None:
    put = command(
        commands,
        "put",
        "opsconsole.cli.files",
        "place a file on hosts, whole or not at all",
        description="Place a file of at most 64 MiB on hosts, whole or not at all.\n\n"
        "  opsconsole put nginx.conf -t 'web[01-20]' --to /etc/nginx/nginx.conf --mode 0644\n"
        "  opsconsole put nginx.conf -t web --to /etc/nginx/nginx.conf --waves 1,10%,100% --max-failures 0 --yes=137",
    )
    put_terms(put)

    fetch = command(
        commands,
        "fetch",
        "opsconsole.cli.files",
        "bring a file from hosts",
        description="Bring a file of at most 64 MiB from hosts, to DIR/HOST/NAME.\n\n"
        "  opsconsole fetch -t 'web[01-20]' /var/log/nginx/error.log -o logs\n"
        "  opsconsole fetch --job JOB -o logs    goes on with a fetch that was cut, or left with --async",
    )
    fetch_terms(fetch, again=True)
    fetch.add_argument("-o", "--output", metavar="DIR", default=".", help="where to (here)")
    fetch.add_argument("--job", metavar="JOB", help="go on with this fetch")
    for verb in (put, fetch):
        reach_options(verb)
        json_option(verb)
        fleet_options(verb)


def put_terms(parser: argparse.ArgumentParser) -> None:
    """What is placed where, as what, and how it spreads."""
    parser.add_argument("file", metavar="FILE")
    _targets(parser)
    parser.add_argument(
        "--to", metavar="PATH", required=True, help="where on the host: an absolute path, without links"
    )
    parser.add_argument("--mode", type=_mode, metavar="MODE", help="permissions in octal (what a new file gets)")
    parser.add_argument("--owner", metavar="U", help="whose it is to be")
    parser.add_argument("--group", metavar="G", help="whose group's it is to be")
    parser.add_argument("--user", metavar="U", help="place it with the rights of this user of the host")
    plan_options(parser)


def fetch_terms(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """What is read where; with `again` the command may be about an earlier fetch instead."""
    parser.add_argument("path", metavar="PATH", nargs="?" if again else None, help="an absolute path, without links")
    _targets(parser, required=not again)
    parser.add_argument("--max-bytes", type=positive, metavar="N", help="refuse what is larger (67108864)")
    parser.add_argument("--user", metavar="U", help="read it with the rights of this user of the host")
    plan_options(parser)


def _targets(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument(
        "-t", "--targets", metavar="EXPR", required=required, help="the hosts: `opsconsole help targets`"
    )
    parser.add_argument("--async", dest="background", action="store_true", help="print the job's id and leave")
    parser.add_argument("--timeout", type=seconds, default=600.0, metavar="S", help="seconds it may take (600)")
    parser.add_argument(
        "--ttl", type=seconds, metavar="S", help="seconds a host may take to begin (10; with --async 3600)"
    )


def _mode(text: str) -> int:
    if not 0 < len(text) <= 5 or not set(text) <= set("01234567") or int(text, 8) > 0o7777:
        raise argparse.ArgumentTypeError(f"{text!r} is no mode in octal")
    return int(text, 8)
