"""docs/cli.md, made from the tree of commands: `python -m opsconsole.cli.document > docs/cli.md`.

Rules: pure; made from the parser's own parts, not from its printed help, which differs between versions of Python.
"""

from __future__ import annotations

__all__ = ("cli_document",)

import argparse
from collections.abc import Iterator

from opsconsole.cli.parser import build_parser
from opsconsole.cli.topics import TOPICS

_OPENING = """# The command line

Made from the tree of commands by `python -m opsconsole.cli.document`; do not edit.

stdout is data, stderr is narration. What stands after `--` is the command to run.
"""


def cli_document() -> str:
    """The whole document."""
    parts = [_OPENING]
    for name, parser, help_ in _leaves(build_parser(), "opsconsole"):
        parts.append(f"\n## {name}\n\n{help_}\n\n")
        rows = [
            (_shape(action), (action.help or "").replace("%%", "%"))
            for action in parser._actions
            if not isinstance(action, argparse._SubParsersAction | argparse._HelpAction)
        ]
        if rows:
            parts.append("| | |\n|---|---|\n")
            parts.extend(f"| `{_cell(shape)}` | {_cell(text)} |\n" for shape, text in rows)
    for topic, text in TOPICS.items():
        parts.append(f"\n## help {topic}\n\n```text\n{text}```\n")
    return "".join(parts)


def _leaves(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for verb, inner in action.choices.items():
                nested = any(isinstance(each, argparse._SubParsersAction) for each in inner._actions)
                if nested:
                    yield from _leaves(inner, f"{name} {verb}")
                else:
                    yield f"{name} {verb}", inner, helps.get(verb, "")


def _shape(action: argparse.Action) -> str:
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if not action.option_strings:
        return f"[{value}]" if action.nargs in ("?", "*") else value
    names = ", ".join(action.option_strings)
    if action.nargs == "?" and action.choices is not None:
        return f"{names}[={'|'.join(map(str, action.choices))}]"
    return names if action.nargs == 0 else f"{names} {value}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    import sys

    sys.stdout.write(cli_document())
