"""Commands on rules and operators."""

from __future__ import annotations

__all__ = ("add_ruling", "root_option")

import argparse

from opsconsole.cli.tree.shared import Commands, command, fleet_options, json_option, seconds


def root_option(parser: argparse.ArgumentParser) -> None:
    """Whose key signs the roster, where it is not the operator's."""
    parser.add_argument("--root-key-file", metavar="FILE", help="sign with the root's key: when the roster has expired")


def add_ruling(commands: Commands) -> None:
    policy = command(
        commands,
        "policy",
        "opsconsole.cli.policy",
        "who may do what: check, try, explain, compare and apply the rules",
        description="Who may do what. Rules are TOML (docs/rules.md) and become part of the signed roster.",
    )
    verbs = policy.add_subparsers(metavar="VERB", dest="verb", required=True)
    check = verbs.add_parser("check", help="read a policy file and say what is wrong or hardly meant")
    check.add_argument("file", metavar="FILE")
    test = verbs.add_parser("test", help="try the cases of a policy file; 1 if one does not come out as it expects")
    test.add_argument("file", metavar="FILE")
    explain = verbs.add_parser("explain", help="whether an operator may run a command there, and what each rule says")
    explain.add_argument("operator", metavar="OPERATOR")
    explain.add_argument("targets", metavar="TARGETS")
    explain.add_argument("--shell", metavar="LINE", help="a line for /bin/sh instead of ARGV")
    explain.add_argument("--put", metavar="PATH", help="placing this file instead of running ARGV")
    explain.add_argument("--fetch", metavar="PATH", help="reading this file instead of running ARGV")
    explain.add_argument("--user", metavar="U", help="as this user of the host")
    explain.add_argument("--timeout", type=seconds, default=60.0, metavar="S", help="seconds it may run (60)")
    explain.add_argument("--source", metavar="ADDRESS", help="the address that it comes from")
    explain.add_argument("words", metavar="ARGV", nargs="*", help="after --")
    diff = verbs.add_parser("diff", help="what changes from one file to another, and who gains or loses what")
    diff.add_argument("old", metavar="OLD", help="a file, or - for what the fleet has")
    diff.add_argument("new", metavar="NEW")
    apply = verbs.add_parser("apply", help="sign a policy file into the next roster revision, and send it")
    apply.add_argument("file", metavar="FILE")
    apply.add_argument("--yes", action="store_true", help="do not ask")
    show = verbs.add_parser("show", help="the rules of the fleet as a policy file")
    renew = verbs.add_parser("renew", help="sign the roster anew as it is, for another 395 days")
    for verb in (apply, renew):
        root_option(verb)
    for verb in (check, test):
        json_option(verb)
    for verb in (explain, diff, apply, show, renew):
        json_option(verb)
        fleet_options(verb)

    operator = command(commands, "operator", "opsconsole.cli.operator", "who may sign: list, add or revoke operators")
    verbs = operator.add_subparsers(metavar="VERB", dest="verb", required=True)
    listing = verbs.add_parser("list", help="the operators of the roster")
    add = verbs.add_parser("add", help="let the holder of a key be an operator")
    add.add_argument("name", metavar="NAME")
    add.add_argument("key", metavar="KEY", help="what `opsconsole operator key` printed on the operator's machine")
    add.add_argument(
        "--role",
        action="append",
        default=[],
        metavar="ROLE",
        help="admin, or one that rules name (operator, read)",
    )
    revoke = verbs.add_parser("revoke", help="take an operator out of the roster")
    revoke.add_argument("name", metavar="NAME")
    revoke.add_argument("--yes", action="store_true", help="do not ask")
    key = verbs.add_parser("key", help="on the operator's own machine: make a key, and print what an admin adds")
    key.add_argument("name", metavar="NAME")
    for verb in (add, revoke):
        root_option(verb)
    for verb in (listing, add, revoke, key):
        json_option(verb)
        fleet_options(verb)
