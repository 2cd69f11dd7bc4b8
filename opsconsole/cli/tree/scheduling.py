"""Commands on schedules."""

from __future__ import annotations

__all__ = ("add_scheduling", "span")

import argparse

from opsconsole.cli.tree.planning import reach_options
from opsconsole.cli.tree.shared import Commands, command, fleet_options, json_option, seconds

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add_scheduling(commands: Commands) -> None:
    schedule = command(
        commands, "schedule", "opsconsole.cli.schedule", "let hosts run a command by themselves when it is due"
    )
    verbs = schedule.add_subparsers(metavar="VERB", dest="verb", required=True)
    add = verbs.add_parser(
        "add",
        help="put a schedule on hosts",
        description="Put a schedule on the hosts that EXPR means now; each runs it when it is due, also cut off.\n\n"
        "  opsconsole schedule add logs -t 'web*' --cron '30 3 * * *' --zone Europe/Berlin -- logrotate -f all\n"
        "  opsconsole schedule add beat -t web01 --every 5m -- uptime",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add.add_argument("name", metavar="NAME")
    add.add_argument("-t", "--targets", metavar="EXPR", required=True, help="the hosts: `opsconsole help targets`")
    when = add.add_mutually_exclusive_group(required=True)
    when.add_argument("--at", metavar="TIME", help="once: 2026-01-31T03:00 here, or +90s, +15m, +2h, +3d from now")
    when.add_argument("--every", type=span, metavar="SPAN", help="from now on each 90s, 15m, 2h or 3d")
    when.add_argument("--cron", metavar="FIELDS", help="minute hour day month weekday, numbers only")
    when.add_argument("--at-boot", action="store_true", help="once after each boot of the host")
    add.add_argument("--zone", default="UTC", metavar="ZONE", help="the time zone of --cron (UTC)")
    add.add_argument("--until", metavar="TIME", help="when it ends, as --at (in a year)")
    add.add_argument("--shell", metavar="LINE", help="run LINE with /bin/sh instead of ARGV")
    add.add_argument("--timeout", type=seconds, metavar="S", help="seconds a firing may run (60)")
    add.add_argument("--ttl", type=seconds, metavar="S", help="seconds a host may take to take it (3600)")
    add.add_argument("--user", metavar="U", help="run as this user of the host")
    add.add_argument("--cwd", metavar="DIR", help="run in this directory of the host")
    add.add_argument("--env", metavar="K=V", action="append", default=[], help="set a variable; may be repeated")
    add.add_argument("--signed", action="store_true", help="let each host sign the results")
    add.add_argument("words", metavar="ARGV", nargs="*", help="after --")
    reach_options(add)
    listing = verbs.add_parser("list", help="the schedules, when each is due, and how it ended last")
    listing.add_argument("--all", action="store_true", help="with those that fire no more")
    show = verbs.add_parser("show", help="one schedule, and how it stands on each host")
    pause = verbs.add_parser("pause", help="let it rest: what is due meanwhile does not run")
    resume = verbs.add_parser("resume", help="let it go on")
    remove = verbs.add_parser("remove", help="take it from its hosts; what runs goes on")
    for verb in (show, pause, resume, remove):
        verb.add_argument("name", metavar="NAME")
    for verb in (add, listing, show, pause, resume, remove):
        json_option(verb)
        fleet_options(verb)


def span(text: str) -> float:
    """A span of time in seconds."""
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.isascii() and number.isdigit() and 0 < len(number) < 10:
        return float(int(number) * _UNITS[unit])
    raise argparse.ArgumentTypeError(f"{text!r} is not a span such as 90s, 15m, 2h or 3d")
