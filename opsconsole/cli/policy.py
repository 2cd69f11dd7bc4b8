"""`opsconsole policy check | test | explain | diff | apply | show | renew`: who may do what.

Not here: reading, judging and signing rules (`libstaragent.security.policy`, `libstaragent.client.administration`).
Rules: a file that cannot be read changes nothing; nothing is signed before its cases hold and, on a terminal, the
change was shown and confirmed.
"""

from __future__ import annotations

__all__ = ("run",)

import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from opsconsole.cli.failure import narrate, usage
from opsconsole.cli.lines_json import json_line
from opsconsole.sanitize import safe

if TYPE_CHECKING:
    from libstaragent.client.fleet import Fleet
    from libstaragent.security.acts import Act
    from libstaragent.security.policy.cases import HostSeen
    from libstaragent.security.policy.difference import Difference
    from libstaragent.security.policy.reader import PolicyFile

CASES_FAILED = 1


def run(options: Namespace) -> int:
    """Runs the command line; the exit status."""
    if options.verb in ("check", "test"):
        return (_check if options.verb == "check" else _test)(options)
    import anyio

    return anyio.run(_VERBS[options.verb], options)


def _check(options: Namespace) -> int:
    from libstaragent.security.policy.lint import warnings_of

    policy = _read(options.file)
    warnings = warnings_of(policy)
    if options.json:
        sys.stdout.write(json_line("policy", rules=[rule.name for rule in policy.rules], warnings=warnings))
    else:
        for warning in warnings:
            narrate(f"warning: {safe(warning)}")
        sys.stdout.write(
            f"{options.file}: {_counted(len(policy.rules), 'rule')}, {_counted(len(policy.cases), 'case')}\n"
        )
    return 0


def _test(options: Namespace) -> int:
    from libstaragent.security.policy.cases import judge_case
    from libstaragent.security.policy.decision import Policy

    policy = _read(options.file)
    rules = Policy(policy.rules, policy.labels, policy.groups)
    failed = 0
    for case in policy.cases:
        outcome = judge_case(rules, case, policy.hosts, now_ms=_now_ms())
        failed += not outcome.holds
        verdict = outcome.verdict
        said = "allow" if verdict.code is None else "deny"
        if options.json:
            sys.stdout.write(
                json_line(
                    "case",
                    place=case.place,
                    name=case.name,
                    holds=outcome.holds,
                    verdict=said,
                    rule=verdict.rule,
                    detail=verdict.detail,
                )
            )
            continue
        mark = "ok  " if outcome.holds else "FAIL"
        by = f"rule {verdict.rule}" if verdict.rule else "no rule"
        text = f"{mark} {case.place}: {case.name or case.operator + ' on ' + case.targets}: {said}, {by}"
        if not outcome.holds:
            wanted = ("allow" if case.expect_allow else "deny") + (f" by rule {case.rule}" if case.rule else "")
            text += f"; expected {wanted}" + (f"; {verdict.detail}" if verdict.detail else "")
        sys.stdout.write(safe(text) + "\n")
    narrate(f"{_counted(len(policy.cases), 'case')}, {failed} failed")
    return CASES_FAILED if failed else 0


async def _explain(options: Namespace) -> int:
    from opsconsole.config import fleet_of

    act = _act(options)
    async with fleet_of(options) as fleet:
        found = await fleet.administration.explain(options.operator, options.targets, act, source=options.source)
    if options.json:
        sys.stdout.write(json_line("explanation", found))
        return 0 if found.allowed else 4
    lines = [f"{'allowed' if found.allowed else 'denied'}: {found.text or f'by rule {found.rule}'}"]
    for opinion in found.opinions:
        if opinion.effect == "deny":
            lines.append(f"  {opinion.rule}: denies, and {'fits' if opinion.applies else 'does not fit'}")
        elif opinion.applies:
            lines.append(f"  {opinion.rule}: allows it")
        else:
            lines.append(f"  {opinion.rule}: does not allow it")
            lines.extend(f"    {objection}" for objection in opinion.objections)
    sys.stdout.write("".join(f"{safe(line)}\n" for line in lines))
    return 0 if found.allowed else 4


async def _diff(options: Namespace) -> int:
    from libstaragent.security.policy.decision import Policy
    from libstaragent.security.policy.difference import compare

    new = _read(options.new)
    if options.old == "-":
        from opsconsole.config import fleet_of

        async with fleet_of(options) as fleet:
            _tell(options, await fleet.administration.compare(new))
        return 0
    old = _read(options.old)
    # Without a fleet: those whom the rules and the cases name, on the hosts that the cases name.
    people = {case.operator: case.roles for file in (old, new) for case in file.cases}
    for rule in (*old.rules, *new.rules):
        for who in rule.who:
            if who.startswith("role:"):
                people.setdefault(f"anybody-with-{who[5:]}", (who[5:],))
            elif who != "*":
                people.setdefault(who, ("operator",))
    hosts = {host.name: host.seen() for file in (old, new) for host in (*file.hosts, *_case_hosts(file))}
    difference = compare(
        Policy(old.rules, old.labels, old.groups),
        Policy(new.rules, new.labels, new.groups),
        operators=list(people.items()),
        hosts=list(hosts.values()),
        now_ms=_now_ms(),
    )
    _tell(options, difference)
    return 0


async def _apply(options: Namespace) -> int:
    from libstaragent.client.administration import Administration, check_cases
    from libstaragent.errors import StarAgentError
    from libstaragent.security.policy.lint import warnings_of
    from opsconsole.cli.operator import confirmed, root_seed
    from opsconsole.config import fleet_of

    text = _text(options.file)
    policy = _read(options.file)
    check_cases(policy, file=options.file, now_ms=_now_ms())
    async with fleet_of(options) as fleet:
        try:
            difference = await fleet.administration.compare(policy)
        except StarAgentError as error:
            # Nobody can log in to look once the roster has expired; what the root signs then is to be taken.
            if not options.yes:
                raise
            difference = None
            narrate(f"warning: not compared with the rules of now: {safe(str(error))}")
        if difference is not None and not options.yes:
            _tell(options, difference, narrated=True)
        for warning in warnings_of(policy):
            narrate(f"warning: {safe(warning)}")
        word, what = "yes", "sign these rules for the whole fleet"
        if difference is not None and await _nobody_is_left(fleet, difference):
            word, what = "nobody", "sign rules under which nobody can do anything"
        if not confirmed(options, what, word=word):
            narrate("nothing was changed")
            return 5
        revision = await Administration(fleet, seed=root_seed(options)).apply_policy(text, file=options.file)
    _told(options, revision)
    return 0


async def _nobody_is_left(fleet: Fleet, difference: Difference) -> bool:
    """Whether the new rules leave no operator any right; says so, with whom."""
    able = [known.name for known in await fleet.administration.operators() if "operator" in known.roles]
    if any(name not in difference.unable for name in able):
        return False
    whom = f"of {', '.join(able)} no one has a right left" if able else "no operator has the role operator"
    narrate(f"warning: nobody could do anything any more on any host: {safe(whom)}")
    return True


async def _show(options: Namespace) -> int:
    from opsconsole.config import LOOK_DAYS, fleet_of

    async with fleet_of(options, warn_days=LOOK_DAYS) as fleet:
        if options.json:
            sys.stdout.write(json_line("policy", await fleet.administration.overview()))
            return 0
        await fleet.roster()
        text = await fleet.administration.policy()
    sys.stdout.write("".join(f"{safe(line)}\n" for line in text.splitlines()))
    return 0


async def _renew(options: Namespace) -> int:
    from libstaragent.client.administration import Administration
    from opsconsole.cli.operator import root_seed
    from opsconsole.config import fleet_of

    async with fleet_of(options) as fleet:
        revision = await Administration(fleet, seed=root_seed(options)).renew()
    _told(options, revision)
    return 0


_VERBS = {"explain": _explain, "diff": _diff, "apply": _apply, "show": _show, "renew": _renew}


def _act(options: Namespace) -> Act:
    """What is asked about."""
    from libstaragent.client.fleet import Fleet
    from libstaragent.security.acts import Fetch, Put

    words: list[str] = options.command_words
    given = [text for text in (options.shell, options.put, options.fetch) if text is not None]
    if len(given) + bool(words) != 1:
        raise usage("give one of ARGV after --, --shell, --put and --fetch")
    timeout_ms = int(options.timeout * 1000)
    if options.put is not None:
        return Put(path=options.put, size=0, sha256=bytes(32), user=options.user, timeout_ms=timeout_ms)
    if options.fetch is not None:
        return Fetch(path=options.fetch, max_bytes=0, user=options.user, timeout_ms=timeout_ms)
    shell = options.shell is not None
    return Fleet.command([options.shell] if shell else words, shell=shell, user=options.user, timeout=options.timeout)


def _tell(options: Namespace, difference: Difference, *, narrated: bool = False) -> None:
    if options.json and not narrated:
        sys.stdout.write(json_line("difference", difference))
        return
    from libstaragent.targets import fold

    lines = [
        f"rule {change.rule}: {change.kind}" + (f" ({', '.join(change.fields)})" if change.fields else "")
        for change in difference.changes
    ]
    for shift in difference.shifts:
        verb = "gains" if shift.gains else "loses"
        lines.append(f"{shift.operator} {verb} {shift.act} on {fold(shift.hosts)}")
    if not lines:
        lines.append("no rule is another")
    if difference.untried:
        lines.append(f"{difference.untried} of {difference.tried + difference.untried} acts were not tried")
    for line in lines:
        if narrated:
            narrate(safe(line))
        else:
            sys.stdout.write(safe(line) + "\n")


def _told(options: Namespace, revision: int) -> None:
    if options.json:
        sys.stdout.write(json_line("roster", revision=revision))
    else:
        sys.stdout.write(f"roster revision {revision} is signed and taken; hosts get it as they are connected\n")


def _case_hosts(policy: PolicyFile) -> list[HostSeen]:
    from libstaragent.errors import StarAgentError
    from libstaragent.security.policy.cases import HostSeen, hosts_of
    from libstaragent.security.policy.decision import Policy

    rules = Policy(policy.rules, policy.labels, policy.groups)
    found: list[HostSeen] = []
    for case in policy.cases:
        try:
            found.extend(HostSeen(name=host.name) for host in hosts_of(rules, case.targets, policy.hosts))
        except StarAgentError:
            continue
    return found


def _read(file: str) -> PolicyFile:
    from libstaragent.security.policy.reader import read_policy

    return read_policy(_text(file), file=file)


def _text(file: str) -> str:
    from libstaragent import codes
    from libstaragent.security.policy.reader import MAX_FILE

    try:
        with Path(file).open("rb") as opened:
            data = opened.read(MAX_FILE + 1)
        return data.decode()
    except OSError as error:
        raise codes.FILE_REFUSED.error(f"{file}: {error.strerror}", errno=error.errno) from error
    except UnicodeDecodeError as error:
        raise codes.POLICY_SYNTAX.error(f"{file} is not UTF-8 at byte {error.start}") from None


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
