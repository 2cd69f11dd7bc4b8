"""Target expressions: which hosts of a fleet are meant.

    web[01-20], db*              names, ranges, wildcards; a comma is "or"
    @front & !web07              a group of the roster, without one
    os=linux & (room=hz | 10.0.0.0/8)

`parse` reads one, `Expression.matches` judges one host, `select` chooses from an inventory, `fold` writes names back
as ranges. Where to look: `limits` (what an expression may cost), `grammar`, `pattern` (names), `expression`,
`choose`, `fold`.

Rules: pure; any text gives an expression or a coded error, in bounded time; the judgement of one host loads no
library, since the agent makes it too.
"""

from __future__ import annotations

__all__ = ("Expression", "HostFacts", "fold", "parse", "select")

from libstaragent.model.host import HostFacts
from libstaragent.targets.choose import select
from libstaragent.targets.expression import Expression
from libstaragent.targets.fold import fold
from libstaragent.targets.grammar import read


def parse(text: str) -> Expression:
    """The expression that `text` is.

    :raises UsageError: TARGET_SYNTAX, with the position and a caret under it.
    """
    return Expression(text, read(text))
