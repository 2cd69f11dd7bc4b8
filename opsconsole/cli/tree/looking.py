"""Commands that look."""

from __future__ import annotations

__all__ = ("add_looking",)

from opsconsole.cli.tree.ruling import root_option
from opsconsole.cli.tree.shared import Commands, command, fleet_options, gathering_options, json_option, positive


def add_looking(commands: Commands) -> None:
    console = command(commands, "console", "opsconsole.cli.console", "open the console on a fleet")
    console.add_argument("--read-only", action="store_true", help="look, do not act")
    console.add_argument("--theme", metavar="NAME", default="star-dark", help="one of themes/ (star-dark)")
    fleet_options(console)

    hosts = command(
        commands,
        "hosts",
        "opsconsole.cli.hosts",
        "list hosts, or those that EXPR means; resolve a cloned host, revoke one that leaves",
        description="List hosts, or those that EXPR means.\n\n"
        "  opsconsole hosts 'web*'\n"
        "  opsconsole hosts resolve NAME [--keep NONCE]     of two machines with one identity, keep one; the other is\n"
        "                                                   refused from then on and must join anew (role admin)\n"
        "  opsconsole hosts revoke NAME                     put it out of the fleet for good (role admin)",
    )
    hosts.add_argument("what", metavar="EXPR | resolve NAME | revoke NAME", nargs="*")
    hosts.add_argument(
        "--keep", metavar="NONCE", default="newest", help="resolve: the one that goes on (newest: first seen last)"
    )
    hosts.add_argument("--yes", action="store_true", help="revoke: do not ask")
    root_option(hosts)
    json_option(hosts)
    fleet_options(hosts)

    jobs = command(commands, "jobs", "opsconsole.cli.jobs", "list jobs; show, read, cancel or pause one")
    verbs = jobs.add_subparsers(metavar="VERB", dest="verb", required=True)
    listing = verbs.add_parser("list", help="the newest jobs")
    listing.add_argument("--limit", type=positive, default=20, metavar="N", help="at most N (20)")
    show = verbs.add_parser("show", help="one job and how each of its targets stands")
    show.add_argument("job", metavar="JOB")
    show.add_argument("--signed", action="store_true", help="every host was to sign: fail where one did not")
    output = verbs.add_parser("output", help="what is kept of a job's output")
    output.add_argument("job", metavar="JOB")
    output.add_argument("host", metavar="HOST", nargs="?")
    output.add_argument("--full", action="store_true", help="all that HOST itself still keeps, not what came back")
    output.add_argument("-o", "--output", metavar="FILE", help="with --full: the bytes of both streams into FILE")
    output.add_argument("--raw", action="store_true", help="one host's bytes as they were, without prefix")
    gathering_options(output)
    output.add_argument("--reduce-command", metavar="CMD", help="run CMD here, with the stdout of all hosts as input")
    output.set_defaults(reduce=None, background=False)
    reduced = verbs.add_parser("reduced", help="what the rooms have made of the outputs, of a job with --reduce")
    reduced.add_argument("job", metavar="JOB")
    cancel = verbs.add_parser("cancel", help="stop a job on every host that has not ended")
    cancel.add_argument("job", metavar="JOB")
    pause = verbs.add_parser("pause", help="begin on no further host of a planned job; what runs goes on")
    pause.add_argument("job", metavar="JOB")
    resume = verbs.add_parser("resume", help="go on with a job that is paused or waits at the end of a wave")
    resume.add_argument("job", metavar="JOB")
    for verb in (listing, show, output, reduced, cancel, pause, resume):
        json_option(verb)
        fleet_options(verb)

    explain = command(commands, "explain", "opsconsole.cli.explain", "what an error code means and what to do")
    explain.add_argument("code", metavar="CODE", nargs="?")
    explain.add_argument("--all", action="store_true", help="list every code")
    json_option(explain)

    topic = command(commands, "help", "opsconsole.cli.topics", "read about a topic: targets, exit, output")
    topic.add_argument("topic", metavar="TOPIC", nargs="?")
