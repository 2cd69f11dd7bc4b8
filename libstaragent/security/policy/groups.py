"""Groups that the expressions of a policy name and that cannot be decided.

Not here: deciding (`libstaragent.targets`). Rules: pure; a group that is not there, or that leads back to itself, is an
error of the file: found only when an act is judged, it would refuse every act of the fleet.
"""

from __future__ import annotations

__all__ = ("undecidable",)

from collections.abc import Iterator, Mapping

from libstaragent.errors import StarAgentError
from libstaragent.targets.expression import group_term
from libstaragent.targets.grammar import read
from libstaragent.targets.terms import And, Group, Not, Or, Term


def undecidable(text: str, groups: Mapping[str, str]) -> str:
    """Why the groups that the expression `text` names, and those that they name, cannot be decided; empty if they can.

    `text` can be read.
    """
    decided: set[str] = set()

    def walk(term: Term, inside: list[str]) -> None:
        for name in _named(term):
            if name not in decided:
                walk(group_term(name, groups, inside), [*inside, name])
                decided.add(name)

    try:
        walk(read(text), [])
    except StarAgentError as error:
        return f"{error.code.sentence}: {error.detail}{_near(error.detail[1:], groups)}"
    return ""


def _named(term: Term) -> Iterator[str]:
    match term:
        case Group():
            yield term.name
        case Not():
            yield from _named(term.term)
        case And() | Or():
            for inner in term.terms:
                yield from _named(inner)
        case _:
            return


def _near(name: str, groups: Mapping[str, str]) -> str:
    from difflib import get_close_matches  # late: only a misspelling needs it

    near = get_close_matches(name, groups, n=1)
    return f"; did you mean @{near[0]}?" if near else ""
