"""The documents that are made from code: `scripts/docs` writes them, `scripts/docs --check` says which are stale.

Three are made whole: docs/keys.md from the table of actions, docs/cli.md from the tree of commands, docs/errors.md
from the catalogue of codes. In the others, what stands between `<!-- made: NAME -->` and `<!-- end -->` is made by
PARTS[NAME]; the rest is written by hand.

Not here: what a table says; that is read from the code that runs. Rules: the same code gives the same bytes on every
Python; a marker that names no part is an error.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

_MADE = re.compile(r"(<!-- made: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

_LAYERS = {
    "1": "Console and library", "2": "Central", "3": "Room", "4": "Channel and identity", "5": "Agent", "6": "Executor",
    "7": "Plugin", "8": "Policy", "9": "Self-care", "A": "Transfer", "B": "Stack", "C": "Release",
}  # fmt: skip


_ERRORS_OPENING = """# Error codes

Made from `libstaragent/codes/` by `scripts/docs`; do not edit. `opsconsole explain CODE` prints one.

`SA-LCNN`: L the layer, C the class (0 usage, 1 not found, 2 conflict, 3 denied, 4 timeout, 5 resource, 6 protocol,
7 dependency or OS, 8 integrity, 9 bug), NN a number that never changes its meaning. Exit status, signal and errno are
fields of a result, never part of a code.
"""


def cell(text: str) -> str:
    """`text` inside of a table."""
    return " ".join(text.replace("|", "\\|").split())


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(map(cell, line))} |\n" for line in (head, *rows)]
    return lines[0] + "|---" * len(head) + "|\n" + "".join(lines[1:])


def keys() -> str:
    """docs/keys.md"""
    from opsconsole.actions import keys_document

    return keys_document()


def cli() -> str:
    """docs/cli.md"""
    from opsconsole.cli.document import cli_document

    return cli_document()


def errors() -> str:
    """docs/errors.md"""
    from libstaragent import codes

    parts = [_ERRORS_OPENING]
    for layer, title in _LAYERS.items():
        found = [code for code in codes.catalogue().values() if code.code[3] == layer]
        if not found:
            continue
        parts.append(f"\n## {layer}: {title}\n\n")
        rows = [
            (code.code, f"`{code.symbol}`", code.sentence, code.remedy, code.owner, "yes" if code.retryable else "")
            for code in sorted(found, key=lambda code: code.code)
        ]
        parts.append(table(("code", "symbol", "what", "to do", "who", "retryable"), rows))
    return "".join(parts)


def messages(module_name: str, names: Iterable[str]) -> str:
    """Message structs: number, fields, meaning."""
    module = importlib.import_module(module_name)
    rows: list[tuple[str, ...]] = []
    for name in names:
        struct = getattr(module, name)
        tag = struct.__struct_config__.tag
        fields = ", ".join(f"`{field}: {kind}`" for field, kind in struct.__annotations__.items())
        rows.append(("" if tag is None else str(tag), f"`{name}`", fields, inspect.getdoc(struct) or ""))
    return table(("no.", "message", "fields", "meaning"), rows)


def union(module_name: str, *unions: str) -> str:
    """The messages of the unions with these names, in their order."""
    module = importlib.import_module(module_name)
    return messages(module_name, [member.__name__ for name in unions for member in getattr(module, name).__args__])


def connection() -> str:
    """The table of an agent–room connection."""
    from libstaragent.protocol import connection as module

    moves: dict[tuple[str, str, str], list[str]] = {}
    for (state, speaker, message), following in module._TABLE.items():
        moves.setdefault((state, speaker, following), []).append(f"`{message.__name__}`")
    return table(
        ("state", "who speaks", "message", "then"),
        ((state, speaker, ", ".join(said), following) for (state, speaker, following), said in moves.items()),
    )


def keeper() -> str:
    """The table of a job in the keeper."""
    from libstaragent.roles.keeper_job import MOVES

    return table(("state", "event", "then"), ((state, event, then) for (state, event), then in MOVES.items()))


def states() -> str:
    """The states of a target, and the exit status of each."""
    from libstaragent.jobs.states import EXIT_STATUS_RULES, OPEN, STATES

    status = {state: str(number) for number, members in EXIT_STATUS_RULES for state in members} | {"ok": "0"}
    return table(
        ("state", "terminal", "exit status"),
        ((f"`{state}`", "no" if state in OPEN else "yes", status.get(state, "")) for state in STATES),
    )


def limits(*modules: str) -> str:
    """The named limits of some modules, each with the comment that stands above it."""
    rows: list[tuple[str, ...]] = []
    for name in modules:
        module = importlib.import_module(name)
        lines = inspect.getsource(module).splitlines()
        for node in ast.parse("\n".join(lines)).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            if not isinstance(target, ast.Name) or not target.id.isupper() or target.id.startswith("_"):
                continue
            value = getattr(module, target.id)
            if not isinstance(value, int | float):
                continue
            above = node.lineno - 2
            while above >= 0 and lines[above].startswith("# "):
                above -= 1
            reason = " ".join(line[2:] for line in lines[above + 1 : node.lineno - 1])
            rows.append((f"`{target.id}`", f"{value:,}", reason))
    return table(("limit", "value", "why"), rows)


def structs(module_name: str, *names: str) -> str:
    """The fields of structs."""
    module = importlib.import_module(module_name)
    return table(
        ("struct", "fields", "meaning"),
        (
            (
                f"`{name}`",
                ", ".join(f"`{field}: {kind}`" for field, kind in getattr(module, name).__annotations__.items()),
                (inspect.getdoc(getattr(module, name)) or "").partition("\n\n")[0],
            )
            for name in names
        ),
    )


class _Anything:
    """Stands for the handlers: the table of routes is read, not served."""

    def __getattr__(self, name: str) -> None:
        return None


def routes() -> str:
    """The table of the API."""
    from agentd.central.api import routes as module

    nothing: Any = _Anything()
    rows = (
        (
            f"`{route.method}`", f"`{route.path}`", route.authority,
            route.summary + "".join(f"; `{query.name}`: {query.meaning}" for query in route.parameters),
            f"{route.status} {_named(route.gives)}",
        )
        for route in module.table(*[nothing] * len(inspect.signature(module.table).parameters))
    )  # fmt: skip
    return table(("", "path", "authority", "what", "answer"), rows)


def _named(kind: Any) -> str:
    return "" if kind is None else f"`{kind.__name__}`"


def faults() -> str:
    """What the benchmarks let fail."""
    from bench.faults import FAULTS

    rows: list[tuple[str, ...]] = []
    for name, kind in FAULTS.items():
        low, high = kind.seconds
        rows.append((name, str(kind.weight), f"{low:g} to {high:g} s" if high else "", kind.what))
    return table(("fault", "weight", "lasts", "what"), rows)


WHOLE: dict[str, Callable[[], str]] = {"docs/keys.md": keys, "docs/cli.md": cli, "docs/errors.md": errors}
PARTS: dict[str, Callable[[], str]] = {
    "agent-messages": lambda: union("libstaragent.protocol.messages", "AgentMessage"),
    "room-messages": lambda: union("libstaragent.protocol.messages", "RoomMessage"),
    "live-output": lambda: messages("libstaragent.protocol.messages", ["LiveOutput"]),
    "trunk": lambda: (
        union("libstaragent.protocol.trunk", "Order", "Report")
        + messages("libstaragent.protocol.trunk", ["LiveChunk", "LiveDropped"]).split("\n", 2)[2]
    ),
    "connection": connection,
    "keeper": keeper,
    "states": states,
    "wire-limits": lambda: limits("libstaragent.protocol.limits"),
    "role-limits": lambda: limits(
        "libstaragent.roles.room",
        "libstaragent.roles.room_turns",
        "libstaragent.roles.room_outputs",
        "libstaragent.roles.output_cache",
        "libstaragent.jobs.reduce",
        "libstaragent.roles.admission",
        "libstaragent.roles.agent",
        "libstaragent.roles.agent_handover",
        "libstaragent.roles.refusals",
        "libstaragent.roles.keeper",
        "libstaragent.roles.agent_run",
    ),
    "act-limits": lambda: limits("libstaragent.security.act_limits"),
    "target-limits": lambda: limits("libstaragent.targets.limits"),
    "roster-limits": lambda: limits("libstaragent.security.roster", "libstaragent.security.clock"),
    "envelope": lambda: structs(
        "libstaragent.security.acts",
        *("Envelope", "Exec", "Put", "Fetch", "ReadSpool", "ReadHeads", "Schedule", "Unschedule", "PauseSchedule"),
        *("Cancel", "Pause", "Resume", "IssueToken", "ResolveClone", "At", "Every", "Cron", "AtBoot", "Plan"),
        *("TargetList", "TargetRoot", "Member"),
    ),
    "roster": lambda: structs("libstaragent.security.roster", "Roster", "Operator"),
    "routes": routes,
    "faults": faults,
}


def current(path: str, text: str) -> str:
    """What the document at `path` should be, given what it is.

    :raises KeyError: a marker names no part.
    """
    if path in WHOLE:
        return WHOLE[path]()
    return _MADE.sub(lambda found: f"{found[1]}{PARTS[found[2]]()}{found[3]}", text)


def main(arguments: list[str], checkout: Path = CHECKOUT) -> int:
    """Write the documents of `checkout`, or with --check compare; the exit status."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: scripts/docs [--check]\n")
        return 64
    stale = 0
    for path in sorted({*WHOLE, *(str(file.relative_to(checkout)) for file in checkout.glob("docs/*.md"))}):
        file = checkout / path
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        wanted = current(path, text)
        if wanted == text:
            continue
        stale += 1
        if arguments:
            changes = list(difflib.unified_diff(text.splitlines(), wanted.splitlines(), path, "as the code says", n=0))
            print("\n".join([f"{path} is stale; write it again: scripts/docs", *changes[:12]]))
        else:
            file.write_text(wanted, encoding="utf-8")
            print(f"docs: wrote {path}")
    return 1 if arguments and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
