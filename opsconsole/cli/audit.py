"""`opsconsole audit list | verify`: who did what where, and whether that record is whole."""

from __future__ import annotations

__all__ = ("run",)

import sys
import time
from argparse import Namespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from libstaragent.client.audit import AuditRecord, AuditVerdict
    from libstaragent.client.fleet import Fleet

# More of it is in --json.
LONGEST_TEXT = 60
_PLAIN = ("act", "outcome", "code", "detail", "operator", "key", "signature", "source", "text", "subject", "rule")
_PLAIN += ("hosts", "expression", "count")


def run(options: Namespace) -> int:
    """Runs the command line; the exit status."""
    import anyio

    return anyio.run(_run, options)


async def _run(options: Namespace) -> int:
    from opsconsole.config import fleet_of

    async with fleet_of(options) as fleet:
        return await (_verify if options.verb == "verify" else _list)(fleet, options)


async def _list(fleet: Fleet, options: Namespace) -> int:
    from opsconsole.cli.lines_json import json_line
    from opsconsole.cli.table import table

    records = await fleet.audit(
        options.limit,
        since_ms=options.since or 0,
        operator=options.operator,
        host=options.host,
        refused=options.denied,
    )
    if options.json:
        for record in records:
            entry = record.entry
            more = {"envelope": entry.envelope.hex(), "members": entry.members.hex(), "counts": entry.counts}
            line = {"seq": record.seq, "at_ms": record.at_ms, "hash": record.hash.hex(), **_plain(record), **more}
            sys.stdout.write(json_line("audit", **line))
        return 0
    heading = ("SEQ", "TIME", "OPERATOR", "FROM", "ACT", "OUTCOME", "HOSTS", "RULE", "WHAT")
    sys.stdout.write(table(heading, [_row(record) for record in records]))
    return 0


def _plain(record: AuditRecord) -> dict[str, object]:
    entry = record.entry
    names = (
        "act",
        "outcome",
        "code",
        "detail",
        "operator",
        "key",
        "signature",
        "source",
        "text",
        "subject",
        "rule",
        "hosts",
    )
    return {name: getattr(entry, name) for name in (*names, "expression", "count")}


def _row(record: AuditRecord) -> tuple[str, ...]:
    entry = record.entry
    who = entry.operator + (f" ({entry.signature})" if entry.signature == "broken" else "")
    hosts = f"{entry.hosts} {entry.expression}".rstrip() if entry.hosts else ""
    what = entry.text or " ".join(f"{count} {state}" for state, count in entry.counts.items())
    what = what if len(what) <= LONGEST_TEXT else what[: LONGEST_TEXT - 1] + "…"
    about = f"{entry.subject} " if entry.act in ("end", "cancel", "pause", "resume") else ""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.at_ms / 1000))
    outcome = f"{entry.outcome} {entry.code}".rstrip()
    return (str(record.seq), moment, who, entry.source, entry.act, outcome, hosts, entry.rule, about + what)


async def _verify(fleet: Fleet, options: Namespace) -> int:

    verdict = await fleet.verify_audit(agents=options.agents)
    if options.json:
        _write_json(verdict)
        return 0 if verdict.holds else 1
    _say(verdict)
    return 0 if verdict.holds else 1


def _why(code: str) -> str:
    from libstaragent import codes

    known = codes.by_code(code) if code else None
    return f"; {known.code} {known.sentence}" if known is not None else f"; {code}" if code else ""


def _write_json(verdict: AuditVerdict) -> None:
    from libstaragent.client.audit import code_of
    from opsconsole.cli.lines_json import json_line

    for witness in verdict.witnesses:
        sys.stdout.write(json_line("witness", witness))
    for finding in verdict.findings:
        sys.stdout.write(json_line("finding", finding, code=code_of(finding).code))
    pruned = verdict.checkpoint.upto if verdict.checkpoint is not None else 0
    sys.stdout.write(
        json_line(
            "verdict",
            holds=verdict.holds,
            entries=verdict.entries,
            first=verdict.first,
            last=verdict.last,
            pruned=pruned,
            more=verdict.more,
            hosts_asked=verdict.asked,
            hosts_answered=verdict.answered,
        )
    )


def _say(verdict: AuditVerdict) -> None:
    from libstaragent.client.audit import code_of
    from opsconsole.cli.failure import narrate
    from opsconsole.sanitize import safe

    checkpoint = verdict.checkpoint
    if checkpoint is not None:
        pruned = time.strftime("%Y-%m-%d %H:%M", time.localtime(checkpoint.at_ms / 1000))
        newest = time.strftime("%Y-%m-%d %H:%M", time.localtime(checkpoint.upto_ms / 1000))
        sys.stdout.write(f"entries 1 to {checkpoint.upto}: pruned on {pruned}, the last of them was written {newest}\n")
    sys.stdout.write(f"entries {verdict.first} to {verdict.last}: {verdict.entries} read and hashed\n")
    for witness in verdict.witnesses:
        told = f"{witness.heads} heads kept, {witness.compared} compared, the newest is entry {witness.newest}"
        sys.stdout.write(f"{safe(witness.name)}: {told if witness.heads else 'nothing kept'}{_why(witness.code)}\n")
    if not verdict.asked:
        narrate("no host was asked: none is up, or --agents is 0")
    elif not verdict.answered:
        narrate(f"no host answered with what it saw, of {verdict.asked} that were asked")
    if not any(witness.compared for witness in verdict.witnesses):
        narrate("no witness: nobody else who was asked has seen this audit, so a chain made anew would look the same")
    for finding in verdict.findings:
        code = code_of(finding)
        sys.stdout.write(f"{code.code} {code.symbol}: {safe(finding.text)}\n")
    if verdict.more:
        sys.stdout.write(f"and {verdict.more} more\n")
    if verdict.holds:
        sys.stdout.write("the audit holds\n")
    elif verdict.findings:
        narrate(f"  → {code_of(verdict.findings[0]).remedy}")
    else:
        sys.stdout.write("the audit holds in itself, but a host's word was altered on its way\n")
